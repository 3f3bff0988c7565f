//! Projects, and domains with them, as rows.

use std::collections::HashMap;

use api::{Answer, Refusal};
use base::{Json, json};
use db::{Queries, select, sql};

/// Limit: levels of a tree of projects that we walk; the configured depth is far smaller.
const MAX_DEPTH: usize = 64;

db::record! {
    /// A project; a domain when `is_domain` is set, which then has neither domain nor parent.
    pub struct Project in "projects" {
        pub id: String,
        pub name: String,
        /// Empty for a domain.
        pub domain_id: String,
        pub parent_id: Option<String>,
        pub is_domain: bool,
        pub enabled: bool,
        pub description: Option<String>,
        pub extra: Json,
        pub options: Json,
    }
}

db::record! {
    pub struct Tag in "project_tags" {
        pub project_id: String,
        pub name: String,
    }
}

impl Project {
    pub fn domain(&self) -> Option<&str> {
        Some(self.domain_id.as_str()).filter(|id| !id.is_empty())
    }

    pub fn is_immutable(&self) -> bool {
        self.options["immutable"] == json!(true)
    }

    /// What rules may ask about it.
    pub fn target(&self) -> Json {
        json!({
            "id": self.id,
            "name": self.name,
            "domain_id": self.domain(),
            "parent_id": self.parent_id,
            "is_domain": self.is_domain,
            "enabled": self.enabled,
        })
    }
}

/// A project or a domain.
pub async fn find(mut db: impl Queries, id: &str) -> Result<Option<Project>, db::Error> {
    db.maybe(select::<Project>("WHERE id = ?").bind(id)).await
}

pub async fn find_domain(db: impl Queries, id: &str) -> Result<Option<Project>, db::Error> {
    Ok(find(db, id).await?.filter(|found| found.is_domain))
}

pub async fn domain(db: impl Queries, id: &str) -> Answer<Project> {
    find_domain(db, id).await?.ok_or_else(|| crate::missing("domain", id))
}

pub async fn project(db: impl Queries, id: &str) -> Answer<Project> {
    find(db, id).await?.ok_or_else(|| crate::missing("project", id))
}

/// `domain_id` is empty to look for a domain.
pub async fn by_name(mut db: impl Queries, domain_id: &str, name: &str) -> Result<Option<Project>, db::Error> {
    db.maybe(select::<Project>("WHERE domain_id = ? AND name = ?").bind(domain_id).bind(name)).await
}

pub async fn by_ids(mut db: impl Queries, ids: &[String]) -> Result<Vec<Project>, db::Error> {
    db.all(select::<Project>("ORDER BY id").in_list("id", ids)).await
}

/// The parents, nearest first; the last one is the domain.
pub async fn parents(mut db: impl Queries, project: &Project) -> Result<Vec<Project>, db::Error> {
    let mut parents: Vec<Project> = Vec::new();
    let mut next = project.parent_id.clone();
    while let Some(id) = next.take() {
        let Some(parent) = find(&mut db, &id).await? else { break };
        next.clone_from(&parent.parent_id);
        parents.push(parent);
        if parents.len() >= MAX_DEPTH {
            break;
        }
    }
    Ok(parents)
}

/// All projects below `id`, level by level.
pub async fn subtree(mut db: impl Queries, id: &str) -> Result<Vec<Project>, db::Error> {
    let mut below = Vec::new();
    let mut level = vec![id.to_string()];
    for _ in 0..MAX_DEPTH {
        let children = db.all(select::<Project>("ORDER BY id").in_list("parent_id", &level)).await?;
        if children.is_empty() {
            break;
        }
        level = children.iter().map(|child| child.id.clone()).collect();
        below.extend(children);
    }
    Ok(below)
}

/// The tags of each of `ids`, sorted.
pub async fn tags(mut db: impl Queries, ids: &[String]) -> Result<HashMap<String, Vec<String>>, db::Error> {
    let mut tags: HashMap<String, Vec<String>> = HashMap::new();
    for chunk in ids.chunks(db::MAX_LIST) {
        for tag in db.all(select::<Tag>("ORDER BY project_id, name").in_list("project_id", chunk)).await? {
            tags.entry(tag.project_id).or_default().push(tag.name);
        }
    }
    Ok(tags)
}

/// Replaces all tags of a project.
pub async fn set_tags(mut db: impl Queries, project_id: &str, names: &[String]) -> Result<(), db::Error> {
    db.run(sql("DELETE FROM project_tags WHERE project_id = ?").bind(project_id)).await?;
    let mut sorted: Vec<&String> = names.iter().collect();
    sorted.sort_unstable();
    sorted.dedup();
    let tag = |name: &String| Tag { project_id: project_id.to_string(), name: name.clone() };
    let tags: Vec<Tag> = sorted.into_iter().map(tag).collect();
    db.insert_all(&tags).await
}

pub async fn update(mut db: impl Queries, project: &Project) -> Result<(), db::Error> {
    let statement =
        sql("UPDATE projects SET name = ?, enabled = ?, description = ?, extra = ?, options = ? WHERE id = ?");
    let statement = statement.bind(&project.name).bind(project.enabled).bind(&project.description);
    db.run(statement.bind(&project.extra).bind(&project.options).bind(&project.id)).await?;
    Ok(())
}

/// The words for a name that is taken.
pub fn name_taken(project: &Project) -> Refusal {
    let why = match project.is_domain {
        true => {
            format!("it is not permitted to have two projects acting as domains with the same name: {}", project.name)
        }
        false => format!(
            "it is not permitted to have two projects with either the same name or same id in the same domain: \
             name is {}, project id {}",
            project.name, project.id
        ),
    };
    Refusal::conflict(format!("Conflict occurred attempting to store project - {why}."))
}
