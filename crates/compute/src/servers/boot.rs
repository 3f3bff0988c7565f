//! Flow: bring a new server from BUILD to ACTIVE.
//!
//! ```text
//! claim a host ─► make ports ─► name the host ─► held ─► network wired ─► running ─► ACTIVE
//! ```

use std::sync::Arc;
use std::time::Duration;

use contract::guest::{Power, Report, State};
use db::sql;
use flow::{Failure, Kind, Order, Run, StepError, Stop};
use serde::{Deserialize, Serialize};

use super::interfaces;
use super::state::{PowerState, Task, VmState};
use super::store::{self, Server};
use crate::{Compute, actions, hosts, scheduler};

pub const CREATE_SERVER: Kind<ServerOrder> = Kind::new("create_server", 1);

/// Limit: until a host has made a guest ready; the image may have to be fetched.
const PREPARE: Duration = Duration::from_secs(1800);
/// Limit: until network says that the ports are wired. Upstream's `vif_plugging_timeout`.
const WIRE: Duration = Duration::from_secs(300);
/// Limit: an undo looks this often, with this pause, before it is tried again.
const LOOKS: u32 = 100;
const LOOK: Duration = Duration::from_millis(50);
/// Limit: until a guest that is ready runs.
const START: Duration = Duration::from_secs(120);

/// What the flows of one server are told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ServerOrder {
    pub server: String,
    pub request_id: String,
}

impl Order for ServerOrder {
    fn resource(&self) -> &str {
        &self.server
    }
}

pub async fn create_server(run: &mut Run<Compute, ServerOrder>) -> Result<(), Stop> {
    let host: String = run
        .step("claim a host", async |c: Arc<Compute>, new: Arc<ServerOrder>| claim(&c, &new.server).await)
        .undo(async |c: Arc<Compute>, new: Arc<ServerOrder>| {
            scheduler::release(&c, &new.server).await.map_err(StepError::again)
        })
        .await?;

    let at = host.clone();
    run.step("make ports", move |c: Arc<Compute>, new: Arc<ServerOrder>| {
        let host = at.clone();
        async move { make_ports(&c, &new.server, &host).await }
    })
    .undo(async |c: Arc<Compute>, new: Arc<ServerOrder>| interfaces::remove_all(&c, &new.server).await)
    .await?;

    run.step("hand it to the host", move |c: Arc<Compute>, new: Arc<ServerOrder>| {
        let host = host.clone();
        async move { hand_over(&c, &new.server, &host).await }
    })
    .undo(async |c: Arc<Compute>, new: Arc<ServerOrder>| take_back(&c, &new.server).await)
    .await?;

    run.wait("the guest is ready", PREPARE, async |c: Arc<Compute>, new: Arc<ServerOrder>| {
        prepared(&c, &new.server).await
    })
    .await?;

    run.wait("the ports are wired", WIRE, async |c: Arc<Compute>, new: Arc<ServerOrder>| {
        interfaces::wired(&c, &new.server).await
    })
    .await?;

    run.step("let it run", async |c: Arc<Compute>, new: Arc<ServerOrder>| tell(&c, &new.server, Power::Running).await)
        .await?;

    run.wait("the guest runs", START, async |c: Arc<Compute>, new: Arc<ServerOrder>| {
        reached(&c, &new.server, &[State::Running]).await
    })
    .await?;

    run.step("mark active", async |c: Arc<Compute>, new: Arc<ServerOrder>| mark_active(&c, &new).await).await
}

/// The server is kept in ERROR with the reason; its host is forgotten, because nothing of it is left there.
pub async fn creation_failed(c: Arc<Compute>, new: Arc<ServerOrder>, why: Failure) -> Result<(), StepError> {
    store::fail(&c.db, &new.server, 500, &why.message).await?;
    actions::finish(&c.db, &new.server, &new.request_id, "Error", &why.message).await?;
    Ok(())
}

/// The row, or the end of the flow when there is none.
pub async fn row(c: &Compute, id: &str) -> Result<Server, StepError> {
    let found = store::find(&c.db, id).await?;
    found.ok_or_else(|| StepError::refused("gone", format!("server {id} is gone")))
}

async fn claim(c: &Compute, id: &str) -> Result<String, StepError> {
    let server = row(c, id).await?;
    match scheduler::claim(c, &server).await {
        Ok(host) => Ok(host),
        Err(error @ scheduler::NoHost::Fits(_)) => Err(StepError::refused("no_valid_host", error.to_string())),
        Err(error) => Err(StepError::again(error)),
    }
}

async fn make_ports(c: &Compute, id: &str, host: &str) -> Result<(), StepError> {
    store::set_task(&c.db, id, Some(Task::Networking)).await?;
    let server = row(c, id).await?;
    interfaces::ensure_all(c, &server, host).await
}

/// From here on the host sees the server in its desired state.
async fn hand_over(c: &Compute, id: &str, host: &str) -> Result<(), StepError> {
    let change =
        sql("UPDATE servers SET host = ?, availability_zone = ?, root_device_name = ?, task_state = ?, desired = ?, \
         generation = generation + 1 WHERE id = ? AND host IS NULL");
    let zone = crate::zones::of_host(&c.db, host).await?;
    let change = change.bind(host).bind(zone).bind("/dev/vda").bind(Task::Spawning.name()).bind("held");
    c.db.run(change.bind(id)).await?;
    hosts::poke(c, host);
    Ok(())
}

