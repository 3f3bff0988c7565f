//! Quotas of projects and classes, and the limits that a project reads about itself.

use api::quota::DEFAULT_CLASS;
use api::wire::{flag, integer};
use api::{
    Answer, Body, Call, Document, Done, Json, Limit, NoInput, OfProject, Operation, Path, Refusal, delete, get, json,
    put, v,
};
use db::{Db, sql};

use crate::{Compute, projects, query};

/// Limit: upstream's; the columns of its database hold no more.
const MOST: i64 = 0x7fff_ffff;

/// Upstream's quotas with their defaults. `count` is used where the resource lives in our tables.
pub const LIMITS: &[Limit] = &[
    crate::servers::CORES,
    Limit { name: "injected_file_content_bytes", default: 10240, count: "SELECT 0 WHERE ? IS NULL" },
    Limit { name: "injected_file_path_bytes", default: 255, count: "SELECT 0 WHERE ? IS NULL" },
    Limit { name: "injected_files", default: 5, count: "SELECT 0 WHERE ? IS NULL" },
    crate::servers::INSTANCES,
    Limit { name: "key_pairs", default: 100, count: "SELECT COUNT(*) FROM keypairs WHERE user_id = ?" },
    Limit { name: "metadata_items", default: 128, count: "SELECT 0 WHERE ? IS NULL" },
    crate::servers::RAM,
    crate::server_groups::MEMBERS,
    Limit { name: "server_groups", default: 10, count: "SELECT COUNT(*) FROM server_groups WHERE project_id = ?" },
];

/// Upstream: quotas of the network that compute used to have; they are shown up to 2.35 and never counted.
const OLD_NETWORK: &[(&str, i64)] =
    &[("fixed_ips", -1), ("floating_ips", -1), ("security_group_rules", -1), ("security_groups", -1)];

/// What usage is derived for.
const COUNTED: &[&str] = &["cores", "instances", "ram", "server_groups"];

pub fn operations() -> Vec<Operation<Compute>> {
    vec![
        get("/os-quota-sets/{id}", show).rule("os_compute_api:os-quota-sets:show"),
        get("/os-quota-sets/{id}/defaults", defaults).rule("os_compute_api:os-quota-sets:defaults"),
        get("/os-quota-sets/{id}/detail", detail).rule("os_compute_api:os-quota-sets:detail"),
        put("/os-quota-sets/{id}", update).rule("os_compute_api:os-quota-sets:update").status(200),
        delete("/os-quota-sets/{id}", remove).rule("os_compute_api:os-quota-sets:delete").status(202),
        get("/os-quota-class-sets/{id}", show_class).rule("os_compute_api:os-quota-class-sets:show"),
        put("/os-quota-class-sets/{id}", update_class).rule("os_compute_api:os-quota-class-sets:update"),
        get("/limits", limits).rule("os_compute_api:limits"),
    ]
}

api::wire! {
    /// New quotas; those that are not named stay.
    pub struct QuotaSet in "quota_set" {
        cores: Option<i64> = integer(-1, MOST).loose(),
        injected_file_content_bytes: Option<i64> = integer(-1, MOST).loose().until(v(2, 56)),
        injected_file_path_bytes: Option<i64> = integer(-1, MOST).loose().until(v(2, 56)),
        injected_files: Option<i64> = integer(-1, MOST).loose().until(v(2, 56)),
        instances: Option<i64> = integer(-1, MOST).loose(),
        key_pairs: Option<i64> = integer(-1, MOST).loose(),
        metadata_items: Option<i64> = integer(-1, MOST).loose(),
        ram: Option<i64> = integer(-1, MOST).loose(),
        server_group_members: Option<i64> = integer(-1, MOST).loose(),
        server_groups: Option<i64> = integer(-1, MOST).loose(),
        fixed_ips: Option<i64> = integer(-1, MOST).loose().until(v(2, 35)),
        floating_ips: Option<i64> = integer(-1, MOST).loose().until(v(2, 35)),
        security_group_rules: Option<i64> = integer(-1, MOST).loose().until(v(2, 35)),
        security_groups: Option<i64> = integer(-1, MOST).loose().until(v(2, 35)),
        force: Option<bool> = flag().loose(),
    }
}

