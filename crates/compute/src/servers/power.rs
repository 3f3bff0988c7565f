//! The power verbs: start, stop, reboot, pause, unpause, suspend, resume. One flow does them all.

use std::sync::Arc;
use std::time::Duration;

use api::{Action, Answer, Call, Done, Operation, Path, action};
use contract::guest::{Power, State};
use db::{Tx, sql};
use flow::{Failure, Kind, Order, Run, StepError, Stop};
use serde::{Deserialize, Serialize};

use super::boot::{reached, row};
use super::state::{PowerState, Task, VmState, power_name};
use super::store::{self, Server, known, take};
use super::{Reboot, ServerFault};
use crate::{Compute, actions, hosts};

pub const POWER_SERVER: Kind<PowerOrder> = Kind::new("power_server", 1);

/// Limit: until a guest has done what a power verb asks; a soft stop waits for the guest's own shutdown.
const POWER_TIME: Duration = Duration::from_secs(300);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    Start,
    Stop,
    Reboot,
    HardReboot,
    Pause,
    Unpause,
    Suspend,
    Resume,
}

/// What the flow of a power verb is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PowerOrder {
    pub server: String,
    pub request_id: String,
    pub verb: Verb,
}

impl Order for PowerOrder {
    fn resource(&self) -> &str {
        &self.server
    }
}

/// One row of the table of verbs.
struct Plan {
    /// Upstream's name, in messages and in instance actions.
    name: &'static str,
    from: &'static [VmState],
    task: Task,
    power: Power,
    reaches: State,
    becomes: VmState,
    power_state: PowerState,
}

impl Verb {
    const fn plan(self) -> Plan {
        use VmState::{Active, Error, Paused, Stopped, Suspended};
        match self {
            Verb::Start => up("start", &[Stopped], Task::PoweringOn),
            Verb::Reboot => up("reboot", &[Active], Task::Rebooting),
            Verb::HardReboot => up("reboot", &[Active, Stopped, Paused, Suspended, Error], Task::RebootingHard),
            Verb::Unpause => up("unpause", &[Paused], Task::Unpausing),
            Verb::Resume => up("resume", &[Suspended], Task::Resuming),
            Verb::Stop => Plan {
                name: "stop",
                from: &[Active, Error],
                task: Task::PoweringOff,
                power: Power::Stopped,
                reaches: State::Stopped,
                becomes: Stopped,
                power_state: PowerState::Shutdown,
            },
            Verb::Pause => Plan {
                name: "pause",
                from: &[Active],
                task: Task::Pausing,
                power: Power::Paused,
                reaches: State::Paused,
                becomes: Paused,
                power_state: PowerState::Paused,
            },
            Verb::Suspend => Plan {
                name: "suspend",
                from: &[Active],
                task: Task::Suspending,
                power: Power::Suspended,
                reaches: State::Suspended,
                becomes: Suspended,
                power_state: PowerState::Shutdown,
            },
        }
    }
}

const fn up(name: &'static str, from: &'static [VmState], task: Task) -> Plan {
    Plan {
        name,
        from,
        task,
        power: Power::Running,
        reaches: State::Running,
        becomes: VmState::Active,
        power_state: PowerState::Running,
    }
}

pub fn operations() -> Vec<Operation<Compute>> {
    const PATH: &str = "/servers/{id}/action";
    vec![
        action(PATH, "os-start", start).rule("os_compute_api:servers:start").status(202),
        action(PATH, "os-stop", stop).rule("os_compute_api:servers:stop").status(202),
        action(PATH, "reboot", reboot).rule("os_compute_api:servers:reboot").status(202),
        action(PATH, "pause", pause).rule("os_compute_api:os-pause-server:pause").status(202),
        action(PATH, "unpause", unpause).rule("os_compute_api:os-pause-server:unpause").status(202),
        action(PATH, "suspend", suspend).rule("os_compute_api:os-suspend-server:suspend").status(202),
        action(PATH, "resume", resume).rule("os_compute_api:os-suspend-server:resume").status(202),
    ]
}

async fn start(call: Call<Compute>, Path(id): Path<String>) -> Answer<Done> {
    begin(call, id, Verb::Start).await
}

async fn stop(call: Call<Compute>, Path(id): Path<String>) -> Answer<Done> {
    begin(call, id, Verb::Stop).await
}

