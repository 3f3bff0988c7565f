//! Endpoint filters: which endpoints the catalog of a project shows. Without any filter it shows all.

use std::collections::HashSet;

use api::listing::text as text_filter;
use api::view::listed;
use api::wire::{Maybe, object, text};
use api::{
    Answer, Body, Call, Created, Document, Done, Listed, Listing, NoInput, Operation, OrConflict, Path, Permitted,
    Reader, Refusal, Show, View, delete, get, head, patch, post, put, wire,
};
use base::{Json, json};
use db::{select, sql};

use crate::endpoints::{self, Endpoint};
use crate::projects::{self, Project, Shown};
use crate::{Identity, missing, services};

const GROUPS: Listing = Listing { sort: &["name", "id"], filter: &[text_filter("name")], ..Listing::PLAIN };

pub fn operations() -> Vec<Operation<Identity>> {
    const ENDPOINT: &str = "/OS-EP-FILTER/projects/{project_id}/endpoints/{endpoint_id}";
    const GROUP: &str = "/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}";
    const OF_PROJECT: &str = "/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}/projects/{project_id}";
    vec![
        get("/OS-EP-FILTER/projects/{project_id}/endpoints", of_project).rule("identity:list_endpoints_for_project"),
        get("/OS-EP-FILTER/endpoints/{endpoint_id}/projects", projects_of).rule("identity:list_projects_for_endpoint"),
        put(ENDPOINT, add).rule("identity:add_endpoint_to_project"),
        get(ENDPOINT, check).rule("identity:check_endpoint_in_project"),
        head(ENDPOINT, check).rule("identity:check_endpoint_in_project"),
        delete(ENDPOINT, remove).rule("identity:remove_endpoint_from_project"),
        get("/OS-EP-FILTER/endpoint_groups", list_groups).rule("identity:list_endpoint_groups").paged(&GROUPS),
        post("/OS-EP-FILTER/endpoint_groups", create_group).rule("identity:create_endpoint_group"),
        get(GROUP, show_group).rule("identity:get_endpoint_group"),
        head(GROUP, show_group).rule("identity:get_endpoint_group"),
        patch(GROUP, update_group).rule("identity:update_endpoint_group"),
        delete(GROUP, remove_group).rule("identity:delete_endpoint_group"),
        get("/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}/endpoints", endpoints_of_group)
            .rule("identity:list_endpoints_associated_with_endpoint_group"),
        get("/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}/projects", projects_of_group)
            .rule("identity:list_projects_associated_with_endpoint_group"),
        get("/OS-EP-FILTER/projects/{project_id}/endpoint_groups", groups_of_project)
            .rule("identity:list_endpoint_groups_for_project"),
        put(OF_PROJECT, add_group).rule("identity:add_endpoint_group_to_project"),
        get(OF_PROJECT, group_in_project).rule("identity:get_endpoint_group_in_project"),
        head(OF_PROJECT, group_in_project).rule("identity:get_endpoint_group_in_project"),
        delete(OF_PROJECT, take_group).rule("identity:remove_endpoint_group_from_project"),
    ]
}

wire! {
    /// What a client sends for a new endpoint group.
    pub struct NewGroup in "endpoint_group" {
        name: String = text(1, 255).required(),
        description: Option<String> = text(0, 65535).nullable(),
        filters: Json = object().required(),
    }
}

wire! {
    /// What a client sends to change an endpoint group.
    pub struct GroupChange in "endpoint_group" {
        name: Option<String> = text(1, 255),
        description: Maybe<String> = text(0, 65535).nullable(),
        filters: Option<Json> = object(),
    }
}

db::record! {
    /// Endpoints with some attributes in common.
    pub struct Group in "endpoint_groups" {
        pub id: String,
        pub name: String,
        pub description: Option<String>,
        pub filters: Json,
    }
}

db::record! {
    struct Choice in "project_endpoints" {
        project_id: String,
        endpoint_id: String,
    }
}

