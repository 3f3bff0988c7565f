//! Role assignments: who has which role on what, as one list.

pub mod effective;
pub mod store;

use std::collections::HashMap;

use api::view::listed;
use api::{Answer, Call, Document, NoInput, Operation, Permitted, Query, Reader, Refusal, get};
use base::{Json, json};
use db::Queries;

use crate::projects::{Project, store as projects};
use crate::{Identity, asks, groups, roles, users};
pub use effective::{Actor, Line};
use effective::{Wanted, lines};
use store::Filter;
pub use store::{Assignment, SYSTEM};

pub fn operations() -> Vec<Operation<Identity>> {
    vec![get("/role_assignments", list).rule("identity:list_role_assignments")]
}

/// The ids of the projects that somebody has a role on.
pub async fn projects_of_user(db: impl Queries, user_id: &str) -> Result<Vec<String>, db::Error> {
    effective::targets(db, user_id, "project").await
}

/// The ids of the domains that somebody has a role on.
pub async fn domains_of_user(db: impl Queries, user_id: &str) -> Result<Vec<String>, db::Error> {
    effective::targets(db, user_id, "domain").await
}

/// What a client asks for.
struct Asked<'a> {
    role_id: Option<&'a str>,
    user_id: Option<&'a str>,
    group_id: Option<&'a str>,
    domain_id: Option<&'a str>,
    project_id: Option<&'a str>,
    system: bool,
    inherited: Option<bool>,
    effective: bool,
    subtree: bool,
    names: bool,
}

impl Asked<'_> {
    fn read(query: &Query) -> Answer<Asked<'_>> {
        let given = |name| query.get(name).filter(|value| !value.is_empty());
        let inherited = query.get("scope.OS-INHERIT:inherited_to");
        let asked = Asked {
            role_id: given("role.id"),
            user_id: given("user.id"),
            group_id: given("group.id"),
            domain_id: given("scope.domain.id"),
            project_id: given("scope.project.id"),
            system: given("scope.system").is_some(),
            inherited: inherited.map(|to| to == "projects"),
            effective: asks(query, "effective"),
            subtree: asks(query, "include_subtree"),
            names: asks(query, "include_names"),
        };
        let complaint = [
            (asked.domain_id.is_some() && asked.project_id.is_some(), "Specify a domain or project, not both"),
            (asked.domain_id.is_some() && asked.system, "Specify system or domain, not both"),
            (asked.project_id.is_some() && asked.system, "Specify system or project, not both"),
            (asked.user_id.is_some() && asked.group_id.is_some(), "Specify a user or group, not both"),
            (
                asked.effective && asked.group_id.is_some(),
                "Combining effective and group filter will always result in an empty list.",
            ),
            (
                asked.effective && asked.inherited == Some(true) && asked.domain_id.is_some(),
                "Combining effective, domain and inherited filters will always result in an empty list.",
            ),
        ];
        match complaint.into_iter().find(|(wrong, _)| *wrong) {
            Some((_, words)) => Err(Refusal::bad_request(words)),
            None => Ok(asked),
        }
    }
}

async fn list(call: Call<Identity>, _: NoInput) -> Answer<Document> {
    let permitted = permit(&call).await?;
    let asked = Asked::read(&call.query)?;
    let mut found = find(&call, &asked).await?;
    if let Some(own) = call.caller.domain_id.as_deref().filter(|_| !asked.subtree) {
        found = of_domain(&call, found, own).await?;
    }
    let names = Names::of(&call, if asked.names { &found } else { &[] }).await?;
    let shown: Vec<Json> = found.iter().map(|line| show(line, asked.names.then_some(&names), &call.reader)).collect();
    Ok(Document::new(permitted, listed("role_assignments", shown, &call.reader)))
}

/// Upstream: the list with a subtree is another rule, asked about the project's domain.
async fn permit(call: &Call<Identity>) -> Answer<Permitted<()>> {
    if !asks(&call.query, "include_subtree") {
        return call.allow_on(&json!({"target": {"domain_id": call.caller.domain_id}}));
    }
    let project = match call.query.get("scope.project.id") {
        Some(id) => Some(projects::project(&call.db, id).await?),
        None => None,
    };
    let target = match &project {
        Some(project) => json!({"target": {"project": project.target(), "domain_id": project.domain()}}),
        None => json!({}),
    };
    let permitted = call.allow_by("identity:list_role_assignments_for_tree", &target)?;
    match project {
        Some(_) => Ok(permitted),
        None => Err(Refusal::bad_request("scope.project.id must be specified if include_subtree is also specified")),
    }
}

