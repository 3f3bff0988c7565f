//! Instance actions: what was asked of a server, when, and what came of it.

use api::{Answer, Call, Document, Json, Operation, Path, Refusal, Version, get, json, v};
use base::Time;
use db::{Db, Tx, record, select, sql};

use crate::Compute;
use crate::servers::store::{self, Server};
use crate::servers::view;

/// Limit: actions in one answer.
const MOST: usize = 1000;

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
    let host = store::find(&mut *tx, server).await?.and_then(|server| server.host);
    tx.insert(&event(server, &call.request_id, event_name(action), now, host)).await
}

/// Notes an action that is done with the transaction.
pub async fn note(tx: &mut Tx, call: &Call<Compute>, server: &str, action: &str) -> Result<(), db::Error> {
    record(tx, call, server, action).await?;
    let change = sql("UPDATE action_events SET finished_at = ?, result = 'Success' \
         WHERE server_id = ? AND request_id = ? AND finished_at IS NULL");
    tx.run(change.bind(base::clock::now()).bind(server).bind(&call.request_id)).await.map(drop)
}

/// Notes how an action ended. `result` is `Success` or `Error`, as upstream shows it.
pub async fn finish(db: &Db, server: &str, request: &str, result: &str, details: &str) -> Result<(), db::Error> {
    let now = base::clock::now();
    let mut tx = db.begin().await?;
    let message = (result == "Error").then_some("Error");
    let change = sql("UPDATE actions SET message = ?, updated_at = ? WHERE server_id = ? AND request_id = ?");
    tx.run(change.bind(message).bind(now).bind(server).bind(request)).await?;
    // A server that is being made learns its host on the way.
    let host = store::find(&mut tx, server).await?.and_then(|server| server.host);
    let change = sql("UPDATE action_events SET finished_at = ?, result = ?, details = ?, host = COALESCE(host, ?) \
         WHERE server_id = ? AND request_id = ? AND finished_at IS NULL");
    let details = (!details.is_empty()).then_some(details);
    tx.run(change.bind(now).bind(result).bind(details).bind(host).bind(server).bind(request)).await?;
    tx.commit().await
}

fn event(server: &str, request: &str, name: &str, now: Time, host: Option<String>) -> ActionEvent {
    ActionEvent {
        id: base::id::uuid(),
        server_id: server.to_string(),
        request_id: request.to_string(),
        event: name.to_string(),
        started_at: now,
        finished_at: None,
        result: None,
        host,
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
        "attach_interface" => "compute_attach_interface",
        "detach_interface" => "compute_detach_interface",
        "trigger_crash_dump" => "compute_trigger_crash_dump",
        "lock" => "api_lock",
        "unlock" => "api_unlock",
        _ => "compute_action",
    }
}

pub fn operations() -> Vec<Operation<Compute>> {
    const ALL: &str = "/servers/{server_id}/os-instance-actions";
    const ONE: &str = "/servers/{server_id}/os-instance-actions/{id}";
    vec![
        get(ALL, list).rule("os_compute_api:os-instance-actions:list"),
        get(ONE, show).rule("os_compute_api:os-instance-actions:show"),
    ]
}

/// The server whose actions are asked for. Since 2.21 it may be gone.
async fn server(call: &Call<Compute>, id: &str) -> Answer<Server> {
    match store::known(call, id).await {
        Err(refusal) if refusal.status == 404 && call.version >= v(2, 21) => {
            let gone = store::archived(&call.db, id).await?.ok_or_else(|| refusal.clone())?;
            let own = call.caller.project() == gone.project_id;
            if own || call.may_own("context_is_admin") { Ok(gone) } else { Err(refusal) }
        }
        found => found,
    }
}

async fn list(call: Call<Compute>, Path(id): Path<String>) -> Answer<Document> {
    let server = call.permit(server(&call, &id).await?)?;
    let mut rows = select::<ServerAction>("WHERE server_id = ?").bind(&id);
    if let Some(since) = time(&call, "changes-since", v(2, 58))? {
        rows = rows.and("updated_at >= ?").bind(since);
    }
    if let Some(before) = time(&call, "changes-before", v(2, 66))? {
        rows = rows.and("updated_at <= ?").bind(before);
    }
    let mut rows = call.db.all(rows).await?;
    rows.sort_by(|one, other| (other.started_at, &other.request_id).cmp(&(one.started_at, &one.request_id)));
    let (page, more) = page(&call, rows)?;
    let mut body = json!({"instanceActions": page.iter().map(|row| shown(row, call.version)).collect::<Vec<_>>()});
    if let (true, Some(last)) = (more, page.last()) {
        let limit = page.len();
        let path = format!("/servers/{id}/os-instance-actions?limit={limit}&marker={}", last.request_id);
        body["links"] = json!([{"rel": "next", "href": call.reader.link(&path)}]);
    }
    Ok(Document::of(server, |_| body))
}

