//! A host that does what it is told, in memory, and speaks with compute over the bus.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use api::{Json, json};
use bus::{Bus, Subscription};
use contract::guest::{Desired, Guest, Host, Power, Received, Report, State};
use contract::message;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::network::FakeNetwork;

const PATIENCE: Duration = Duration::from_secs(10);
/// How often it compares by itself.
const ROUND: Duration = Duration::from_millis(20);

pub struct FakeHost {
    shared: Arc<Shared>,
    _served: Subscription,
    task: AbortHandle,
}

struct Shared {
    name: String,
    bus: Bus,
    network: Arc<FakeNetwork>,
    poked: Notify,
    inside: Mutex<Inside>,
}

#[derive(Default)]
struct Inside {
    guests: BTreeMap<String, (Guest, Report)>,
    refuse: Option<String>,
    /// It takes no orders, as if its agent were stuck.
    stuck: bool,
    screen: Option<String>,
}

impl FakeHost {
    pub async fn start(name: &str, bus: &Bus, network: &Arc<FakeNetwork>) -> FakeHost {
        FakeHost::start_with(FakeHost::facts(name), bus, network).await
    }

    /// What a host says about itself.
    pub fn facts(name: &str) -> Host {
        Host {
            uuid: base::id::uuid(),
            name: name.to_string(),
            address: "192.0.2.1".into(),
            hypervisor_type: "fake".into(),
            hypervisor_version: 1000,
            vcpus: 4,
            memory_mb: 8192,
            disk_gb: 100,
            cpu: json!({"arch": "x86_64"}),
            traits: vec!["COMPUTE_NODE".into()],
            uptime_seconds: 1,
        }
    }

    pub async fn start_with(facts: Host, bus: &Bus, network: &Arc<FakeNetwork>) -> FakeHost {
        let name = &facts.name.clone();
        let shared = Arc::new(Shared {
            name: name.to_string(),
            bus: bus.clone(),
            network: network.clone(),
            poked: Notify::new(),
            inside: Mutex::default(),
        });
        let facts = serde_json::to_value(&facts).unwrap();
        bus.request(message::COMPUTE, message::HELLO, facts, PATIENCE).await.unwrap();
        let listening = shared.clone();
        let served = bus.serve(&message::host("compute", name), move |message| {
            let shared = listening.clone();
            async move { shared.answer(&message.kind, &message.body) }
        });
        let working = shared.clone();
        let task = tokio::spawn(async move {
            // Until the host is dropped.
            loop {
                working.compare().await;
                let _ = tokio::time::timeout(ROUND, working.poked.notified()).await;
            }
        });
        FakeHost { shared, _served: served, task: task.abort_handle() }
    }

    pub fn refuse(&self, why: &str) {
        self.shared.inside().refuse = Some(why.to_string());
    }

    pub fn stick(&self, stuck: bool) {
        self.shared.inside().stuck = stuck;
        self.shared.poked.notify_one();
    }

    /// Where the screens of its guests are.
    pub fn screen_at(&self, address: &str) {
        self.shared.inside().screen = Some(address.to_string());
    }

    pub fn guest(&self, id: &str) -> Option<(Guest, State)> {
        self.shared.inside().guests.get(id).map(|(guest, report)| (guest.clone(), report.state))
    }

    pub fn guests(&self) -> Vec<String> {
        self.shared.inside().guests.keys().cloned().collect()
    }

    /// The guest does this by itself.
    pub fn becomes(&self, id: &str, state: State) {
        if let Some((_, report)) = self.shared.inside().guests.get_mut(id) {
            report.state = state;
        }
        self.shared.poked.notify_one();
    }
}

impl Drop for FakeHost {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap()
    }

    fn answer(&self, kind: &str, body: &Json) -> Result<Json, bus::Refusal> {
        match kind {
            message::POKE => {
                self.poked.notify_one();
                Ok(json!({}))
            }
            message::CONSOLE_LOG => {
                let lines: Vec<String> = (1..=50).map(|line| format!("line {line}")).collect();
                let text = lines.join("\n");
                let bytes = body["bytes"].as_u64().unwrap() as usize;
                Ok(json!({"text": text[text.len().saturating_sub(bytes)..]}))
            }
            message::CONSOLE_VNC => {
                let screen = self.inside().screen.clone();
                Ok(json!({"address": screen.unwrap_or_else(|| "192.0.2.1:5900".into())}))
            }
            message::CRASH_DUMP => Ok(json!({})),
            message::DIAGNOSTICS => Ok(json!({"state": "running", "driver": "fake"})),
            other => Err(bus::Refusal::unknown_kind(other)),
        }
    }

    async fn compare(&self) {
        if self.inside().stuck {
            return;
        }
        let asked = self.bus.request(message::COMPUTE, message::DESIRED, json!({"host": self.name}), PATIENCE).await;
        let Ok(desired) = asked else { return };
        let desired: Desired = serde_json::from_value(desired).unwrap();
        let mut reports = Vec::new();
        for guest in desired.guests {
            let plugged: Vec<String> = guest.nics.iter().map(|nic| nic.port.clone()).collect();
            let report = self.apply(guest);
            if matches!(report.state, State::Held | State::Running) {
                self.network.wire(&plugged).await;
            }
            reports.push(report);
        }
        let listed: Vec<String> = reports.iter().map(|report| report.id.clone()).collect();
        let others = self.inside().guests.values().map(|(_, report)| report.clone()).collect::<Vec<_>>();
        reports.extend(others.into_iter().filter(|report| !listed.contains(&report.id)));
        let body = json!({"host": self.name, "reports": reports});
        let Ok(answer) = self.bus.request(message::COMPUTE, message::REPORT, body, PATIENCE).await else { return };
        let received: Received = serde_json::from_value(answer).unwrap();
        for id in received.remove {
            self.inside().guests.remove(&id);
        }
    }

    fn apply(&self, guest: Guest) -> Report {
        let mut inside = self.inside();
        let mut report = Report {
            id: guest.id.clone(),
            generation: guest.generation,
            restarts: guest.restarts,
            disk_generation: guest.disk_generation,
            state: State::Gone,
            error: None,
            memory_bytes: None,
            cpu_ns: None,
        };
        if guest.power == Power::Gone {
            inside.guests.remove(&guest.id);
            return report;
        }
        if let Some(why) = &inside.refuse {
            report.error = Some(why.clone());
            return report;
        }
        if let Some((known, applied)) = inside.guests.get(&guest.id)
            && known.generation >= guest.generation
        {
            return applied.clone();
        }
        report.state = match guest.power {
            Power::Held => State::Held,
            Power::Running => State::Running,
            Power::Paused => State::Paused,
            Power::Suspended => State::Suspended,
            Power::Stopped => State::Stopped,
            Power::Gone => State::Gone,
        };
        inside.guests.insert(guest.id.clone(), (guest, report.clone()));
        report
    }
}
