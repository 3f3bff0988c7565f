//! Instance actions: what was asked of a server, when, and what came of it.

use api::{Call, Json};
use base::Time;
use db::{Db, Tx, record, sql};

use crate::Compute;

record! {
    pub struct ServerAction in "actions" {
        pub request_id: String,
        pub server_id: String,
        pub action: String,
        pub user_id: Option<String>,
        pub project_id: Option<String>,
        pub message: Option<String>,
        pub started_at: Time,
        pub updated_at: Time,
    }
}

record! {
    pub struct ActionEvent in "action_events" {
        pub id: String,
        pub server_id: String,
        pub request_id: String,
        pub event: String,
        pub started_at: Time,
        pub finished_at: Option<Time>,
        pub result: Option<String>,
        pub host: Option<String>,
        pub details: Option<String>,
    }
}

/// Notes that the caller asked for `action`, in the transaction that begins it.
pub async fn record(tx: &mut Tx, call: &Call<Compute>, server: &str, action: &str) -> Result<(), db::Error> {
    let now = base::clock::now();
    let row = ServerAction {
        request_id: call.request_id.clone(),
        server_id: server.to_string(),
        action: action.to_string(),
        user_id: Some(call.caller.user_id.clone()),
        project_id: call.caller.project_id.clone(),
        message: None,
        started_at: now,
        updated_at: now,
    };
    tx.upsert(&row, &["server_id", "request_id"]).await?;
    tx.insert(&event(server, &call.request_id, event_name(action), now)).await
}

/// Notes how an action ended. `result` is `Success` or `Error`, as upstream shows it.
pub async fn finish(db: &Db, server: &str, request: &str, result: &str, details: &str) -> Result<(), db::Error> {
    let now = base::clock::now();
    let mut tx = db.begin().await?;
    let message = (result == "Error").then_some("Error");
    let change = sql("UPDATE actions SET message = ?, updated_at = ? WHERE server_id = ? AND request_id = ?");
    tx.run(change.bind(message).bind(now).bind(server).bind(request)).await?;
    let change = sql("UPDATE action_events SET finished_at = ?, result = ?, details = ? \
         WHERE server_id = ? AND request_id = ? AND finished_at IS NULL");
    let details = (!details.is_empty()).then_some(details);
    tx.run(change.bind(now).bind(result).bind(details).bind(server).bind(request)).await?;
    tx.commit().await
}

fn event(server: &str, request: &str, name: &str, now: Time) -> ActionEvent {
    ActionEvent {
        id: base::id::uuid(),
        server_id: server.to_string(),
        request_id: request.to_string(),
        event: name.to_string(),
        started_at: now,
        finished_at: None,
        result: None,
        host: None,
        details: None,
    }
}

/// Upstream's names of what the host does for an action.
fn event_name(action: &str) -> &'static str {
    match action {
        "create" => "compute__do_build_and_run_instance",
        "delete" => "compute_terminate_instance",
        "start" => "compute_start_instance",
        "stop" => "compute_stop_instance",
        "reboot" => "compute_reboot_instance",
        "pause" => "compute_pause_instance",
        "unpause" => "compute_unpause_instance",
        "suspend" => "compute_suspend_instance",
        "resume" => "compute_resume_instance",
        _ => "compute_action",
    }
}

/// What a handler shows of an action's user data; kept here so that nobody logs it.
pub fn shown(action: &ServerAction) -> Json {
    api::json!({
        "action": action.action,
        "instance_uuid": action.server_id,
        "request_id": action.request_id,
        "user_id": action.user_id,
        "project_id": action.project_id,
        "start_time": action.started_at.iso_micros(),
        "message": action.message,
    })
}
