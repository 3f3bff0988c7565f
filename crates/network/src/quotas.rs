//! Quotas of the network service: limits by project, defaults, and what is used.

use api::{Answer, Call, JsonMap, Limit, NoInput, Operation, Path, Reply, delete, get, put};
use base::{Json, json};
use db::{record, select, sql};

use crate::Network;
use crate::engine::Resource;
use crate::engine::rule;
use crate::fault::{Fault, plain};
use crate::floating_ips::FloatingIps;
use crate::networks::Networks;
use crate::ports::Ports;
use crate::rbac::RbacPolicies;
use crate::routers::Routers;
use crate::security_group_rules::Rules;
use crate::security_groups::SecurityGroups;
use crate::subnet_pools::SubnetPools;
use crate::subnets::Subnets;

record! {
    struct Quota in "quotas" {
        project_id: String,
        resource: String,
        hard_limit: i64,
    }
}

/// Every limit there is, in upstream's order.
fn limits() -> Vec<&'static Limit> {
    let all = [
        Networks::QUOTA,
        Subnets::QUOTA,
        SubnetPools::QUOTA,
        Ports::QUOTA,
        Routers::QUOTA,
        FloatingIps::QUOTA,
        RbacPolicies::QUOTA,
        SecurityGroups::QUOTA,
        Rules::QUOTA,
    ];
    all.into_iter().flatten().collect()
}

pub fn operations() -> Vec<Operation<Network>> {
    vec![
        get("/quotas", list).rule("get_quota"),
        get("/quotas/{project_id}", show).rule("get_quota"),
        get("/quotas/{project_id}/default", default).rule("get_quota"),
        get("/quotas/{project_id}/details", details).rule("get_quota"),
        put("/quotas/{project_id}", update).rule("update_quota"),
        delete("/quotas/{project_id}", reset).rule("delete_quota"),
        get("/quotas/tenant", own).open(),
        get("/quotas/project", own_project).open(),
    ]
}

/// Whoever asks about another project needs the right to.
fn permitted(call: &Call<Network>, project: &str) -> Answer<()> {
    match project == call.caller.project() && !project.is_empty() {
        true => {
            let _ = call.allow();
            Ok(())
        }
        false => call.allow_on(&json!({"project_id": project, "tenant_id": project})).map(drop),
    }
}

async fn of(call: &Call<Network>, project: &str) -> Answer<JsonMap> {
    let rows = call
        .db
        .all(select::<Quota>("WHERE project_id IN (?, ?)").bind(project).bind(api::quota::DEFAULT_CLASS))
        .await?;
    let limit = |kind: &Limit| {
        let of = |owner: &str| rows.iter().find(|row| row.project_id == owner && row.resource == kind.name);
        of(project).or_else(|| of(api::quota::DEFAULT_CLASS)).map_or(kind.default, |row| row.hard_limit)
    };
    let mut map: JsonMap = limits().into_iter().map(|kind| (kind.name.to_string(), json!(limit(kind)))).collect();
    // Not a number of things of a project, but of routes of a router.
    map.insert("router_route".into(), json!(call.settings.max_routes));
    Ok(map)
}

async fn list(call: Call<Network>, _: NoInput) -> Answer<Reply> {
    call.allow_on(&json!({}))?;
    let rows = call
        .db
        .rows(
            sql("SELECT DISTINCT project_id FROM quotas WHERE project_id <> ? ORDER BY project_id")
                .bind(api::quota::DEFAULT_CLASS),
        )
        .await?;
    let mut quotas = Vec::new();
    for row in rows {
        let project: String = row.get(0)?;
        let mut map = of(&call, &project).await?;
        map.insert("tenant_id".into(), json!(project));
        map.insert("project_id".into(), json!(project));
        quotas.push(map);
    }
    Ok(Reply::json(200, &json!({"quotas": quotas})))
}

async fn show(call: Call<Network>, Path(project): Path<String>) -> Answer<Reply> {
    permitted(&call, &project)?;
    Ok(Reply::json(200, &json!({"quota": of(&call, &project).await?})))
}

async fn default(call: Call<Network>, Path(project): Path<String>) -> Answer<Reply> {
    permitted(&call, &project)?;
    Ok(Reply::json(200, &json!({"quota": of(&call, "").await?})))
}

async fn details(call: Call<Network>, Path(project): Path<String>) -> Answer<Reply> {
    permitted(&call, &project)?;
    let limits_of = of(&call, &project).await?;
    let mut map = JsonMap::new();
    for kind in limits() {
        let used = call.db.count(sql(kind.count).bind(&project)).await?;
        map.insert(kind.name.into(), json!({"limit": limits_of[kind.name], "used": used, "reserved": 0}));
    }
    Ok(Reply::json(200, &json!({"quota": map})))
}

async fn update(mut call: Call<Network>, Path(project): Path<String>) -> Answer<Reply> {
    let body = call.json().await?;
    call.allow_on(&json!({"project_id": project, "tenant_id": project}))?;
    let Some(Json::Object(given)) = body.get("quota").cloned() else {
        return Err(plain("Unable to find 'quota' in request body"));
    };
    let force = given.get("force").and_then(Json::as_bool) == Some(true);
    let mut rows = Vec::new();
    for (name, value) in &given {
        if ["force", "check_limit", "tenant_id", "project_id"].contains(&name.as_str()) {
            continue;
        }
        let kind = limits().into_iter().find(|kind| kind.name == name);
        let kind = kind.ok_or_else(|| plain(format!("Unrecognized attribute(s) '{name}'")))?;
        let limit = rule::integer(value, -1, i32::MAX.into());
        let limit = limit.map_err(|reason| plain(format!("Invalid input for {name}. Reason: {reason}.")))?;
        let hard_limit = limit.as_i64().unwrap_or(-1);
        let used = call.db.count(sql(kind.count).bind(&project)).await?;
        if !force && hard_limit >= 0 && used > hard_limit {
            return Err(plain(format!(
                "Quota limit {hard_limit} for {name} must be greater than or equal to already used {used}"
            )));
        }
        rows.push(Quota { project_id: project.clone(), resource: name.clone(), hard_limit });
    }
    let mut tx = call.db.begin().await?;
    for row in &rows {
        tx.upsert(row, &["project_id", "resource"]).await?;
    }
    tx.commit().await?;
    Ok(Reply::json(200, &json!({"quota": of(&call, &project).await?})))
}

async fn reset(call: Call<Network>, Path(project): Path<String>) -> Answer<Reply> {
    call.allow_on(&json!({"project_id": project, "tenant_id": project}))?;
    match call.db.run(sql("DELETE FROM quotas WHERE project_id = ?").bind(&project)).await? {
        0 => Err(Fault::TenantQuotaNotFound { id: project }.into()),
        _ => Ok(Reply::new(204)),
    }
}

async fn own(call: Call<Network>, _: NoInput) -> Answer<Reply> {
    project_of(&call, "tenant")
}

async fn own_project(call: Call<Network>, _: NoInput) -> Answer<Reply> {
    project_of(&call, "project")
}

fn project_of(call: &Call<Network>, key: &str) -> Answer<Reply> {
    match call.caller.project() {
        "" => Err(Fault::QuotaMissingTenant {}.into()),
        project => Ok(Reply::json(200, &json!({key: {format!("{key}_id"): project}}))),
    }
}
