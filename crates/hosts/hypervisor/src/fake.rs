//! Guests in memory: a host that needs no root, no QEMU and no disk, for tests and for `up --fake`.
//!
//! It keeps the promises of [`Hypervisor`] as the real driver does, persists nothing, and misbehaves on request. One
//! process may have a thousand of them.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base::{Json, json};
use contract::HostError;
use contract::guest::{Guest, Host, Power, Report, State};
use tokio::sync::broadcast;

use crate::hypervisor::{Hypervisor, Identity, Vnc, Work};
use crate::limits::CHANGES;

/// How a fake host misbehaves. The default is a good and fast host.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FakeBehaviour {
    /// Every order takes this long.
    pub slow: Duration,
    /// Orders that need a process are refused for good, with this sentence.
    pub refuse: Option<String>,
    /// This many orders fail for the moment before one succeeds.
    pub fail: u32,
    /// A guest crashes as soon as it runs.
    pub crash: bool,
    /// Every n-th order is carried out but answered with a failure, as if the answer had been lost; 0 is never.
    pub lose_every: u32,
}

/// How large a fake host says it is.
#[derive(Debug, Clone, PartialEq)]
pub struct FakeSize {
    pub vcpus: u32,
    pub memory_mb: u64,
    pub disk_gb: u64,
}

impl Default for FakeSize {
    fn default() -> FakeSize {
        FakeSize { vcpus: 64, memory_mb: 256 << 10, disk_gb: 4096 }
    }
}

pub struct Fake {
    size: FakeSize,
    inside: Mutex<Inside>,
    changes: broadcast::Sender<String>,
}

#[derive(Default)]
struct Inside {
    behaviour: FakeBehaviour,
    orders: u32,
    guests: BTreeMap<String, FakeGuest>,
}

struct FakeGuest {
    order: Guest,
    report: Report,
    console: String,
}

impl Fake {
    pub fn new(size: FakeSize, behaviour: FakeBehaviour) -> Fake {
        let inside = Mutex::new(Inside { behaviour, ..Inside::default() });
        Fake { size, inside, changes: broadcast::channel(CHANGES.min(64)).0 }
    }

    pub fn behave(&self, behaviour: FakeBehaviour) {
        self.inside().behaviour = behaviour;
    }

    /// Lets a guest crash, as if its process had been killed.
    pub fn crash(&self, id: &str) {
        self.becomes(id, State::Crashed);
    }

    /// Lets a guest power itself off.
    pub fn power_off(&self, id: &str) {
        self.becomes(id, State::Stopped);
    }

    fn becomes(&self, id: &str, state: State) {
        if let Some(guest) = self.inside().guests.get_mut(id) {
            guest.report.state = state;
        }
        self.changed(id);
    }

