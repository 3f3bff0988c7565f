//! Registered limits: the defaults of unified limits, per service, region and resource.

use api::listing::text as text_filter;
use api::wire::{Maybe, integer, list as list_of, nested, text};
use api::{
    Answer, Body, Call, Document, Done, Listed, Listing, NoInput, Operation, OrConflict, Path, Reader, Refusal, Show,
    View, delete, get, patch, post, wire,
};
use base::{Json, json};
use db::{Queries, select, sql};

use crate::{Identity, expecting, regions, services};

const LIMITS: Listing = Listing {
    sort: &["id"],
    filter: &[text_filter("service_id"), text_filter("region_id"), text_filter("resource_name")],
    ..Listing::PLAIN
};
/// Limit: entries of one request.
pub const ITEMS: usize = 1000;
pub const LOWEST: i64 = -1;
pub const HIGHEST: i64 = 0x7fff_ffff;

pub fn operations() -> Vec<Operation<Identity>> {
    vec![
        get("/registered_limits", list).rule("identity:list_registered_limits").paged(&LIMITS),
        post("/registered_limits", create).rule("identity:create_registered_limits").status(201),
        get("/registered_limits/{registered_limit_id}", show).rule("identity:get_registered_limit"),
        patch("/registered_limits/{registered_limit_id}", update).rule("identity:update_registered_limit"),
        delete("/registered_limits/{registered_limit_id}", remove).rule("identity:delete_registered_limit"),
    ]
}

wire! {
    /// What a client sends for new registered limits.
    pub struct NewRegisteredLimits {
        registered_limits: Vec<NewRegisteredLimit> =
            list_of(nested::<NewRegisteredLimit>()).items(1, ITEMS).required(),
    }
}

wire! {
    pub struct NewRegisteredLimit {
        service_id: String = text(1, 255).required(),
        region_id: Option<String> = text(0, 255).nullable(),
        resource_name: String = text(1, 255).required(),
        default_limit: i64 = integer(LOWEST, HIGHEST).required(),
        description: Option<String> = text(0, 65535).nullable(),
    }
}

wire! {
    /// What a client sends to change a registered limit.
    pub struct RegisteredLimitChange in "registered_limit" {
        service_id: Option<String> = text(1, 255),
        region_id: Maybe<String> = text(0, 255).nullable(),
        resource_name: Option<String> = text(1, 255),
        default_limit: Option<i64> = integer(LOWEST, HIGHEST),
        description: Maybe<String> = text(0, 65535).nullable(),
    }
}

db::record! {
    pub struct RegisteredLimit in "registered_limits" {
        pub id: String,
        pub service_id: String,
        /// Empty where it has none.
        pub region_id: String,
        pub resource_name: String,
        pub default_limit: i64,
        pub description: Option<String>,
    }
}

/// An id, where there is one.
pub fn present(id: &str) -> Option<&str> {
    Some(id).filter(|id| !id.is_empty())
}

impl View for RegisteredLimit {
    const ONE: &'static str = "registered_limit";
    const MANY: &'static str = "registered_limits";

    fn view(&self, to: &Reader) -> Json {
        json!({
            "id": self.id,
            "service_id": self.service_id,
            "region_id": present(&self.region_id),
            "resource_name": self.resource_name,
            "default_limit": self.default_limit,
            "description": self.description,
            "links": {"self": to.link(&format!("/registered_limits/{}", self.id))},
        })
    }
}

async fn registered(call: &Call<Identity>, id: &str) -> Answer<RegisteredLimit> {
    let found = call.db.maybe(select::<RegisteredLimit>("WHERE id = ?").bind(id)).await?;
    found.ok_or_else(|| Refusal::not_found(format!("Could not find registered limit for {id}.")))
}

/// A limit needs its service and its region.
pub async fn fits(mut db: impl Queries, service_id: &str, region_id: &str, what: &str) -> Answer<()> {
    if services::find(&mut db, service_id).await?.is_none() {
        return Err(expecting("service_id", what));
    }
    match present(region_id) {
        Some(id) if regions::find(&mut db, id).await?.is_none() => Err(expecting("region_id", what)),
        _ => Ok(()),
    }
}

