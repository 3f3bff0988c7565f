//! Compute's services: the conductor and the scheduler, which are parts of this program, and an agent for each host.

use api::wire::{flag, one_of, text};
use api::{
    Answer, AnyBody, Call, Document, Done, Json, NoInput, Operation, Path, Permitted, Refusal, delete, get, json, put,
    v,
};
use base::Time;
use db::sql;

use crate::hosts::{self, Host};
use crate::zones::{self, DEFAULT_ZONE};
use crate::{Compute, names, query};

/// The zone of the controllers' own services. Upstream's `internal_service_availability_zone`.
pub const INTERNAL: &str = "internal";
const AGENT: &str = "nova-compute";

pub fn operations() -> Vec<Operation<Compute>> {
    vec![
        get("/os-services", list).rule("os_compute_api:os-services:list"),
        put("/os-services/{id}", update).rule("os_compute_api:os-services:update"),
        delete("/os-services/{id}", remove).rule("os_compute_api:os-services:delete"),
    ]
}

api::wire! {
    /// A service by its UUID, from 2.53.
    pub struct ServiceChange {
        status: Option<String> = one_of(&["enabled", "disabled"]),
        disabled_reason: Option<String> = text(1, 255),
        forced_down: Option<bool> = flag().loose(),
    }
}

api::wire! {
    /// A service by its host and binary, up to 2.52.
    pub struct OlderChange {
        host: String = text(1, 255).required(),
        binary: String = text(1, 255).required(),
        disabled_reason: Option<String> = text(1, 255),
        forced_down: Option<bool> = flag().loose().since(v(2, 11)),
    }
}

api::faults! {
    /// Why a call about services may be refused.
    pub enum ServiceFault {
        NotAnAgent(binary: String) = 400 "badRequest"
            "Updating a {binary} service is not supported. Only nova-compute services can be updated.",
        NoBinary(binary: String, host: String) = 404 "itemNotFound" "Could not find binary {binary} on host {host}.",
        ReasonWhenEnabled() = 400 "badRequest"
            "Specifying 'disabled_reason' with status 'enabled' is invalid.",
        NothingAsked() = 400 "badRequest"
            "No updates were requested. Fields 'status' or 'forced_down' should be specified.",
        HasServers() = 409 "conflictingRequest"
            "Unable to delete compute service that is hosting instances. Migrate or delete the instances first.",
    }
}

/// One row of `openstack compute service list`.
pub struct Entry {
    pub binary: &'static str,
    pub host: String,
    pub uuid: String,
    pub number: i64,
    pub zone: String,
    pub up: bool,
    pub seen_at: Time,
    pub disabled: bool,
    pub disabled_reason: Option<String>,
    pub forced_down: bool,
}

/// Every service, the controllers' first. Guides look for all three names.
pub async fn entries(compute: &Compute) -> Result<Vec<Entry>, db::Error> {
    let hosts = hosts::all(&compute.db).await?;
    let controller = controller_name(&hosts);
    let inner = |binary: &'static str, number: i64| Entry {
        binary,
        host: controller.clone(),
        uuid: base::id::dashed(&format!("{:032x}", 0xfe00_0000_u64 + number as u64)).unwrap_or_default(),
        number: 1_000_000 + number,
        zone: INTERNAL.into(),
        up: true,
        seen_at: base::clock::now(),
        disabled: false,
        disabled_reason: None,
        forced_down: false,
    };
    let mut entries = vec![inner("nova-scheduler", 1), inner("nova-conductor", 2)];
    let mut zones = zones::of_hosts(&compute.db).await?;
    for host in hosts {
        let zone = zones.remove(&host.name).unwrap_or_else(|| DEFAULT_ZONE.to_string());
        entries.push(Entry {
            binary: AGENT,
            up: host.is_up(),
            uuid: service_uuid(&host),
            number: host.number,
            zone,
            seen_at: host.seen_at,
            disabled: host.disabled,
            disabled_reason: host.disabled_reason.clone(),
            forced_down: host.forced_down,
            host: host.name,
        });
    }
    Ok(entries)
}

