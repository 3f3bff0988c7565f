//! Projects: what resources belong to; they form trees below domains.

pub mod create;
pub mod remove;
pub mod store;
pub mod tags;
mod tree;
pub mod update;

use api::listing::{flag, text};
use api::view::listed;
use api::{
    Answer, Call, Document, JsonMap, Listing, NoInput, Operation, Path, Permitted, Query, Reader, Show, View, delete,
    get, patch, post, put,
};
use base::{Json, json};
use db::{Queries, Select, Value, select};

use crate::{Identity, asks};
pub use store::Project;

const PROJECTS: Listing = Listing {
    sort: &["name", "id"],
    filter: &[text("domain_id"), flag("enabled"), text("name"), text("parent_id"), flag("is_domain")],
    ..Listing::PLAIN
};

pub fn operations() -> Vec<Operation<Identity>> {
    vec![
        get("/projects", list).rule("identity:list_projects").paged(&PROJECTS),
        post("/projects", create::create).rule("identity:create_project"),
        get("/projects/{project_id}", show).rule("identity:get_project"),
        patch("/projects/{project_id}", update::update).rule("identity:update_project"),
        delete("/projects/{project_id}", remove::remove).rule("identity:delete_project"),
        get("/projects/{project_id}/tags", tags::list).rule("identity:list_project_tags"),
        put("/projects/{project_id}/tags", tags::replace).rule("identity:update_project_tags"),
        delete("/projects/{project_id}/tags", tags::clear).rule("identity:delete_project_tags"),
        get("/projects/{project_id}/tags/{value}", tags::check).rule("identity:get_project_tag"),
        put("/projects/{project_id}/tags/{value}", tags::add).rule("identity:create_project_tag"),
        delete("/projects/{project_id}/tags/{value}", tags::remove).rule("identity:delete_project_tag"),
    ]
}

/// A project as clients see it.
pub struct Shown {
    pub project: Project,
    pub tags: Vec<String>,
    /// Upstream: the answer to a change repeats the free attributes under `extra`.
    pub changed: bool,
    /// `parents` and `subtree`.
    pub more: JsonMap,
}

impl Shown {
    pub fn plain(project: Project) -> Shown {
        Shown { project, tags: Vec::new(), changed: false, more: JsonMap::new() }
    }

    /// Adds the tags of each.
    pub async fn all(db: impl Queries, projects: Vec<Project>) -> Result<Vec<Shown>, db::Error> {
        let ids: Vec<String> = projects.iter().map(|project| project.id.clone()).collect();
        let mut tags = store::tags(db, &ids).await?;
        let shown = |project: Project| {
            let tags = tags.remove(&project.id).unwrap_or_default();
            Shown { tags, ..Shown::plain(project) }
        };
        Ok(projects.into_iter().map(shown).collect())
    }

    pub async fn one(db: impl Queries, project: Project) -> Result<Shown, db::Error> {
        let tags = store::tags(db, std::slice::from_ref(&project.id)).await?.remove(&project.id);
        Ok(Shown { tags: tags.unwrap_or_default(), ..Shown::plain(project) })
    }
}

impl View for Shown {
    const ONE: &'static str = "project";
    const MANY: &'static str = "projects";

    fn view(&self, to: &Reader) -> Json {
        let Shown { project, tags, changed, more } = self;
        let mut view = project.extra.clone();
        view["id"] = json!(project.id);
        view["name"] = json!(project.name);
        view["domain_id"] = json!(project.domain());
        view["description"] = json!(project.description);
        view["enabled"] = json!(project.enabled);
        view["parent_id"] = json!(project.parent_id);
        view["is_domain"] = json!(project.is_domain);
        view["tags"] = json!(tags);
        view["options"] = project.options.clone();
        view["links"] = json!({"self": to.link(&format!("/projects/{}", project.id))});
        if *changed {
            view["extra"] = project.extra.clone();
        }
        for (key, value) in more {
            view[key] = value.clone();
        }
        view
    }
}

/// What rules see of a project that may not exist.
pub fn target(project: Option<&Project>) -> Json {
    match project {
        Some(project) => json!({"target": {"project": project.target()}}),
        None => json!({}),
    }
}

async fn list(call: Call<Identity>, _: NoInput) -> Answer<Document> {
    let permitted = call.allow_on(&json!({"target": {"domain_id": call.caller.domain_id}}))?;
    let mut select = select::<Project>("");
    if !call.query.has("is_domain") {
        select = select.and("is_domain = 0");
    }
    if let Some(domain_id) = &call.caller.domain_id {
        select = select.and("domain_id = ?").bind(domain_id);
    }
    let select = with_tags(select, &call.query);
    let rows = crate::rows(&call, select).await?;
    let shown = Shown::all(&call.db, rows).await?;
    Ok(Document::new(permitted, page(&shown, &call.reader)))
}

/// The body of a list of projects.
pub fn page(shown: &[Shown], to: &Reader) -> Json {
    listed(Shown::MANY, shown.iter().map(|one| one.view(to)).collect(), to)
}

/// Upstream: `tags` wants all of them, `tags-any` one of them; `not-` turns either around.
fn with_tags(mut select: Select<Project>, query: &Query) -> Select<Project> {
    const TAGGED: &str = "SELECT COUNT(*) FROM project_tags WHERE project_id = projects.id AND name IN (?)";
    let wanted =
        [("tags", "= ?", true), ("tags-any", "> ?", false), ("not-tags", "< ?", true), ("not-tags-any", "= ?", false)];
    for (name, compare, all) in wanted {
        let Some(text) = query.get(name) else { continue };
        let mut tags: Vec<&str> = text.split(',').filter(|tag| !tag.is_empty()).collect();
        tags.sort_unstable();
        tags.dedup();
        let count = if all { tags.len() as i64 } else { 0 };
        let tags: Vec<Value> = tags.into_iter().map(|tag| Value::Text(tag.to_string())).collect();
        select = select.and(format!("({TAGGED}) {compare}")).bind_list(tags).bind(count);
    }
    select
}

async fn show(call: Call<Identity>, Path(id): Path<String>) -> Answer<Show<Shown>> {
    let found = store::find(&call.db, &id).await?;
    let permitted = call.allow_on(&target(found.as_ref()))?;
    let project = found.ok_or_else(|| crate::missing("project", &id))?;
    let mut shown = Shown::one(&call.db, project).await?;
    tree::expand(&call, &mut shown).await?;
    Ok(Show(permitted.map(|()| shown)))
}

/// Finds a project and asks the operation's rule about it.
async fn permitted(call: &Call<Identity>, id: &str) -> Answer<Permitted<Project>> {
    let found = store::find(&call.db, id).await?;
    let permitted = call.allow_on(&target(found.as_ref()))?;
    let project = found.ok_or_else(|| crate::missing("project", id))?;
    Ok(permitted.map(|()| project))
}

/// Whether the client asks for a way of showing projects that takes more work.
fn wants(call: &Call<Identity>, name: &str) -> bool {
    asks(&call.query, name)
}