    fn changed(&self, id: &str) {
        // Nobody listens: nobody needs to know.
        let _ = self.changes.send(id.to_string());
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running<T>(&self, id: &str, answer: impl FnOnce(&FakeGuest) -> T) -> Result<T, HostError> {
        let inside = self.inside();
        let guest = inside.guests.get(id).ok_or_else(|| HostError::missing(format!("guest {id}")))?;
        match guest.report.state {
            State::Running | State::Paused | State::Held => Ok(answer(guest)),
            _ => Err(HostError::missing(format!("a process of guest {id}"))),
        }
    }

    async fn work(&self) -> Result<(), HostError> {
        let slow = self.inside().behaviour.slow;
        if !slow.is_zero() {
            tokio::time::sleep(slow).await;
        }
        let behaviour = &mut self.inside().behaviour;
        match behaviour.fail {
            0 => Ok(()),
            _ => {
                behaviour.fail -= 1;
                Err(HostError::again("working as a fake host that was told to fail"))
            }
        }
    }

    /// After the work: the answer may be lost on its way.
    fn answer(&self) -> Result<(), HostError> {
        let mut inside = self.inside();
        inside.orders = inside.orders.wrapping_add(1);
        match inside.behaviour.lose_every {
            every if every > 0 && inside.orders.is_multiple_of(every) => {
                Err(HostError::again("hearing an answer that was lost"))
            }
            _ => Ok(()),
        }
    }

    async fn apply(&self, order: &Guest) -> Result<(), HostError> {
        if !base::id::is_uuid(&order.id) {
            return Err(HostError::never(format!("{:?} is not the id of a server", order.id)));
        }
        if order.power == Power::Gone {
            return self.remove(&order.id).await;
        }
        self.work().await?;
        let changed = self.inside().apply(order)?;
        if changed {
            self.changed(&order.id);
        }
        self.answer()
    }

    async fn remove(&self, id: &str) -> Result<(), HostError> {
        self.work().await?;
        if self.inside().guests.remove(id).is_some() {
            self.changed(id);
        }
        self.answer()
    }
}

impl Inside {
    /// True when the order was new.
    fn apply(&mut self, order: &Guest) -> Result<bool, HostError> {
        let state = self.guests.get(&order.id).map(|guest| (guest.report.generation, guest.report.state));
        match state {
            Some((applied, _)) if order.generation < applied => {
                return Err(HostError::never(format!(
                    "order {} for server {} is older than {applied}, which this host has seen",
                    order.generation, order.id
                )));
            }
            Some((applied, _)) if order.generation == applied => return Ok(false),
            _ => {}
        }
        if let (Some(why), false) = (&self.behaviour.refuse, order.power == Power::Stopped) {
            return Err(HostError::never(why.clone()));
        }
        let was = state.map(|(_, state)| state);
        let next = match order.power {
            Power::Running if self.behaviour.crash => State::Crashed,
            Power::Running => State::Running,
            Power::Held => State::Held,
            Power::Paused => State::Paused,
            Power::Suspended
                if !matches!(was, Some(State::Running | State::Paused | State::Held | State::Suspended)) =>
            {
                return Err(HostError::never("the server does not run, so it cannot be suspended"));
            }
            Power::Suspended => State::Suspended,
            Power::Stopped | Power::Gone => State::Stopped,
        };
        let guest = self.guests.entry(order.id.clone()).or_insert_with(|| FakeGuest::new(order));
        let restarted = order.restarts > guest.report.restarts;
        if order.disk_generation > guest.report.disk_generation {
            guest.console.clear();
        }
        let off = matches!(was, None | Some(State::Stopped | State::Crashed | State::Preparing));
        if matches!(next, State::Running | State::Held) && (off || restarted) {
            guest.console += &format!(
                "fake guest {} boots\nfake kernel: no hardware\nfake init: nothing to do\nfake login:\n",
                order.id
            );
        }
        guest.report.generation = order.generation;
        guest.report.restarts = guest.report.restarts.max(order.restarts);
        guest.report.disk_generation = guest.report.disk_generation.max(order.disk_generation);
        guest.report.state = next;
        guest.order = order.clone();
        Ok(true)
    }
}

impl FakeGuest {
    fn new(order: &Guest) -> FakeGuest {
        let report = Report {
            id: order.id.clone(),
            generation: 0,
            restarts: order.restarts,
            disk_generation: order.disk_generation,
            state: State::Preparing,
            error: None,
            memory_bytes: Some(order.memory_mb << 20),
            cpu_ns: Some(0),
        };
        FakeGuest { order: order.clone(), report, console: String::new() }
    }
}

impl Hypervisor for Fake {
    fn host<'a>(&'a self, who: &'a Identity) -> Work<'a, Host> {
        Box::pin(async move {
            let vcpus = self.size.vcpus;
            Ok(Host {
                uuid: who.uuid.clone(),
                name: who.name.clone(),
                address: who.address.clone(),
                hypervisor_type: "fake".into(),
                hypervisor_version: 1000,
                vcpus,
                memory_mb: self.size.memory_mb,
                disk_gb: self.size.disk_gb,
                cpu: json!({
                    "arch": "x86_64",
                    "model": "Nehalem",
                    "vendor": "Intel",
                    "topology": { "cells": 1, "sockets": 1, "cores": vcpus, "threads": 1 },
                    "features": ["pge", "clflush"],
                }),
                traits: vec!["COMPUTE_NODE".into(), "HW_CPU_X86_VMX".into()],
                uptime_seconds: 0,
            })
        })
    }