async fn list(call: Call<Identity>, _: NoInput) -> Answer<Listed<RegisteredLimit>> {
    let permitted = call.allow()?;
    let rows = crate::rows(&call, select::<RegisteredLimit>("")).await?;
    Ok(Listed(permitted.each(rows)))
}

async fn show(call: Call<Identity>, Path(id): Path<String>) -> Answer<Show<RegisteredLimit>> {
    let permitted = call.allow()?;
    let limit = registered(&call, &id).await?;
    Ok(Show(permitted.map(|()| limit)))
}

async fn create(call: Call<Identity>, Body(new): Body<NewRegisteredLimits>) -> Answer<Document> {
    let permitted = call.allow()?;
    let mut tx = call.db.begin().await?;
    let mut shown = Vec::new();
    for one in new.registered_limits {
        let limit = RegisteredLimit {
            id: base::id::hex(),
            service_id: one.service_id,
            region_id: one.region_id.unwrap_or_default(),
            resource_name: one.resource_name,
            default_limit: one.default_limit,
            description: one.description,
        };
        fits(&mut tx, &limit.service_id, &limit.region_id, "registered_limit").await?;
        tx.insert(&limit).await.or_conflict(taken)?;
        shown.push(limit.view(&call.reader));
    }
    tx.commit().await?;
    Ok(Document::new(permitted, json!({"registered_limits": shown})))
}

fn taken() -> Refusal {
    Refusal::conflict("Conflict occurred attempting to store registered_limit - Duplicate entry.")
}

fn in_use(id: &str) -> Refusal {
    Refusal::forbidden(format!(
        "Unable to update or delete registered limit {id} because there are project limits associated with it."
    ))
}

async fn used(call: &Call<Identity>, id: &str) -> Answer<bool> {
    let count = sql("SELECT COUNT(*) FROM limits WHERE registered_limit_id = ?").bind(id);
    Ok(call.db.count(count).await? > 0)
}

async fn update(
    call: Call<Identity>,
    (Path(id), Body(change)): (Path<String>, Body<RegisteredLimitChange>),
) -> Answer<Show<RegisteredLimit>> {
    let permitted = call.allow()?;
    let old = registered(&call, &id).await?;
    let mut new = old.clone();
    new.service_id = change.service_id.unwrap_or(new.service_id);
    new.resource_name = change.resource_name.unwrap_or(new.resource_name);
    new.default_limit = change.default_limit.unwrap_or(new.default_limit);
    if let Some(region) = change.region_id.sent() {
        new.region_id = region.unwrap_or_default();
    }
    if let Some(description) = change.description.sent() {
        new.description = description;
    }
    let key =
        |limit: &RegisteredLimit| (limit.service_id.clone(), limit.region_id.clone(), limit.resource_name.clone());
    if key(&old) != key(&new) && used(&call, &id).await? {
        return Err(in_use(&id));
    }
    fits(&call.db, &new.service_id, &new.region_id, "registered_limit").await?;
    let statement =
        sql("UPDATE registered_limits SET service_id = ?, region_id = ?, resource_name = ?, default_limit = ?, \
         description = ? WHERE id = ?");
    let statement = statement.bind(&new.service_id).bind(&new.region_id).bind(&new.resource_name);
    let statement = statement.bind(new.default_limit).bind(&new.description).bind(&id);
    call.db.run(statement).await.or_conflict(taken)?;
    Ok(Show(permitted.map(|()| new)))
}

async fn remove(call: Call<Identity>, Path(id): Path<String>) -> Answer<Done> {
    let permitted = call.allow()?;
    registered(&call, &id).await?;
    if used(&call, &id).await? {
        return Err(in_use(&id));
    }
    call.db.run(sql("DELETE FROM registered_limits WHERE id = ?").bind(&id)).await?;
    Ok(Done::with(permitted))
}
