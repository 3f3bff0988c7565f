//! Delete wins.

use std::sync::Arc;

use flow::State;
use tokio::sync::Notify;

use crate::cloud::{BOOT, DELETE, Place};

#[tokio::test]
async fn a_running_flow_turns_back_at_its_next_step_and_the_delete_follows() {
    let place = Place::new().await;
    let gate = Arc::new(Notify::new());
    let mut cloud = place.cloud();
    cloud.gate = Some(gate.clone());
    let cloud = Arc::new(cloud);
    let _engine = cloud.engine("c1");
    cloud.start(&place.db, BOOT, "s1").await;
    cloud.entered.notified().await;

    let mut tx = place.db.begin().await.unwrap();
    cloud.flows.cancel(&mut tx, "s1").await.unwrap();
    cloud.flows.start(&mut tx, DELETE, &crate::cloud::order("s1")).await.unwrap();
    tx.commit().await.unwrap();
    gate.notify_one();
    cloud.flows.settled().await.unwrap();

    assert_eq!(cloud.state("s1").as_deref(), Some("DELETED"));
    assert!(cloud.things().is_empty());
    let flows = cloud.flows.of("s1").await.unwrap();
    assert_eq!((flows[0].kind.as_str(), flows[0].state), ("delete_server", State::Done));
    assert_eq!((flows[1].kind.as_str(), flows[1].state), ("create_server", State::Failed));
    let why = flows[1].failure().unwrap();
    assert_eq!((why.step.as_str(), why.code.as_str()), ("mark active", "cancelled"));
}

#[tokio::test]
async fn a_flow_cancelled_before_it_began_does_nothing() {
    let place = Place::new().await;
    let cloud = Arc::new(place.cloud());
    cloud.start(&place.db, BOOT, "s1").await;
    cloud.cancel(&place.db, "s1").await;
    let _engine = cloud.engine("c1");
    cloud.flows.settled().await.unwrap();
    assert_eq!(cloud.log(), ["unmake claim s1"]);
    assert_eq!(cloud.state("s1").as_deref(), Some("ERROR cancelled something else was asked for meanwhile"));
}

#[tokio::test]
async fn a_delete_cannot_be_cancelled() {
    let place = Place::new().await;
    let cloud = Arc::new(place.cloud());
    cloud.start(&place.db, DELETE, "s1").await;
    cloud.cancel(&place.db, "s1").await;
    let _engine = cloud.engine("c1");
    cloud.flows.settled().await.unwrap();
    assert_eq!(cloud.newest("s1").await.state, State::Done);
}
