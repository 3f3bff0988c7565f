//! RBAC policies: a project lets others use what is its own.
//!
//! A network is `shared` exactly where a policy `access_as_shared` names the reader's project or everybody.

use std::collections::HashSet;

use api::{Answer, Call, Caller, JsonMap, Limit, Operation, delete, get, post, put};
use base::{Json, json};
use db::{Queries, Select, Value, select, sql};

use crate::Network;
use crate::engine::attribute::{ID, PROJECT, TENANT, attr};
use crate::engine::rule::Rule;
use crate::engine::{self, Attributes, Condition, Kind, Resource, entity, own_project, sees_all};
use crate::fault::Fault;
use crate::stop::Stop;
use crate::work::Work;

pub const SHARED: &str = "access_as_shared";
pub const EXTERNAL: &str = "access_as_external";

const TYPES: &[&str] = &["network", "subnetpool", "address_scope", "security_group"];

pub const KIND: Kind = Kind {
    one: "rbac_policy",
    many: "rbac_policies",
    attributes: &[
        ID,
        attr("object_type", Rule::OneOf(TYPES)).required().text(),
        attr("object_id", Rule::Uuid).required().text(),
        attr("target_tenant", Rule::Text(255)).required().put().column("target_project"),
        attr("action", Rule::Text(255)).required().text(),
        PROJECT,
        TENANT,
    ],
};

const QUOTA: Limit =
    Limit { name: "rbac_policy", default: 10, count: "SELECT COUNT(*) FROM rbac_policies WHERE project_id = ?" };

entity! {
    pub struct RbacPolicy in "rbac_policies" {
        object_type: String,
        object_id: String,
        action: String,
        target_project: String,
    }
}

pub struct RbacPolicies;

pub fn operations() -> Vec<Operation<Network>> {
    vec![
        get("/rbac-policies", engine::list::<RbacPolicies>).rule("get_rbac_policy"),
        post("/rbac-policies", engine::create::<RbacPolicies>).rule("create_rbac_policy"),
        get("/rbac-policies/{rbac_policy_id}", engine::show::<RbacPolicies>).rule("get_rbac_policy"),
        put("/rbac-policies/{rbac_policy_id}", engine::update::<RbacPolicies>).rule("update_rbac_policy"),
        delete("/rbac-policies/{rbac_policy_id}", engine::remove::<RbacPolicies>).rule("delete_rbac_policy"),
    ]
}

impl Resource for RbacPolicies {
    const KIND: &'static Kind = &KIND;
    const QUOTA: Option<&'static Limit> = Some(&QUOTA);
    type Row = RbacPolicy;

    fn not_found(id: &str) -> Fault {
        Fault::RbacPolicyNotFound { id: id.to_string() }
    }

    async fn items<Q: Queries>(_: Q, rows: Vec<RbacPolicy>, _: &Caller) -> Result<Vec<Json>, db::Error> {
        let item = |row: RbacPolicy| {
            json!({
                "id": row.id,
                "project_id": row.project_id,
                "tenant_id": row.project_id,
                "object_type": row.object_type,
                "object_id": row.object_id,
                "action": row.action,
                "target_tenant": row.target_project,
                "target_project": row.target_project,
            })
        };
        Ok(rows.into_iter().map(item).collect())
    }

    async fn parents(call: &Call<Network>, new: &Attributes) -> Answer<JsonMap> {
        // Only the owner of a thing shares it, whoever may see it.
        let table = table(&new.text("object_type"));
        let owner = sql(format!("SELECT project_id FROM {table} WHERE id = ?")).bind(new.text("object_id"));
        let owner: Option<String> = call.db.rows(owner).await?.first().map(|row| row.get(0)).transpose()?;
        match owner {
            Some(owner) if owner == call.caller.project() || call.caller.has_role("admin") => Ok(JsonMap::new()),
            _ => Err(missing(&new.text("object_type"), &new.text("object_id")).into()),
        }
    }

