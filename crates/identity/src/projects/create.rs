//! A new project, or a new domain.

use api::wire::{Maybe, flag, list, nested, text};
use api::{Answer, Body, Call, Created, Json, OrConflict, Refusal, wire};
use base::json;

use super::store::{self, Project};
use super::{Shown, tags};
use crate::Identity;

wire! {
    /// What a client sends for a new project. Unknown keys are kept.
    pub struct NewProject in "project" open {
        name: String = text(1, 64).matching(r"[\S]+").required(),
        description: Option<String> = text(0, 65535).nullable(),
        domain_id: Option<String> = text(1, 64).matching("^[a-zA-Z0-9-]+$").nullable(),
        enabled: Option<bool> = flag().loose(),
        is_domain: Option<bool> = flag().loose(),
        parent_id: Option<String> = text(1, 64).matching("^[a-zA-Z0-9-]+$").nullable(),
        tags: Option<Vec<String>> = list(tags::tag_rule()).items(0, tags::TAGS).unique(),
        options: Option<Options> = nested::<Options>(),
    }
}

wire! {
    /// What can be set about projects, domains and roles beside their attributes; null unsets.
    pub struct Options {
        immutable: Maybe<bool> = flag().nullable(),
    }
}

impl Options {
    /// `old` with the changes.
    pub fn over(&self, old: &Json) -> Json {
        let mut options = old.clone();
        match self.immutable {
            Maybe::Absent => {}
            Maybe::Value(immutable) => options["immutable"] = json!(immutable),
            Maybe::Null => {
                options.as_object_mut().map(|map| map.remove("immutable"));
            }
        }
        options
    }
}

pub(super) async fn create(call: Call<Identity>, Body(new): Body<NewProject>) -> Answer<Created<Shown>> {
    let permitted = call.allow_on(&json!({"target": {"project": {
        "name": new.name, "domain_id": new.domain_id, "parent_id": new.parent_id,
    }}}))?;
    let (tags, wanted) = (new.tags.clone().unwrap_or_default(), new.is_domain.unwrap_or(false));
    let domain_id =
        if wanted { new.domain_id.clone() } else { Some(crate::domain_of(&call, new.domain_id.as_deref())) };
    let project = Project {
        id: base::id::hex(),
        name: new.name.trim().to_string(),
        parent_id: new.parent_id.filter(|id| !id.is_empty()).or_else(|| domain_id.clone()),
        domain_id: domain_id.unwrap_or_default(),
        is_domain: wanted,
        enabled: new.enabled.unwrap_or(true),
        description: Some(new.description.unwrap_or_default()),
        extra: crate::extra(new.rest),
        options: new.options.map_or(json!({}), |options| options.over(&json!({}))),
    };
    insert(&call, &project, &tags).await?;
    let shown = Shown { tags, ..Shown::plain(project) };
    Ok(Created(permitted.map(|()| shown)))
}

/// Checks the place of a new project in its tree, and stores it.
pub async fn insert(call: &Call<Identity>, project: &Project, tags: &[String]) -> Answer<()> {
    match project.is_domain {
        true if project.parent_id.is_some() => {
            return Err(Refusal::bad_request("only root projects are allowed to act as domains."));
        }
        true => not_federated(&project.id, &project.name)?,
        false => fits_its_tree(call, project).await?,
    }
    let mut tx = call.db.begin().await?;
    tx.insert(project).await.or_conflict(|| store::name_taken(project))?;
    store::set_tags(&mut tx, &project.id, tags).await?;
    tx.commit().await?;
    Ok(())
}

/// Upstream: one name is kept for users who come from elsewhere.
pub fn not_federated(id: &str, name: &str) -> Answer<()> {
    if name.eq_ignore_ascii_case("federated") {
        return Err(Refusal::bad_request(format!("Domain cannot be named {name}")));
    }
    if id.eq_ignore_ascii_case("federated") {
        return Err(Refusal::bad_request(format!("Domain cannot have ID {id}")));
    }
    Ok(())
}

async fn fits_its_tree(call: &Call<Identity>, project: &Project) -> Answer<()> {
    let bad = |refusal: Refusal| Refusal::bad_request(refusal.message);
    let domain = store::domain(&call.db, &project.domain_id).await.map_err(bad)?;
    let parent_id = project.parent_id.as_deref().unwrap_or_default();
    let parent = store::project(&call.db, parent_id).await.map_err(bad)?;
    if parent.is_domain && parent.id != domain.id {
        return Err(Refusal::bad_request(format!(
            "Cannot create project, the parent ({}) is acting as a domain, but this project's domain id ({}) does \
             not match the parent's id.",
            parent.id, domain.id
        )));
    }
    if !parent.is_domain && parent.domain_id != domain.id {
        return Err(Refusal::bad_request(format!(
            "Cannot create project, since it specifies its domain_id {}, but specifies a parent in a different \
             domain ({}).",
            domain.id, parent.domain_id
        )));
    }
    let mut line = store::parents(&call.db, &parent).await?;
    line.push(parent);
    if let Some(disabled) = line.iter().find(|above| !above.enabled) {
        return Err(Refusal::bad_request(format!(
            "cannot create a project in a branch containing a disabled project: {}",
            disabled.id
        )));
    }
    match line.len() > call.settings.max_project_tree_depth {
        true => Err(Refusal::forbidden(format!("Max hierarchy depth reached for {parent_id} branch."))),
        false => Ok(()),
    }
}
