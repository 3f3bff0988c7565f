//! Which roles somebody really has: through groups, from above, and by implication.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use db::{Queries, select};

use super::store::{self, Assignment, Filter};
use crate::groups::store as groups;
use crate::projects::{Project, store as projects};
use crate::roles::{Role, store as roles};
use crate::tokens::Scope;

/// Whose roles.
#[derive(Debug, Clone, Copy)]
pub enum Actor<'a> {
    User(&'a str),
}

/// The roles of a scope, sorted by name. Roles of domains only imply others; they are not shown to services.
pub async fn roles(db: impl Queries, Actor::User(user_id): Actor<'_>, scope: &Scope) -> Result<Vec<Role>, db::Error> {
    let all = all_roles(db, user_id, scope).await?;
    Ok(all.into_iter().filter(|role| role.domain().is_none()).collect())
}

/// The same with the roles of domains.
pub async fn all_roles(mut db: impl Queries, user_id: &str, scope: &Scope) -> Result<Vec<Role>, db::Error> {
    let direct = direct(&mut db, user_id, scope).await?;
    if direct.is_empty() {
        return Ok(Vec::new());
    }
    with_implied(&mut db, direct).await
}

/// Roles and all that they imply, sorted by name.
pub async fn with_implied(db: &mut impl Queries, ids: Vec<String>) -> Result<Vec<Role>, db::Error> {
    let ids = roles::closure(ids, &roles::implications(&mut *db).await?);
    let ids: Vec<String> = ids.into_iter().collect();
    let mut roles = roles::by_ids(&mut *db, &ids).await?;
    roles.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    Ok(roles)
}

async fn direct(db: &mut impl Queries, user_id: &str, scope: &Scope) -> Result<Vec<String>, db::Error> {
    let mut actors = groups::of_user(&mut *db, user_id).await?;
    actors.push(user_id.to_string());
    let select = select::<Assignment>("").in_list("actor_id", &actors);
    let select = match scope {
        Scope::Unscoped => return Ok(Vec::new()),
        Scope::System => select.and("target_kind = 'system'"),
        Scope::Domain(id) => select.and("target_kind = 'domain' AND target_id = ? AND inherited = 0").bind(id),
        Scope::Project(id) => {
            let Some(project) = projects::find(&mut *db, id).await? else { return Ok(Vec::new()) };
            let above: Vec<String> =
                projects::parents(&mut *db, &project).await?.into_iter().map(|one| one.id).collect();
            // An empty list would match nothing, so the project stands for the parents that a domain does not have.
            let above = if above.is_empty() { vec![id.clone()] } else { above };
            select
                .and("(target_kind = 'project' AND target_id = ? AND inherited = 0) OR (inherited = 1 AND target_id IN (?))")
                .bind(id)
                .bind_list(above)
        }
    };
    Ok(db.all(select).await?.into_iter().map(|row| row.role_id).collect())
}

/// Where a grant that was expanded comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Origin {
    pub group_id: Option<String>,
    /// The project or domain that it was granted on.
    pub target: Option<(String, String)>,
    /// The role that implies it.
    pub role_id: Option<String>,
}

/// One line of `role_assignments`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Line {
    pub actor_kind: String,
    pub actor_id: String,
    pub target_kind: String,
    pub target_id: String,
    pub role_id: String,
    pub inherited: bool,
    pub origin: Origin,
}

impl From<Assignment> for Line {
    fn from(row: Assignment) -> Line {
        let Assignment { actor_kind, actor_id, target_kind, target_id, role_id, inherited } = row;
        Line { actor_kind, actor_id, target_kind, target_id, role_id, inherited, origin: Origin::default() }
    }
}

/// What a list of effective grants is about.
#[derive(Debug, Clone, Default)]
pub struct Wanted<'a> {
    pub role_id: Option<&'a str>,
    pub user_id: Option<&'a str>,
    pub domain_id: Option<&'a str>,
    pub project: Option<&'a Project>,
    /// Also the projects below `project`.
    pub subtree: Option<&'a [String]>,
    pub inherited: Option<bool>,
}

/// The grants that count, with groups, inheritance and implications expanded.
pub async fn lines(mut db: impl Queries, wanted: &Wanted<'_>) -> Result<Vec<Line>, db::Error> {
    let groups = match wanted.user_id {
        Some(user_id) => Some(groups::of_user(&mut db, user_id).await?),
        None => None,
    };
    let mut rows = candidates(&mut db, wanted, wanted.user_id, None).await?;
    if let Some(groups) = groups.filter(|groups| !groups.is_empty()) {
        rows.extend(candidates(&mut db, wanted, None, Some(&groups)).await?);
    }
    let mut lines = Vec::new();
    let mut members = HashMap::new();
    for row in rows {
        for line in below(&mut db, wanted, row.into()).await? {
            lines.extend(people(&mut db, wanted, &mut members, line).await?);
        }
    }
    implied(&mut db, lines, wanted).await
}

