//! Limits: how much of a resource one project or domain may have, where that is not the registered default.

use std::collections::HashMap;

use api::listing::text as text_filter;
use api::view::listed;
use api::wire::{Maybe, integer, list as list_of, nested, text};
use api::{
    Answer, Body, Call, Document, Done, Listing, NoInput, Operation, OrConflict, Path, Reader, Refusal, delete, get,
    patch, post, wire,
};
use base::{Json, json};
use db::{Queries, select, sql};

use crate::projects::store as projects;
use crate::registered_limits::{HIGHEST, ITEMS, LOWEST, RegisteredLimit, fits, present};
use crate::{Identity, expecting};

const LIMITS: Listing =
    Listing { sort: &["id"], filter: &[text_filter("project_id"), text_filter("domain_id")], ..Listing::PLAIN };

pub fn operations() -> Vec<Operation<Identity>> {
    vec![
        get("/limits/model", model).rule("identity:get_limit_model"),
        get("/limits", list).rule("identity:list_limits").paged(&LIMITS),
        post("/limits", create).rule("identity:create_limits").status(201),
        get("/limits/{limit_id}", show).rule("identity:get_limit"),
        patch("/limits/{limit_id}", update).rule("identity:update_limit"),
        delete("/limits/{limit_id}", remove).rule("identity:delete_limit"),
    ]
}

wire! {
    /// What a client sends for new limits.
    pub struct NewLimits {
        limits: Vec<NewLimit> = list_of(nested::<NewLimit>()).items(1, ITEMS).required(),
    }
}

wire! {
    pub struct NewLimit {
        project_id: Option<String> = text(0, 64).nullable(),
        domain_id: Option<String> = text(0, 64).nullable(),
        service_id: String = text(1, 255).required(),
        region_id: Option<String> = text(0, 255).nullable(),
        resource_name: String = text(1, 255).required(),
        resource_limit: i64 = integer(LOWEST, HIGHEST).required(),
        description: Option<String> = text(0, 65535).nullable(),
    }
}

wire! {
    /// What a client sends to change a limit.
    pub struct LimitChange in "limit" {
        resource_limit: Option<i64> = integer(LOWEST, HIGHEST),
        description: Maybe<String> = text(0, 65535).nullable(),
    }
}

db::record! {
    pub struct Limit in "limits" {
        pub id: String,
        /// Empty for a limit of a domain.
        pub project_id: String,
        /// Empty for a limit of a project.
        pub domain_id: String,
        pub registered_limit_id: String,
        pub resource_limit: i64,
        pub description: Option<String>,
    }
}

fn view(limit: &Limit, registered: &RegisteredLimit, to: &Reader) -> Json {
    json!({
        "id": limit.id,
        "project_id": present(&limit.project_id),
        "domain_id": present(&limit.domain_id),
        "service_id": registered.service_id,
        "region_id": present(&registered.region_id),
        "resource_name": registered.resource_name,
        "resource_limit": limit.resource_limit,
        "description": limit.description,
        "links": {"self": to.link(&format!("/limits/{}", limit.id))},
    })
}

async fn limit(call: &Call<Identity>, id: &str) -> Result<Option<(Limit, RegisteredLimit)>, db::Error> {
    let Some(limit) = call.db.maybe(select::<Limit>("WHERE id = ?").bind(id)).await? else { return Ok(None) };
    let registered = call.db.maybe(select::<RegisteredLimit>("WHERE id = ?").bind(&limit.registered_limit_id)).await?;
    Ok(registered.map(|registered| (limit, registered)))
}

fn absent(id: &str) -> Refusal {
    Refusal::not_found(format!("Could not find limit for {id}."))
}

async fn model(call: Call<Identity>, _: NoInput) -> Answer<Document> {
    let permitted = call.allow()?;
    let description = "Limit enforcement and validation does not take project hierarchy into consideration.";
    Ok(Document::new(permitted, json!({"model": {"name": "flat", "description": description}})))
}

async fn list(call: Call<Identity>, _: NoInput) -> Answer<Document> {
    let permitted = call.allow()?;
    let caller = &call.caller;
    let all = caller.system || caller.has_role("admin") || caller.has_role("service");
    let mut select = select::<Limit>("JOIN registered_limits ON registered_limits.id = limits.registered_limit_id");
    for (name, column) in [
        ("service_id", "registered_limits.service_id"),
        ("region_id", "registered_limits.region_id"),
        ("resource_name", "registered_limits.resource_name"),
    ] {
        if let Some(value) = call.query.get(name) {
            select = select.and(format!("{column} = ?")).bind(value);
        }
    }
    let select = match (all, &caller.domain_id, &caller.project_id) {
        (true, ..) => select,
        (false, Some(domain), _) => select
            .and("limits.domain_id = ? OR limits.project_id IN (SELECT id FROM projects WHERE domain_id = ?)")
            .bind_all([domain, domain]),
        (false, None, Some(project)) => select.and("limits.project_id = ?").bind(project),
        (false, None, None) => select.and("1 = 0"),
    };
    let limits = crate::rows(&call, select).await?;
    let registered = call.db.all(db::select::<RegisteredLimit>("")).await?;
    let registered: HashMap<&str, &RegisteredLimit> = registered.iter().map(|one| (one.id.as_str(), one)).collect();
    let shown = limits.iter().filter_map(|limit| {
        let registered = registered.get(limit.registered_limit_id.as_str())?;
        Some(view(limit, registered, &call.reader))
    });
    Ok(Document::new(permitted, listed("limits", shown.collect(), &call.reader)))
}

