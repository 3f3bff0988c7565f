//! Trusts: a user lets another one act with some of the own roles on a project.

mod create;
pub mod store;

use std::collections::BTreeSet;

use api::view::listed;
use api::{
    Answer, Call, Document, Done, NoInput, Operation, Path, Permitted, Reader, Refusal, Show, View, delete, get, head,
    post,
};
use base::{Json, json};
use db::{Queries, select, sql};

use crate::assignments::effective;
use crate::roles::{Role, store as roles};
use crate::tokens::Scope;
use crate::{Identity, missing, not_authorized};
pub use create::{expiry, role_named};
pub use store::Trust;

pub fn operations() -> Vec<Operation<Identity>> {
    vec![
        get("/OS-TRUST/trusts", list).rule("identity:list_trusts"),
        post("/OS-TRUST/trusts", create::create).rule("identity:create_trust"),
        get("/OS-TRUST/trusts/{trust_id}", show).rule("identity:get_trust"),
        delete("/OS-TRUST/trusts/{trust_id}", remove).rule("identity:delete_trust"),
        get("/OS-TRUST/trusts/{trust_id}/roles", list_roles).rule("identity:list_roles_for_trust"),
        get("/OS-TRUST/trusts/{trust_id}/roles/{role_id}", show_role).rule("identity:get_role_for_trust"),
        head("/OS-TRUST/trusts/{trust_id}/roles/{role_id}", show_role).rule("identity:get_role_for_trust"),
    ]
}

/// A trust with its roles in full.
pub struct Full {
    trust: Trust,
    roles: Vec<Role>,
}

impl View for Full {
    const ONE: &'static str = "trust";
    const MANY: &'static str = "trusts";

    fn view(&self, to: &Reader) -> Json {
        let mut view = short(&self.trust, to);
        view["roles"] = self.roles.iter().map(|role| role.view(to)).collect();
        view["roles_links"] = role_links(&self.trust.id, to);
        view
    }
}

/// A trust as it stands in lists.
fn short(trust: &Trust, to: &Reader) -> Json {
    let mut view = trust.extra.clone();
    view["id"] = json!(trust.id);
    view["trustor_user_id"] = json!(trust.trustor_user_id);
    view["trustee_user_id"] = json!(trust.trustee_user_id);
    view["project_id"] = json!(trust.project_id);
    view["impersonation"] = json!(trust.impersonation);
    view["expires_at"] = json!(trust.expires_at.map(|expires| expires.iso_micros_z()));
    view["remaining_uses"] = json!(trust.remaining_uses);
    view["redelegated_trust_id"] = json!(trust.redelegated_trust_id);
    view["redelegation_count"] = json!(trust.redelegation_count);
    view["deleted_at"] = Json::Null;
    view["links"] = json!({"self": to.link(&format!("/OS-TRUST/trusts/{}", trust.id))});
    view
}

fn role_links(id: &str, to: &Reader) -> Json {
    json!({"self": to.link(&format!("/OS-TRUST/trusts/{id}/roles")), "next": null, "previous": null})
}

/// The roles that a trust carries now, without those of domains; none when the first trustor has lost one of them.
pub async fn roles(mut db: impl Queries, trust: &Trust) -> Result<Option<Vec<Role>>, db::Error> {
    let Some(project_id) = &trust.project_id else { return Ok(Some(Vec::new())) };
    let chain = store::chain(&mut db, trust).await?;
    let trustor = &chain.last().unwrap_or(trust).trustor_user_id;
    let held = effective::all_roles(&mut db, trustor, &Scope::Project(project_id.clone())).await?;
    let held: BTreeSet<&str> = held.iter().map(|role| role.id.as_str()).collect();
    let carried = effective::with_implied(&mut db, trust.role_ids.clone()).await?;
    if carried.is_empty() || carried.iter().any(|role| !held.contains(role.id.as_str())) {
        return Ok(None);
    }
    Ok(Some(carried.into_iter().filter(|role| role.domain().is_none()).collect()))
}

