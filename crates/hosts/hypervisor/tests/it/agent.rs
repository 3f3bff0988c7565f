//! The agent between controllers that forget, repeat and lose things, and a fake host.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base::{Json, json};
use contract::guest::{Desired, Guest, Power, Received, Report, State};
use contract::{HostError, message};
use host_hypervisor::{Agent, Controllers, Fake, FakeBehaviour, Hypervisor, Identity, Pace, Work};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::stage::Stage;

/// The controllers' side: what should be, and what was last heard of each guest.
#[derive(Default)]
struct Cloud {
    desired: Mutex<Vec<Guest>>,
    heard: Mutex<BTreeMap<String, Report>>,
    remove: Mutex<Vec<String>>,
    requests: AtomicU64,
    /// Every n-th request is not answered, half of them after they took effect.
    lose_every: AtomicU64,
    refuse_hello: AtomicU64,
    news: Notify,
}

impl Controllers for Cloud {
    fn request<'a>(&'a self, kind: &'a str, body: Json) -> Work<'a, Json> {
        Box::pin(async move {
            let number = self.requests.fetch_add(1, Ordering::SeqCst) + 1;
            let every = self.lose_every.load(Ordering::SeqCst);
            let lost = every > 0 && number.is_multiple_of(every);
            if lost && number.is_multiple_of(2) {
                return Err(HostError::again("hearing from the controllers"));
            }
            let answer = self.answer(kind, body);
            if lost { Err(HostError::again("hearing from the controllers")) } else { answer }
        })
    }
}

impl Cloud {
    fn answer(&self, kind: &str, body: Json) -> Result<Json, HostError> {
        match kind {
            message::HELLO if self.refuse_hello.load(Ordering::SeqCst) > 0 => {
                Err(HostError::never("another host has this name"))
            }
            message::HELLO => Ok(json!({})),
            message::DESIRED => {
                let guests = self.desired.lock().unwrap().clone();
                Ok(serde_json::to_value(Desired { guests }).unwrap())
            }
            message::REPORT => {
                let reports: Vec<Report> = serde_json::from_value(body["reports"].clone()).unwrap();
                let mut heard = self.heard.lock().unwrap();
                heard.extend(reports.into_iter().map(|report| (report.id.clone(), report)));
                self.news.notify_waiters();
                let remove = self.remove.lock().unwrap().clone();
                Ok(serde_json::to_value(Received { remove }).unwrap())
            }
            other => panic!("{other}"),
        }
    }

    fn order(&self, guest: &Guest) {
        let mut desired = self.desired.lock().unwrap();
        desired.retain(|other| other.id != guest.id);
        desired.push(guest.clone());
    }

    fn last(&self, id: &str) -> Option<Report> {
        self.heard.lock().unwrap().get(id).cloned()
    }

    /// Waits for a report that satisfies `wanted`.
    async fn hears(&self, id: &str, wanted: impl Fn(&Report) -> bool) -> Report {
        let heard = async {
            loop {
                let news = self.news.notified();
                if let Some(report) = self.last(id).filter(&wanted) {
                    return report;
                }
                news.await;
            }
        };
        match timeout(Duration::from_secs(20), heard).await {
            Ok(report) => report,
            Err(_) => panic!("last heard of {id}: {:?}", self.last(id)),
        }
    }
}

struct Host {
    cloud: Arc<Cloud>,
    fake: Arc<Fake>,
    agent: Agent,
    running: JoinHandle<()>,
}

impl Host {
    /// An agent that compares only when poked, and reports changes only.
    fn new() -> Host {
        Host::with(Arc::default(), Pace { compare: Duration::from_secs(3600), ..hurried() })
    }

    fn with(cloud: Arc<Cloud>, pace: Pace) -> Host {
        let fake = Arc::new(Fake::new(Default::default(), FakeBehaviour::default()));
        Host::on(cloud, fake, pace)
    }

    fn on(cloud: Arc<Cloud>, fake: Arc<Fake>, pace: Pace) -> Host {
        let who = Identity { uuid: base::id::uuid(), name: "h1".into(), address: "127.0.0.1".into() };
        let agent = Agent::paced(who, fake.clone(), cloud.clone(), pace);
        let working = agent.clone();
        let running = tokio::spawn(async move { working.run().await });
        Host { cloud, fake, agent, running }
    }

    fn order(&self, guest: &Guest) {
        self.cloud.order(guest);
        self.agent.poke();
    }

    async fn ids(&self) -> Vec<String> {
        self.fake.guests().await.unwrap().into_iter().map(|report| report.id).collect()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.running.abort();
    }
}

fn hurried() -> Pace {
    Pace {
        compare: Duration::from_millis(20),
        report: Duration::from_secs(3600),
        again: Duration::from_millis(5),
        backoff: Duration::from_millis(1),
    }
}

