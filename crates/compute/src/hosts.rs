//! Hosts: what agents tell compute and what they are told.
//!
//! ```text
//! agent ── HELLO ──► row in hosts, resource provider and inventories at placement
//! agent ── DESIRED ─► its servers' orders                 compute ── POKE ──► agent
//! agent ── REPORT ──► report in servers, flows woken
//! ```

use std::collections::HashMap;
use std::sync::Arc;

use api::{Json, json};
use base::Time;
use bus::Refusal;
use clients::Rights;
use contract::guest::{Desired, Host as Facts, Received, Report};
use contract::message;
use db::{Db, Queries, record, select, sql};

use crate::orders;
use crate::servers::store::{Archived, Server};
use crate::{Compute, servers};

/// Limit: a host that has said nothing for so long is down. Upstream's `service_down_time`.
pub const DOWN_AFTER_SECONDS: i64 = 60;
/// Memory that a host keeps for itself. Upstream's `reserved_host_memory_mb`.
pub const RESERVED_MB: u64 = 512;

record! {
    pub struct Host in "hosts" {
        pub name: String,
        pub uuid: String,
        /// The integer id of the older API versions.
        pub number: i64,
        pub facts: Json,
        pub disabled: bool,
        pub disabled_reason: Option<String>,
        pub forced_down: bool,
        pub seen_at: Time,
        pub created_at: Time,
        pub updated_at: Time,
    }
}

impl Host {
    pub fn is_up(&self) -> bool {
        let silent = base::clock::now().seconds() - self.seen_at.seconds();
        !self.forced_down && silent <= DOWN_AFTER_SECONDS
    }

    /// What the host said about itself; a host that has not spoken this version's language has nothing.
    pub fn facts(&self) -> Option<Facts> {
        serde_json::from_value(self.facts.clone()).ok()
    }
}

pub async fn all(db: &Db) -> Result<Vec<Host>, db::Error> {
    db.all(select::<Host>("ORDER BY number")).await
}

pub async fn find(mut db: impl Queries, name: &str) -> Result<Option<Host>, db::Error> {
    db.maybe(select::<Host>("WHERE name = ?").bind(name)).await
}

/// The status of every host, for the `host_status` of servers.
pub async fn statuses(db: &Db) -> Result<HashMap<String, &'static str>, db::Error> {
    let status = |host: &Host| match host {
        host if !host.is_up() => "DOWN",
        Host { disabled: true, .. } => "MAINTENANCE",
        _ => "UP",
    };
    Ok(all(db).await?.iter().map(|host| (host.name.clone(), status(host))).collect())
}

pub fn status_of(statuses: &HashMap<String, &'static str>, host: Option<&str>) -> String {
    host.map(|name| statuses.get(name).copied().unwrap_or("UNKNOWN")).unwrap_or_default().to_string()
}

/// Answers what agents send on the subject `compute`.
pub async fn answer(compute: &Arc<Compute>, kind: &str, body: Json) -> Result<Json, Refusal> {
    match kind {
        message::HELLO => hello(compute, parse(body)?).await,
        message::DESIRED => desired(compute, &host_name(&body)?).await,
        message::REPORT => {
            let host = host_name(&body)?;
            report(compute, &host, parse(body["reports"].clone())?).await
        }
        other => Err(Refusal::unknown_kind(other)),
    }
}

fn parse<T: serde::de::DeserializeOwned>(body: Json) -> Result<T, Refusal> {
    serde_json::from_value(body).map_err(|error| Refusal::new("malformed", error.to_string()))
}

fn host_name(body: &Json) -> Result<String, Refusal> {
    body["host"].as_str().map(String::from).ok_or_else(|| Refusal::new("malformed", "the message names no host"))
}

fn broken(error: impl std::error::Error) -> Refusal {
    tracing::error!(%error, "a host's message could not be dealt with");
    Refusal::new("failure", "the controller could not deal with this at the moment")
}

/// A host is there. A second host of the same name is refused.
async fn hello(compute: &Arc<Compute>, facts: Facts) -> Result<Json, Refusal> {
    let known = find(&compute.db, &facts.name).await.map_err(broken)?;
    if let Some(other) = known.as_ref().filter(|known| known.uuid != facts.uuid) {
        let words = format!("a host named {} with the UUID {} is here already", other.name, other.uuid);
        return Err(Refusal::new("taken", words));
    }
    let now = base::clock::now();
    let document = serde_json::to_value(&facts).unwrap_or_default();
    let row = match known {
        Some(known) => Host { facts: document, seen_at: now, ..known },
        None => Host {
            name: facts.name.clone(),
            uuid: facts.uuid.clone(),
            number: 1 + compute.db.count(sql("SELECT MAX(number) FROM hosts")).await.map_err(broken)?,
            facts: document,
            disabled: false,
            disabled_reason: None,
            forced_down: false,
            seen_at: now,
            created_at: now,
            updated_at: now,
        },
    };
    provide(compute, &facts).await?;
    compute.db.upsert(&row, &["name"]).await.map_err(broken)?;
    Ok(json!({}))
}

