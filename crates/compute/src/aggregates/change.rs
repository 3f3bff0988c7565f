//! Changing an aggregate: its name, its metadata, its hosts.

use std::collections::BTreeMap;

use api::wire::Maybe;
use api::{Action, Answer, Body, Call, Document, Path, Refusal};
use db::{Tx, sql};

use super::{
    Aggregate, AggregateChange, AggregateFault, HostName, NewMetadata, ZONE, all, begin, find, hosts, members,
    refuse_name, shown,
};
use crate::zones::DEFAULT_ZONE;
use crate::{Compute, names};

pub async fn update(
    call: Call<Compute>,
    (Path(id), Body(new)): (Path<String>, Body<AggregateChange>),
) -> Answer<Document> {
    let permitted = call.allow()?;
    if new.name.is_none() && new.zone.is_absent() {
        return Err(Refusal::bad_request(
            "Invalid input for field/attribute aggregate. Value: {}. 'name' is a required property",
        ));
    }
    let mut tx = begin(&call).await?;
    let mut aggregate = find(&mut tx, &id).await?;
    if let Some(name) = new.name {
        names::check("name", &name)?;
        refuse_name(&mut tx, &name, aggregate.id).await?;
        aggregate.name = name;
    }
    if !matches!(new.zone, Maybe::Absent) {
        let zone = new.zone.value();
        if let Some(why) = why_not(&mut tx, &aggregate, zone.as_deref()).await? {
            return Err(AggregateFault::CannotUpdate { id: aggregate.id, why }.into());
        }
        set(&mut aggregate, ZONE, zone);
    }
    save(&mut tx, &aggregate).await?;
    tx.commit().await?;
    shown(&call, permitted, &id).await
}

pub async fn set_metadata(
    call: Call<Compute>,
    (Path(id), Action(new)): (Path<String>, Action<NewMetadata>),
) -> Answer<Document> {
    let permitted = call.allow()?;
    refuse_bad_keys(&new.metadata)?;
    let mut tx = begin(&call).await?;
    let mut aggregate = find(&mut tx, &id).await?;
    for (key, value) in new.metadata {
        if key == ZONE
            && let Some(why) = why_not(&mut tx, &aggregate, value.as_deref()).await?
        {
            return Err(AggregateFault::CannotDescribe { id: aggregate.id, why }.into());
        }
        set(&mut aggregate, &key, value);
    }
    save(&mut tx, &aggregate).await?;
    tx.commit().await?;
    shown(&call, permitted, &id).await
}

pub async fn add_host(
    call: Call<Compute>,
    (Path(id), Action(new)): (Path<String>, Action<HostName>),
) -> Answer<Document> {
    let permitted = call.allow()?;
    names::check_host(&new.host)?;
    let mut tx = begin(&call).await?;
    let aggregate = find(&mut tx, &id).await?;
    if crate::hosts::find(&mut tx, &new.host).await?.is_none() {
        return Err(AggregateFault::NoHost { host: new.host }.into());
    }
    let added = std::slice::from_ref(&new.host);
    if let Some(zone) = aggregate.zone() {
        let others = other_zones(&mut tx, &aggregate, zone, added).await?;
        let why = match others.is_empty() {
            false => Some(already(&others)),
            true if zone_of(&mut tx, &new.host).await? == *zone => None,
            true => moved_servers(&mut tx, added).await?,
        };
        if let Some(why) = why {
            return Err(AggregateFault::CannotAdd { id: aggregate.id, why }.into());
        }
    }
    if hosts(&mut tx, aggregate.id).await?.contains(&new.host) {
        return Err(AggregateFault::HostThere { id: aggregate.id, host: new.host }.into());
    }
    let query = sql("INSERT INTO aggregate_hosts (aggregate_id, host) VALUES (?, ?)");
    tx.run(query.bind(aggregate.id).bind(&new.host)).await?;
    tx.commit().await?;
    shown(&call, permitted, &id).await
}

