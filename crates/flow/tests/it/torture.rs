//! The torture of the little cloud's own flow, and proof that torture finds leaks.

use std::sync::{Arc, Mutex};

use flow::torture::{Outcome, World, torture};
use flow::{Definition, Flow, Kind, Run, Stop};

use crate::cloud::{BOOT, Cloud, Place, ServerOrder, boot, order};

const STEPS: [&str; 4] = ["claim a host", "bind ports", "boot the guest", "mark active"];

async fn tortured(
    kind: Kind<ServerOrder>,
    flow: fn() -> Definition<Cloud>,
    check: impl Fn(&Cloud, &Outcome),
) -> Vec<String> {
    // Databases must outlive their scenarios.
    let places = Mutex::new(Vec::new());
    let world = async || {
        let place = Place::new().await;
        let context = Arc::new(place.cloud());
        places.lock().unwrap().push(place);
        World { flows: context.flows.clone(), context, order: order("s1") }
    };
    torture(kind, flow, world, async |world, outcome| check(&world.context, outcome)).await
}

#[tokio::test]
async fn a_good_flow_leaves_nothing_behind_whatever_happens() {
    let steps = tortured(BOOT, boot, |cloud, outcome| {
        let expected: &[&str] = match &outcome.failure {
            None => &["claim s1", "guest s1", "port s1"],
            Some(_) => &[],
        };
        assert_eq!(cloud.things(), expected, "{}", outcome.scenario);
        let state = cloud.state("s1").unwrap();
        assert_eq!(state == "ACTIVE", outcome.failure.is_none(), "{}: {state}", outcome.scenario);
    })
    .await;
    assert_eq!(steps, STEPS);
}

const LEAKY: Kind<ServerOrder> = Kind::new("leaky", 1);

/// Forgets the port on its way back.
async fn leaky(run: &mut Run<Cloud, ServerOrder>) -> Result<(), Stop> {
    run.step("bind ports", async |c, new| {
        c.things.lock().unwrap().insert(format!("port {}", new.id));
        Ok::<_, flow::StepError>(())
    })
    .await
}

#[tokio::test]
async fn torture_finds_a_leak() {
    let leaks = Mutex::new(Vec::new());
    tortured(
        LEAKY,
        || Flow::new(LEAKY, leaky).into(),
        |cloud, outcome| {
            if outcome.failure.is_some() && !cloud.things().is_empty() {
                leaks.lock().unwrap().push(outcome.scenario.clone());
            }
        },
    )
    .await;
    assert!(leaks.into_inner().unwrap().contains(&"FailAfter at 'bind ports'".to_string()));
}