/// The controllers are known by the name of the machine that they run on.
fn controller_name(hosts: &[Host]) -> String {
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let machine = machine.trim().to_string();
    if machine.is_empty() { hosts.first().map_or("controller".into(), |host| host.name.clone()) } else { machine }
}

/// A host and its service have ids of their own; the service's is derived, so that it never changes.
pub fn service_uuid(host: &Host) -> String {
    let plain: String = host.uuid.chars().filter(|c| *c != '-').rev().collect();
    base::id::dashed(&plain).unwrap_or_else(|| host.uuid.clone())
}

fn view(entry: &Entry, call: &Call<Compute>) -> Json {
    let mut view = json!({
        "binary": entry.binary,
        "host": entry.host,
        "id": if call.version >= v(2, 53) { json!(entry.uuid) } else { json!(entry.number) },
        "zone": entry.zone,
        "status": if entry.disabled { "disabled" } else { "enabled" },
        "state": if entry.up { "up" } else { "down" },
        "updated_at": entry.seen_at.iso_micros(),
        "disabled_reason": entry.disabled_reason,
    });
    if call.version >= v(2, 11) {
        view["forced_down"] = json!(entry.forced_down);
    }
    view
}

async fn list(call: Call<Compute>, _: NoInput) -> Answer<Document> {
    let permitted = call.allow()?;
    query::strict(&call, v(2, 75), &["host", "binary"])?;
    let entries = entries(&call.service).await?;
    let asked = |key: &str| call.query.get(key).filter(|text| !text.is_empty());
    let wanted = |entry: &&Entry| {
        asked("host").is_none_or(|host| host == entry.host)
            && asked("binary").is_none_or(|binary| binary == entry.binary)
    };
    let views: Vec<Json> = entries.iter().filter(wanted).map(|entry| view(entry, &call)).collect();
    Ok(Document::new(permitted, json!({"services": views})))
}

/// From 2.53 the path has a UUID; before, it has a verb.
async fn update(call: Call<Compute>, (Path(id), AnyBody(body)): (Path<String>, AnyBody)) -> Answer<Document> {
    let permitted = call.allow()?;
    if call.version < v(2, 53) {
        return older_update(call, permitted, &id, body).await;
    }
    let change: ServiceChange = read(&call, body)?;
    let host = by_uuid(&call, &id, "could not be found").await?;
    if change.status.as_deref() == Some("enabled") && change.disabled_reason.is_some() {
        return Err(ServiceFault::ReasonWhenEnabled {}.into());
    }
    if change.status.is_none() && change.forced_down.is_none() {
        return Err(ServiceFault::NothingAsked {}.into());
    }
    let entry = apply(&call, host, change).await?;
    Ok(Document::new(permitted, json!({"service": view(&entry, &call)})))
}

async fn older_update(call: Call<Compute>, permitted: Permitted<()>, verb: &str, body: Json) -> Answer<Document> {
    let change: OlderChange = read(&call, body)?;
    names::check_host(&change.host)?;
    let OlderChange { host, binary, disabled_reason, forced_down } = change;
    let mut wanted = ServiceChange { status: None, disabled_reason: None, forced_down: None };
    let mut shown = json!({"host": host, "binary": binary});
    match verb {
        "enable" => wanted.status = Some("enabled".into()),
        "disable" => wanted.status = Some("disabled".into()),
        "disable-log-reason" => {
            let reason = disabled_reason.ok_or_else(|| Refusal::bad_request("Missing disabled reason field"))?;
            shown["disabled_reason"] = json!(reason);
            wanted.status = Some("disabled".into());
            wanted.disabled_reason = Some(reason);
        }
        "force-down" if call.version >= v(2, 11) => {
            let down = forced_down.ok_or_else(|| Refusal::bad_request("Missing forced_down field"))?;
            shown["forced_down"] = json!(down);
            wanted.forced_down = Some(down);
        }
        _ => return Err(Refusal::not_found("Unknown action")),
    }
    if let Some(status) = &wanted.status {
        shown["status"] = json!(status);
    }
    if binary != AGENT {
        return Err(ServiceFault::NotAnAgent { binary }.into());
    }
    let found = hosts::find(&call.db, &host).await?.ok_or(ServiceFault::NoBinary { binary, host })?;
    apply(&call, found, wanted).await?;
    Ok(Document::new(permitted, json!({"service": shown})))
}