    async fn create(work: &mut Work<'_>, new: &Attributes) -> Result<String, Stop> {
        let (object_type, action) = (new.text("object_type"), new.text("action"));
        let valid: &[&str] = if object_type == "network" { &[EXTERNAL, SHARED] } else { &[SHARED] };
        if !valid.contains(&action.as_str()) {
            let valid = valid.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(", ");
            return Err(Fault::RbacInvalidAction { action, object_type, valid: format!("[{valid}]") }.into());
        }
        let object = new.text("object_id");
        let id =
            allow(work, &object_type, &object, &action, &new.text("project_id"), &new.text("target_tenant")).await?;
        id.ok_or_else(|| Fault::DuplicateRbacPolicy {}.into())
    }

    async fn update(work: &mut Work<'_>, row: RbacPolicy, change: &Attributes) -> Result<(), Stop> {
        let target = change.text("target_tenant");
        unused(work, &row, Some(&target)).await?;
        let changed = work.set::<RbacPolicy>(&row.id, vec![("target_project", Value::Text(target))]).await;
        changed.map_err(|stop| match stop {
            Stop::Database(error) if error.is_duplicate() => Fault::DuplicateRbacPolicy {}.into(),
            other => other,
        })
    }

    async fn remove(work: &mut Work<'_>, row: RbacPolicy) -> Result<(), Stop> {
        unused(work, &row, None).await?;
        work.tx.run(sql("DELETE FROM rbac_policies WHERE id = ?").bind(&row.id)).await?;
        if row.action == EXTERNAL {
            let rest = sql("SELECT COUNT(*) FROM rbac_policies WHERE object_id = ? AND action = ?");
            if work.tx.count(rest.bind(&row.object_id).bind(EXTERNAL)).await? == 0 {
                let gone = sql("UPDATE networks SET external = 0 WHERE id = ?").bind(&row.object_id);
                work.tx.run(gone).await?;
            }
        }
        Ok(())
    }
}

fn table(object_type: &str) -> &'static str {
    match object_type {
        "subnetpool" => "subnetpools",
        "address_scope" => "address_scopes",
        "security_group" => "security_groups",
        _ => "networks",
    }
}

fn missing(object_type: &str, id: &str) -> Fault {
    let id = id.to_string();
    match object_type {
        "subnetpool" => Fault::SubnetPoolNotFound { id },
        "address_scope" => Fault::AddressScopeNotFound { id },
        "security_group" => Fault::SecurityGroupNotFound { id },
        _ => Fault::NetworkNotFound { net_id: id },
    }
}

/// Lets `target` use an object; `None` when it may already.
pub async fn allow(
    work: &mut Work<'_>,
    object_type: &str,
    object: &str,
    action: &str,
    owner: &str,
    target: &str,
) -> Result<Option<String>, Stop> {
    let row = RbacPolicy {
        id: base::id::uuid(),
        project_id: owner.to_string(),
        object_type: object_type.to_string(),
        object_id: object.to_string(),
        action: action.to_string(),
        target_project: target.to_string(),
        created_at: work.now,
        updated_at: work.now,
        revision_number: 0,
    };
    if !work.tx.insert_new(&row).await? {
        return Ok(None);
    }
    work.revise(table(object_type), object, 1).await?;
    if action == EXTERNAL {
        work.tx.run(sql("UPDATE networks SET external = 1 WHERE id = ?").bind(object)).await?;
    }
    Ok(Some(row.id))
}

/// Shares an object with everybody, or ends that.
pub async fn share(work: &mut Work<'_>, object_type: &str, object: &str, owner: &str, on: bool) -> Result<(), Stop> {
    if on {
        allow(work, object_type, object, SHARED, owner, "*").await?;
        return Ok(());
    }
    let rows = select::<RbacPolicy>("WHERE object_id = ? AND action = ? AND target_project = '*'");
    if let Some(row) = work.tx.maybe(rows.bind(object).bind(SHARED)).await? {
        if object_type == "network" && strangers(work, object, owner, None).await? > 0 {
            return Err(Fault::InvalidSharedSetting { network: object.to_string() }.into());
        }
        work.tx.run(sql("DELETE FROM rbac_policies WHERE id = ?").bind(&row.id)).await?;
    }
    Ok(())
}