api::wire! {
    /// New defaults of all projects.
    pub struct QuotaClassSet in "quota_class_set" {
        cores: Option<i64> = integer(-1, MOST).loose(),
        injected_file_content_bytes: Option<i64> = integer(-1, MOST).loose().until(v(2, 56)),
        injected_file_path_bytes: Option<i64> = integer(-1, MOST).loose().until(v(2, 56)),
        injected_files: Option<i64> = integer(-1, MOST).loose().until(v(2, 56)),
        instances: Option<i64> = integer(-1, MOST).loose(),
        key_pairs: Option<i64> = integer(-1, MOST).loose(),
        metadata_items: Option<i64> = integer(-1, MOST).loose(),
        ram: Option<i64> = integer(-1, MOST).loose(),
        server_group_members: Option<i64> = integer(-1, MOST).loose().since(v(2, 50)),
        server_groups: Option<i64> = integer(-1, MOST).loose().since(v(2, 50)),
        fixed_ips: Option<i64> = integer(-1, MOST).loose().until(v(2, 49)),
        floating_ips: Option<i64> = integer(-1, MOST).loose().until(v(2, 49)),
        security_group_rules: Option<i64> = integer(-1, MOST).loose().until(v(2, 49)),
        security_groups: Option<i64> = integer(-1, MOST).loose().until(v(2, 49)),
    }
}

async fn show(call: Call<Compute>, Path(project): Path<String>) -> Answer<Document> {
    query::strict(&call, v(2, 75), &["user_id"])?;
    let permitted = call.allow_on(&OfProject(&project))?;
    must_exist(&call, &project).await?;
    let mut set = quotas(&call, &project).await?;
    set["id"] = json!(project);
    Ok(Document::new(permitted, json!({"quota_set": set})))
}

async fn defaults(call: Call<Compute>, Path(project): Path<String>) -> Answer<Document> {
    let permitted = call.allow_on(&OfProject(&project))?;
    must_exist(&call, &project).await?;
    let mut set = quotas(&call, DEFAULT_CLASS).await?;
    set["id"] = json!(project);
    Ok(Document::new(permitted, json!({"quota_set": set})))
}

async fn detail(call: Call<Compute>, Path(project): Path<String>) -> Answer<Document> {
    query::strict(&call, v(2, 75), &["user_id"])?;
    let permitted = call.allow_on(&OfProject(&project))?;
    must_exist(&call, &project).await?;
    let limits = quotas(&call, &project).await?;
    let mut set = json!({"id": project});
    for (name, limit) in limits.as_object().into_iter().flatten() {
        let in_use = usage(&call.db, name, &project).await?;
        set[name] = json!({"limit": limit, "in_use": in_use, "reserved": 0});
    }
    Ok(Document::new(permitted, json!({"quota_set": set})))
}

async fn update(call: Call<Compute>, (Path(project), Body(new)): (Path<String>, Body<QuotaSet>)) -> Answer<Document> {
    let permitted = call.allow_on(&OfProject(&project))?;
    query::strict(&call, v(2, 75), &["user_id"])?;
    refuse_users(&call)?;
    must_exist(&call, &project).await?;
    let force = new.force.unwrap_or(false);
    let wanted = [
        ("cores", new.cores),
        ("injected_file_content_bytes", new.injected_file_content_bytes),
        ("injected_file_path_bytes", new.injected_file_path_bytes),
        ("injected_files", new.injected_files),
        ("instances", new.instances),
        ("key_pairs", new.key_pairs),
        ("metadata_items", new.metadata_items),
        ("ram", new.ram),
        ("server_group_members", new.server_group_members),
        ("server_groups", new.server_groups),
    ];
    for (name, limit) in wanted.iter().filter_map(|(name, limit)| Some((*name, (*limit)?))) {
        let in_use = usage(&call.db, name, &project).await?;
        if !force && limit >= 0 && limit < in_use {
            let text = format!(
                "Quota limit {limit} for {name} must be greater than or equal to already used and reserved {in_use}."
            );
            return Err(Refusal::bad_request(text));
        }
    }
    set_all(&call.db, &project, &wanted).await?;
    let set = quotas(&call, &project).await?;
    Ok(Document::new(permitted, json!({"quota_set": set})))
}

