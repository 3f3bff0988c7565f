//! Compute's services: the conductor and the scheduler, which are parts of this program, and an agent for each host.

use api::wire::{flag, one_of, text};
use api::{
    Answer, Call, Document, Done, Json, NoInput, Operation, Path, Refusal, delete, get, json, put, v,
};
use base::Time;
use db::sql;

use crate::Compute;
use crate::hosts::{self, Host};

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
        zone: "internal".into(),
        up: true,
        seen_at: base::clock::now(),
        disabled: false,
        disabled_reason: None,
        forced_down: false,
    };
    let mut entries = vec![inner("nova-scheduler", 1), inner("nova-conductor", 2)];
    for host in hosts {
        let zone = crate::zones::of_host(&compute.db, &host.name).await?;
        entries.push(Entry {
            binary: "nova-compute",
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
    let entries = entries(&call.service).await?;
    let wanted = |entry: &&Entry| {
        call.query.get("host").is_none_or(|host| host == entry.host)
            && call.query.get("binary").is_none_or(|binary| binary == entry.binary)
    };
    let views: Vec<Json> = entries.iter().filter(wanted).map(|entry| view(entry, &call)).collect();
    Ok(Document::new(permitted, json!({"services": views})))
}

/// From 2.53 the path has a UUID; before, it has a verb.
async fn update(call: Call<Compute>, (Path(id), body): (Path<String>, api::AnyBody)) -> Answer<Document> {
    let permitted = call.allow()?;
    if call.version >= v(2, 53) {
        let change: ServiceChange = read(&call, body.0)?;
        let host = by_uuid(&call, &id).await?;
        let entry = apply(&call, host, change).await?;
        return Ok(Document::new(permitted, json!({"service": view(&entry, &call)})));
    }
    let change: OlderChange = read(&call, body.0)?;
    let host = hosts::find(&call.db, &change.host).await?.filter(|_| change.binary == "nova-compute");
    let missing = || Refusal::not_found(format!("Could not find binary {} on host {}.", change.binary, change.host));
    let host = host.ok_or_else(missing)?;
    let plain = ServiceChange { status: None, disabled_reason: None, forced_down: None };
    let change = match id.as_str() {
        "enable" => ServiceChange { status: Some("enabled".into()), ..plain },
        "disable" => ServiceChange { status: Some("disabled".into()), ..plain },
        "disable-log-reason" => match &change.disabled_reason {
            Some(reason) => {
                ServiceChange { status: Some("disabled".into()), disabled_reason: Some(reason.clone()), ..plain }
            }
            None => return Err(Refusal::bad_request("Missing disabled reason field")),
        },
        "force-down" if call.version >= v(2, 11) => match change.forced_down {
            Some(down) => ServiceChange { forced_down: Some(down), ..plain },
            None => return Err(Refusal::bad_request("Missing forced_down field")),
        },
        _ => return Err(Refusal::not_found("Unknown action")),
    };
    let verb = id;
    let entry = apply(&call, host, change).await?;
    let mut shown = json!({"host": entry.host, "binary": entry.binary});
    match verb.as_str() {
        "force-down" => shown["forced_down"] = json!(entry.forced_down),
        _ => shown["status"] = json!(if entry.disabled { "disabled" } else { "enabled" }),
    }
    if verb == "disable-log-reason" {
        shown["disabled_reason"] = json!(entry.disabled_reason);
    }
    Ok(Document::new(permitted, json!({"service": shown})))
}

fn read<T: api::wire::Wire>(call: &Call<Compute>, body: Json) -> Answer<T> {
    let at = &mut api::wire::At::top(call.version);
    T::read_body(body, at).map_err(|problem| problem.refusal(api::Envelope::Compute))
}

async fn by_uuid(call: &Call<Compute>, id: &str) -> Answer<Host> {
    if !base::id::is_uuid(id) {
        return Err(Refusal::bad_request(format!("Invalid uuid {id}")));
    }
    let found = hosts::all(&call.db).await?.into_iter().find(|host| service_uuid(host) == id);
    if found.is_none() && entries(&call.service).await?.iter().any(|entry| entry.uuid == id) {
        return Err(Refusal::bad_request("Updating a nova-scheduler or nova-conductor service is not supported. Must be a nova-compute service."));
    }
    found.ok_or_else(|| Refusal::not_found(format!("Service {id} could not be found.")))
}

async fn apply(call: &Call<Compute>, host: Host, change: ServiceChange) -> Answer<Entry> {
    let disabled = change.status.as_deref().map(|status| status == "disabled");
    if change.disabled_reason.is_some() && disabled != Some(true) {
        return Err(Refusal::bad_request("Specifying disabled_reason when status is not 'disabled' is invalid."));
    }
    if disabled.is_none() && change.forced_down.is_none() {
        return Err(Refusal::bad_request("No updates were requested. Fields 'status' or 'forced_down' should be specified."));
    }
    let is_disabled = disabled.unwrap_or(host.disabled);
    let reason = match disabled {
        Some(true) => change.disabled_reason,
        Some(false) => None,
        None => host.disabled_reason.clone(),
    };
    let forced_down = change.forced_down.unwrap_or(host.forced_down);
    let query = sql("UPDATE hosts SET disabled = ?, disabled_reason = ?, forced_down = ?, updated_at = ? WHERE name = ?");
    let query = query.bind(is_disabled).bind(&reason).bind(forced_down).bind(base::clock::now()).bind(&host.name);
    call.db.run(query).await?;
    let all = entries(&call.service).await?;
    let found = all.into_iter().find(|entry| entry.binary == "nova-compute" && entry.host == host.name);
    found.ok_or_else(|| Refusal::not_found(format!("Service of host {} could not be found.", host.name)))
}

/// Forgets a host. Refused while it has servers.
async fn remove(call: Call<Compute>, Path(id): Path<String>) -> Answer<Done> {
    let permitted = call.allow()?;
    let host = match id.parse::<i64>() {
        Ok(number) if call.version < v(2, 53) => {
            let found = hosts::all(&call.db).await?.into_iter().find(|host| host.number == number);
            found.ok_or_else(|| Refusal::not_found(format!("Service {id} could not be found.")))?
        }
        _ if call.version < v(2, 53) => return Err(Refusal::bad_request(format!("Invalid id {id}"))),
        _ => by_uuid(&call, &id).await?,
    };
    let servers = call.db.count(sql("SELECT COUNT(*) FROM servers WHERE host = ?").bind(&host.name)).await?;
    if servers > 0 {
        return Err(Refusal::conflict("Unable to delete compute service that is hosting instances. Migrate or delete the instances first."));
    }
    let path = format!("/resource_providers/{}", host.uuid);
    match call.peers.placement.delete(clients::Rights::Service, &path).await {
        Err(error) if error.status() == 409 => return Err(Refusal::conflict(error.message().to_string())),
        Err(error) if !error.is_missing() => return Err(api::failed("forgetting a host at placement", &error)),
        _ => {}
    }
    call.db.run(sql("DELETE FROM hosts WHERE name = ?").bind(&host.name)).await?;
    Ok(Done::with(permitted))
}