/// Refuses to end a policy, or to aim it elsewhere, while somebody leans on it.
async fn unused(work: &mut Work<'_>, row: &RbacPolicy, next: Option<&str>) -> Result<(), Stop> {
    if row.object_type != "network" || next == Some("*") || next == Some(&row.target_project) {
        return Ok(());
    }
    let target = (row.target_project != "*").then_some(row.target_project.as_str());
    let used = match row.action.as_str() {
        SHARED => strangers(work, &row.object_id, &row.project_id, target).await?,
        _ => {
            let mut count = sql("SELECT COUNT(*) FROM routers WHERE gateway_network_id = ?").bind(&row.object_id);
            if let Some(target) = target {
                count = count.and("project_id = ?").bind(target);
            }
            work.tx.count(count).await?
        }
    };
    if used == 0 {
        return Ok(());
    }
    let details = match row.action.as_str() {
        SHARED => format!(
            "Unable to reconfigure sharing settings for network {}. Multiple projects are using it",
            row.object_id
        ),
        _ => format!("External network {} has existing gateway ports", row.object_id),
    };
    Err(Fault::RbacPolicyInUse { object_id: row.object_id.clone(), details }.into())
}

/// Ports of other projects on a network that no other policy allows.
async fn strangers(work: &mut Work<'_>, network: &str, owner: &str, target: Option<&str>) -> Result<i64, Stop> {
    let mut count =
        sql("SELECT COUNT(*) FROM ports WHERE network_id = ? AND project_id NOT IN (?, '') AND project_id NOT IN \
         (SELECT target_project FROM rbac_policies WHERE object_id = ? AND action = 'access_as_shared' AND \
         target_project <> ?)");
    count = count.bind(network).bind(owner).bind(network).bind(target.unwrap_or("*"));
    if let Some(target) = target {
        count = count.and("project_id = ?").bind(target);
        let everybody =
            sql("SELECT COUNT(*) FROM rbac_policies WHERE object_id = ? AND action = ? AND target_project = '*'");
        if work.tx.count(everybody.bind(network).bind(SHARED)).await? > 0 {
            return Ok(0);
        }
    }
    Ok(work.tx.count(count).await?)
}

pub async fn forget(work: &mut Work<'_>, object: &str) -> Result<(), Stop> {
    work.tx.run(sql("DELETE FROM rbac_policies WHERE object_id = ?").bind(object)).await?;
    Ok(())
}

/// Of these objects, those that are shared with the caller's project.
pub async fn shared(mut db: impl Queries, ids: &[String], caller: &Caller) -> Result<HashSet<String>, db::Error> {
    let mut shared = HashSet::new();
    for chunk in ids.chunks(8000) {
        let rows = select::<RbacPolicy>("WHERE action = ? AND target_project IN (?, '*')");
        let rows = rows.bind(SHARED).bind(own_project(caller)).in_list("object_id", chunk);
        shared.extend(db.all(rows).await?.into_iter().map(|row| row.object_id));
    }
    Ok(shared)
}

/// Rows of the caller's project and those that others let it use.
pub fn scope<T: db::Record>(rows: Select<T>, object_type: &str, caller: &Caller) -> Select<T> {
    if sees_all(caller) {
        return rows;
    }
    let project = own_project(caller);
    let text = "project_id = ? OR id IN (SELECT object_id FROM rbac_policies WHERE object_type = ? AND \
                target_project IN (?, '*'))";
    rows.and(text).bind(project).bind(object_type).bind(project)
}

/// The filter `shared`.
pub fn shared_filter(values: &[&str], caller: &Caller) -> Condition {
    let text =
        "id IN (SELECT object_id FROM rbac_policies WHERE action = 'access_as_shared' AND target_project IN (?, '*'))";
    let wanted = |on: bool| values.iter().any(|value| api::listing::flag_value(value) == Some(on));
    let shared = Condition { text: text.into(), values: vec![Value::Text(own_project(caller).to_string())] };
    match (wanted(true), wanted(false)) {
        (true, false) => shared,
        (false, true) => shared.negated(),
        (true, true) => Condition::plain("1 = 1"),
        (false, false) => Condition::plain("1 = 0"),
    }
}