/// Uses a trust up by one; two clients never share the last use.
pub async fn use_once(identity: &Identity, trust: &Trust) -> Answer<()> {
    if trust.remaining_uses.is_none() {
        return Ok(());
    }
    let take = sql("UPDATE trusts SET remaining_uses = remaining_uses - 1 WHERE id = ? AND remaining_uses > 0");
    match identity.db.run(take.bind(&trust.id)).await? {
        0 => Err(Refusal::forbidden(format!("No remaining uses for trust: {}.", trust.id))),
        _ => Ok(()),
    }
}

/// Tokens that are themselves delegated may not see or make further delegations.
fn not_delegated(call: &Call<Identity>) -> Answer<()> {
    let delegated = ["application_credential", "oauth1", "ec2credential"];
    match call.caller.methods.iter().any(|method| delegated.contains(&method.as_str())) {
        true => Err(not_authorized("Delegated tokens cannot manage trusts.")),
        false => Ok(()),
    }
}

fn target(trust: &Trust) -> Json {
    json!({"target": {"trust": {
        "id": trust.id,
        "trustor_user_id": trust.trustor_user_id,
        "trustee_user_id": trust.trustee_user_id,
        "project_id": trust.project_id,
    }}})
}

/// Upstream: a trust that is not there is said before the rule is asked.
async fn permitted(call: &Call<Identity>, id: &str) -> Answer<Permitted<Trust>> {
    let trust = store::usable(&call.db, id).await?.ok_or_else(|| missing("trust", id))?;
    let permitted = call.allow_on(&target(&trust))?;
    not_delegated(call)?;
    Ok(permitted.map(|()| trust))
}

async fn full(call: &Call<Identity>, trust: Permitted<Trust>) -> Answer<Permitted<Full>> {
    let roles = roles::by_ids(&call.db, &trust.role_ids).await?;
    Ok(trust.map(|trust| Full { trust, roles }))
}

async fn list(call: Call<Identity>, _: NoInput) -> Answer<Document> {
    let given = |name| call.query.get(name).filter(|value| !value.is_empty());
    let select = select::<Trust>("WHERE deleted_at IS NULL ORDER BY id");
    let (permitted, select) = match (given("trustor_user_id"), given("trustee_user_id")) {
        (Some(trustor), _) => {
            let target = json!({"target": {"trust": {"trustor_user_id": trustor}}});
            let permitted = call.allow_by("identity:list_trusts_for_trustor", &target)?;
            (permitted, select.and("trustor_user_id = ?").bind(trustor))
        }
        (None, Some(trustee)) => {
            let target = json!({"target": {"trust": {"trustee_user_id": trustee}}});
            let permitted = call.allow_by("identity:list_trusts_for_trustee", &target)?;
            (permitted, select.and("trustee_user_id = ?").bind(trustee))
        }
        (None, None) => (call.allow_on(&json!({}))?, select),
    };
    not_delegated(&call)?;
    let trusts = call.db.all(select).await?;
    let shown = trusts.iter().map(|trust| short(trust, &call.reader)).collect();
    Ok(Document::new(permitted, listed("trusts", shown, &call.reader)))
}

async fn show(call: Call<Identity>, Path(id): Path<String>) -> Answer<Show<Full>> {
    let trust = permitted(&call, &id).await?;
    Ok(Show(full(&call, trust).await?))
}

async fn remove(call: Call<Identity>, Path(id): Path<String>) -> Answer<Done> {
    let trust = permitted(&call, &id).await?;
    let mut tx = call.db.begin().await?;
    store::delete(&mut tx, &id).await?;
    call.settle(tx).await?;
    Ok(Done::with(trust))
}

async fn list_roles(call: Call<Identity>, Path(id): Path<String>) -> Answer<Document> {
    let trust = permitted(&call, &id).await?;
    let full = full(&call, trust).await?;
    let links = role_links(&id, &call.reader);
    let roles: Vec<Json> = full.roles.iter().map(|role| role.view(&call.reader)).collect();
    Ok(Document::of(full, |_| json!({"roles": roles, "links": links})))
}

async fn show_role(call: Call<Identity>, Path((id, role_id)): Path<(String, String)>) -> Answer<Show<Role>> {
    let trust = permitted(&call, &id).await?;
    if !trust.role_ids.contains(&role_id) {
        return Err(missing("role", &role_id));
    }
    let role = roles::role(&call.db, &role_id).await?;
    Ok(Show(trust.map(|_| role)))
}
