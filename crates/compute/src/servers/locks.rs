//! Locks: a server that nobody but an administrator may change.

use api::{Action, Answer, Call, Done, Operation, Path, action};
use db::sql;

use super::Lock;
use super::store::known;
use crate::{Compute, actions};

pub fn operations() -> Vec<Operation<Compute>> {
    const PATH: &str = "/servers/{id}/action";
    vec![
        action(PATH, "lock", lock).rule("os_compute_api:os-lock-server:lock").status(202),
        action(PATH, "unlock", unlock).rule("os_compute_api:os-lock-server:unlock").status(202),
    ]
}

/// Who a lock is of: the server's own project, or an administrator.
fn holder(call: &Call<Compute>, project: &str) -> &'static str {
    if call.caller.project() == project { "owner" } else { "admin" }
}

async fn lock(call: Call<Compute>, (Path(id), Action(how)): (Path<String>, Action<Lock>)) -> Answer<Done> {
    let server = call.permit(known(&call, &id).await?)?;
    let holder = holder(&call, &server.project_id);
    // Upstream: the owner's lock does not replace an administrator's.
    if server.locked && holder == "owner" && server.locked_by.as_deref() == Some("admin") {
        return Ok(Done::with(server));
    }
    let mut tx = call.db.begin().await?;
    let change = sql("UPDATE servers SET locked = 1, locked_by = ?, locked_reason = ? WHERE id = ?");
    tx.run(change.bind(holder).bind(how.locked_reason).bind(&id)).await?;
    actions::note(&mut tx, &call, &id, "lock").await?;
    tx.commit().await?;
    Ok(Done::with(server))
}

async fn unlock(call: Call<Compute>, Path(id): Path<String>) -> Answer<Done> {
    let server = call.permit(known(&call, &id).await?)?;
    let held = server.locked_by.as_deref();
    if held.is_some_and(|held| held != holder(&call, &server.project_id)) {
        call.must("os_compute_api:os-lock-server:unlock:unlock_override", &*server)?;
    }
    let mut tx = call.db.begin().await?;
    let change = sql("UPDATE servers SET locked = 0, locked_by = NULL, locked_reason = NULL WHERE id = ?");
    tx.run(change.bind(&id)).await?;
    actions::note(&mut tx, &call, &id, "unlock").await?;
    tx.commit().await?;
    Ok(Done::with(server))
}