/// Takes a guest off its host: an undo, which cannot wait to be woken. It looks often for a while, then lets the engine
/// try again.
async fn take_back(c: &Compute, id: &str) -> Result<(), StepError> {
    order_gone(c, id).await?;
    for _ in 0..LOOKS {
        if gone(c, id).await?.is_some() {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
    Err(StepError::again(format!("the host has not removed server {id} yet")))
}

/// Tells the host that nothing of the server may remain there.
pub async fn order_gone(c: &Compute, id: &str) -> Result<(), StepError> {
    let Some(server) = store::find(&c.db, id).await? else { return Ok(()) };
    let Some(host) = &server.host else { return Ok(()) };
    store::desire_now(&c.db, id, Power::Gone).await?;
    hosts::poke(c, host);
    Ok(())
}

/// Whether nothing of the server is left on its host, which is forgotten then. A host that is lost is not waited for:
/// it is told when it returns.
pub async fn gone(c: &Compute, id: &str) -> Result<Option<()>, StepError> {
    let Some(server) = store::find(&c.db, id).await? else { return Ok(Some(())) };
    let Some(host) = &server.host else { return Ok(Some(())) };
    let report = report(&server).filter(|report| report.generation >= server.generation as u64);
    let gone = server.desired == "gone" && report.is_some_and(|report| report.state == State::Gone);
    if !gone && hosts::find(&c.db, host).await?.is_some_and(|host| host.is_up()) {
        return Ok(None);
    }
    let change = sql("UPDATE servers SET host = NULL, report = NULL, power_state = 0 WHERE id = ?");
    c.db.run(change.bind(id)).await?;
    Ok(Some(()))
}

/// What the host last said, as far as it can be read.
pub fn report(server: &Server) -> Option<Report> {
    server.report.clone().and_then(|report| serde_json::from_value(report).ok())
}

/// Whether the host reports one of `states` for the present order, with the restarts that it asks for; a host that gave
/// up is a refusal.
pub async fn reached(c: &Compute, id: &str, states: &[State]) -> Result<Option<()>, StepError> {
    let server = row(c, id).await?;
    let Some(report) = report(&server).filter(|report| report.generation >= server.generation as u64) else {
        return Ok(None);
    };
    if let Some(why) = report.error {
        return Err(StepError::refused("host", why));
    }
    let restarted = report.restarts >= server.restarts as u64;
    Ok((restarted && states.contains(&report.state)).then_some(()))
}

async fn prepared(c: &Compute, id: &str) -> Result<Option<()>, StepError> {
    reached(c, id, &[State::Held, State::Running]).await
}

/// Gives the host a new order.
async fn tell(c: &Compute, id: &str, power: Power) -> Result<(), StepError> {
    store::desire_now(&c.db, id, power).await?;
    if let Some(host) = row(c, id).await?.host {
        hosts::poke(c, &host);
    }
    Ok(())
}

async fn mark_active(c: &Compute, new: &ServerOrder) -> Result<(), StepError> {
    let now = base::clock::now();
    let change = sql("UPDATE servers SET launched_at = ? WHERE id = ? AND launched_at IS NULL");
    c.db.run(change.bind(now).bind(&new.server)).await?;
    store::settle(&c.db, &new.server, VmState::Active, PowerState::Running).await?;
    actions::finish(&c.db, &new.server, &new.request_id, "Success", "").await?;
    Ok(())
}

/// Follows what a host reports without having been told: a guest that shut itself down, or died.
pub async fn state_of_report(c: &Compute, server: &Server, report: &Report) -> Result<(), db::Error> {
    if server.task_state.is_some() || server.deleting || report.generation < server.generation as u64 {
        return Ok(());
    }
    let Some((vm, power)) = followed(server, report) else { return Ok(()) };
    let mut tx = c.db.begin().await?;
    if vm == VmState::Stopped {
        store::desire(&mut tx, &server.id, Power::Stopped).await?;
    }
    let change = sql(
        "UPDATE servers SET vm_state = ?, power_state = ?, updated_at = ? WHERE id = ? AND task_state IS NULL AND deleting = 0",
    );
    let change = change.bind(vm.name()).bind(power as i64).bind(base::clock::now()).bind(&server.id);
    tx.run(change).await?;
    tx.commit().await
}

/// The state that a report stands for, when the row says another. A guest that followed an order after its verb had
/// given up counts as well.
fn followed(server: &Server, report: &Report) -> Option<(VmState, PowerState)> {
    use VmState::{Active, Paused, Stopped, Suspended};
    match (report.state, server.vm(), server.desired.as_str()) {
        (State::Stopped, Active | Paused, _) => Some((Stopped, PowerState::Shutdown)),
        // Upstream: a guest that crashed counts as shut down, so that it can be started again.
        (State::Crashed, Active | Paused, _) => Some((Stopped, PowerState::Crashed)),
        (State::Running, Stopped | Paused | Suspended, "running") => Some((Active, PowerState::Running)),
        (State::Paused, Active, "paused") => Some((Paused, PowerState::Paused)),
        (State::Suspended, Active, "suspended") => Some((Suspended, PowerState::Shutdown)),
        _ => None,
    }
}