/// Later: quotas of single users within a project, which upstream has deprecated.
fn refuse_users(call: &Call<Compute>) -> Answer<()> {
    match call.query.has("user_id") {
        false => Ok(()),
        true => Err(Refusal::new(501, "notImplemented", "Quotas of single users are not implemented.")),
    }
}

async fn remove(call: Call<Compute>, Path(project): Path<String>) -> Answer<Done> {
    let permitted = call.allow_on(&OfProject(&project))?;
    query::strict(&call, v(2, 75), &["user_id"])?;
    refuse_users(&call)?;
    call.db.run(sql("DELETE FROM quotas WHERE project_id = ?").bind(&project)).await?;
    Ok(Done::with(permitted))
}

async fn show_class(call: Call<Compute>, Path(class): Path<String>) -> Answer<Document> {
    let permitted = call.allow()?;
    query::strict(&call, v(2, 102), &[])?;
    let mut set = class_quotas(&call).await?;
    set["id"] = json!(class);
    Ok(Document::new(permitted, json!({"quota_class_set": set})))
}

async fn update_class(
    call: Call<Compute>,
    (Path(class), Body(new)): (Path<String>, Body<QuotaClassSet>),
) -> Answer<Document> {
    let permitted = call.allow()?;
    let wanted = [
        ("cores", new.cores),
        ("injected_file_content_bytes", new.injected_file_content_bytes),
        ("injected_file_path_bytes", new.injected_file_path_bytes),
        ("injected_files", new.injected_files),
        ("instances", new.instances),
        ("key_pairs", new.key_pairs),
        ("metadata_items", new.metadata_items),
        ("ram", new.ram),
        ("server_group_members", new.server_group_members),
        ("server_groups", new.server_groups),
    ];
    // Upstream: only the class of this name means anything.
    if class == DEFAULT_CLASS {
        set_all(&call.db, DEFAULT_CLASS, &wanted).await?;
    }
    let set = class_quotas(&call).await?;
    Ok(Document::new(permitted, json!({"quota_class_set": set})))
}

async fn limits(call: Call<Compute>, _: NoInput) -> Answer<Document> {
    let permitted = call.allow()?;
    query::strict(&call, v(2, 75), &["tenant_id"])?;
    let other = call.query.get("tenant_id");
    if other.is_some() {
        call.must("os_compute_api:limits:other_project", &api::Own(&call.caller))?;
    }
    let project = other.unwrap_or(call.caller.project()).to_string();
    let all = rows(&call.db, &project).await?;
    let limit = |name: &str| all.iter().find(|(known, _)| known == name).map_or(-1, |(_, limit)| *limit);
    let mut absolute = json!({
        "maxServerMeta": limit("metadata_items"),
        "maxTotalInstances": limit("instances"),
        "maxTotalCores": limit("cores"),
        "maxTotalRAMSize": limit("ram"),
        "maxTotalKeypairs": limit("key_pairs"),
        "maxServerGroups": limit("server_groups"),
        "maxServerGroupMembers": limit("server_group_members"),
    });
    if call.version < v(2, 57) {
        absolute["maxPersonality"] = json!(limit("injected_files"));
        absolute["maxPersonalitySize"] = json!(limit("injected_file_content_bytes"));
    }
    if call.version < v(2, 39) {
        absolute["maxImageMeta"] = json!(limit("metadata_items"));
    }
    if call.version < v(2, 36) {
        for (shown, value) in [("maxTotalFloatingIps", -1), ("maxSecurityGroups", -1), ("maxSecurityGroupRules", -1)] {
            absolute[shown] = json!(value);
        }
        absolute["totalFloatingIpsUsed"] = json!(0);
        absolute["totalSecurityGroupsUsed"] = json!(0);
    }
    for (shown, name) in [
        ("totalInstancesUsed", "instances"),
        ("totalCoresUsed", "cores"),
        ("totalRAMUsed", "ram"),
        ("totalServerGroupsUsed", "server_groups"),
    ] {
        absolute[shown] = json!(usage(&call.db, name, &project).await?);
    }
    Ok(Document::new(permitted, json!({"limits": {"rate": [], "absolute": absolute}})))
}

