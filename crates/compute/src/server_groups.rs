//! Server groups: servers that should be together or apart.

use std::borrow::Cow;
use std::collections::BTreeMap;

use api::wire::{integer, list as list_of, nested, one_of, text};
use api::{
    Answer, Body, Call, Done, Json, Limit, Listed, NoInput, Operation, Path, Reader, Show, Target, View, delete, get,
    json, post, v,
};
use base::Time;
use db::{Db, Order, Page, Queries, Tx, record, select, sql};

use crate::{Compute, names, query};

pub const SERVER_GROUPS: Limit =
    Limit { name: "server_groups", default: 10, count: "SELECT COUNT(*) FROM server_groups WHERE project_id = ?" };

/// Counted by group, not by project.
pub const MEMBERS: Limit =
    Limit { name: "server_group_members", default: 10, count: "SELECT COUNT(*) FROM servers WHERE group_id = ?" };

const POLICIES: &[&str] = &["anti-affinity", "affinity", "soft-anti-affinity", "soft-affinity"];

pub fn operations() -> Vec<Operation<Compute>> {
    vec![
        get("/os-server-groups", list).rule("os_compute_api:os-server-groups:index"),
        post("/os-server-groups", create).rule("os_compute_api:os-server-groups:create").status(200),
        get("/os-server-groups/{id}", show).rule("os_compute_api:os-server-groups:show"),
        delete("/os-server-groups/{id}", remove).rule("os_compute_api:os-server-groups:delete"),
    ]
}

api::wire! {
    /// What a client sends to make a group.
    pub struct NewGroup in "server_group" {
        name: String = text(1, 255).required(),
        policies: Option<Vec<String>> = list_of(one_of(POLICIES)).items(1, 1).until(v(2, 63)),
        policy: Option<String> = one_of(POLICIES).required_since(v(2, 64)).since(v(2, 64)),
        rules: Option<Rules> = nested::<Rules>().since(v(2, 64)),
    }
}

api::wire! {
    /// How strictly a group keeps its servers apart.
    pub struct Rules {
        most_per_host as "max_server_per_host": Option<i64> = integer(1, i64::MAX).loose(),
    }
}

record! {
    pub struct Group in "server_groups" {
        pub id: String,
        pub project_id: String,
        pub user_id: String,
        pub name: String,
        pub policy: String,
        pub most_per_host: Option<i64>,
        pub created_at: Time,
    }
}

impl Target for Group {
    fn attribute(&self, name: &str) -> Option<Cow<'_, str>> {
        match name {
            "project_id" | "tenant_id" => Some(Cow::Borrowed(&self.project_id)),
            "user_id" => Some(Cow::Borrowed(&self.user_id)),
            _ => None,
        }
    }
}

impl Group {
    /// How many servers of a group that keeps them apart may share a host.
    pub fn most_on_a_host(&self) -> usize {
        self.most_per_host.and_then(|most| usize::try_from(most).ok()).unwrap_or(1)
    }
}

/// A group with the servers that are in it now.
pub struct Shown {
    group: Group,
    members: Vec<String>,
}

impl Target for Shown {
    fn attribute(&self, name: &str) -> Option<Cow<'_, str>> {
        self.group.attribute(name)
    }
}

impl View for Shown {
    const ONE: &'static str = "server_group";
    const MANY: &'static str = "server_groups";

    fn view(&self, to: &Reader) -> Json {
        let group = &self.group;
        let mut view = json!({"id": group.id, "name": group.name, "members": self.members});
        if to.since(v(2, 13)) {
            view["project_id"] = json!(group.project_id);
            view["user_id"] = json!(group.user_id);
        }
        if to.since(v(2, 64)) {
            view["policy"] = json!(group.policy);
            view["rules"] = group.most_per_host.map_or(json!({}), |most| json!({"max_server_per_host": most}));
        } else {
            view["policies"] = json!([group.policy]);
            view["metadata"] = json!({});
        }
        view
    }
}

api::faults! {
    /// Why a call about server groups may be refused.
    pub enum GroupFault {
        NotFound(id: String) = 404 "itemNotFound" "Instance group {id} could not be found.",
        PoliciesMissing() = 400 "badRequest"
            "Invalid input for field/attribute server_group. 'policies' is a required property",
        RulesUnfit() = 400 "badRequest" "Only anti-affinity policy supports rules.",
        SoftTooEarly(policy: String) = 400 "badRequest"
            "Invalid input for field/attribute policies. Value: ['{policy}']. '{policy}' is not one of ['anti-affinity', 'affinity']",
        TooMany() = 403 "forbidden" "Quota exceeded, too many server groups.",
        TooManyMembers() = 403 "forbidden" "Quota exceeded, too many servers in group",
    }
}

