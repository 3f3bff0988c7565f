//! Who works on a flow, when processes die, stand still or come back.

use std::sync::Arc;
use std::time::Duration;

use db::{select, sql};
use flow::{Flow, FlowRow, Kind, State};
use tokio::sync::Notify;

use crate::cloud::{BOOT, Cloud, Place, ServerOrder, create_server};

/// Two controllers over one database; the first stands still inside `boot the guest`.
async fn stuck_and_other(place: &Place) -> (Arc<Cloud>, Arc<Notify>, Arc<Cloud>) {
    let gate = Arc::new(Notify::new());
    let mut first = place.cloud();
    first.gate = Some(gate.clone());
    (Arc::new(first), gate, Arc::new(place.cloud()))
}

#[tokio::test]
async fn a_process_takes_up_at_once_what_it_left_behind() {
    let place = Place::new().await;
    let (first, _gate, second) = stuck_and_other(&place).await;
    let engine = first.engine("c1");
    first.start(&place.db, BOOT, "s1").await;
    first.entered.notified().await;
    drop(engine);

    let _engine = second.engine("c1");
    second.flows.settled().await.unwrap();
    assert_eq!(second.log(), ["make guest s1"], "the steps before the crash answer from the journal");
    assert_eq!(second.state("s1").as_deref(), Some("ACTIVE"));
}

#[tokio::test]
async fn a_controller_takes_over_from_one_that_stands_still() {
    let place = Place::new().await;
    let (first, _gate, second) = stuck_and_other(&place).await;
    let engine = first.engine("c1");
    first.start(&place.db, BOOT, "s1").await;
    first.entered.notified().await;
    drop(engine);

    let _engine = second.engine("c2");
    second.flows.settled().await.unwrap();
    assert_eq!(second.log(), ["make guest s1"]);
}

#[tokio::test]
async fn a_controller_that_lives_keeps_its_flows_and_one_that_lost_them_writes_nothing() {
    let place = Place::new().await;
    let (first, gate, second) = stuck_and_other(&place).await;
    let _one = first.engine("c1");
    let _two = second.engine("c2");
    first.start(&place.db, BOOT, "s1").await;
    // Either may claim it; only the first one stands still.
    let owner = async || place.db.one(select::<FlowRow>("WHERE resource = 's1'")).await.unwrap();
    tokio::select! {
        _ = first.entered.notified() => {}
        _ = second.entered.notified() => return second.flows.settled().await.unwrap(),
    }
    let lapses = place.db.count(sql("SELECT counter FROM leases WHERE name = 'alive/compute/c1'"));
    let before = lapses.await.unwrap();
    // The first one beats on, well past the time after which it would be given up.
    loop {
        let beats = place.db.count(sql("SELECT counter FROM leases WHERE name = 'alive/compute/c1'")).await.unwrap();
        if beats > before + 15 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(owner().await.owner.as_deref(), Some("c1"));

    // Somebody takes it away all the same: the fence rises.
    let take = sql("UPDATE flows SET owner = NULL, fence = fence + 1 WHERE resource = 's1'");
    let mut stop = place.db.begin().await.unwrap();
    stop.run(take).await.unwrap();
    stop.commit().await.unwrap();
    gate.notify_waiters();
    // Whoever goes on from here, the story is told to its end once.
    loop {
        gate.notify_one();
        if owner().await.state == State::Done {
            break;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(owner().await.fence >= 3);
}

#[tokio::test]
async fn a_stopped_engine_hands_its_flows_on() {
    let place = Place::new().await;
    let (first, gate, second) = stuck_and_other(&place).await;
    let engine = first.engine("c1");
    first.start(&place.db, BOOT, "s1").await;
    first.entered.notified().await;
    gate.notify_one();
    engine.stop(Duration::from_secs(10)).await.unwrap();
    assert_eq!(first.state("s1"), None, "it stops between two steps");

    let _engine = second.engine("c2");
    second.flows.settled().await.unwrap();
    assert!(second.log().is_empty(), "every step but the last was in the journal");
    assert_eq!(second.state("s1").as_deref(), Some("ACTIVE"));
}

#[tokio::test]
async fn a_flow_of_an_unknown_version_waits_for_its_program() {
    const NEXT: Kind<ServerOrder> = Kind::new("create_server", 2);
    let place = Place::new().await;
    let cloud = Arc::new(place.cloud());
    let engine = cloud.engine("c1");
    cloud.start(&place.db, NEXT, "s1").await;
    cloud.start(&place.db, BOOT, "s2").await;
    while cloud.newest("s2").await.state != State::Done {}
    assert_eq!(cloud.newest("s1").await.state, State::Queued);
    drop(engine);

    let _engine = cloud.engine_with("c1", vec![Flow::new(NEXT, create_server).into()]);
    cloud.flows.settled().await.unwrap();
    assert_eq!(cloud.newest("s1").await.state, State::Done);
}

#[tokio::test]
async fn two_engines_share_the_work_and_do_nothing_twice() {
    let place = Place::new().await;
    let clouds = [Arc::new(place.cloud()), Arc::new(place.cloud())];
    for number in 0..60 {
        clouds[0].start(&place.db, BOOT, &format!("s{number}")).await;
    }
    let _engines = [clouds[0].engine("c1"), clouds[1].engine("c2")];
    clouds[0].flows.settled().await.unwrap();
    let mut done = [clouds[0].log(), clouds[1].log()].concat();
    done.sort();
    done.dedup();
    assert_eq!(done.len(), 180);
    assert_eq!(clouds[0].log().len() + clouds[1].log().len(), 180);
}