db::record! {
    struct GroupChoice in "project_endpoint_groups" {
        project_id: String,
        endpoint_group_id: String,
    }
}

impl Group {
    fn holds(&self, endpoint: &Endpoint) -> bool {
        let wanted = |key: &str| self.filters[key].as_str();
        wanted("interface").is_none_or(|interface| interface == endpoint.interface)
            && wanted("service_id").is_none_or(|id| id == endpoint.service_id)
            && wanted("region_id").is_none_or(|id| Some(id) == endpoint.region_id.as_deref())
    }
}

impl View for Group {
    const ONE: &'static str = "endpoint_group";
    const MANY: &'static str = "endpoint_groups";

    fn view(&self, to: &Reader) -> Json {
        json!({
            "id": self.id,
            "name": self.name,
            "description": self.description,
            "filters": self.filters,
            "links": {"self": to.link(&format!("/OS-EP-FILTER/endpoint_groups/{}", self.id))},
        })
    }
}

/// The ids of the endpoints chosen for a project; none when nothing was chosen.
pub async fn chosen(
    identity: &Identity,
    project_id: &str,
    all: &[Endpoint],
) -> Result<Option<HashSet<String>>, db::Error> {
    let single = identity.db.all(select::<Choice>("WHERE project_id = ?").bind(project_id)).await?;
    let groups = groups(identity, project_id).await?;
    let mut chosen: HashSet<String> = single.into_iter().map(|choice| choice.endpoint_id).collect();
    for group in &groups {
        chosen.extend(all.iter().filter(|endpoint| group.holds(endpoint)).map(|endpoint| endpoint.id.clone()));
    }
    Ok((!chosen.is_empty()).then_some(chosen))
}

async fn groups(identity: &Identity, project_id: &str) -> Result<Vec<Group>, db::Error> {
    let join = "JOIN project_endpoint_groups ON project_endpoint_groups.endpoint_group_id = endpoint_groups.id \
                WHERE project_endpoint_groups.project_id = ? ORDER BY endpoint_groups.id";
    identity.db.all(select::<Group>(join).bind(project_id)).await
}

async fn group(call: &Call<Identity>, id: &str) -> Answer<Group> {
    let found = call.db.maybe(select::<Group>("WHERE id = ?").bind(id)).await?;
    found.ok_or_else(|| missing("Endpoint Group", id))
}

async fn of_project(call: Call<Identity>, Path(project_id): Path<String>) -> Answer<Document> {
    let permitted = call.allow()?;
    projects::store::project(&call.db, &project_id).await?;
    let all = call.db.all(select::<Endpoint>("ORDER BY id")).await?;
    let chosen = chosen(&call.service, &project_id, &all).await?.unwrap_or_default();
    let shown = all.iter().filter(|one| chosen.contains(&one.id)).map(|one| one.view(&call.reader)).collect();
    Ok(Document::new(permitted, listed("endpoints", shown, &call.reader)))
}

async fn shown_projects(call: &Call<Identity>, permitted: Permitted<()>, ids: Vec<String>) -> Answer<Document> {
    let rows: Vec<Project> = projects::store::by_ids(&call.db, &ids).await?;
    let shown = Shown::all(&call.db, rows).await?;
    Ok(Document::new(permitted, projects::page(&shown, &call.reader)))
}

async fn projects_of(call: Call<Identity>, Path(id): Path<String>) -> Answer<Document> {
    let permitted = call.allow()?;
    endpoints::endpoint(&call.db, &id).await?;
    let choices = call.db.all(select::<Choice>("WHERE endpoint_id = ?").bind(&id)).await?;
    shown_projects(&call, permitted, choices.into_iter().map(|choice| choice.project_id).collect()).await
}

/// A project and an endpoint, which must both be there.
async fn pair(call: &Call<Identity>, project_id: &str, endpoint_id: &str) -> Answer<Permitted<()>> {
    let permitted = call.allow()?;
    endpoints::endpoint(&call.db, endpoint_id).await?;
    projects::store::project(&call.db, project_id).await?;
    Ok(permitted)
}

