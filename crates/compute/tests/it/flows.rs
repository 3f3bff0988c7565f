//! Crashes and failures of every flow, at each of its steps.

use std::sync::Arc;

use api::json;
use compute::Compute;
use compute::servers::{
    CREATE_SERVER, DELETE_SERVER, POWER_SERVER, PowerOrder, ServerOrder, Verb, create_server, creation_failed,
    delete_server, deletion_failed, power_failed, power_server,
};
use contract::guest::State;
use db::sql;
use flow::Flow;
use flow::torture::{World, torture};

use crate::cloud::Cloud;
use crate::fakes::host::FakeHost;

/// What the worlds of a torture lean on; kept alive as long as their context.
struct Stage {
    cloud: Cloud,
    host: FakeHost,
}

thread_local! {
    static STAGE: std::cell::RefCell<Option<Arc<Stage>>> = const { std::cell::RefCell::new(None) };
}

/// A cloud without an engine, in which somebody has just asked for something: the flow that the request started is
/// taken away, because the torture starts its own.
async fn stage(ask: impl AsyncFn(&Cloud) -> String) -> (Arc<Stage>, String) {
    let cloud = Cloud::idle().await;
    let host = cloud.host("h1").await;
    let id = ask(&cloud).await;
    cloud.compute.db.run(sql("DELETE FROM flows")).await.unwrap();
    let stage = Arc::new(Stage { cloud, host });
    STAGE.with(|kept| *kept.borrow_mut() = Some(stage.clone()));
    (stage, id)
}

fn world<O>(stage: &Stage, order: O) -> World<Compute, O> {
    World { flows: stage.cloud.compute.flows.clone(), context: stage.cloud.compute.clone(), order }
}

fn kept() -> Arc<Stage> {
    STAGE.with(|kept| kept.borrow().clone().unwrap())
}

fn order(id: &str) -> ServerOrder {
    ServerOrder { server: id.to_string(), request_id: "req-1".into() }
}

/// Runs everything on a server that boots untroubled first.
async fn booted(cloud: &Cloud) -> String {
    let id = cloud.ask_for_server("web").await;
    let work = flow::Work { flows: compute::flows(), reconcilers: Vec::new() };
    let engine = flow::Engine::start_at(&cloud.compute.flows, "first", cloud.compute.clone(), work, flow::Pace::test());
    cloud.settled().await;
    drop(engine);
    assert_eq!(cloud.server(&id).await["status"], "ACTIVE");
    id
}

#[tokio::test]
async fn creating_a_server_survives_every_trouble() {
    let flow = || Flow::new(CREATE_SERVER, create_server).failed(creation_failed).into();
    let new_world = async || {
        let (stage, id) = stage(async |cloud| cloud.ask_for_server("web").await).await;
        world(&stage, order(&id))
    };
    let steps = torture(CREATE_SERVER, flow, new_world, async |world, outcome| {
        let stage = kept();
        let server = stage.cloud.server(&world.order.server).await;
        if outcome.failure.is_none() {
            assert_eq!(server["status"], "ACTIVE", "{}", outcome.scenario);
            assert_eq!(stage.cloud.leaks().len(), 2, "{}", outcome.scenario);
            assert_eq!(stage.host.guest(&world.order.server).unwrap().1, State::Running);
        } else {
            assert_eq!(server["status"], "ERROR", "{}", outcome.scenario);
            assert_eq!(stage.cloud.leaks(), [""; 0], "{}", outcome.scenario);
            assert_eq!(stage.host.guests(), [""; 0], "{}", outcome.scenario);
        }
    })
    .await;
    assert_eq!(steps.len(), 8, "{steps:?}");
}

#[tokio::test]
async fn deleting_a_server_survives_every_trouble() {
    let flow = || Flow::new(DELETE_SERVER, delete_server).failed(deletion_failed).unstoppable().into();
    let new_world = async || {
        let (stage, id) = stage(async |cloud| {
            let id = booted(cloud).await;
            cloud.by("alice").delete(&format!("/v2.1/servers/{id}")).await.expect(204);
            id
        })
        .await;
        world(&stage, order(&id))
    };
    torture(DELETE_SERVER, flow, new_world, async |world, outcome| {
        let stage = kept();
        let path = format!("/v2.1/servers/{}", world.order.server);
        let got = stage.cloud.by("alice").get(&path).await;
        if outcome.failure.is_none() {
            assert_eq!(got.status, 404, "{}", outcome.scenario);
            assert_eq!(stage.cloud.leaks(), [""; 0], "{}", outcome.scenario);
            assert_eq!(stage.host.guests(), [""; 0], "{}", outcome.scenario);
        } else if got.status == 200 {
            // What is left can be deleted again.
            assert_eq!(got.body["server"]["status"], "ERROR", "{}", outcome.scenario);
            stage.cloud.by("alice").delete(&path).await.expect(204);
        }
    })
    .await;
}

#[tokio::test]
async fn power_verbs_survive_every_trouble() {
    for (verb, action) in
        [(Verb::Stop, json!({"os-stop": null})), (Verb::HardReboot, json!({"reboot": {"type": "HARD"}}))]
    {
        let flow = || Flow::new(POWER_SERVER, power_server).failed(power_failed).into();
        let new_world = async || {
            let (stage, id) = stage(async |cloud| {
                let id = booted(cloud).await;
                cloud.by("alice").act(&id, action.clone()).await.expect(202);
                id
            })
            .await;
            world(&stage, PowerOrder { server: id, request_id: "req-1".into(), verb })
        };
        torture(POWER_SERVER, flow, new_world, async |world, outcome| {
            let stage = kept();
            let server = stage.cloud.server(&world.order.server).await;
            assert_eq!(server["OS-EXT-STS:task_state"], json!(null), "{}", outcome.scenario);
            let (guest, state) = stage.host.guest(&world.order.server).unwrap();
            match (verb, &outcome.failure) {
                (Verb::Stop, None) => {
                    assert_eq!(server["status"], "SHUTOFF", "{}", outcome.scenario);
                    assert_eq!(state, State::Stopped);
                }
                (_, None) => {
                    assert_eq!(server["status"], "ACTIVE", "{}", outcome.scenario);
                    assert_eq!(guest.restarts, 1, "{}", outcome.scenario);
                }
                _ => {}
            }
        })
        .await;
    }
}
