//! Security groups: sets of ports that are filtered alike. Each project has one named `default`.

use std::collections::HashMap;

use api::{Answer, Call, Caller, Limit, Operation, delete, get, post, put};
use base::{Json, json};
use db::{Queries, Select, Value, select, sql};

use crate::Network;
use crate::engine::attribute::{CREATED, Given, ID, PROJECT, REVISION, TAGS, TENANT, UPDATED, attr};
use crate::engine::rule::{self, Rule};
use crate::engine::{self, Attributes, Kind, Resource, entity, gather, stamp};
use crate::fault::Fault;
use crate::security_group_rules::{self as rules, RuleRow};
use crate::stop::Stop;
use crate::work::Work;
use crate::{rbac, tags};

pub const KIND: Kind = Kind {
    one: "security_group",
    many: "security_groups",
    attributes: &[
        ID,
        attr("name", Rule::With(name)).default(Given::Empty).put().text(),
        attr("description", Rule::Text(255)).default(Given::Empty).put().text(),
        attr("stateful", Rule::Flag).default(Given::True).put().flag(),
        PROJECT,
        TENANT,
        attr("shared", Rule::Any).by(rbac::shared_filter),
        attr("security_group_rules", Rule::Any),
        TAGS,
        CREATED,
        UPDATED,
        REVISION,
    ],
};

const QUOTA: Limit =
    Limit { name: "security_group", default: 10, count: "SELECT COUNT(*) FROM security_groups WHERE project_id = ?" };

const DEFAULT: &str = "default";

entity! {
    pub struct SecurityGroup in "security_groups" {
        name: String,
        description: String,
        stateful: bool,
        default_of: Option<String>,
    }
}

pub struct SecurityGroups;

pub fn operations() -> Vec<Operation<Network>> {
    vec![
        get("/security-groups", engine::list::<SecurityGroups>).rule("get_security_group"),
        post("/security-groups", engine::create::<SecurityGroups>).rule("create_security_group"),
        get("/security-groups/{security_group_id}", engine::show::<SecurityGroups>).rule("get_security_group"),
        put("/security-groups/{security_group_id}", engine::update::<SecurityGroups>).rule("update_security_group"),
        delete("/security-groups/{security_group_id}", engine::remove::<SecurityGroups>).rule("delete_security_group"),
    ]
}

impl Resource for SecurityGroups {
    const KIND: &'static Kind = &KIND;
    const QUOTA: Option<&'static Limit> = Some(&QUOTA);
    type Row = SecurityGroup;

    fn not_found(id: &str) -> Fault {
        Fault::SecurityGroupNotFound { id: id.to_string() }
    }

    fn scope(rows: Select<SecurityGroup>, caller: &Caller) -> Select<SecurityGroup> {
        rbac::scope(rows, "security_group", caller)
    }

    async fn prepare(call: &Call<Network>) -> Answer<()> {
        // Upstream: a project has its default group from the first look on.
        let asked = call.query.get("project_id").or(call.query.get("tenant_id")).unwrap_or(call.caller.project());
        let own = asked == call.caller.project() || call.caller.has_role("admin");
        if asked.is_empty() || !own || has_default(&call.db, asked).await? {
            return Ok(());
        }
        call.db
            .retry(|| async {
                let mut work = Work::begin(&call.service, &call.caller).await?;
                ensure_default(&mut work, asked).await?;
                work.commit().await
            })
            .await?;
        Ok(())
    }

    async fn items<Q: Queries>(mut db: Q, rows: Vec<SecurityGroup>, caller: &Caller) -> Result<Vec<Json>, db::Error> {
        let ids: Vec<String> = rows.iter().map(|row| row.id.clone()).collect();
        let shared = rbac::shared(&mut db, &ids, caller).await?;
        let tags = tags::of(&mut db, &ids).await?;
        let mut by_group: HashMap<String, Vec<RuleRow>> = HashMap::new();
        for rule in gather::<RuleRow>(&mut db, "security_group_id", &ids).await? {
            by_group.entry(rule.security_group_id.clone()).or_default().push(rule);
        }
        let item = |row: SecurityGroup| {
            let mut rules = by_group.remove(&row.id).unwrap_or_default();
            rules.sort_by(|a, b| a.id.cmp(&b.id));
            let rules: Vec<Json> = rules.iter().map(|rule| rules::nested(rule, row.default_of.is_some())).collect();
            json!({
                "id": row.id,
                "name": row.name,
                "description": row.description,
                "stateful": row.stateful,
                "project_id": row.project_id,
                "tenant_id": row.project_id,
                "shared": shared.contains(&row.id),
                "security_group_rules": rules,
                "tags": tags.get(&row.id).cloned().unwrap_or_default(),
                "created_at": stamp(row.created_at),
                "updated_at": stamp(row.updated_at),
                "revision_number": row.revision_number,
            })
        };
        Ok(rows.into_iter().map(item).collect())
    }

    async fn create(work: &mut Work<'_>, new: &Attributes) -> Result<String, Stop> {
        let project = new.text("project_id");
        if new.text("name").eq_ignore_ascii_case(DEFAULT) {
            return Err(Fault::SecurityGroupDefaultAlreadyExists {}.into());
        }
        ensure_default(work, &project).await?;
        let row = SecurityGroup {
            name: new.text("name"),
            description: new.text("description"),
            stateful: new.flag("stateful").unwrap_or(true),
            ..empty(work, &project)
        };
        work.tx.insert(&row).await?;
        work.tx.insert_all(&rules::outgoing(work.now, &row)).await?;
        Ok(row.id)
    }