async fn show(call: Call<Identity>, Path(id): Path<String>) -> Answer<Document> {
    let found = limit(&call, &id).await?;
    let target = match &found {
        Some((limit, _)) => target(&call, limit).await?,
        None => json!({}),
    };
    let permitted = call.allow_on(&target)?;
    let (limit, registered) = found.ok_or_else(|| absent(&id))?;
    Ok(Document::new(permitted, json!({"limit": view(&limit, &registered, &call.reader)})))
}

async fn target(call: &Call<Identity>, limit: &Limit) -> Answer<Json> {
    let mut target = json!({"project_id": present(&limit.project_id), "domain_id": present(&limit.domain_id)});
    match (present(&limit.project_id), present(&limit.domain_id)) {
        (Some(id), _) => target["project"] = projects::project(&call.db, id).await?.target(),
        (None, Some(id)) => target["domain"] = json!({"id": id}),
        (None, None) => {}
    }
    Ok(json!({"target": {"limit": target}}))
}

async fn create(call: Call<Identity>, Body(new): Body<NewLimits>) -> Answer<Document> {
    let permitted = call.allow()?;
    let mut tx = call.db.begin().await?;
    let mut shown = Vec::new();
    for one in new.limits {
        let region_id = one.region_id.clone().unwrap_or_default();
        fits(&mut tx, &one.service_id, &region_id, "limit").await?;
        let (project_id, domain_id) = owner(&mut tx, &one).await?;
        let registered = select::<RegisteredLimit>("WHERE service_id = ? AND region_id = ? AND resource_name = ?");
        let registered = registered.bind(&one.service_id).bind(&region_id).bind(&one.resource_name);
        let registered = tx.maybe(registered).await?.ok_or_else(|| {
            Refusal::forbidden("Unable to create a limit that has no corresponding registered limit.")
        })?;
        let limit = Limit {
            id: base::id::hex(),
            project_id,
            domain_id,
            registered_limit_id: registered.id.clone(),
            resource_limit: one.resource_limit,
            description: one.description,
        };
        let taken = || Refusal::conflict("Conflict occurred attempting to store limit - Duplicate entry.");
        tx.insert(&limit).await.or_conflict(taken)?;
        shown.push(view(&limit, &registered, &call.reader));
    }
    tx.commit().await?;
    Ok(Document::new(permitted, json!({"limits": shown})))
}

/// Whose limit it will be: either a project's or a domain's. Upstream: a domain given as a project counts as a domain.
async fn owner(mut tx: impl Queries, new: &NewLimit) -> Answer<(String, String)> {
    let given = |id: &Option<String>| id.clone().filter(|id| !id.is_empty());
    match (given(&new.project_id), given(&new.domain_id)) {
        (Some(id), None) => match projects::find(&mut tx, &id).await? {
            Some(project) if project.is_domain => Ok((String::new(), id)),
            Some(_) => Ok((id, String::new())),
            None => Err(expecting("project_id", "limit")),
        },
        (None, Some(id)) => match projects::find_domain(&mut tx, &id).await? {
            Some(_) => Ok((String::new(), id)),
            None => Err(expecting("domain_id", "limit")),
        },
        _ => {
            Err(Refusal::bad_request("Invalid input for field 'limits': either project_id or domain_id must be given"))
        }
    }
}

async fn update(call: Call<Identity>, (Path(id), Body(change)): (Path<String>, Body<LimitChange>)) -> Answer<Document> {
    let permitted = call.allow()?;
    let (mut new, registered) = limit(&call, &id).await?.ok_or_else(|| absent(&id))?;
    new.resource_limit = change.resource_limit.unwrap_or(new.resource_limit);
    if let Some(description) = change.description.sent() {
        new.description = description;
    }
    let statement = sql("UPDATE limits SET resource_limit = ?, description = ? WHERE id = ?");
    call.db.run(statement.bind(new.resource_limit).bind(&new.description).bind(&id)).await?;
    Ok(Document::new(permitted, json!({"limit": view(&new, &registered, &call.reader)})))
}

async fn remove(call: Call<Identity>, Path(id): Path<String>) -> Answer<Done> {
    let permitted = call.allow()?;
    match call.db.run(sql("DELETE FROM limits WHERE id = ?").bind(&id)).await? {
        0 => Err(absent(&id)),
        _ => Ok(Done::with(permitted)),
    }
}
