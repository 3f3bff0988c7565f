//! Changing a project, or a domain.

use api::wire::{Maybe, flag, list, nested, text};
use api::{Answer, Body, Call, OrConflict, Path, Refusal, Show, wire};
use db::Tx;

use super::create::Options;
use super::store::{self, Project};
use super::{Shown, tags};
use crate::{Identity, revocations};

wire! {
    /// What a client sends to change a project. Unknown keys are kept.
    pub struct ProjectChange in "project" open {
        id: Option<String> = text(0, 255),
        name: Option<String> = text(1, 64).matching(r"[\S]+"),
        description: Maybe<String> = text(0, 65535).nullable(),
        domain_id: Maybe<String> = text(0, 255).nullable(),
        parent_id: Maybe<String> = text(0, 255).nullable(),
        enabled: Option<bool> = flag().loose(),
        is_domain: Option<bool> = flag().loose(),
        tags: Option<Vec<String>> = list(tags::tag_rule()).items(0, tags::TAGS).unique(),
        options: Option<Options> = nested::<Options>(),
    }
}

pub(super) async fn update(
    call: Call<Identity>,
    (Path(id), Body(change)): (Path<String>, Body<ProjectChange>),
) -> Answer<Show<Shown>> {
    let permitted = super::permitted(&call, &id).await?;
    let (permitted, old) = (call.allow_on(&super::target(Some(&permitted)))?, permitted.into_inner());
    let shown = apply(&call, old, change).await?;
    Ok(Show(permitted.map(|()| Shown { changed: true, ..shown })))
}

/// Makes the change, with what it means for tokens.
pub async fn apply(call: &Call<Identity>, old: Project, change: ProjectChange) -> Answer<Shown> {
    keeps_its_place(&old, &change)?;
    let mut new = old.clone();
    if let Some(name) = &change.name {
        new.name = name.trim().to_string();
    }
    if let Some(description) = change.description.clone().sent() {
        new.description = description;
    }
    new.enabled = change.enabled.unwrap_or(old.enabled);
    new.options = change.options.as_ref().map_or(old.options.clone(), |options| options.over(&old.options));
    crate::merge(&mut new.extra, change.rest.clone());

    let mut tx = call.db.begin().await?;
    toggles(&mut tx, &old, &new).await?;
    store::update(&mut tx, &new).await.or_conflict(|| store::name_taken(&new))?;
    if let Some(names) = &change.tags {
        store::set_tags(&mut tx, &new.id, names).await?;
    }
    call.settle(tx).await?;
    Ok(Shown::one(&call.db, new).await?)
}

fn keeps_its_place(old: &Project, change: &ProjectChange) -> Answer<()> {
    if change.id.as_ref().is_some_and(|id| *id != old.id) {
        return Err(Refusal::bad_request("Cannot change ID"));
    }
    if change.domain_id.clone().sent().is_some_and(|id| id.unwrap_or_default() != old.domain_id) {
        return Err(Refusal::bad_request("Cannot change Domain ID"));
    }
    let kind = if old.is_domain { "domain" } else { "project" };
    let unlocks = change.options.as_ref().is_some_and(|options| !options.immutable.is_absent());
    let touched = change.name.is_some()
        || !change.description.is_absent()
        || change.enabled.is_some()
        || change.tags.is_some()
        || !change.rest.is_empty();
    if old.is_immutable() && (touched || !unlocks) {
        return Err(immutable("update", kind, &old.id));
    }
    if change.parent_id.clone().sent().is_some_and(|id| id != old.parent_id) {
        return Err(Refusal::forbidden("Update of `parent_id` is not allowed."));
    }
    if change.is_domain.is_some_and(|is_domain| is_domain != old.is_domain) {
        return Err(Refusal::bad_request("Update of `is_domain` is not allowed."));
    }
    Ok(())
}

/// The words for something that was declared immutable.
pub fn immutable(verb: &str, kind: &str, id: &str) -> Refusal {
    Refusal::forbidden(format!(
        "Unable to {verb} immutable {kind} resource: `{id}. Set resource option \"immutable\" to false first."
    ))
}

/// Switching a project on or off.
async fn toggles(tx: &mut Tx, old: &Project, new: &Project) -> Answer<()> {
    if !old.enabled && new.enabled {
        let parents = store::parents(&mut *tx, old).await?;
        if parents.iter().any(|parent| !parent.enabled) {
            let id = &old.id;
            return Err(Refusal::forbidden(format!("Cannot enable project {id} since it has disabled parents")));
        }
    }
    if old.enabled && !new.enabled {
        let below = store::subtree(&mut *tx, &old.id).await?;
        if !old.is_domain && below.iter().any(|project| project.enabled) {
            return Err(Refusal::forbidden(format!(
                "Cannot disable project {} since its subtree contains enabled projects.",
                old.id
            )));
        }
        match old.is_domain {
            true => revocations::of_domain(tx, &old.id).await?,
            false => revocations::of_project(tx, &old.id).await?,
        }
    }
    Ok(())
}
