//! How flows go forth and back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use flow::{Flow, Kind, Run, State, Stop};

use crate::cloud::{BOOT, Cloud, DELETE, Place, ServerOrder};

#[tokio::test]
async fn a_flow_does_its_steps_in_order_and_ends() {
    let place = Place::new().await;
    let cloud = Arc::new(place.cloud());
    let _engine = cloud.engine("c1");
    cloud.start(&place.db, BOOT, "s1").await;
    cloud.flows.settled().await.unwrap();

    assert_eq!(cloud.log(), ["make claim s1", "make port s1", "make guest s1"]);
    assert_eq!(cloud.state("s1").as_deref(), Some("ACTIVE"));
    assert_eq!(cloud.newest("s1").await.state, State::Done);
    assert_eq!(place.db.count(db::sql("SELECT COUNT(*) FROM flow_steps")).await.unwrap(), 0);
}

#[tokio::test]
async fn a_flow_does_not_start_when_its_transaction_is_rolled_back() {
    let place = Place::new().await;
    let cloud = Arc::new(place.cloud());
    let _engine = cloud.engine("c1");
    let mut tx = place.db.begin().await.unwrap();
    cloud.flows.start(&mut tx, BOOT, &crate::cloud::order("s1")).await.unwrap();
    tx.rollback().await.unwrap();
    cloud.start(&place.db, BOOT, "s2").await;
    cloud.flows.settled().await.unwrap();
    assert_eq!(cloud.log(), ["make claim s2", "make port s2", "make guest s2"]);
}

#[tokio::test]
async fn a_failure_that_passes_is_tried_again() {
    let place = Place::new().await;
    let cloud = Arc::new(place.cloud());
    cloud.trouble("guest", 3);
    let _engine = cloud.engine("c1");
    cloud.start(&place.db, BOOT, "s1").await;
    cloud.flows.settled().await.unwrap();
    assert_eq!(cloud.log().iter().filter(|line| *line == "make guest s1").count(), 4);
    assert_eq!(cloud.state("s1").as_deref(), Some("ACTIVE"));
}

#[tokio::test]
async fn a_failure_that_does_not_pass_unwinds_and_says_why() {
    let place = Place::new().await;
    let cloud = Arc::new(place.cloud());
    cloud.trouble("guest", 4);
    let _engine = cloud.engine("c1");
    cloud.start(&place.db, BOOT, "s1").await;
    cloud.flows.settled().await.unwrap();
    assert_eq!(cloud.state("s1").as_deref(), Some("ERROR exhausted the guest did not come"));
    assert!(cloud.things().is_empty());
}

#[tokio::test]
async fn a_refusal_undoes_backwards_and_is_kept_in_the_row() {
    let place = Place::new().await;
    let cloud = Arc::new(place.cloud());
    cloud.trouble("guest", usize::MAX);
    let _engine = cloud.engine("c1");
    cloud.start(&place.db, BOOT, "s1").await;
    cloud.flows.settled().await.unwrap();

    assert_eq!(cloud.log()[3..], ["unmake guest s1", "unmake port s1", "unmake claim s1"]);
    assert_eq!(cloud.state("s1").as_deref(), Some("ERROR no_room no room for a guest"));
    let row = cloud.newest("s1").await;
    assert_eq!(row.state, State::Failed);
    let why = row.failure().unwrap();
    assert_eq!((why.step.as_str(), why.code.as_str()), ("boot the guest", "no_room"));
}

#[tokio::test]
async fn flows_of_one_resource_run_one_after_the_other() {
    let place = Place::new().await;
    let cloud = Arc::new(place.cloud());
    for _ in 0..3 {
        cloud.start(&place.db, BOOT, "s1").await;
        cloud.start(&place.db, DELETE, "s1").await;
    }
    let _engine = cloud.engine("c1");
    cloud.flows.settled().await.unwrap();
    let once =
        ["make claim s1", "make port s1", "make guest s1", "unmake guest s1", "unmake port s1", "unmake claim s1"];
    assert_eq!(cloud.log(), [once, once, once].concat());
}

