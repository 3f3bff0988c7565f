//! Deleting servers. Delete wins: it marks the row, stops whatever else is going on, and cannot be stopped itself.

use std::sync::Arc;
use std::time::Duration;

use api::{Answer, Call, Done, Path, Permitted};
use db::sql;
use flow::{Failure, Kind, Run, StepError, Stop};

use super::boot::{ServerOrder, gone, order_gone};
use super::state::Task;
use super::store::{self, Server, known};
use super::{ServerFault, interfaces};
use crate::{Compute, actions, scheduler};

pub const DELETE_SERVER: Kind<ServerOrder> = Kind::new("delete_server", 1);

/// Limit: until a host that is up has removed a guest.
const REMOVE: Duration = Duration::from_secs(3600);

pub async fn remove(call: Call<Compute>, Path(id): Path<String>) -> Answer<Done> {
    let server = call.permit(known(&call, &id).await?)?;
    begin(&call, server).await.map(Done::with)
}

pub async fn force(call: Call<Compute>, Path(id): Path<String>) -> Answer<Done> {
    let server = call.permit(known(&call, &id).await?)?;
    begin(&call, server).await.map(Done::with)
}

async fn begin(call: &Call<Compute>, server: Permitted<Server>) -> Answer<Permitted<Server>> {
    super::power::refuse_locked(call, &server)?;
    let mut tx = call.db.begin().await?;
    let mark = sql("UPDATE servers SET deleting = 1, task_state = ?, updated_at = ? WHERE id = ? AND deleting = 0");
    let mark = mark.bind(Task::Deleting.name()).bind(base::clock::now()).bind(&server.id);
    // Asked twice is the same as once.
    if tx.run(mark).await? > 0 {
        actions::record(&mut tx, call, &server.id, "delete").await?;
        call.flows.cancel(&mut tx, &server.id).await?;
        let order = ServerOrder { server: server.id.clone(), request_id: call.request_id.clone() };
        call.flows.on_behalf_of(&call.request_id).start(&mut tx, DELETE_SERVER, &order).await?;
    } else if store::find(&mut tx, &server.id).await?.is_none() {
        return Err(ServerFault::NotFound { id: server.id.clone() }.into());
    }
    tx.commit().await?;
    Ok(server)
}

pub async fn delete_server(run: &mut Run<Compute, ServerOrder>) -> Result<(), Stop> {
    run.step("order it off the host", async |c: Arc<Compute>, old: Arc<ServerOrder>| order_gone(&c, &old.server).await)
        .retries(u32::MAX)
        .await?;

    run.wait("the host is rid of it", REMOVE, async |c: Arc<Compute>, old: Arc<ServerOrder>| {
        gone(&c, &old.server).await
    })
    .retries(u32::MAX)
    .await?;

    run.step("remove ports", async |c: Arc<Compute>, old: Arc<ServerOrder>| {
        interfaces::remove_all(&c, &old.server).await
    })
    .retries(u32::MAX)
    .await?;

    run.step("give the claim back", async |c: Arc<Compute>, old: Arc<ServerOrder>| {
        scheduler::release(&c, &old.server).await.map_err(StepError::again)
    })
    .retries(u32::MAX)
    .await?;

    run.step("archive", async |c: Arc<Compute>, old: Arc<ServerOrder>| {
        actions::finish(&c.db, &old.server, &old.request_id, "Success", "").await?;
        store::archive(&c.db, &old.server).await
    })
    .await
}

/// A delete that could not be carried out leaves the server in ERROR, to be deleted again.
pub async fn deletion_failed(c: Arc<Compute>, old: Arc<ServerOrder>, why: Failure) -> Result<(), StepError> {
    let change = sql("UPDATE servers SET deleting = 0 WHERE id = ?");
    c.db.run(change.bind(&old.server)).await?;
    store::fail(&c.db, &old.server, 500, &why.message).await?;
    actions::finish(&c.db, &old.server, &old.request_id, "Error", &why.message).await?;
    Ok(())
}
