//! Availability zones: what agents say about where they are.

use std::collections::BTreeSet;

use api::{Answer, Call, NoInput, Operation, Reply, get};
use base::{Json, json};

use crate::Network;
use crate::agents::{self, DHCP, L3};
use crate::fault::Fault;
use crate::stop::Stop;
use crate::work::Work;

pub fn operations() -> Vec<Operation<Network>> {
    vec![get("/availability_zones", list).rule("get_availability_zone")]
}

async fn list(call: Call<Network>, _: NoInput) -> Answer<Reply> {
    call.allow()?;
    let zones: Vec<Json> = known_zones(&call)
        .await?
        .into_iter()
        .map(|(name, resource)| json!({"name": name, "resource": resource, "state": "available"}))
        .collect();
    let wanted = |key: &str, zone: &Json| {
        let values: Vec<&str> = call.query.all(key).collect();
        values.is_empty() || values.iter().any(|value| zone[key] == *value)
    };
    let zones: Vec<&Json> =
        zones.iter().filter(|zone| ["name", "resource", "state"].iter().all(|key| wanted(key, zone))).collect();
    Ok(Reply::json(200, &json!({"availability_zones": zones})))
}

async fn known_zones(call: &Call<Network>) -> Answer<BTreeSet<(String, &'static str)>> {
    let kinds = agents::kinds(&call.db).await?;
    let zone = call.settings.zone.clone();
    let mut zones = BTreeSet::new();
    if kinds.contains(DHCP) {
        zones.insert((zone.clone(), "network"));
    }
    if kinds.contains(L3) {
        zones.insert((zone, "router"));
    }
    Ok(zones)
}

/// Refuses hints that name no zone.
pub async fn known(work: &mut Work<'_>, hints: &[String], resource: &str) -> Result<(), Stop> {
    if hints.is_empty() {
        return Ok(());
    }
    let kinds = agents::kinds(&mut work.tx).await?;
    let served = kinds.contains(if resource == "router" { L3 } else { DHCP });
    let zone = &work.service.settings.zone;
    match hints.iter().find(|hint| *hint != zone || !served) {
        None => Ok(()),
        Some(hint) => Err(Fault::AvailabilityZoneNotFound { zone: hint.clone() }.into()),
    }
}