async fn list(call: Call<Compute>, _: NoInput) -> Answer<Listed<Shown>> {
    call.allow()?;
    query::strict(&call, v(2, 75), &["all_projects", "limit", "offset"])?;
    let (limit, offset) = (query::limit(&call)?, query::number(&call, "offset")?.unwrap_or(0));
    let mut rows = select::<Group>("");
    // Upstream: others than administrators get their own groups, whatever they ask for.
    if call.query.has("all_projects") && call.may_own("context_is_admin") {
        call.must("os_compute_api:os-server-groups:index:all_projects", &api::Own(&call.caller))?;
    } else {
        rows = rows.and("project_id = ?").bind(call.caller.project());
    }
    // Upstream: the offset is a place in the list, not a marker.
    let order = Page { sort: vec![("created_at".into(), Order::Asc)], ..Page::default() };
    let groups = call.db.page(rows, &order).await?;
    let groups: Vec<Group> = groups.into_iter().skip(offset).take(limit).collect();
    let ids: Vec<&str> = groups.iter().map(|group| group.id.as_str()).collect();
    let mut members = members_of(&call.db, &ids).await?;
    let shown = groups.into_iter().map(|group| {
        let members = members.remove(&group.id).unwrap_or_default();
        Shown { group, members }
    });
    Ok(Listed(call.permit_listed(shown.collect())?))
}

async fn show(call: Call<Compute>, Path(id): Path<String>) -> Answer<Show<Shown>> {
    query::strict(&call, v(2, 102), &[])?;
    let group = call.permit(known(&call, &id).await?)?;
    let members = members(&call.db, &id).await?.into_iter().map(|(id, _)| id).collect();
    Ok(Show(group.map(|group| Shown { group, members })))
}

async fn create(call: Call<Compute>, Body(new): Body<NewGroup>) -> Answer<Show<Shown>> {
    let policy = new.policy.or(new.policies.and_then(|list| list.into_iter().next()));
    let Some(policy) = policy else {
        return Err(GroupFault::PoliciesMissing {}.into());
    };
    names::check("name", &new.name)?;
    if policy.starts_with("soft-") && call.version < v(2, 15) {
        return Err(GroupFault::SoftTooEarly { policy }.into());
    }
    let most_per_host = new.rules.and_then(|rules| rules.most_per_host);
    if most_per_host.is_some() && policy != "anti-affinity" {
        return Err(GroupFault::RulesUnfit {}.into());
    }
    let group = call.permit(Group {
        id: base::id::uuid(),
        project_id: call.caller.project().to_string(),
        user_id: call.caller.user_id.clone(),
        name: new.name,
        policy,
        most_per_host,
        created_at: base::clock::now(),
    })?;
    let mut tx = call.db.begin().await?;
    if api::quota::within(&mut tx, call.caller.project(), &SERVER_GROUPS, 1).await?.is_err() {
        return Err(GroupFault::TooMany {}.into());
    }
    tx.insert(&*group).await?;
    tx.commit().await?;
    Ok(Show(group.map(|group| Shown { group, members: Vec::new() })))
}

async fn remove(call: Call<Compute>, Path(id): Path<String>) -> Answer<Done> {
    let group = call.permit(known(&call, &id).await?)?;
    let mut tx = call.db.begin().await?;
    tx.run(sql("DELETE FROM server_groups WHERE id = ?").bind(&group.id)).await?;
    tx.run(sql("UPDATE servers SET group_id = NULL WHERE group_id = ?").bind(&group.id)).await?;
    tx.commit().await?;
    Ok(Done::with(group))
}

/// Upstream: a group of another project is there, and forbidden.
async fn known(call: &Call<Compute>, id: &str) -> Answer<Group> {
    let missing = || GroupFault::NotFound { id: id.to_string() };
    Ok(find(&call.db, id).await?.ok_or_else(missing)?)
}

pub async fn find(db: &Db, id: &str) -> Result<Option<Group>, db::Error> {
    db.maybe(select::<Group>("WHERE id = ?").bind(id)).await
}

/// The ids and hosts of a group's servers, the oldest first.
pub async fn members(mut db: impl Queries, id: &str) -> Result<Vec<(String, Option<String>)>, db::Error> {
    let rows = db.rows(sql("SELECT id, host FROM servers WHERE group_id = ? ORDER BY created_at, id").bind(id)).await?;
    rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect()
}

/// The servers of several groups.
async fn members_of(db: &Db, ids: &[&str]) -> Result<BTreeMap<String, Vec<String>>, db::Error> {
    let mut members: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let query = sql("SELECT group_id, id FROM servers WHERE group_id IN (?) ORDER BY created_at, id");
    for row in &db.rows(query.bind_list(ids.iter().copied())).await? {
        members.entry(row.get(0)?).or_default().push(row.get(1)?);
    }
    Ok(members)
}

/// Refuses `count` more servers in a group than the project's quota allows. The project's quotas are locked already.
pub async fn room(call: &Call<Compute>, tx: &mut Tx, group: &str, count: i64) -> Answer<()> {
    let allowed = api::quota::limit(tx, call.caller.project(), &MEMBERS).await?;
    let there = tx.count(sql(MEMBERS.count).bind(group)).await?;
    match allowed < 0 || there + count <= allowed {
        true => Ok(()),
        false => Err(GroupFault::TooManyMembers {}.into()),
    }
}

/// Whether the caller's project has the group.
pub async fn exists(call: &Call<Compute>, id: &str) -> Answer<bool> {
    let Some(group) = find(&call.db, id).await? else { return Ok(false) };
    Ok(call.caller.project() == group.project_id || call.may_own("context_is_admin"))
}
