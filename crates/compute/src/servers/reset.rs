//! What an administrator may set right by hand, and the password that a guest has published.

use api::wire::one_of;
use api::{Action, Answer, Call, Document, Done, Operation, Path, action, delete, get, json};
use db::sql;

use super::state::VmState;
use super::store::known;
use crate::Compute;

pub fn operations() -> Vec<Operation<Compute>> {
    const PASSWORD: &str = "/servers/{server_id}/os-server-password";
    vec![
        action("/servers/{id}/action", "os-resetState", reset)
            .rule("os_compute_api:os-admin-actions:reset_state")
            .status(202),
        get(PASSWORD, show_password).rule("os_compute_api:os-server-password:show"),
        delete(PASSWORD, clear_password).rule("os_compute_api:os-server-password:clear"),
    ]
}

api::wire! {
    /// The state that the server is to be in.
    pub struct NewState {
        state: String = one_of(&["active", "error"]).required(),
    }
}

async fn reset(call: Call<Compute>, (Path(id), Action(new)): (Path<String>, Action<NewState>)) -> Answer<Done> {
    let server = call.permit(known(&call, &id).await?)?;
    let state = if new.state == "active" { VmState::Active } else { VmState::Error };
    let change =
        sql("UPDATE servers SET vm_state = ?, task_state = NULL, updated_at = ? WHERE id = ? AND deleting = 0");
    call.db.run(change.bind(state.name()).bind(base::clock::now()).bind(&id)).await?;
    Ok(Done::with(server))
}

async fn show_password(call: Call<Compute>, Path(id): Path<String>) -> Answer<Document> {
    let server = call.permit(known(&call, &id).await?)?;
    Ok(Document::of(server, |server| json!({"password": server.guest_password.clone().unwrap_or_default()})))
}

async fn clear_password(call: Call<Compute>, Path(id): Path<String>) -> Answer<Done> {
    let server = call.permit(known(&call, &id).await?)?;
    call.db.run(sql("UPDATE servers SET guest_password = NULL WHERE id = ?").bind(&id)).await?;
    Ok(Done::with(server))
}
