//! Aggregates: hosts that have something in common, and the availability zones made of them.

mod change;

use std::collections::BTreeMap;

use api::wire::{map, text};
use api::{
    Answer, Body, Call, Document, Done, Json, NoInput, Operation, Path, Permitted, Refusal, action, delete, get, json,
    post, put, v,
};
use base::Time;
use db::{Queries, Tx, record, select, sql};

use crate::{Compute, names, query};

/// The metadata key that makes an aggregate a zone.
pub const ZONE: &str = "availability_zone";

/// The lock row that every change of an aggregate takes: a host is in one zone only, whoever asks at the same time.
const LOCK: &str = "aggregates";

pub fn operations() -> Vec<Operation<Compute>> {
    const ACT: &str = "/os-aggregates/{id}/action";
    vec![
        get("/os-aggregates", list).rule("os_compute_api:os-aggregates:index"),
        post("/os-aggregates", create).rule("os_compute_api:os-aggregates:create").status(200),
        get("/os-aggregates/{id}", show).rule("os_compute_api:os-aggregates:show"),
        put("/os-aggregates/{id}", change::update).rule("os_compute_api:os-aggregates:update"),
        delete("/os-aggregates/{id}", remove).rule("os_compute_api:os-aggregates:delete").status(200),
        action(ACT, "add_host", change::add_host).rule("os_compute_api:os-aggregates:add_host").status(200),
        action(ACT, "remove_host", change::remove_host).rule("os_compute_api:os-aggregates:remove_host").status(200),
        action(ACT, "set_metadata", change::set_metadata).rule("os_compute_api:os-aggregates:set_metadata").status(200),
    ]
}

api::wire! {
    /// What an administrator sends to make an aggregate.
    pub struct NewAggregate in "aggregate" {
        name: String = text(1, 255).required(),
        zone as "availability_zone": Option<String> = text(1, 255).nullable(),
    }
}

api::wire! {
    /// A new name or zone.
    pub struct AggregateChange in "aggregate" {
        name: Option<String> = text(1, 255),
        zone as "availability_zone": api::wire::Maybe<String> = text(1, 255).nullable(),
    }
}

api::wire! {
    /// A host by name.
    pub struct HostName {
        host: String = text(1, 255).required(),
    }
}

api::wire! {
    /// Metadata to set; null removes a key.
    pub struct NewMetadata {
        metadata: BTreeMap<String, Option<String>> = map(text(0, 255).nullable()).required(),
    }
}

record! {
    pub struct Aggregate in "aggregates" {
        pub id: i64,
        pub uuid: String,
        pub name: String,
        pub metadata: BTreeMap<String, String>,
        pub created_at: Time,
        pub updated_at: Option<Time>,
    }
}

impl Aggregate {
    fn zone(&self) -> Option<&String> {
        self.metadata.get(ZONE)
    }

    /// Upstream: a new aggregate is shown without its hosts and metadata.
    fn short(&self, call: &Call<Compute>) -> Json {
        let mut view = json!({
            "id": self.id,
            "name": self.name,
            "created_at": self.created_at.iso_micros(),
            "updated_at": self.updated_at.map(|time| time.iso_micros()),
            "deleted_at": null,
            "deleted": false,
            "availability_zone": self.zone(),
        });
        if call.version >= v(2, 41) {
            view["uuid"] = json!(self.uuid);
        }
        view
    }
}

api::faults! {
    /// Why a call about aggregates may be refused.
    pub enum AggregateFault {
        NotFound(id: i64) = 404 "itemNotFound" "Aggregate {id} could not be found.",
        NameTaken(name: String) = 409 "conflictingRequest" "Aggregate {name} already exists.",
        HasHosts(id: i64) = 400 "badRequest"
            "Cannot remove host from aggregate {id}. Reason: Host aggregate is not empty.",
        NoHost(host: String) = 404 "itemNotFound" "Compute host {host} could not be found.",
        HostThere(id: i64, host: String) = 409 "conflictingRequest" "Aggregate {id} already has host {host}.",
        HostNotThere(id: i64, host: String) = 404 "itemNotFound" "Cannot remove host {host} in aggregate {id}",
        CannotAdd(id: i64, why: String) = 409 "conflictingRequest"
            "Cannot add host to aggregate {id}. Reason: {why}.",
        CannotRemove(id: i64, why: String) = 409 "conflictingRequest"
            "Cannot remove host from aggregate {id}. Reason: {why}.",
        CannotUpdate(id: i64, why: String) = 400 "badRequest" "Cannot update aggregate {id}. Reason: {why}.",
        CannotDescribe(id: i64, why: String) = 400 "badRequest"
            "Cannot update metadata of aggregate {id}. Reason: {why}.",
    }
}