async fn reboot(call: Call<Compute>, (Path(id), Action(how)): (Path<String>, Action<Reboot>)) -> Answer<Done> {
    let verb = if how.kind.eq_ignore_ascii_case("soft") { Verb::Reboot } else { Verb::HardReboot };
    begin(call, id, verb).await
}

async fn pause(call: Call<Compute>, Path(id): Path<String>) -> Answer<Done> {
    begin(call, id, Verb::Pause).await
}

async fn unpause(call: Call<Compute>, Path(id): Path<String>) -> Answer<Done> {
    begin(call, id, Verb::Unpause).await
}

async fn suspend(call: Call<Compute>, Path(id): Path<String>) -> Answer<Done> {
    begin(call, id, Verb::Suspend).await
}

async fn resume(call: Call<Compute>, Path(id): Path<String>) -> Answer<Done> {
    begin(call, id, Verb::Resume).await
}

async fn begin(call: Call<Compute>, id: String, verb: Verb) -> Answer<Done> {
    let server = call.permit(known(&call, &id).await?)?;
    refuse_locked(&call, &server)?;
    let plan = verb.plan();
    let mut tx = call.db.begin().await?;
    take(&mut tx, &server, plan.name, plan.from, plan.task).await?;
    if server.host.is_none() {
        return Err(ServerFault::NoHost { id }.into());
    }
    give_order(&mut tx, &server, verb).await?;
    actions::record(&mut tx, &call, &server.id, plan.name).await?;
    let order = PowerOrder { server: server.id.clone(), request_id: call.request_id.clone(), verb };
    call.flows.on_behalf_of(&call.request_id).start(&mut tx, POWER_SERVER, &order).await?;
    tx.commit().await?;
    Ok(Done::with(server))
}

/// A locked server refuses all but an administrator's verbs.
pub fn refuse_locked(call: &Call<Compute>, server: &Server) -> Answer<()> {
    if server.locked && !call.may_own("context_is_admin") {
        return Err(ServerFault::Locked { id: server.id.clone() }.into());
    }
    Ok(())
}

pub async fn power_server(run: &mut Run<Compute, PowerOrder>) -> Result<(), Stop> {
    run.step("tell the host", async |c: Arc<Compute>, order: Arc<PowerOrder>| tell_host(&c, &order.server).await)
        .await?;

    run.wait("the guest has followed", POWER_TIME, async |c: Arc<Compute>, order: Arc<PowerOrder>| {
        reached(&c, &order.server, &[order.verb.plan().reaches]).await
    })
    .await?;

    run.step("settle", async |c: Arc<Compute>, order: Arc<PowerOrder>| {
        let plan = order.verb.plan();
        store::settle(&c.db, &order.server, plan.becomes, plan.power_state).await?;
        actions::finish(&c.db, &order.server, &order.request_id, "Success", "").await
    })
    .await
}

/// Upstream: a power verb that fails leaves the server as it was, without a task; a failed reboot is an ERROR.
pub async fn power_failed(c: Arc<Compute>, order: Arc<PowerOrder>, why: Failure) -> Result<(), StepError> {
    match order.verb {
        Verb::Reboot | Verb::HardReboot | Verb::Start => store::fail(&c.db, &order.server, 500, &why.message).await?,
        _ => store::set_task(&c.db, &order.server, None).await?,
    }
    actions::finish(&c.db, &order.server, &order.request_id, "Error", &why.message).await?;
    Ok(())
}

/// The new order, under a new generation even if the host was told the same before.
async fn give_order(tx: &mut Tx, server: &Server, verb: Verb) -> Result<(), db::Error> {
    let (restarts, kind) = match verb {
        Verb::Reboot => (1, "soft"),
        Verb::HardReboot => (1, "hard"),
        _ => (0, "hard"),
    };
    let change = sql("UPDATE servers SET restarts = restarts + ?, restart_kind = ?, desired = ?, \
         generation = generation + 1 WHERE id = ?");
    let change = change.bind(restarts).bind(kind).bind(power_name(verb.plan().power)).bind(&server.id);
    tx.run(change).await.map(drop)
}

async fn tell_host(c: &Compute, id: &str) -> Result<(), StepError> {
    if let Some(host) = row(c, id).await?.host {
        hosts::poke(c, &host);
    }
    Ok(())
}