/// Ensures that placement knows the host and what it has.
async fn provide(compute: &Compute, facts: &Facts) -> Result<(), Refusal> {
    let placement = &compute.peers.placement;
    let unreachable = |error: clients::PeerError| Refusal::new("placement", error.to_string());
    let path = format!("/resource_providers/{}", facts.uuid);
    if let Err(error) = placement.get(Rights::Service, &path).await {
        if !error.is_missing() {
            return Err(unreachable(error));
        }
        let new = json!({"uuid": facts.uuid, "name": facts.name});
        placement.post(Rights::Service, "/resource_providers", &new).await.map_err(unreachable)?;
    }
    let inventories = format!("{path}/inventories");
    let held = placement.get(Rights::Service, &inventories).await.map_err(unreachable)?;
    let wanted = inventory(compute, facts);
    if held["inventories"] != wanted {
        let generation = &held["resource_provider_generation"];
        let body = json!({"resource_provider_generation": generation, "inventories": wanted});
        placement.put(Rights::Service, &inventories, &body).await.map_err(unreachable)?;
    }
    traits(placement, &path, facts).await.map_err(unreachable)
}

async fn traits(placement: &clients::Peer, path: &str, facts: &Facts) -> Result<(), clients::PeerError> {
    let path = format!("{path}/traits");
    let held = placement.get(Rights::Service, &path).await?;
    let has = |name: &str| held["traits"].as_array().into_iter().flatten().any(|held| held == name);
    if facts.traits.iter().all(|name| has(name)) {
        return Ok(());
    }
    let body = json!({"resource_provider_generation": held["resource_provider_generation"], "traits": facts.traits});
    placement.put(Rights::Service, &path, &body).await.map(|_| ())
}

/// What a host offers. Upstream's default ratios for new hosts: processors 4, memory 1, disk 1.
fn inventory(compute: &Compute, facts: &Facts) -> Json {
    let entry = |total: u64, ratio: f64, reserved: u64| {
        json!({
            "total": total, "reserved": reserved, "min_unit": 1, "max_unit": total, "step_size": 1,
            "allocation_ratio": ratio,
        })
    };
    let mut inventory = json!({});
    let ratios = &compute.ratios;
    inventory["VCPU"] = entry(facts.vcpus.into(), ratios.cpu, 0);
    let reserved = RESERVED_MB.min(facts.memory_mb.saturating_sub(1));
    inventory["MEMORY_MB"] = entry(facts.memory_mb, ratios.memory, reserved);
    if facts.disk_gb > 0 {
        inventory["DISK_GB"] = entry(facts.disk_gb, ratios.disk, 0);
    }
    inventory
}

/// What should be on the host.
async fn desired(compute: &Compute, host: &str) -> Result<Json, Refusal> {
    seen(&compute.db, host).await.map_err(broken)?;
    let servers = compute.db.all(select::<Server>("WHERE host = ?").bind(host)).await.map_err(broken)?;
    let mut guests = Vec::with_capacity(servers.len());
    for server in &servers {
        guests.push(orders::guest(compute, server).await.map_err(broken)?);
    }
    serde_json::to_value(Desired { guests }).map_err(broken)
}

/// What is on the host. Answers what does not belong there.
async fn report(compute: &Compute, host: &str, reports: Vec<Report>) -> Result<Json, Refusal> {
    seen(&compute.db, host).await.map_err(broken)?;
    let mut received = Received::default();
    for report in reports {
        let id = report.id.clone();
        if take(compute, host, report).await.map_err(broken)? {
            received.remove.push(id);
        }
    }
    serde_json::to_value(received).map_err(broken)
}

/// Keeps a report. Returns whether the guest is none of this host's and known to be so.
async fn take(compute: &Compute, host: &str, report: Report) -> Result<bool, db::Error> {
    let Some(server) = servers::store::find(&compute.db, &report.id).await? else {
        // Invariant: only a server that we know to be deleted is removed; one that we never heard of stays.
        let gone = compute.db.maybe(select::<Archived>("WHERE id = ?").bind(&report.id)).await?;
        return Ok(gone.is_some() && report.state != contract::guest::State::Gone);
    };
    if server.host.as_deref().is_some_and(|at| at != host) {
        return Ok(true);
    }
    let document = serde_json::to_value(&report).unwrap_or_default();
    if server.report.as_ref() != Some(&document) {
        let change = sql("UPDATE servers SET report = ? WHERE id = ? AND host = ?");
        compute.db.run(change.bind(&document).bind(&report.id).bind(host)).await?;
        crate::servers::state_of_report(compute, &server, &report).await?;
    }
    compute.flows.wake(&report.id);
    Ok(false)
}

async fn seen(db: &Db, host: &str) -> Result<(), db::Error> {
    let change = sql("UPDATE hosts SET seen_at = ? WHERE name = ?");
    db.run(change.bind(base::clock::now()).bind(host)).await?;
    Ok(())
}

/// Tells a host to compare now. It may be lost; the host compares by itself, too.
pub fn poke(compute: &Compute, host: &str) {
    compute.bus.poke(&message::host("compute", host), message::POKE, json!({}));
}
