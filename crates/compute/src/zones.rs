//! Availability zones: aggregates that say so, and the default one.

use std::collections::BTreeMap;

use api::{Answer, Call, Document, Json, NoInput, Operation, get, json};
use db::Db;

use crate::Compute;
use crate::aggregates::{self, ZONE};
use crate::services;

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
    let zones = by_zone(&call.service).await?;
    let view = |(name, entries): (&String, &Vec<services::Entry>)| {
        let available = entries.iter().any(|entry| entry.up && !entry.disabled);
        json!({"zoneName": name, "zoneState": {"available": available}, "hosts": null})
    };
    let views: Vec<Json> = zones.iter().filter(|(name, _)| *name != "internal").map(view).collect();
    Ok(Document::new(permitted, json!({"availabilityZoneInfo": views})))
}

async fn detail(call: Call<Compute>, _: NoInput) -> Answer<Document> {
    let permitted = call.allow()?;
    let zones = by_zone(&call.service).await?;
    let mut views = Vec::new();
    for (name, entries) in &zones {
        let mut hosts = json!({});
        for entry in entries {
            hosts[&entry.host][entry.binary] = json!({
                "available": entry.up, "active": !entry.disabled, "updated_at": entry.seen_at.iso_micros(),
            });
        }
        let available = name == "internal" || entries.iter().any(|entry| entry.up && !entry.disabled);
        views.push(json!({"zoneName": name, "zoneState": {"available": available}, "hosts": hosts}));
    }
    Ok(Document::new(permitted, json!({"availabilityZoneInfo": views})))
}

async fn by_zone(compute: &Compute) -> Result<BTreeMap<String, Vec<services::Entry>>, db::Error> {
    let mut zones: BTreeMap<String, Vec<services::Entry>> = BTreeMap::new();
    for entry in services::entries(compute).await? {
        zones.entry(entry.zone.clone()).or_default().push(entry);
    }
    Ok(zones)
}

/// Whether a server may be asked for in `zone`.
pub async fn exists(call: &Call<Compute>, zone: &str) -> Answer<bool> {
    let zones = by_zone(&call.service).await?;
    Ok(zone != "internal" && (zone == DEFAULT_ZONE || zones.contains_key(zone)))
}

/// The zone of a host.
pub async fn of_host(db: &Db, host: &str) -> Result<String, db::Error> {
    let all = of_hosts(db).await?;
    Ok(all.get(host).cloned().unwrap_or_else(|| DEFAULT_ZONE.to_string()))
}

/// The zones of all hosts that are in one beside the default.
pub async fn of_hosts(db: &Db) -> Result<BTreeMap<String, String>, db::Error> {
    let mut zones = BTreeMap::new();
    for aggregate in aggregates::all(db).await? {
        if let Some(zone) = aggregate.metadata.get(ZONE) {
            for host in aggregates::hosts(db, aggregate.id).await? {
                zones.insert(host, zone.clone());
            }
        }
    }
    Ok(zones)
}