fn read<T: api::wire::Wire>(call: &Call<Compute>, body: Json) -> Answer<T> {
    let at = &mut api::wire::At::top(call.version);
    T::read_body(body, at).map_err(|problem| problem.refusal(api::Envelope::Compute))
}

/// The host of an agent by the agent's UUID. `absent` is what is said of one that is not there.
async fn by_uuid(call: &Call<Compute>, id: &str, absent: &str) -> Answer<Host> {
    let Some(id) = base::id::dashed(id) else {
        return Err(Refusal::bad_request(format!("Invalid uuid {id}")));
    };
    if let Some(host) = hosts::all(&call.db).await?.into_iter().find(|host| service_uuid(host) == id) {
        return Ok(host);
    }
    match entries(&call.service).await?.into_iter().find(|entry| entry.uuid == id) {
        Some(entry) => Err(ServiceFault::NotAnAgent { binary: entry.binary.into() }.into()),
        None => Err(Refusal::not_found(format!("Service {id} {absent}."))),
    }
}

async fn apply(call: &Call<Compute>, host: Host, change: ServiceChange) -> Answer<Entry> {
    let disabled = change.status.as_deref().map(|status| status == "disabled");
    let reason = match disabled {
        Some(true) => change.disabled_reason,
        Some(false) => None,
        None => host.disabled_reason,
    };
    let query =
        sql("UPDATE hosts SET disabled = ?, disabled_reason = ?, forced_down = ?, updated_at = ? WHERE name = ?");
    let query = query.bind(disabled.unwrap_or(host.disabled)).bind(&reason);
    let query = query.bind(change.forced_down.unwrap_or(host.forced_down)).bind(base::clock::now());
    call.db.run(query.bind(&host.name)).await?;
    let all = entries(&call.service).await?;
    let found = all.into_iter().find(|entry| entry.binary == AGENT && entry.host == host.name);
    found.ok_or_else(|| ServiceFault::NoBinary { binary: AGENT.into(), host: host.name }.into())
}

/// Forgets a host. Refused while it has servers, or anything else has a claim on it.
async fn remove(call: Call<Compute>, Path(id): Path<String>) -> Answer<Done> {
    let permitted = call.allow()?;
    let host = match id.parse::<i64>() {
        _ if call.version >= v(2, 53) => by_uuid(&call, &id, "not found").await?,
        Ok(number) => {
            let found = hosts::all(&call.db).await?.into_iter().find(|host| host.number == number);
            found.ok_or_else(|| Refusal::not_found(format!("Service {id} not found.")))?
        }
        Err(_) => return Err(Refusal::bad_request("Invalid input received: id must be an integer")),
    };
    if call.db.count(sql("SELECT COUNT(*) FROM servers WHERE host = ?").bind(&host.name)).await? > 0 {
        return Err(ServiceFault::HasServers {}.into());
    }
    // Invariant: placement forgets the host first, so that no claim can be made on a host that is going.
    let path = format!("/resource_providers/{}", host.uuid);
    match call.peers.placement.delete(clients::Rights::Service, &path).await {
        Err(error) if error.status() == 409 => return Err(ServiceFault::HasServers {}.into()),
        Err(error) if !error.is_missing() => return Err(api::failed("forgetting a host at placement", &error)),
        _ => {}
    }
    let mut tx = call.db.begin().await?;
    tx.run(sql("DELETE FROM aggregate_hosts WHERE host = ?").bind(&host.name)).await?;
    tx.run(sql("DELETE FROM hosts WHERE name = ?").bind(&host.name)).await?;
    tx.commit().await?;
    Ok(Done::with(permitted))
}