fn guest() -> Guest {
    Stage::fake().guest()
}

fn then(guest: &Guest, power: Power) -> Guest {
    Guest { generation: guest.generation + 1, power, ..guest.clone() }
}

#[tokio::test]
async fn an_ordered_guest_runs_and_is_reported() {
    let (host, guest) = (Host::new(), guest());
    host.order(&guest);
    let report = host.cloud.hears(&guest.id, |report| report.state == State::Running).await;
    assert_eq!((report.generation, report.error), (1, None));
}

#[tokio::test]
async fn a_guest_that_crashes_is_reported_at_once() {
    let (host, guest) = (Host::new(), guest());
    host.order(&guest);
    host.cloud.hears(&guest.id, |report| report.state == State::Running).await;
    host.fake.crash(&guest.id);
    host.cloud.hears(&guest.id, |report| report.state == State::Crashed).await;
}

#[tokio::test]
async fn a_guest_that_nobody_mentions_stays_until_its_removal_is_asked_for() {
    let (host, kept, unwanted) = (Host::new(), guest(), guest());
    host.order(&kept);
    host.order(&unwanted);
    host.cloud.hears(&unwanted.id, |report| report.state == State::Running).await;
    host.cloud.desired.lock().unwrap().clear();
    host.order(&then(&kept, Power::Paused));
    host.cloud.hears(&kept.id, |report| report.state == State::Paused).await;
    assert!(host.ids().await.contains(&unwanted.id));

    host.cloud.remove.lock().unwrap().push(unwanted.id.clone());
    host.fake.power_off(&unwanted.id);
    host.cloud.hears(&unwanted.id, |report| report.state == State::Gone).await;
    assert_eq!(host.ids().await, std::slice::from_ref(&kept.id));
}

#[tokio::test]
async fn a_late_order_does_not_bring_a_guest_back() {
    let (host, guest, other) = (Host::new(), guest(), self::guest());
    host.order(&then(&guest, Power::Gone));
    host.cloud.hears(&guest.id, |report| report.state == State::Gone && report.generation == 2).await;
    host.order(&guest);
    host.order(&other);
    host.cloud.hears(&other.id, |report| report.state == State::Running).await;
    assert_eq!(host.ids().await, std::slice::from_ref(&other.id));
}

#[tokio::test]
async fn a_lost_report_of_the_end_is_repeated_when_the_order_comes_again() {
    let (host, guest) = (Host::new(), guest());
    host.order(&then(&guest, Power::Gone));
    host.cloud.hears(&guest.id, |report| report.state == State::Gone).await;
    host.cloud.heard.lock().unwrap().clear();
    host.agent.poke();
    host.cloud.hears(&guest.id, |report| report.state == State::Gone).await;
}

#[tokio::test]
async fn what_fails_for_the_moment_is_tried_again() {
    let (host, guest) = (Host::new(), guest());
    host.fake.behave(FakeBehaviour { fail: 3, ..Default::default() });
    host.order(&guest);
    let report = host.cloud.hears(&guest.id, |report| report.state == State::Running).await;
    assert_eq!(report.error, None);
}

#[tokio::test]
async fn what_keeps_failing_is_given_up_and_explained() {
    let (host, guest) = (Host::new(), guest());
    host.fake.behave(FakeBehaviour { fail: u32::MAX, ..Default::default() });
    host.order(&guest);
    let report = host.cloud.hears(&guest.id, |report| report.error.is_some()).await;
    assert_eq!(report.generation, 1);
    assert!(report.error.unwrap().ends_with("did not work in 5 attempts"));

    // A newer order is a new chance.
    host.fake.behave(FakeBehaviour::default());
    host.order(&then(&guest, Power::Running));
    host.cloud.hears(&guest.id, |report| report.state == State::Running && report.error.is_none()).await;
}

#[tokio::test]
async fn a_refusal_reaches_the_controllers_in_the_drivers_words() {
    let (host, guest) = (Host::new(), guest());
    host.fake.behave(FakeBehaviour { refuse: Some("no such machine".into()), ..Default::default() });
    host.order(&guest);
    let report = host.cloud.hears(&guest.id, |report| report.error.is_some()).await;
    assert_eq!(report.error.as_deref(), Some("no such machine"));
}

#[tokio::test]
async fn a_deletion_overtakes_work_that_takes_long() {
    let (host, guest) = (Host::new(), guest());
    host.fake.behave(FakeBehaviour { slow: Duration::from_secs(3600), ..Default::default() });
    host.order(&guest);
    host.cloud.hears(&guest.id, |report| report.state == State::Preparing).await;
    host.fake.behave(FakeBehaviour::default());
    host.order(&then(&guest, Power::Gone));
    host.cloud.hears(&guest.id, |report| report.state == State::Gone).await;
}