/// The rows that could matter.
async fn candidates(
    db: &mut impl Queries,
    wanted: &Wanted<'_>,
    user_id: Option<&str>,
    group_ids: Option<&[String]>,
) -> Result<Vec<Assignment>, db::Error> {
    let of = Filter { user_id, group_ids, system: Some(false), ..Filter::default() };
    let mut own: Option<Vec<String>> = wanted.project.map(|project| vec![project.id.clone()]);
    if let (Some(own), Some(subtree)) = (&mut own, wanted.subtree) {
        own.extend_from_slice(subtree);
    }
    let mut rows = Vec::new();
    // Domains inherit from nobody.
    let inherited = if wanted.domain_id.is_some() { Some(false) } else { wanted.inherited };
    if inherited != Some(true) {
        let plain =
            Filter { domain_id: wanted.domain_id, project_ids: own.as_deref(), inherited: Some(false), ..of.clone() };
        rows.extend(store::list(&mut *db, &plain).await?);
    }
    if inherited == Some(false) {
        return Ok(rows);
    }
    let Some(project) = wanted.project else {
        rows.extend(store::list(&mut *db, &Filter { inherited: Some(true), ..of }).await?);
        return Ok(rows);
    };
    let from_domain = Filter { domain_id: project.domain(), inherited: Some(true), ..of.clone() };
    rows.extend(store::list(&mut *db, &from_domain).await?);
    let mut above: Vec<String> = projects::parents(&mut *db, project).await?.into_iter().map(|one| one.id).collect();
    if wanted.subtree.is_some() {
        above.extend(own.unwrap_or_default());
    }
    let from_above = Filter { project_ids: Some(&above), inherited: Some(true), ..of };
    rows.extend(store::list(&mut *db, &from_above).await?);
    Ok(rows)
}

/// Puts an inherited grant onto the projects that it is good for.
async fn below(db: &mut impl Queries, wanted: &Wanted<'_>, line: Line) -> Result<Vec<Line>, db::Error> {
    if !line.inherited {
        return Ok(vec![line]);
    }
    let reached: Vec<String> = match line.target_kind.as_str() {
        "domain" => {
            let rows = select::<Project>("WHERE domain_id = ? ORDER BY id").bind(&line.target_id);
            db.all(rows).await?.into_iter().map(|project| project.id).collect()
        }
        _ => projects::subtree(&mut *db, &line.target_id).await?.into_iter().map(|project| project.id).collect(),
    };
    let asked: Option<HashSet<&str>> = wanted.project.map(|project| {
        let below = wanted.subtree.unwrap_or_default().iter().map(String::as_str);
        below.chain([project.id.as_str()]).collect()
    });
    let of_interest = |id: &String| asked.as_ref().is_none_or(|asked| asked.contains(id.as_str()));
    let onto = |id: String| Line {
        target_kind: "project".into(),
        target_id: id,
        inherited: false,
        origin: Origin { target: Some((line.target_kind.clone(), line.target_id.clone())), ..line.origin.clone() },
        ..line.clone()
    };
    Ok(reached.into_iter().filter(of_interest).map(onto).collect())
}

/// Puts a group's grant onto its members, or onto the one who is asked about.
async fn people(
    db: &mut impl Queries,
    wanted: &Wanted<'_>,
    members: &mut HashMap<String, Vec<String>>,
    line: Line,
) -> Result<Vec<Line>, db::Error> {
    if line.actor_kind == "user" {
        return Ok(vec![line]);
    }
    let users = match wanted.user_id {
        Some(user_id) => vec![user_id.to_string()],
        None => {
            if !members.contains_key(&line.actor_id) {
                members.insert(line.actor_id.clone(), groups::members(&mut *db, &line.actor_id).await?);
            }
            members.get(&line.actor_id).cloned().unwrap_or_default()
        }
    };
    let onto = |user_id: String| Line {
        actor_kind: "user".into(),
        actor_id: user_id,
        origin: Origin { group_id: Some(line.actor_id.clone()), ..line.origin.clone() },
        ..line.clone()
    };
    Ok(users.into_iter().map(onto).collect())
}

/// Adds a line for each role that a role implies, and drops those of domains' roles.
async fn implied(db: &mut impl Queries, lines: Vec<Line>, wanted: &Wanted<'_>) -> Result<Vec<Line>, db::Error> {
    let implications: BTreeMap<String, Vec<String>> = roles::implications(&mut *db).await?;
    let known = roles::all(&mut *db).await?;
    let mut seen: HashSet<Line> = HashSet::new();
    let mut all = Vec::new();
    let mut open: Vec<Line> = lines.into_iter().rev().collect();
    while let Some(line) = open.pop() {
        if !seen.insert(line.clone()) {
            continue;
        }
        for implied in implications.get(&line.role_id).into_iter().flatten().rev() {
            let origin = Origin { role_id: Some(line.role_id.clone()), ..line.origin.clone() };
            open.push(Line { role_id: implied.clone(), origin, ..line.clone() });
        }
        all.push(line);
    }
    let global = |line: &Line| known.get(&line.role_id).is_some_and(|role| role.domain().is_none());
    let asked = |line: &Line| wanted.role_id.is_none_or(|id| id == line.role_id);
    Ok(all.into_iter().filter(|line| global(line) && asked(line)).collect())
}

/// The ids of what `kind` somebody has any role on.
pub async fn targets(db: impl Queries, user_id: &str, kind: &str) -> Result<Vec<String>, db::Error> {
    let lines = lines(db, &Wanted { user_id: Some(user_id), ..Wanted::default() }).await?;
    let on_kind = lines.into_iter().filter(|line| line.target_kind == kind && !line.inherited);
    let ids: BTreeSet<String> = on_kind.map(|line| line.target_id).collect();
    Ok(ids.into_iter().collect())
}
