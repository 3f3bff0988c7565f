//! Crashes and fails a flow at each of its steps, and lets the caller look for leaks after each.

use std::sync::Arc;

use crate::definition::{Definition, Kind, Order};
use crate::engine::{Engine, Work};
use crate::faults::{Faults, Trouble};
use crate::flows::Flows;
use crate::journal::{FlowRow, State};
use crate::pace::Pace;
use crate::step::Failure;

/// A fresh cloud for one scenario.
pub struct World<C, O> {
    /// On a database with [`crate::MIGRATION`]; the same that `context` wakes.
    pub flows: Flows,
    pub context: Arc<C>,
    pub order: O,
}

/// What a scenario came to.
#[derive(Debug)]
pub struct Outcome {
    /// In words, for the message of an assertion.
    pub scenario: String,
    /// None: the flow reached its end. Else everything must be undone.
    pub failure: Option<Failure>,
}

/// Runs a flow untroubled; with a crash before and after each entry into its journal; with a refusal before and after
/// each step's work; with a cancellation before each step; and with crashes on the way back from its last step.
/// `check` is called with the world after each scenario and panics if it finds a leak. Returns the names of the steps.
///
/// ```ignore
/// torture(BOOT, || Flow::new(BOOT, boot).failed(boot_failed).into(), new_world, async |world, outcome| {
///     assert_eq!(world.context.leaks(), [""; 0], "{}", outcome.scenario);
/// }).await;
/// ```
pub async fn torture<C, O>(
    kind: Kind<O>,
    flow: impl Fn() -> Definition<C>,
    world: impl AsyncFn() -> World<C, O>,
    check: impl AsyncFn(&World<C, O>, &Outcome),
) -> Vec<String>
where
    C: Send + Sync + 'static,
    O: Order,
{
    let scenario = async |name: String, plan: Vec<(String, Trouble)>| {
        let world = world().await;
        let (row, passed) = play(&world, kind, &flow, plan).await;
        let failure = row.failure();
        assert_eq!(failure.is_some(), row.state == State::Failed, "{name}: {row:?}");
        check(&world, &Outcome { scenario: name, failure: failure.clone() }).await;
        (failure, passed)
    };

    let (failure, steps) = scenario("untroubled".into(), Vec::new()).await;
    assert_eq!(failure, None, "the flow must reach its end when nothing goes wrong");
    for step in &steps {
        for trouble in [Trouble::CrashAfterEffect, Trouble::CrashAfterJournal] {
            let (failure, _) = scenario(format!("{trouble:?} at '{step}'"), vec![(step.clone(), trouble)]).await;
            assert_eq!(failure, None, "a flow goes on after a crash at '{step}'");
        }
        for trouble in [Trouble::FailBefore, Trouble::FailAfter, Trouble::CancelBefore] {
            scenario(format!("{trouble:?} at '{step}'"), vec![(step.clone(), trouble)]).await;
        }
    }
    let Some(last) = steps.last() else { return steps };
    let fail = (last.clone(), Trouble::FailAfter);
    let (_, back) = scenario(format!("the way back from '{last}'"), vec![fail.clone()]).await;
    for undo in back.iter().filter(|step| step.starts_with("undo ")).chain([&"failed".to_string()]) {
        for trouble in [Trouble::CrashAfterEffect, Trouble::CrashAfterJournal] {
            let plan = vec![fail.clone(), (undo.clone(), trouble)];
            scenario(format!("{trouble:?} at '{undo}' after a failure of '{last}'"), plan).await;
        }
    }
    steps
}

/// Runs the flow through its troubles to its end; a crash is followed by a restart without the troubles that crash.
async fn play<C, O>(
    world: &World<C, O>,
    kind: Kind<O>,
    flow: &impl Fn() -> Definition<C>,
    plan: Vec<(String, Trouble)>,
) -> (FlowRow, Vec<String>)
where
    C: Send + Sync + 'static,
    O: Order,
{
    let World { flows, context, order } = world;
    let mut tx = flows.db().begin().await.expect("a test's database is there");
    flows.start(&mut tx, kind, order).await.expect("the order fits into its row");
    tx.commit().await.expect("nobody else writes");

    let engine = |plan: Vec<(String, Trouble)>| {
        let faults = Arc::new(Faults::planned(plan));
        let work = Work { flows: vec![flow()], reconcilers: Vec::new() };
        (Engine::start_with(flows, "torture", context.clone(), work, Pace::test(), faults.clone()), faults)
    };
    let (mut first, faults) = engine(plan.clone());
    let mut passed = tokio::select! {
        settled = flows.settled() => {
            settled.expect("a test's database is there");
            faults.passed()
        }
        _ = first.crashed() => Vec::new(),
    };
    drop(first);
    if passed.is_empty() {
        let crashes = |trouble| matches!(trouble, Trouble::CrashAfterEffect | Trouble::CrashAfterJournal);
        let (second, faults) = engine(plan.into_iter().filter(|(_, trouble)| !crashes(*trouble)).collect());
        flows.settled().await.expect("a test's database is there");
        passed = faults.passed();
        drop(second);
    }
    let rows = flows.of(order.resource()).await.expect("a test's database is there");
    (rows.into_iter().next().expect("the flow that was started"), passed)
}
