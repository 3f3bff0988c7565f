//! External events: what other services tell us about servers, above all network about ports.

use std::collections::BTreeMap;

use api::wire::{list, nested, one_of, text, uuid};
use api::{Answer, Body, Call, Json, Operation, Permitted, Reply, json, post, v};

use crate::servers::store::{self, Server};
use crate::{Compute, servers};

/// Names, with the version that brought each.
const NAMES: &[(&str, api::Version)] = &[
    ("network-changed", v(2, 1)),
    ("network-vif-plugged", v(2, 1)),
    ("network-vif-unplugged", v(2, 1)),
    ("network-vif-deleted", v(2, 1)),
    ("volume-extended", v(2, 51)),
    ("power-update", v(2, 76)),
    ("accelerator-request-bound", v(2, 82)),
    ("volume-reimaged", v(2, 93)),
];
/// These say nothing without a tag.
const NEED_TAG: &[&str] = &["volume-extended", "power-update", "accelerator-request-bound", "volume-reimaged"];

pub fn operations() -> Vec<Operation<Compute>> {
    vec![post("/os-server-external-events", create).rule("os_compute_api:os-server-external-events:create")]
}

api::wire! {
    /// What happened.
    pub struct Events {
        events: Vec<Event> = list(nested::<Event>()).items(1, usize::MAX).required(),
    }
}

api::wire! {
    /// One thing that happened to one server.
    pub struct Event {
        name: String = text(1, 255).required(),
        server_uuid: String = uuid().required(),
        status: Option<String> = one_of(&["failed", "completed", "in-progress"]),
        tag: Option<String> = text(1, 255),
    }
}

async fn create(call: Call<Compute>, Body(body): Body<Events>) -> Answer<Permitted<Reply>> {
    let permitted = call.allow()?;
    for (index, event) in body.events.iter().enumerate() {
        check_name(&call, index, &event.name)?;
    }
    let mut shown = Vec::new();
    let mut accepted: BTreeMap<String, Vec<&Event>> = BTreeMap::new();
    for event in &body.events {
        let server = store::find(&call.db, &event.server_uuid).await?;
        let code = verdict(event, server.as_ref());
        if code == 200 {
            accepted.entry(event.server_uuid.clone()).or_default().push(event);
        }
        shown.push(view(event, code));
    }
    for (server, events) in accepted {
        take(&call, &server, &events).await;
    }
    let status = if shown.iter().all(|event| event["code"] == 200) { 200 } else { 207 };
    Ok(permitted.map(|()| Reply::json(status, &json!({"events": shown}))))
}

/// Upstream words this as a schema whose list of names grows with the version.
fn check_name(call: &Call<Compute>, index: usize, name: &str) -> Answer<()> {
    let known: Vec<&str> = NAMES.iter().filter(|(_, since)| call.version >= *since).map(|(known, _)| *known).collect();
    if known.contains(&name) {
        return Ok(());
    }
    let text = format!(
        "Invalid input for field/attribute events.{index}.name. Value: {name}. '{name}' is not one of {}",
        api::wire::rule::python(&json!(known))
    );
    Err(api::Refusal::bad_request(text))
}

fn verdict(event: &Event, server: Option<&Server>) -> u16 {
    match server {
        None => 404,
        Some(_) if event.tag.is_none() && NEED_TAG.contains(&event.name.as_str()) => 400,
        // Nobody is there yet to whom it could be told.
        Some(Server { host: None, .. }) => 422,
        Some(_) => 200,
    }
}

fn view(event: &Event, code: u16) -> Json {
    let status = if code == 200 { event.status.as_deref().unwrap_or("completed") } else { "failed" };
    let mut view = json!({"name": event.name, "server_uuid": event.server_uuid, "status": status, "code": code});
    if let Some(tag) = &event.tag {
        view["tag"] = json!(tag);
    }
    view
}

/// Brings the row up to date and wakes whoever waits. What fails here is made good by the next event, or by the look
/// that a waiting flow takes by itself.
async fn take(call: &Call<Compute>, server: &str, events: &[&Event]) {
    for event in events.iter().filter(|event| event.name == "network-vif-deleted") {
        let port = event.tag.as_deref().unwrap_or_default();
        if let Err(error) = servers::port_deleted(&call.service, server, port).await {
            tracing::warn!(%error, server, port, "a deleted port could not be forgotten");
        }
    }
    if events.iter().any(|event| event.name.starts_with("network-"))
        && let Err(error) = servers::network_changed(&call.service, server).await
    {
        tracing::warn!(%error, server, "what network changed could not be noted");
    }
    call.flows.wake(server);
}