async fn list(call: Call<Compute>, _: NoInput) -> Answer<Document> {
    let permitted = call.allow()?;
    query::strict(&call, v(2, 102), &[])?;
    let members = members(&call.db).await?;
    let full = |aggregate: &Aggregate| full(&call, aggregate, members.get(&aggregate.id));
    let views: Vec<Json> = all(&call.db).await?.iter().map(full).collect();
    Ok(Document::new(permitted, json!({"aggregates": views})))
}

async fn show(call: Call<Compute>, Path(id): Path<String>) -> Answer<Document> {
    let permitted = call.allow()?;
    query::strict(&call, v(2, 102), &[])?;
    shown(&call, permitted, &id).await
}

async fn create(call: Call<Compute>, Body(new): Body<NewAggregate>) -> Answer<Document> {
    let permitted = call.allow()?;
    names::check("name", &new.name)?;
    if let Some(zone) = &new.zone {
        names::check_zone(zone)?;
    }
    let metadata = new.zone.map(|zone| (ZONE.to_string(), zone)).into_iter().collect();
    let mut tx = begin(&call).await?;
    refuse_name(&mut tx, &new.name, 0).await?;
    let id = 1 + tx.count(sql("SELECT MAX(id) FROM aggregates")).await?;
    let uuid = base::id::uuid();
    let aggregate = Aggregate { id, uuid, name: new.name, metadata, created_at: base::clock::now(), updated_at: None };
    tx.insert(&aggregate).await?;
    tx.commit().await?;
    let view = aggregate.short(&call);
    Ok(Document::new(permitted, json!({"aggregate": view})))
}

async fn remove(call: Call<Compute>, Path(id): Path<String>) -> Answer<Done> {
    let permitted = call.allow()?;
    let mut tx = begin(&call).await?;
    let aggregate = find(&mut tx, &id).await?;
    if !hosts(&mut tx, aggregate.id).await?.is_empty() {
        return Err(AggregateFault::HasHosts { id: aggregate.id }.into());
    }
    tx.run(sql("DELETE FROM aggregates WHERE id = ?").bind(aggregate.id)).await?;
    tx.commit().await?;
    Ok(Done::with(permitted))
}

/// A transaction in which nobody else changes an aggregate.
async fn begin(call: &Call<Compute>) -> Answer<Tx> {
    let mut tx = call.db.begin().await?;
    api::quota::lock(&mut tx, LOCK).await?;
    Ok(tx)
}

async fn refuse_name(tx: &mut Tx, name: &str, but: i64) -> Answer<()> {
    let same = sql("SELECT COUNT(*) FROM aggregates WHERE name = ? AND id <> ?");
    match tx.count(same.bind(name).bind(but)).await? {
        0 => Ok(()),
        _ => Err(AggregateFault::NameTaken { name: name.to_string() }.into()),
    }
}

fn full(call: &Call<Compute>, aggregate: &Aggregate, hosts: Option<&Vec<String>>) -> Json {
    let mut view = aggregate.short(call);
    view["hosts"] = hosts.map_or(json!([]), |hosts| json!(hosts));
    view["metadata"] = json!(aggregate.metadata);
    view
}

pub async fn all(mut db: impl Queries) -> Result<Vec<Aggregate>, db::Error> {
    db.all(select::<Aggregate>("ORDER BY id")).await
}

/// The hosts of every aggregate that has any.
pub async fn members(mut db: impl Queries) -> Result<BTreeMap<i64, Vec<String>>, db::Error> {
    let rows = db.rows(sql("SELECT aggregate_id, host FROM aggregate_hosts ORDER BY aggregate_id, host")).await?;
    let mut members: BTreeMap<i64, Vec<String>> = BTreeMap::new();
    for row in &rows {
        members.entry(row.get(0)?).or_default().push(row.get(1)?);
    }
    Ok(members)
}

async fn hosts(mut db: impl Queries, aggregate: i64) -> Result<Vec<String>, db::Error> {
    let query = sql("SELECT host FROM aggregate_hosts WHERE aggregate_id = ? ORDER BY host");
    db.rows(query.bind(aggregate)).await?.iter().map(|row| row.get(0)).collect()
}

async fn find(mut db: impl Queries, id: &str) -> Answer<Aggregate> {
    let number: i64 = id.parse().map_err(|_| Refusal::bad_request("Invalid input received: id must be an integer"))?;
    let found = db.maybe(select::<Aggregate>("WHERE id = ?").bind(number)).await?;
    found.ok_or_else(|| AggregateFault::NotFound { id: number }.into())
}

/// One aggregate with its hosts, as most calls answer.
async fn shown(call: &Call<Compute>, permitted: Permitted<()>, id: &str) -> Answer<Document> {
    let aggregate = find(&call.db, id).await?;
    let hosts = hosts(&call.db, aggregate.id).await?;
    let view = full(call, &aggregate, Some(&hosts));
    Ok(Document::new(permitted, json!({"aggregate": view})))
}