/// The limits in force for `owner`: its own, else the class's, else upstream's.
async fn rows(db: &Db, owner: &str) -> Result<Vec<(String, i64)>, db::Error> {
    let query = sql("SELECT project_id, resource, hard_limit FROM quotas WHERE project_id = ? OR project_id = ?");
    let rows = db.rows(query.bind(owner).bind(DEFAULT_CLASS)).await?;
    let mut held = Vec::new();
    for row in &rows {
        held.push((row.get::<String>(0)?, row.get::<String>(1)?, row.get::<i64>(2)?));
    }
    let find =
        |owner: &str, name: &str| held.iter().find(|(who, what, _)| who == owner && what == name).map(|row| row.2);
    let limit =
        |kind: &Limit| find(owner, kind.name).or_else(|| find(DEFAULT_CLASS, kind.name)).unwrap_or(kind.default);
    Ok(LIMITS.iter().map(|kind| (kind.name.to_string(), limit(kind))).collect())
}

/// The quota set as the request's version shows it.
async fn quotas(call: &Call<Compute>, owner: &str) -> Answer<Json> {
    let mut set = json!({});
    for (name, limit) in rows(&call.db, owner).await? {
        if name.starts_with("injected") && call.version >= v(2, 57) {
            continue;
        }
        set[name] = json!(limit);
    }
    if call.version < v(2, 36) {
        for (name, limit) in OLD_NETWORK {
            set[name] = json!(limit);
        }
    }
    Ok(set)
}

/// Upstream: classes gained the groups, and lost the network, with 2.50.
async fn class_quotas(call: &Call<Compute>) -> Answer<Json> {
    let mut set = json!({});
    for (name, limit) in rows(&call.db, DEFAULT_CLASS).await? {
        let early = name.starts_with("server_group") && call.version < v(2, 50);
        let late = name.starts_with("injected") && call.version >= v(2, 57);
        if !early && !late {
            set[name] = json!(limit);
        }
    }
    if call.version < v(2, 50) {
        for (name, limit) in OLD_NETWORK {
            set[name] = json!(limit);
        }
    }
    Ok(set)
}

async fn set_all(db: &Db, owner: &str, wanted: &[(&str, Option<i64>)]) -> Result<(), db::Error> {
    let mut tx = db.begin().await?;
    for (name, limit) in wanted.iter().filter_map(|(name, limit)| Some((*name, (*limit)?))) {
        let change = sql("UPDATE quotas SET hard_limit = ? WHERE project_id = ? AND resource = ?");
        if tx.run(change.bind(limit).bind(owner).bind(name)).await? == 0 {
            let new = sql("INSERT INTO quotas (project_id, resource, hard_limit) VALUES (?, ?, ?)");
            tx.run(new.bind(owner).bind(name).bind(limit)).await?;
        }
    }
    tx.commit().await
}

async fn usage(db: &Db, name: &str, project: &str) -> Result<i64, db::Error> {
    match LIMITS.iter().find(|kind| kind.name == name && COUNTED.contains(&name)) {
        Some(kind) => db.count(sql(kind.count).bind(project)).await,
        None => Ok(0),
    }
}

async fn must_exist(call: &Call<Compute>, project: &str) -> Answer<()> {
    match projects::exists(call, project).await {
        true => Ok(()),
        false => Err(Refusal::bad_request(format!("Project ID {project} is not a valid project."))),
    }
}
