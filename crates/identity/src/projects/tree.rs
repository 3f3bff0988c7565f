//! `parents_as_list`, `subtree_as_ids` and their kin: a project with its relatives.

use std::collections::{HashMap, HashSet};

use api::{Answer, Call, JsonMap, Refusal, View};
use base::{Json, json};

use super::store::{self, Project};
use super::{Shown, wants};
use crate::{Identity, assignments};

pub(super) async fn expand(call: &Call<Identity>, shown: &mut Shown) -> Answer<()> {
    for kin in ["parents", "subtree"] {
        let (as_list, as_ids) = (format!("{kin}_as_list"), format!("{kin}_as_ids"));
        if wants(call, &as_list) && wants(call, &as_ids) {
            return Err(Refusal::bad_request(format!(
                "Cannot use {as_list} and {as_ids} query params at the same time."
            )));
        }
    }
    if wants(call, "parents_as_list") {
        let parents = store::parents(&call.db, &shown.project).await?;
        shown.more.insert("parents".into(), of_caller(call, parents).await?);
    } else if wants(call, "parents_as_ids") {
        let parents = store::parents(&call.db, &shown.project).await?;
        let nested = parents.iter().rev().fold(Json::Null, |inner, parent| json!({&*parent.id: inner}));
        shown.more.insert("parents".into(), nested);
    }
    if wants(call, "subtree_as_list") {
        let subtree = store::subtree(&call.db, &shown.project.id).await?;
        shown.more.insert("subtree".into(), of_caller(call, subtree).await?);
    } else if wants(call, "subtree_as_ids") {
        let subtree = store::subtree(&call.db, &shown.project.id).await?;
        shown.more.insert("subtree".into(), nested_ids(&shown.project.id, &subtree));
    }
    Ok(())
}

/// Those that the caller has a role on, each in its envelope.
async fn of_caller(call: &Call<Identity>, projects: Vec<Project>) -> Answer<Json> {
    let own = assignments::projects_of_user(&call.db, &call.caller.user_id).await?;
    let own: HashSet<String> = own.into_iter().collect();
    let mine = projects.into_iter().filter(|project| own.contains(&project.id)).collect();
    let shown = Shown::all(&call.db, mine).await?;
    Ok(shown.iter().map(|one| json!({"project": one.view(&call.reader)})).collect())
}

fn nested_ids(id: &str, subtree: &[Project]) -> Json {
    let mut children: HashMap<&str, Vec<&str>> = HashMap::new();
    for project in subtree {
        children.entry(project.parent_id.as_deref().unwrap_or_default()).or_default().push(&project.id);
    }
    below(id, &children)
}

/// Ends, because the rows of a subtree were found level by level.
fn below(id: &str, children: &HashMap<&str, Vec<&str>>) -> Json {
    match children.get(id) {
        None => Json::Null,
        Some(ids) => {
            let nested = ids.iter().map(|child| (child.to_string(), below(child, children)));
            Json::Object(nested.collect::<JsonMap>())
        }
    }
}