#[tokio::test]
async fn lost_messages_and_lost_answers_are_made_good() {
    let cloud = Arc::new(Cloud { lose_every: 3.into(), ..Cloud::default() });
    let host = Host::with(cloud, hurried());
    host.fake.behave(FakeBehaviour { lose_every: 7, ..Default::default() });
    let guests: Vec<Guest> = (0..40).map(|_| guest()).collect();
    guests.iter().for_each(|guest| host.cloud.order(guest));
    for guest in &guests {
        host.cloud.hears(&guest.id, |report| report.state == State::Running && report.error.is_none()).await;
    }
    guests.iter().for_each(|guest| host.cloud.order(&then(guest, Power::Gone)));
    for guest in &guests {
        host.cloud.hears(&guest.id, |report| report.state == State::Gone).await;
    }
    assert!(host.ids().await.is_empty());
}

#[tokio::test]
async fn a_new_agent_on_an_old_host_reports_what_is_there_and_repeats_nothing() {
    let (host, guest) = (Host::new(), guest());
    host.order(&guest);
    host.cloud.hears(&guest.id, |report| report.state == State::Running).await;
    host.fake.power_off(&guest.id);
    host.cloud.hears(&guest.id, |report| report.state == State::Stopped).await;
    host.cloud.heard.lock().unwrap().clear();
    host.running.abort();

    let again = Host::on(host.cloud.clone(), host.fake.clone(), hurried());
    let report = again.cloud.hears(&guest.id, |report| report.state == State::Stopped).await;
    assert_eq!(report.generation, 1);
    let other = self::guest();
    again.order(&other);
    again.cloud.hears(&other.id, |report| report.state == State::Running).await;
    assert_eq!(again.cloud.last(&guest.id).map(|report| report.state), Some(State::Stopped));
}

#[tokio::test]
async fn a_host_that_is_refused_touches_nothing() {
    let cloud = Arc::new(Cloud { refuse_hello: 1.into(), ..Cloud::default() });
    let guest = guest();
    cloud.order(&guest);
    let host = Host::with(cloud, Pace { report: Duration::from_millis(1), ..hurried() });
    let asked = async {
        while host.cloud.requests.load(Ordering::SeqCst) < 20 {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), asked).await.unwrap();
    assert!(host.ids().await.is_empty());

    host.cloud.refuse_hello.store(0, Ordering::SeqCst);
    host.cloud.hears(&guest.id, |report| report.state == State::Running).await;
}

#[tokio::test]
async fn the_controllers_questions_are_answered() {
    let (host, guest) = (Host::new(), guest());
    host.order(&guest);
    host.cloud.hears(&guest.id, |report| report.state == State::Running).await;
    let about = json!({ "guest": guest.id, "bytes": 1000 });
    let log = host.agent.answer(message::CONSOLE_LOG, &about).await.unwrap();
    assert!(log["text"].as_str().unwrap().contains("boots"));
    assert_eq!(host.agent.answer(message::CONSOLE_VNC, &about).await.unwrap()["address"], "127.0.0.1:6969");
    assert_eq!(host.agent.answer(message::CRASH_DUMP, &about).await.unwrap(), json!({}));
    assert_eq!(host.agent.answer(message::DIAGNOSTICS, &about).await.unwrap()["state"], "running");
    let stranger = json!({ "guest": base::id::uuid() });
    assert!(matches!(host.agent.answer(message::CONSOLE_LOG, &stranger).await, Err(HostError::Missing { .. })));
    assert!(matches!(host.agent.answer("reboot", &about).await, Err(HostError::Never { .. })));
}

#[tokio::test]
async fn what_no_server_owns_is_a_leak() {
    let (host, guest) = (Host::new(), guest());
    host.order(&guest);
    host.cloud.hears(&guest.id, |report| report.state == State::Running).await;
    assert_eq!(host.agent.leaks().await.unwrap(), Vec::<String>::new());
    host.cloud.desired.lock().unwrap().clear();
    assert_eq!(host.agent.leaks().await.unwrap(), [format!("guest {}", guest.id)]);
}

#[tokio::test]
async fn a_thousand_fake_hosts_fit_in_one_process() {
    let cloud = Arc::new(Cloud::default());
    let guest = guest();
    cloud.order(&guest);
    let hosts: Vec<Host> = (0..1000)
        .map(|_| Host::with(cloud.clone(), Pace { compare: Duration::from_secs(3600), ..hurried() }))
        .collect();
    cloud.hears(&guest.id, |report| report.state == State::Running).await;
    for host in &hosts {
        let mut changes = host.fake.changes();
        while host.ids().await.is_empty() {
            changes.recv().await.unwrap();
        }
    }
}