    async fn update(work: &mut Work<'_>, row: SecurityGroup, change: &Attributes) -> Result<(), Stop> {
        let name = change.maybe("name");
        let default = row.default_of.is_some();
        if default && name.as_ref().is_some_and(|name| *name != row.name) {
            return Err(Fault::SecurityGroupCannotUpdateDefault {}.into());
        }
        if !default && name.as_ref().is_some_and(|name| name.eq_ignore_ascii_case(DEFAULT)) {
            return Err(Fault::SecurityGroupDefaultAlreadyExists {}.into());
        }
        let mut columns: Vec<(&'static str, Value)> =
            name.map(|name| ("name", Value::Text(name))).into_iter().collect();
        columns.extend(change.maybe("description").map(|text| ("description", Value::Text(text))));
        if let Some(stateful) = change.flag("stateful").filter(|stateful| *stateful != row.stateful) {
            if used(work, &row.id).await? {
                return Err(Fault::SecurityGroupInUse { id: row.id }.into());
            }
            columns.push(("stateful", Value::Int(stateful.into())));
            work.touched.groups.insert(row.id.clone());
        }
        work.set::<SecurityGroup>(&row.id, columns).await
    }

    async fn remove(work: &mut Work<'_>, row: SecurityGroup) -> Result<(), Stop> {
        if used(work, &row.id).await? {
            return Err(Fault::SecurityGroupInUse { id: row.id }.into());
        }
        if row.default_of.is_some() && !work.caller.has_role("admin") {
            return Err(Fault::SecurityGroupCannotRemoveDefault {}.into());
        }
        let others =
            sql("SELECT COUNT(*) FROM security_group_rules WHERE remote_group_id = ? AND security_group_id <> ?");
        if work.tx.count(others.bind(&row.id).bind(&row.id)).await? > 0 {
            // Rules that refer to it go with it, as upstream's do.
            work.touched.groups.insert(row.id.clone());
        }
        work.tx.run(sql("DELETE FROM security_group_rules WHERE remote_group_id = ?").bind(&row.id)).await?;
        work.tx.run(sql("DELETE FROM security_group_rules WHERE security_group_id = ?").bind(&row.id)).await?;
        rbac::forget(work, &row.id).await?;
        work.tx.run(sql("DELETE FROM security_groups WHERE id = ?").bind(&row.id)).await?;
        Ok(())
    }
}

fn name(value: Json) -> Result<Json, String> {
    rule::text(value, 255)
}

async fn used(work: &mut Work<'_>, id: &str) -> Result<bool, Stop> {
    let ports = sql("SELECT COUNT(*) FROM port_groups WHERE group_id = ?").bind(id);
    Ok(work.tx.count(ports).await? > 0)
}

fn empty(work: &Work<'_>, project: &str) -> SecurityGroup {
    SecurityGroup {
        id: base::id::uuid(),
        project_id: project.to_string(),
        name: String::new(),
        description: String::new(),
        stateful: true,
        default_of: None,
        created_at: work.now,
        updated_at: work.now,
        revision_number: 1,
    }
}

async fn has_default(mut db: impl Queries, project: &str) -> Result<bool, db::Error> {
    let rows = sql("SELECT COUNT(*) FROM security_groups WHERE default_of = ?").bind(project);
    Ok(db.count(rows).await? > 0)
}

/// The id of the project's default group, which is made with its four rules when it is not there yet.
pub async fn ensure_default(work: &mut Work<'_>, project: &str) -> Result<String, Stop> {
    let rows = select::<SecurityGroup>("WHERE default_of = ?").bind(project);
    if let Some(row) = work.tx.maybe(rows.clone()).await? {
        return Ok(row.id);
    }
    let row = SecurityGroup {
        name: DEFAULT.into(),
        description: "Default security group".into(),
        default_of: Some(project.to_string()),
        ..empty(work, project)
    };
    if !work.tx.insert_new(&row).await? {
        // Another request was faster.
        return Ok(work.tx.one(rows).await?.id);
    }
    let mut all = rules::outgoing(work.now, &row);
    all.extend(rules::from_itself(work.now, &row));
    work.tx.insert_all(&all).await?;
    Ok(row.id)
}

/// Refuses groups that are not there for the project.
pub async fn known(work: &mut Work<'_>, groups: &[String], project: &str) -> Result<(), Stop> {
    if groups.is_empty() {
        return Ok(());
    }
    let found: Vec<SecurityGroup> = gather(&mut work.tx, "id", groups).await?;
    let shared = rbac::shared(&mut work.tx, groups, work.caller).await?;
    let usable = |id: &String| {
        let row = found.iter().find(|row| row.id == *id);
        row.is_some_and(|row| row.project_id == project || shared.contains(id) || engine::sees_all(work.caller))
    };
    match groups.iter().find(|id| !usable(id)) {
        None => Ok(()),
        Some(id) => Err(Fault::SecurityGroupNotFound { id: id.clone() }.into()),
    }
}