async fn add(call: Call<Identity>, Path((project_id, endpoint_id)): Path<(String, String)>) -> Answer<Done> {
    let permitted = pair(&call, &project_id, &endpoint_id).await?;
    let mut tx = call.db.begin().await?;
    let taken = || Refusal::conflict("Conflict occurred attempting to store project_endpoint - Duplicate entry found.");
    tx.insert(&Choice { project_id, endpoint_id }).await.or_conflict(taken)?;
    call.settle(tx).await?;
    Ok(Done::with(permitted))
}

fn not_chosen(endpoint_id: &str, project_id: &str) -> Refusal {
    Refusal::not_found(format!("Endpoint {endpoint_id} not found in project {project_id}"))
}

async fn check(call: Call<Identity>, Path((project_id, endpoint_id)): Path<(String, String)>) -> Answer<Done> {
    let permitted = pair(&call, &project_id, &endpoint_id).await?;
    let row = select::<Choice>("WHERE project_id = ? AND endpoint_id = ?").bind(&project_id).bind(&endpoint_id);
    match call.db.maybe(row).await? {
        Some(_) => Ok(Done::with(permitted)),
        None => Err(not_chosen(&endpoint_id, &project_id)),
    }
}

async fn remove(call: Call<Identity>, Path((project_id, endpoint_id)): Path<(String, String)>) -> Answer<Done> {
    let permitted = call.allow()?;
    let mut tx = call.db.begin().await?;
    let gone = sql("DELETE FROM project_endpoints WHERE project_id = ? AND endpoint_id = ?");
    if tx.run(gone.bind(&project_id).bind(&endpoint_id)).await? == 0 {
        return Err(not_chosen(&endpoint_id, &project_id));
    }
    call.settle(tx).await?;
    Ok(Done::with(permitted))
}

async fn list_groups(call: Call<Identity>, _: NoInput) -> Answer<Listed<Group>> {
    let permitted = call.allow()?;
    let rows = crate::rows(&call, select::<Group>("")).await?;
    Ok(Listed(permitted.each(rows)))
}

/// Only attributes that endpoints have can be asked for.
async fn fits(call: &Call<Identity>, filters: &Json) -> Answer<()> {
    let known = ["service_id", "region_id", "interface", "enabled"];
    let keys = filters.as_object().into_iter().flatten().map(|(key, _)| key);
    if let Some(unknown) = keys.into_iter().find(|key| !known.contains(&key.as_str())) {
        return Err(Refusal::bad_request(format!("Invalid endpoint group filter: {unknown}")));
    }
    if let Some(id) = filters["service_id"].as_str() {
        services::service(&call.db, id).await?;
    }
    match filters["interface"].as_str() {
        Some(interface) if !["public", "internal", "admin"].contains(&interface) => {
            Err(crate::expecting("service_id, region_id, interface or enabled", "endpoint group"))
        }
        _ => Ok(()),
    }
}

async fn create_group(call: Call<Identity>, Body(new): Body<NewGroup>) -> Answer<Created<Group>> {
    let permitted = call.allow()?;
    fits(&call, &new.filters).await?;
    let NewGroup { name, description, filters } = new;
    let group = Group { id: base::id::hex(), name, description, filters };
    call.db.insert(&group).await?;
    Ok(Created(permitted.map(|()| group)))
}

async fn show_group(call: Call<Identity>, Path(id): Path<String>) -> Answer<Show<Group>> {
    let permitted = call.allow()?;
    let group = group(&call, &id).await?;
    Ok(Show(permitted.map(|()| group)))
}