pub async fn remove_host(
    call: Call<Compute>,
    (Path(id), Action(old)): (Path<String>, Action<HostName>),
) -> Answer<Document> {
    let permitted = call.allow()?;
    let mut tx = begin(&call).await?;
    let aggregate = find(&mut tx, &id).await?;
    let query = sql("DELETE FROM aggregate_hosts WHERE aggregate_id = ? AND host = ?");
    if tx.run(query.bind(aggregate.id).bind(&old.host)).await? == 0 {
        return Err(AggregateFault::HostNotThere { id: aggregate.id, host: old.host }.into());
    }
    if let Some(zone) = aggregate.zone().filter(|zone| *zone != DEFAULT_ZONE)
        && zone_of(&mut tx, &old.host).await? != *zone
        && let Some(why) = moved_servers(&mut tx, std::slice::from_ref(&old.host)).await?
    {
        return Err(AggregateFault::CannotRemove { id: aggregate.id, why }.into());
    }
    tx.commit().await?;
    shown(&call, permitted, &id).await
}

fn set(aggregate: &mut Aggregate, key: &str, value: Option<String>) {
    match value {
        Some(value) => drop(aggregate.metadata.insert(key.to_string(), value)),
        None => drop(aggregate.metadata.remove(key)),
    }
}

async fn save(tx: &mut Tx, aggregate: &Aggregate) -> Result<(), db::Error> {
    let query = sql("UPDATE aggregates SET name = ?, metadata = ?, updated_at = ? WHERE id = ?");
    let query = query.bind(&aggregate.name).bind(&aggregate.metadata).bind(base::clock::now()).bind(aggregate.id);
    tx.run(query).await.map(drop)
}

/// Why the zone of an aggregate may not become `zone`.
async fn why_not(tx: &mut Tx, aggregate: &Aggregate, zone: Option<&str>) -> Answer<Option<String>> {
    let Some(zone) = zone.filter(|zone| !zone.is_empty()) else {
        return Ok(Some(format!("Aggregate {} does not support empty named availability zone", aggregate.name)));
    };
    names::check_zone(zone)?;
    let hosts = hosts(&mut *tx, aggregate.id).await?;
    let others = other_zones(tx, aggregate, zone, &hosts).await?;
    if !others.is_empty() {
        return Ok(Some(already(&others)));
    }
    match aggregate.zone().is_some_and(|same| same == zone) {
        true => Ok(None),
        false => moved_servers(tx, &hosts).await,
    }
}

/// The zones other than `zone` that other aggregates put any of `hosts` into.
async fn other_zones(tx: &mut Tx, this: &Aggregate, zone: &str, hosts: &[String]) -> Answer<Vec<String>> {
    let members = members(&mut *tx).await?;
    let holds = |id: i64| members.get(&id).into_iter().flatten().any(|host| hosts.contains(host));
    let others = all(&mut *tx).await?.into_iter().filter(|other| other.id != this.id && holds(other.id));
    Ok(others.filter_map(|other| other.zone().cloned()).filter(|theirs| theirs != zone).collect())
}

fn already(zones: &[String]) -> String {
    let shown: Vec<String> = zones.iter().map(|zone| format!("'{zone}'")).collect();
    format!("One or more hosts already in availability zone(s) [{}]", shown.join(", "))
}

async fn zone_of(tx: &mut Tx, host: &str) -> Result<String, db::Error> {
    let zones = crate::zones::of_hosts(&mut *tx).await?;
    Ok(zones.get(host).cloned().unwrap_or_else(|| DEFAULT_ZONE.to_string()))
}

/// Upstream: hosts that have servers do not change their zone under them.
async fn moved_servers(tx: &mut Tx, hosts: &[String]) -> Answer<Option<String>> {
    for host in hosts {
        if tx.count(sql("SELECT COUNT(*) FROM servers WHERE host = ?").bind(host)).await? > 0 {
            return Ok(Some("One or more hosts contain instances in this zone".into()));
        }
    }
    Ok(None)
}

fn refuse_bad_keys(metadata: &BTreeMap<String, Option<String>>) -> Answer<()> {
    let fits = |key: &&String| key.chars().all(|c| c.is_ascii_alphanumeric() || "-_:. ".contains(c));
    match metadata.keys().find(|key| !fits(key)) {
        None => Ok(()),
        Some(bad) => {
            let words = format!("Additional properties are not allowed ('{bad}' was unexpected)");
            Err(Refusal::bad_request(format!("Invalid input for field/attribute metadata. {words}")))
        }
    }
}
