//! Changing an aggregate: its name, its metadata, its hosts.

use api::wire::Maybe;
use api::{Action, Answer, Body, Call, Document, OrConflict, Path};
use db::{Tx, sql};

use super::{Aggregate, AggregateChange, AggregateFault, HostName, NewMetadata, ZONE, all, changed, find, hosts};
use crate::Compute;

pub async fn update(
    call: Call<Compute>,
    (Path(id), Body(new)): (Path<String>, Body<AggregateChange>),
) -> Answer<Document> {
    let permitted = call.allow()?;
    let mut aggregate = find(&call.db, &id).await?;
    if let Some(name) = new.name {
        aggregate.name = name;
    }
    match new.zone {
        Maybe::Value(zone) => drop(set(&call, &mut aggregate, ZONE, Some(zone)).await?),
        Maybe::Null => drop(set(&call, &mut aggregate, ZONE, None).await?),
        Maybe::Absent => {}
    }
    save(&call, &aggregate).await?;
    changed(&call, permitted, &id).await
}

pub async fn set_metadata(
    call: Call<Compute>,
    (Path(id), Action(new)): (Path<String>, Action<NewMetadata>),
) -> Answer<Document> {
    let permitted = call.allow()?;
    let mut aggregate = find(&call.db, &id).await?;
    for (key, value) in new.metadata {
        set(&call, &mut aggregate, &key, value).await?;
    }
    save(&call, &aggregate).await?;
    changed(&call, permitted, &id).await
}

pub async fn add_host(
    call: Call<Compute>,
    (Path(id), Action(new)): (Path<String>, Action<HostName>),
) -> Answer<Document> {
    let permitted = call.allow()?;
    let aggregate = find(&call.db, &id).await?;
    if crate::hosts::find(&call.db, &new.host).await?.is_none() {
        return Err(AggregateFault::NoHost { host: new.host }.into());
    }
    if let Some(zone) = aggregate.zone() {
        refuse_two_zones(&call, aggregate.id, zone, std::slice::from_ref(&new.host)).await?;
        refuse_moving_servers(&call, &new.host, zone).await?;
    }
    let query = sql("INSERT INTO aggregate_hosts (aggregate_id, host) VALUES (?, ?)");
    let there = || AggregateFault::HostThere { id: aggregate.id, host: new.host.clone() };
    call.db.run(query.bind(aggregate.id).bind(&new.host)).await.or_conflict(there)?;
    changed(&call, permitted, &id).await
}

pub async fn remove_host(
    call: Call<Compute>,
    (Path(id), Action(old)): (Path<String>, Action<HostName>),
) -> Answer<Document> {
    let permitted = call.allow()?;
    let aggregate = find(&call.db, &id).await?;
    if aggregate.zone().is_some() {
        refuse_moving_servers(&call, &old.host, crate::zones::DEFAULT_ZONE).await?;
    }
    let query = sql("DELETE FROM aggregate_hosts WHERE aggregate_id = ? AND host = ?");
    if call.db.run(query.bind(aggregate.id).bind(&old.host)).await? == 0 {
        return Err(AggregateFault::HostNotThere { id: aggregate.id, host: old.host }.into());
    }
    changed(&call, permitted, &id).await
}

async fn set(call: &Call<Compute>, aggregate: &mut Aggregate, key: &str, value: Option<String>) -> Answer<()> {
    if key == ZONE {
        let members = hosts(&call.db, aggregate.id).await?;
        let zone = value.clone().unwrap_or_else(|| crate::zones::DEFAULT_ZONE.into());
        refuse_two_zones(call, aggregate.id, &zone, &members).await?;
        for host in &members {
            refuse_moving_servers(call, host, &zone).await?;
        }
    }
    match value {
        Some(value) => drop(aggregate.metadata.insert(key.to_string(), value)),
        None => drop(aggregate.metadata.remove(key)),
    }
    Ok(())
}

async fn save(call: &Call<Compute>, aggregate: &Aggregate) -> Answer<()> {
    let query = sql("UPDATE aggregates SET name = ?, metadata = ?, updated_at = ? WHERE id = ?");
    let query = query.bind(&aggregate.name).bind(&aggregate.metadata).bind(base::clock::now()).bind(aggregate.id);
    let taken = || AggregateFault::NameTaken { name: aggregate.name.clone() };
    call.db.run(query).await.or_conflict(taken)?;
    Ok(())
}

/// A host is in one zone only.
async fn refuse_two_zones(call: &Call<Compute>, this: i64, zone: &str, members: &[String]) -> Answer<()> {
    for other in all(&call.db).await?.iter().filter(|other| other.id != this) {
        let Some(theirs) = other.zone().filter(|theirs| *theirs != zone) else { continue };
        let held = hosts(&call.db, other.id).await?;
        if let Some(host) = members.iter().find(|host| held.contains(host)) {
            return Err(AggregateFault::ZoneInUse { host: host.clone(), zone: theirs.clone() }.into());
        }
    }
    Ok(())
}

/// Upstream: a host that has servers does not change its zone under them.
async fn refuse_moving_servers(call: &Call<Compute>, host: &str, zone: &str) -> Answer<()> {
    if crate::zones::of_host(&call.db, host).await? == zone {
        return Ok(());
    }
    let mut tx: Tx = call.db.begin().await?;
    match tx.count(sql("SELECT COUNT(*) FROM servers WHERE host = ?").bind(host)).await? {
        0 => Ok(()),
        _ => Err(AggregateFault::ZoneHasServers { host: host.to_string() }.into()),
    }
}