async fn update_group(
    call: Call<Identity>,
    (Path(id), Body(change)): (Path<String>, Body<GroupChange>),
) -> Answer<Show<Group>> {
    let permitted = call.allow()?;
    let mut new = group(&call, &id).await?;
    new.name = change.name.unwrap_or(new.name);
    if let Some(description) = change.description.sent() {
        new.description = description;
    }
    if let Some(filters) = change.filters {
        fits(&call, &filters).await?;
        new.filters = filters;
    }
    let mut tx = call.db.begin().await?;
    let statement = sql("UPDATE endpoint_groups SET name = ?, description = ?, filters = ? WHERE id = ?");
    tx.run(statement.bind(&new.name).bind(&new.description).bind(&new.filters).bind(&id)).await?;
    call.settle(tx).await?;
    Ok(Show(permitted.map(|()| new)))
}

async fn remove_group(call: Call<Identity>, Path(id): Path<String>) -> Answer<Done> {
    let permitted = call.allow()?;
    group(&call, &id).await?;
    let mut tx = call.db.begin().await?;
    tx.run(sql("DELETE FROM project_endpoint_groups WHERE endpoint_group_id = ?").bind(&id)).await?;
    tx.run(sql("DELETE FROM endpoint_groups WHERE id = ?").bind(&id)).await?;
    call.settle(tx).await?;
    Ok(Done::with(permitted))
}

async fn endpoints_of_group(call: Call<Identity>, Path(id): Path<String>) -> Answer<Document> {
    let permitted = call.allow()?;
    let group = group(&call, &id).await?;
    let all = call.db.all(select::<Endpoint>("ORDER BY id")).await?;
    let shown = all.iter().filter(|one| group.holds(one)).map(|one| one.view(&call.reader)).collect();
    Ok(Document::new(permitted, listed("endpoints", shown, &call.reader)))
}

async fn projects_of_group(call: Call<Identity>, Path(id): Path<String>) -> Answer<Document> {
    let permitted = call.allow()?;
    group(&call, &id).await?;
    let choices = call.db.all(select::<GroupChoice>("WHERE endpoint_group_id = ?").bind(&id)).await?;
    shown_projects(&call, permitted, choices.into_iter().map(|choice| choice.project_id).collect()).await
}

async fn groups_of_project(call: Call<Identity>, Path(project_id): Path<String>) -> Answer<Document> {
    let permitted = call.allow()?;
    projects::store::project(&call.db, &project_id).await?;
    let groups = groups(&call.service, &project_id).await?;
    let shown = groups.iter().map(|group| group.view(&call.reader)).collect();
    Ok(Document::new(permitted, listed("endpoint_groups", shown, &call.reader)))
}

async fn add_group(call: Call<Identity>, Path((group_id, project_id)): Path<(String, String)>) -> Answer<Done> {
    let permitted = call.allow()?;
    projects::store::project(&call.db, &project_id).await?;
    group(&call, &group_id).await?;
    let mut tx = call.db.begin().await?;
    tx.insert_new(&GroupChoice { project_id, endpoint_group_id: group_id }).await?;
    call.settle(tx).await?;
    Ok(Done::with(permitted))
}

async fn group_in_project(
    call: Call<Identity>,
    Path((group_id, project_id)): Path<(String, String)>,
) -> Answer<Show<Group>> {
    let permitted = call.allow()?;
    projects::store::project(&call.db, &project_id).await?;
    let group = group(&call, &group_id).await?;
    match groups(&call.service, &project_id).await?.iter().any(|one| one.id == group_id) {
        true => Ok(Show(permitted.map(|()| group))),
        false => Err(Refusal::not_found("Endpoint Group Project Association not found")),
    }
}

async fn take_group(call: Call<Identity>, Path((group_id, project_id)): Path<(String, String)>) -> Answer<Done> {
    let permitted = call.allow()?;
    projects::store::project(&call.db, &project_id).await?;
    group(&call, &group_id).await?;
    let mut tx = call.db.begin().await?;
    let gone = sql("DELETE FROM project_endpoint_groups WHERE endpoint_group_id = ? AND project_id = ?");
    if tx.run(gone.bind(&group_id).bind(&project_id)).await? == 0 {
        return Err(Refusal::not_found("Endpoint Group Project Association not found"));
    }
    call.settle(tx).await?;
    Ok(Done::with(permitted))
}
