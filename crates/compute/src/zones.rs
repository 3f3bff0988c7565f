//! Availability zones: aggregates that say so, and the default one.

use std::collections::BTreeMap;

use api::{Answer, Call, Document, Json, NoInput, Operation, get, json, v};
use db::{Db, Queries};

use crate::aggregates::{self, ZONE};
use crate::services::{self, Entry, INTERNAL};
use crate::{Compute, query};

/// The zone of hosts that no aggregate puts into another. Upstream's `default_availability_zone`.
pub const DEFAULT_ZONE: &str = "nova";

pub fn operations() -> Vec<Operation<Compute>> {
    vec![
        get("/os-availability-zone", list).rule("os_compute_api:os-availability-zone:list"),
        get("/os-availability-zone/detail", detail).rule("os_compute_api:os-availability-zone:detail"),
    ]
}

async fn list(call: Call<Compute>, _: NoInput) -> Answer<Document> {
    let permitted = call.allow()?;
    query::strict(&call, v(2, 102), &[])?;
    let zones = by_zone(&call.service).await?;
    let shown = zones.iter().filter(|(name, _)| *name != INTERNAL);
    let views: Vec<Json> = shown.map(|(name, entries)| view(name, entries, Json::Null)).collect();
    Ok(Document::new(permitted, json!({"availabilityZoneInfo": views})))
}

async fn detail(call: Call<Compute>, _: NoInput) -> Answer<Document> {
    let permitted = call.allow()?;
    query::strict(&call, v(2, 102), &[])?;
    let zones = by_zone(&call.service).await?;
    let views: Vec<Json> = zones.iter().map(|(name, entries)| view(name, entries, hosts(entries))).collect();
    Ok(Document::new(permitted, json!({"availabilityZoneInfo": views})))
}

fn view(name: &str, entries: &[Entry], hosts: Json) -> Json {
    json!({"zoneName": name, "zoneState": {"available": is_available(entries)}, "hosts": hosts})
}

/// Upstream: a zone is available as long as one of its services is enabled, be it up or down.
fn is_available(entries: &[Entry]) -> bool {
    entries.iter().any(|entry| !entry.disabled)
}

/// Upstream: disabled services are left out, and a zone of nothing else has no hosts at all.
fn hosts(entries: &[Entry]) -> Json {
    if !is_available(entries) {
        return Json::Null;
    }
    let mut hosts = json!({});
    for entry in entries.iter().filter(|entry| !entry.disabled) {
        hosts[&entry.host][entry.binary] =
            json!({"available": entry.up, "active": true, "updated_at": entry.seen_at.iso_micros()});
    }
    hosts
}

async fn by_zone(compute: &Compute) -> Result<BTreeMap<String, Vec<Entry>>, db::Error> {
    let mut zones: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
    for entry in services::entries(compute).await? {
        zones.entry(entry.zone.clone()).or_default().push(entry);
    }
    Ok(zones)
}

/// Whether a server may be asked for in `zone`.
pub async fn exists(call: &Call<Compute>, zone: &str) -> Answer<bool> {
    let zones = by_zone(&call.service).await?;
    Ok(zone != INTERNAL && (zone == DEFAULT_ZONE || zones.contains_key(zone)))
}

/// The zone of a host.
pub async fn of_host(db: &Db, host: &str) -> Result<String, db::Error> {
    let all = of_hosts(db).await?;
    Ok(all.get(host).cloned().unwrap_or_else(|| DEFAULT_ZONE.to_string()))
}

/// The zones of all hosts that are in one beside the default.
pub async fn of_hosts(mut db: impl Queries) -> Result<BTreeMap<String, String>, db::Error> {
    let mut members = aggregates::members(&mut db).await?;
    let mut zones = BTreeMap::new();
    for aggregate in aggregates::all(&mut db).await? {
        if let Some(zone) = aggregate.metadata.get(ZONE) {
            let hosts = members.remove(&aggregate.id).unwrap_or_default();
            zones.extend(hosts.into_iter().map(|host| (host, zone.clone())));
        }
    }
    Ok(zones)
}
