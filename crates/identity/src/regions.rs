//! Regions: where endpoints are; they form trees.

use api::listing::text as text_filter;
use api::wire::{Maybe, text};
use api::{
    Answer, Body, Call, Created, Done, Listed, Listing, NoInput, Operation, OrConflict, Path, Reader, Refusal, Show,
    View, delete, get, patch, post, put, wire,
};
use base::{Json, json};
use db::{Queries, select, sql};

use crate::{Identity, missing};

const REGIONS: Listing = Listing { sort: &["id"], filter: &[text_filter("parent_region_id")], ..Listing::PLAIN };

/// Limit: levels of a tree of regions.
const MAX_DEPTH: usize = 32;

pub fn operations() -> Vec<Operation<Identity>> {
    vec![
        get("/regions", list).rule("identity:list_regions").paged(&REGIONS),
        post("/regions", create).rule("identity:create_region"),
        get("/regions/{region_id}", show).rule("identity:get_region"),
        put("/regions/{region_id}", create_as).rule("identity:create_region"),
        patch("/regions/{region_id}", update).rule("identity:update_region"),
        delete("/regions/{region_id}", remove).rule("identity:delete_region"),
    ]
}

wire! {
    /// What a client sends for a new region.
    pub struct NewRegion in "region" open {
        id: Option<String> = text(0, 255).nullable(),
        description: Option<String> = text(0, 65535).nullable(),
        parent_region_id: Option<String> = text(0, 255).nullable(),
    }
}

wire! {
    /// What a client sends to change a region.
    pub struct RegionChange in "region" open {
        id: Option<String> = text(0, 255),
        description: Maybe<String> = text(0, 65535).nullable(),
        parent_region_id: Maybe<String> = text(0, 255).nullable(),
    }
}

db::record! {
    pub struct Region in "regions" {
        pub id: String,
        pub description: String,
        pub parent_region_id: Option<String>,
        pub extra: Json,
    }
}

impl View for Region {
    const ONE: &'static str = "region";
    const MANY: &'static str = "regions";

    fn view(&self, to: &Reader) -> Json {
        let mut view = self.extra.clone();
        view["id"] = json!(self.id);
        view["description"] = json!(self.description);
        view["parent_region_id"] = json!(self.parent_region_id);
        view["links"] = json!({"self": to.link(&format!("/regions/{}", self.id))});
        view
    }
}

pub async fn find(mut db: impl Queries, id: &str) -> Result<Option<Region>, db::Error> {
    db.maybe(select::<Region>("WHERE id = ?").bind(id)).await
}

async fn region(db: impl Queries, id: &str) -> Answer<Region> {
    find(db, id).await?.ok_or_else(|| missing("region", id))
}

/// The region with this id, made when it is not there.
pub async fn ensure(mut db: impl Queries, id: &str) -> Result<(), db::Error> {
    let region = Region { id: id.into(), description: String::new(), parent_region_id: None, extra: json!({}) };
    db.insert_new(&region).await?;
    Ok(())
}

async fn list(call: Call<Identity>, _: NoInput) -> Answer<Listed<Region>> {
    let permitted = call.allow()?;
    let rows = crate::rows(&call, select::<Region>("")).await?;
    Ok(Listed(permitted.each(rows)))
}

async fn show(call: Call<Identity>, Path(id): Path<String>) -> Answer<Show<Region>> {
    let permitted = call.allow()?;
    let region = region(&call.db, &id).await?;
    Ok(Show(permitted.map(|()| region)))
}

async fn create(call: Call<Identity>, Body(new): Body<NewRegion>) -> Answer<Created<Region>> {
    let id = new.id.clone().filter(|id| !id.is_empty()).unwrap_or_else(base::id::hex);
    insert(&call, id, new).await
}

async fn create_as(
    call: Call<Identity>,
    (Path(id), Body(new)): (Path<String>, Body<NewRegion>),
) -> Answer<Created<Region>> {
    match &new.id {
        Some(other) if *other != id => {
            Err(Refusal::bad_request(format!("Conflicting region IDs specified: \"{id}\" != \"{other}\"")))
        }
        _ if id.chars().count() > 255 => {
            Err(Refusal::bad_request(format!("Invalid input for field/attribute id. Value: {id}. '{id}' is too long")))
        }
        _ => insert(&call, id, new).await,
    }
}

async fn insert(call: &Call<Identity>, id: String, new: NewRegion) -> Answer<Created<Region>> {
    let permitted = call.allow()?;
    let parent_region_id = new.parent_region_id.filter(|id| !id.is_empty());
    if let Some(parent) = &parent_region_id {
        region(&call.db, parent).await?;
    }
    let description = new.description.unwrap_or_default();
    let region = Region { id, description, parent_region_id, extra: crate::extra(new.rest) };
    call.db.insert(&region).await.or_conflict(|| {
        let id = &region.id;
        Refusal::conflict(format!("Conflict occurred attempting to store region - Duplicate ID, {id}."))
    })?;
    Ok(Created(permitted.map(|()| region)))
}

async fn update(
    call: Call<Identity>,
    (Path(id), Body(change)): (Path<String>, Body<RegionChange>),
) -> Answer<Show<Region>> {
    let permitted = call.allow()?;
    if change.id.as_ref().is_some_and(|other| *other != id) {
        return Err(Refusal::bad_request("Cannot change ID"));
    }
    let mut new = region(&call.db, &id).await?;
    if let Some(description) = change.description.sent() {
        new.description = description.unwrap_or_default();
    }
    if let Some(parent) = change.parent_region_id.sent() {
        no_circle(&call, &id, parent.as_deref()).await?;
        new.parent_region_id = parent;
    }
    crate::merge(&mut new.extra, change.rest);
    let statement = sql("UPDATE regions SET description = ?, parent_region_id = ?, extra = ? WHERE id = ?");
    let statement = statement.bind(&new.description).bind(&new.parent_region_id).bind(&new.extra);
    call.db.run(statement.bind(&id)).await?;
    Ok(Show(permitted.map(|()| new)))
}

/// Refuses a parent that lies below the region itself.
async fn no_circle(call: &Call<Identity>, id: &str, parent: Option<&str>) -> Answer<()> {
    let mut next = parent.map(String::from);
    for _ in 0..MAX_DEPTH {
        let Some(above) = next else { return Ok(()) };
        if above == id {
            break;
        }
        next = region(&call.db, &above).await?.parent_region_id;
    }
    let parent = parent.unwrap_or_default();
    Err(Refusal::bad_request(format!("The specified parent region {parent} would create a circular region hierarchy.")))
}

async fn remove(call: Call<Identity>, Path(id): Path<String>) -> Answer<Done> {
    let permitted = call.allow()?;
    region(&call.db, &id).await?;
    let mut tx = call.db.begin().await?;
    let mut all = vec![id.clone()];
    let mut level = vec![id.clone()];
    for _ in 0..MAX_DEPTH {
        let below = tx.all(select::<Region>("").in_list("parent_region_id", &level)).await?;
        level = below.into_iter().map(|region| region.id).collect();
        all.extend(level.clone());
    }
    let used = sql("SELECT COUNT(*) FROM endpoints WHERE region_id IN (?)").bind_list(&all);
    if tx.count(used).await? > 0 {
        return Err(Refusal::forbidden(format!(
            "Unable to delete region {id} because it or its child regions have associated endpoints."
        )));
    }
    tx.run(sql("DELETE FROM regions WHERE id IN (?)").bind_list(&all)).await?;
    tx.commit().await?;
    Ok(Done::with(permitted))
}