    fn guests(&self) -> Work<'_, Vec<Report>> {
        Box::pin(async move { Ok(self.inside().guests.values().map(|guest| guest.report.clone()).collect()) })
    }

    fn ensure<'a>(&'a self, guest: &'a Guest) -> Work<'a, ()> {
        Box::pin(self.apply(guest))
    }

    fn ensure_gone<'a>(&'a self, id: &'a str) -> Work<'a, ()> {
        Box::pin(self.remove(id))
    }

    fn console_log<'a>(&'a self, id: &'a str, bytes: u64) -> Work<'a, String> {
        Box::pin(async move {
            let inside = self.inside();
            let guest = inside.guests.get(id).ok_or_else(|| HostError::missing(format!("guest {id}")))?;
            let from = guest.console.len().saturating_sub(bytes as usize);
            let from = (from..=guest.console.len()).find(|at| guest.console.is_char_boundary(*at)).unwrap_or_default();
            Ok(guest.console[from..].to_string())
        })
    }

    fn vnc<'a>(&'a self, id: &'a str) -> Work<'a, Vnc> {
        // Nothing listens there, as in upstream's fake driver.
        Box::pin(async move {
            match self.running(id, |guest| guest.order.console.vnc)? {
                true => Ok(Vnc::Address("127.0.0.1:6969".into())),
                false => Err(HostError::missing(format!("a screen of guest {id}"))),
            }
        })
    }

    fn nmi<'a>(&'a self, id: &'a str) -> Work<'a, ()> {
        Box::pin(async move { self.running(id, |_| ()) })
    }

    fn diagnostics<'a>(&'a self, id: &'a str) -> Work<'a, Json> {
        Box::pin(async move { self.running(id, diagnostics) })
    }

    fn leaks<'a>(&'a self, known: &'a [String]) -> Work<'a, Vec<String>> {
        Box::pin(async move {
            let inside = self.inside();
            let unknown = inside.guests.keys().filter(|id| !known.contains(id));
            Ok(unknown.map(|id| format!("guest {id}")).collect())
        })
    }

    fn changes(&self) -> broadcast::Receiver<String> {
        self.changes.subscribe()
    }
}

fn diagnostics(guest: &FakeGuest) -> Json {
    let order = &guest.order;
    let cpus: Vec<Json> =
        (0..order.vcpus).map(|id| json!({ "id": id, "time": 17_300_000_000u64, "utilisation": 15 })).collect();
    let disk = json!({
        "read_bytes": 262_144, "read_requests": 112, "write_bytes": 5_778_432, "write_requests": 488, "errors_count": 1,
    });
    let nic = |mac: &str| {
        json!({
            "mac_address": mac,
            "rx_octets": 2_070_139, "rx_packets": 26_701, "rx_errors": 100, "rx_drop": 200, "rx_rate": 300,
            "tx_octets": 140_208, "tx_packets": 662, "tx_errors": 400, "tx_drop": 500, "tx_rate": 600,
        })
    };
    json!({
        "state": if guest.report.state == State::Running { "running" } else { "paused" },
        // Upstream's fake driver says so, too: clients know a closed list of drivers.
        "driver": "libvirt",
        "hypervisor": "fake",
        "hypervisor_os": "fake",
        "uptime": 46_664,
        "config_drive": order.config_drive.is_some(),
        "num_cpus": order.vcpus,
        "num_disks": order.disks.len(),
        "num_nics": order.nics.len(),
        "cpu_details": cpus,
        "disk_details": vec![disk; order.disks.len()],
        "nic_details": order.nics.iter().map(|one| nic(&one.mac)).collect::<Vec<_>>(),
        "memory_details": { "maximum": order.memory_mb, "used": 0 },
    })
}