#[tokio::test]
async fn many_flows_of_different_resources_all_end() {
    let place = Place::new().await;
    let cloud = Arc::new(place.cloud());
    let _engine = cloud.engine("c1");
    for number in 0..200 {
        cloud.start(&place.db, BOOT, &format!("s{number}")).await;
    }
    cloud.flows.settled().await.unwrap();
    assert_eq!(cloud.things().len(), 600);
}

#[tokio::test]
async fn a_committed_flow_starts_without_waiting_for_the_next_look() {
    let place = Place::new().await;
    let cloud = Arc::new(place.cloud());
    let work = flow::Work { flows: crate::cloud::definitions(), reconcilers: Vec::new() };
    let slow = flow::Pace { poll: Duration::from_secs(600), ..flow::Pace::default() };
    let _engine = flow::Engine::start_at(&cloud.flows, "c1", cloud.clone(), work, slow);
    cloud.start(&place.db, BOOT, "warm").await;
    cloud.flows.settled().await.unwrap();
    let begun = Instant::now();
    cloud.start(&place.db, BOOT, "s1").await;
    cloud.entered.notified().await;
    cloud.entered.notified().await;
    eprintln!("the third step began after {:?}", begun.elapsed());
    // Three steps and their journal; far from the ten minutes of a look.
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

const STRANGE: Kind<ServerOrder> = Kind::new("strange", 1);

async fn panics(run: &mut Run<Cloud, ServerOrder>) -> Result<(), Stop> {
    run.step("think", async |_, _| -> Result<(), flow::StepError> { panic!("a defect") }).await
}

async fn repeats(run: &mut Run<Cloud, ServerOrder>) -> Result<(), Stop> {
    run.step("same", async |_, _| Ok::<_, flow::StepError>(())).await?;
    run.step("same", async |_, _| Ok::<_, flow::StepError>(())).await
}

async fn refuses(run: &mut Run<Cloud, ServerOrder>) -> Result<(), Stop> {
    let hosts: Vec<String> = run.step("look", async |_, _| Ok::<_, flow::StepError>(Vec::new())).await?;
    match hosts.first() {
        None => Err(run.refuse("no_valid_host", "No valid host was found: h1 lacks memory.")),
        Some(_) => Ok(()),
    }
}

async fn slow(run: &mut Run<Cloud, ServerOrder>) -> Result<(), Stop> {
    let never = async |_, _| std::future::pending::<Result<(), flow::StepError>>().await;
    run.step("sleep", never).within(Duration::from_millis(5)).retries(1).await
}

async fn code_of(story: impl for<'a> flow::Story<'a, Cloud, ServerOrder>) -> (String, String) {
    let place = Place::new().await;
    let cloud = Arc::new(place.cloud());
    let _engine = cloud.engine_with("c1", vec![Flow::new(STRANGE, story).into()]);
    cloud.start(&place.db, STRANGE, "s1").await;
    cloud.flows.settled().await.unwrap();
    let why = cloud.newest("s1").await.failure().unwrap();
    (why.code, why.message)
}

#[tokio::test]
async fn a_step_that_panics_fails_its_flow_and_nothing_else() {
    assert_eq!(code_of(panics).await.0, "defect");
}

#[tokio::test]
async fn two_steps_of_one_name_are_refused() {
    assert_eq!(code_of(repeats).await, ("defect".into(), "the flow has two steps named 'same'".into()));
}

#[tokio::test]
async fn a_story_may_refuse_because_of_what_it_found() {
    let expected = ("no_valid_host".into(), "No valid host was found: h1 lacks memory.".into());
    assert_eq!(code_of(refuses).await, expected);
}

#[tokio::test]
async fn a_step_that_takes_too_long_is_tried_again_and_then_given_up() {
    assert_eq!(code_of(slow).await, ("exhausted".into(), "no result within 0.005 s".into()));
}