async fn find(call: &Call<Identity>, asked: &Asked<'_>) -> Answer<Vec<Line>> {
    let subtree = match asked.project_id.filter(|_| asked.subtree) {
        Some(id) => Some(projects::subtree(&call.db, id).await?.into_iter().map(|one| one.id).collect::<Vec<_>>()),
        None => None,
    };
    if asked.effective {
        let project = match asked.project_id {
            Some(id) => Some(projects::project(&call.db, id).await?),
            None => None,
        };
        let wanted = Wanted {
            role_id: asked.role_id,
            user_id: asked.user_id,
            domain_id: asked.domain_id,
            project: project.as_ref(),
            subtree: subtree.as_deref(),
            inherited: asked.inherited,
        };
        return Ok(lines(&call.db, &wanted).await?);
    }
    let project_ids = asked.project_id.map(|id| {
        let mut ids = subtree.unwrap_or_default();
        ids.push(id.to_string());
        ids
    });
    let group_ids = asked.group_id.map(|id| vec![id.to_string()]);
    let filter = Filter {
        role_id: asked.role_id,
        user_id: asked.user_id,
        group_ids: group_ids.as_deref(),
        domain_id: asked.domain_id,
        project_ids: project_ids.as_deref(),
        system: asked.system.then_some(true),
        inherited: asked.inherited,
    };
    Ok(store::list(&call.db, &filter).await?.into_iter().map(Line::from).collect())
}

/// Those on a domain and its projects.
async fn of_domain(call: &Call<Identity>, lines: Vec<Line>, domain_id: &str) -> Answer<Vec<Line>> {
    let ids: Vec<String> = lines.iter().map(|line| line.target_id.clone()).collect();
    let projects = projects::by_ids(&call.db, &ids).await?;
    let inside = |line: &Line| match line.target_kind.as_str() {
        "domain" => line.target_id == domain_id,
        "project" => projects.iter().any(|project| project.id == line.target_id && project.domain_id == domain_id),
        _ => false,
    };
    Ok(lines.into_iter().filter(inside).collect())
}

/// Name and domain of everything that some lines mention.
#[derive(Default)]
struct Names(HashMap<String, (String, String)>);

impl Names {
    async fn of(call: &Call<Identity>, lines: &[Line]) -> Answer<Names> {
        let mut names = Names::default();
        if lines.is_empty() {
            return Ok(names);
        }
        let ids = |kind: &str| -> Vec<String> {
            let actors = lines.iter().filter(|line| line.actor_kind == kind).map(|line| line.actor_id.clone());
            let targets = lines.iter().filter(|line| line.target_kind == kind).map(|line| line.target_id.clone());
            let mut ids: Vec<String> = actors.chain(targets).collect();
            ids.sort_unstable();
            ids.dedup();
            ids
        };
        let mut add = |id: String, name: String, domain: String| names.0.insert(id, (name, domain));
        for user in users::store::by_ids(&call.db, &ids("user")).await? {
            add(user.id, user.name, user.domain_id);
        }
        for group in groups::store::by_ids(&call.db, &ids("group")).await? {
            add(group.id, group.name, group.domain_id);
        }
        for project in projects::by_ids(&call.db, &[ids("project"), ids("domain")].concat()).await? {
            add(project.id, project.name, project.domain_id);
        }
        for (id, role) in roles::store::all(&call.db).await? {
            add(id, role.name, role.domain_id);
        }
        for domain in call.db.all(db::select::<Project>("WHERE is_domain = 1")).await? {
            names.0.insert(domain.id, (domain.name, domain.domain_id));
        }
        Ok(names)
    }

    /// Upstream: what is gone, but still named, is shown with empty names.
    fn full(&self, id: &str) -> Json {
        let nothing = (String::new(), String::new());
        let (name, domain) = self.0.get(id).unwrap_or(&nothing);
        if domain.is_empty() {
            return json!({"id": id, "name": name});
        }
        let domain_name = self.0.get(domain).map(|(name, _)| name.as_str()).unwrap_or_default();
        json!({"id": id, "name": name, "domain": {"id": domain, "name": domain_name}})
    }
}

fn show(line: &Line, names: Option<&Names>, to: &Reader) -> Json {
    let named = |id: &str| names.map_or(json!({"id": id}), |names| names.full(id));
    let (mut scope, mut link) = match line.target_kind.as_str() {
        SYSTEM => (json!({"system": {"all": true}}), "/system".to_string()),
        kind => (json!({kind: named(&line.target_id)}), format!("/{kind}s/{}", line.target_id)),
    };
    let mut inherited = line.inherited;
    if let Some((kind, id)) = &line.origin.target {
        link = format!("/{kind}s/{id}");
        inherited = true;
    }
    if inherited {
        scope["OS-INHERIT:inherited_to"] = json!("projects");
    }
    let mut links = json!({});
    match &line.origin.group_id {
        Some(group) => {
            links["membership"] = json!(to.link(&format!("/groups/{group}/users/{}", line.actor_id)));
            link += &format!("/groups/{group}");
        }
        None => link += &format!("/{}s/{}", line.actor_kind, line.actor_id),
    }
    match &line.origin.role_id {
        Some(prior) => {
            link += &format!("/roles/{prior}");
            // Upstream: the words «prior» and «implies» are the wrong way round.
            links["prior_role"] = json!(to.link(&format!("/prior_role/{}/implies/{prior}", line.role_id)));
        }
        None => link += &format!("/roles/{}", line.role_id),
    }
    let link = if inherited { format!("/OS-INHERIT{link}/inherited_to_projects") } else { link };
    links["assignment"] = json!(to.link(&link));
    json!({"links": links, "scope": scope, line.actor_kind.as_str(): named(&line.actor_id), "role": named(&line.role_id)})
}
