//! Waiting for the outside.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use flow::{Engine, Flow, Flows, Kind, Order, Pace, Run, State, StepError, Stop, Work};
use serde::{Deserialize, Serialize};

use crate::cloud::Place;

const LONG: Duration = Duration::from_secs(600);
const PLUG: Kind<Plug> = Kind::new("plug", 1);

#[derive(Serialize, Deserialize)]
struct Plug {
    port: String,
    seconds: u64,
}

impl Order for Plug {
    fn resource(&self) -> &str {
        &self.port
    }
}

#[derive(Default)]
struct Host {
    plugged: AtomicUsize,
    looks: AtomicUsize,
    looked: tokio::sync::Notify,
}

async fn plug(run: &mut Run<Host, Plug>) -> Result<(), Stop> {
    let limit = Duration::from_secs(run.order().seconds);
    let seen: usize = run
        .wait("the port is wired", limit, async |host, _| {
            host.looks.fetch_add(1, Ordering::SeqCst);
            host.looked.notify_one();
            let plugged = host.plugged.load(Ordering::SeqCst);
            Ok::<_, StepError>((plugged > 0).then_some(plugged))
        })
        .await?;
    assert_eq!(seen, 1);
    Ok(())
}

/// Looks at nothing by itself.
fn patient() -> Pace {
    Pace { look: (LONG, LONG), poll: Duration::from_millis(5), ..Pace::default() }
}

fn engine(flows: &Flows, owner: &str, host: &Arc<Host>, pace: Pace) -> Engine {
    let work = Work { flows: vec![Flow::new(PLUG, plug).into()], reconcilers: Vec::new() };
    Engine::start_at(flows, owner, host.clone(), work, pace)
}

async fn start(flows: &Flows, place: &Place, port: &str, seconds: u64) {
    let mut tx = place.db.begin().await.unwrap();
    flows.start(&mut tx, PLUG, &Plug { port: port.into(), seconds }).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn a_waiting_flow_looks_when_it_is_woken() {
    let place = Place::new().await;
    let (flows, host) = (Flows::new("compute", &place.db), Arc::new(Host::default()));
    let _engine = engine(&flows, "c1", &host, patient());
    start(&flows, &place, "p1", 600).await;
    host.looked.notified().await;
    host.plugged.store(1, Ordering::SeqCst);
    // The look may not have become a wait yet.
    while flows.of("p1").await.unwrap()[0].state != State::Done {
        flows.wake("p1");
    }
    assert!(host.looks.load(Ordering::SeqCst) >= 2);
}

#[tokio::test]
async fn a_flow_is_woken_from_another_process() {
    let place = Place::new().await;
    let (here, elsewhere) = (Flows::new("compute", &place.db), Flows::new("compute", &place.db));
    let host = Arc::new(Host::default());
    let _engine = engine(&here, "c1", &host, patient());
    start(&here, &place, "p1", 600).await;
    host.looked.notified().await;
    host.plugged.store(1, Ordering::SeqCst);
    elsewhere.wake("p1");
    here.settled().await.unwrap();
    assert_eq!(here.of("p1").await.unwrap()[0].state, State::Done);
}

#[tokio::test]
async fn nothing_in_time_is_a_failure_by_name() {
    let place = Place::new().await;
    let (flows, host) = (Flows::new("compute", &place.db), Arc::new(Host::default()));
    let _engine = engine(&flows, "c1", &host, patient());
    start(&flows, &place, "p1", 0).await;
    flows.settled().await.unwrap();
    let why = flows.of("p1").await.unwrap()[0].failure().unwrap();
    assert_eq!((why.code.as_str(), why.step.as_str()), ("timeout", "the port is wired"));
}

#[tokio::test]
async fn waiting_flows_leave_room_for_others() {
    let place = Place::new().await;
    let (flows, host) = (Flows::new("compute", &place.db), Arc::new(Host::default()));
    let _engine = engine(&flows, "c1", &host, Pace::test());
    for port in 0..150 {
        start(&flows, &place, &format!("p{port}"), 600).await;
    }
    while host.looks.load(Ordering::SeqCst) < 150 {
        host.looked.notified().await;
    }
    host.plugged.store(1, Ordering::SeqCst);
    flows.settled().await.unwrap();
}

#[tokio::test]
async fn a_waiting_flow_can_be_cancelled() {
    let place = Place::new().await;
    let (flows, host) = (Flows::new("compute", &place.db), Arc::new(Host::default()));
    let _engine = engine(&flows, "c1", &host, patient());
    start(&flows, &place, "p1", 600).await;
    host.looked.notified().await;
    let mut tx = place.db.begin().await.unwrap();
    flows.cancel(&mut tx, "p1").await.unwrap();
    tx.commit().await.unwrap();
    flows.settled().await.unwrap();
    assert_eq!(flows.of("p1").await.unwrap()[0].failure().unwrap().code, "cancelled");
}