/// The part of the actions that the query asks for, and whether there is more. A server has few.
fn page(call: &Call<Compute>, rows: Vec<ServerAction>) -> Answer<(Vec<ServerAction>, bool)> {
    if call.version < v(2, 58) {
        return Ok((rows, false));
    }
    let limit = match call.query.get("limit") {
        None => MOST,
        Some(text) => match text.parse::<usize>() {
            Ok(0) | Err(_) => {
                let words = "Invalid input for query parameters limit. Value";
                return Err(Refusal::bad_request(format!("{words}: {text}. '{text}' does not match '^[0-9]*$'")));
            }
            Ok(limit) => limit.min(MOST),
        },
    };
    let after = match call.query.get("marker") {
        None => 0,
        Some(marker) => {
            let position = rows.iter().position(|row| row.request_id == marker);
            1 + position.ok_or_else(|| Refusal::bad_request(format!("Marker {marker} could not be found.")))?
        }
    };
    let more = rows.len() > after + limit;
    Ok((rows.into_iter().skip(after).take(limit).collect(), more))
}

fn time(call: &Call<Compute>, name: &str, since: Version) -> Answer<Option<Time>> {
    let Some(text) = call.query.get(name).filter(|_| call.version >= since) else { return Ok(None) };
    let time = Time::parse(text);
    time.map(Some).ok_or_else(|| {
        let words = "Invalid input for query parameters";
        Refusal::bad_request(format!("{words} {name}. Value: {text}. '{text}' is not a 'date-time'"))
    })
}

async fn show(call: Call<Compute>, Path((id, request)): Path<(String, String)>) -> Answer<Document> {
    let server = call.permit(server(&call, &id).await?)?;
    let row = select::<ServerAction>("WHERE server_id = ? AND request_id = ?").bind(&id).bind(&request);
    let missing = || Refusal::not_found(format!("Action {request} not found"));
    let row = call.db.maybe(row).await?.ok_or_else(missing)?;
    let mut view = shown(&row, call.version);
    let everything = call.may("os_compute_api:os-instance-actions:events", &*server);
    if everything || call.version >= v(2, 51) {
        let details = call.may("os_compute_api:os-instance-actions:events:details", &*server);
        let events = select::<ActionEvent>("WHERE server_id = ? AND request_id = ? ORDER BY started_at, id");
        let events = call.db.all(events.bind(&id).bind(&request)).await?;
        let events: Vec<Json> =
            events.iter().map(|event| shown_event(&call, &server, event, everything, details)).collect();
        view["events"] = json!(events);
    }
    Ok(Document::of(server, |_| json!({"instanceAction": view})))
}

fn shown(action: &ServerAction, version: Version) -> Json {
    let mut view = json!({
        "action": action.action,
        "instance_uuid": action.server_id,
        "request_id": action.request_id,
        "user_id": action.user_id,
        "project_id": action.project_id,
        "start_time": action.started_at.iso_micros(),
        "message": action.message,
    });
    if version >= v(2, 58) {
        view["updated_at"] = json!(action.updated_at.iso_micros());
    }
    view
}

fn shown_event(call: &Call<Compute>, server: &Server, event: &ActionEvent, everything: bool, details: bool) -> Json {
    let mut view = json!({
        "event": event.event,
        "start_time": event.started_at.iso_micros(),
        "finish_time": event.finished_at.map(Time::iso_micros),
        "result": event.result,
    });
    if everything {
        // Upstream: a Python traceback; ours is the reason.
        view["traceback"] = json!(event.details);
    }
    if call.version >= v(2, 62) {
        let host = event.host.as_deref();
        view["hostId"] = json!(host.map(|host| view::host_digest(&server.project_id, host)).unwrap_or_default());
        if everything {
            view["host"] = json!(host);
        }
    }
    if call.version >= v(2, 84) && details {
        view["details"] = json!(event.details);
    }
    view
}
