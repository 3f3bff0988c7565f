//! Roles: names of what somebody may do. A role may belong to a domain, and may imply others.

mod implied;
pub mod store;

use api::listing::text as text_filter;
use api::wire::{Maybe, nested, text};
use api::{
    Answer, Body, Call, Created, Done, Listed, Listing, NoInput, Operation, OrConflict, Path, Permitted, Reader,
    Refusal, Show, View, delete, get, head, patch, post, put, wire,
};
use base::{Json, json};
use db::{select, sql};

use crate::projects::create::Options;
use crate::projects::update::immutable;
use crate::{Identity, missing};
pub use store::Role;

const ROLES: Listing =
    Listing { sort: &["name", "id"], filter: &[text_filter("name"), text_filter("domain_id")], ..Listing::PLAIN };

pub fn operations() -> Vec<Operation<Identity>> {
    vec![
        get("/roles", list).rule("identity:list_roles").paged(&ROLES),
        post("/roles", create).rule("identity:create_role"),
        get("/roles/{role_id}", show).rule("identity:get_role"),
        patch("/roles/{role_id}", update).rule("identity:update_role"),
        delete("/roles/{role_id}", remove).rule("identity:delete_role"),
        get("/roles/{prior_role_id}/implies", implied::list).rule("identity:list_implied_roles"),
        put("/roles/{prior_role_id}/implies/{implied_role_id}", implied::add)
            .rule("identity:create_implied_role")
            .status(201),
        get("/roles/{prior_role_id}/implies/{implied_role_id}", implied::show).rule("identity:get_implied_role"),
        head("/roles/{prior_role_id}/implies/{implied_role_id}", implied::check).rule("identity:check_implied_role"),
        delete("/roles/{prior_role_id}/implies/{implied_role_id}", implied::remove)
            .rule("identity:delete_implied_role"),
        get("/role_inferences", implied::all).rule("identity:list_role_inference_rules"),
    ]
}

wire! {
    /// What a client sends for a new role.
    pub struct NewRole in "role" open {
        name: String = text(1, 255).matching(r"[\S]+").required(),
        description: Option<String> = text(0, 65535).nullable(),
        domain_id: Option<String> = text(1, 64).nullable(),
        options: Option<Options> = nested::<Options>(),
    }
}

wire! {
    /// What a client sends to change a role.
    pub struct RoleChange in "role" open {
        id: Option<String> = text(0, 255),
        name: Option<String> = text(1, 255).matching(r"[\S]+"),
        description: Maybe<String> = text(0, 65535).nullable(),
        domain_id: Maybe<String> = text(0, 64).nullable(),
        options: Option<Options> = nested::<Options>(),
    }
}

impl View for Role {
    const ONE: &'static str = "role";
    const MANY: &'static str = "roles";

    fn view(&self, to: &Reader) -> Json {
        let mut view = plain(self);
        view["links"] = json!({"self": to.link(&format!("/roles/{}", self.id))});
        view
    }
}

/// A role inside something else, where it has no links.
pub fn plain(role: &Role) -> Json {
    let mut view = role.extra.clone();
    view["id"] = json!(role.id);
    view["name"] = json!(role.name);
    view["domain_id"] = json!(role.domain());
    view["description"] = json!(role.description);
    view["options"] = role.options.clone();
    view
}

async fn list(call: Call<Identity>, _: NoInput) -> Answer<Listed<Role>> {
    let of_domain = call.query.get("domain_id").is_some_and(|id| !id.is_empty());
    let permitted = match of_domain {
        false => call.allow_on(&json!({}))?,
        true => {
            let permitted = call.allow_on(&json!({}))?;
            call.must("identity:list_domain_roles", &json!({}))?;
            permitted
        }
    };
    let select = select::<Role>(if of_domain { "" } else { "WHERE domain_id = ''" });
    let rows = crate::rows(&call, select).await?;
    Ok(Listed(permitted.each(rows)))
}

/// Finds a role and asks the rule about it: the operation's, or `of_domain` for a role that belongs to a domain.
async fn permitted(call: &Call<Identity>, id: &str, of_domain: &str) -> Answer<Permitted<Role>> {
    let found = store::find(&call.db, id).await?;
    let permitted = match &found {
        Some(role) if role.domain().is_some() => {
            call.allow_by(of_domain, &json!({"target": {"role": role.target()}}))?
        }
        Some(role) => call.allow_on(&json!({"target": {"role": role.target()}}))?,
        None => call.allow_on(&json!({}))?,
    };
    let role = found.ok_or_else(|| missing("role", id))?;
    Ok(permitted.map(|()| role))
}

async fn show(call: Call<Identity>, Path(id): Path<String>) -> Answer<Show<Role>> {
    Ok(Show(permitted(&call, &id, "identity:get_domain_role").await?))
}

async fn create(call: Call<Identity>, Body(new): Body<NewRole>) -> Answer<Created<Role>> {
    let permitted = match new.domain_id {
        Some(_) => call.allow_by("identity:create_domain_role", &json!({}))?,
        None => call.allow_on(&json!({}))?,
    };
    let role = Role {
        id: base::id::hex(),
        name: new.name,
        domain_id: new.domain_id.unwrap_or_default(),
        description: new.description,
        extra: crate::extra(new.rest),
        options: new.options.map_or(json!({}), |options| options.over(&json!({}))),
    };
    if let Some(domain_id) = role.domain() {
        crate::projects::store::domain(&call.db, domain_id).await?;
    }
    call.db.insert(&role).await.or_conflict(|| name_taken(&role.name))?;
    Ok(Created(permitted.map(|()| role)))
}

fn name_taken(name: &str) -> Refusal {
    Refusal::conflict(format!("Conflict occurred attempting to store role - Duplicate entry found with name {name}."))
}

async fn update(
    call: Call<Identity>,
    (Path(id), Body(change)): (Path<String>, Body<RoleChange>),
) -> Answer<Show<Role>> {
    let mut role = permitted(&call, &id, "identity:update_domain_role").await?;
    if change.id.as_ref().is_some_and(|other| *other != id) {
        return Err(Refusal::bad_request("Cannot change ID"));
    }
    let touched = change.name.is_some() || !change.description.is_absent() || !change.rest.is_empty();
    let unlocks = change.options.as_ref().is_some_and(|options| !options.immutable.is_absent());
    if role.is_immutable() && (touched || !unlocks) {
        return Err(immutable("update", "role", &id));
    }
    if change.domain_id.sent().is_some_and(|domain| domain.unwrap_or_default() != role.domain_id) {
        return Err(Refusal::bad_request("Update of `domain_id` is not allowed."));
    }
    role.name = change.name.unwrap_or_else(|| role.name.clone());
    if let Some(description) = change.description.sent() {
        role.description = description;
    }
    role.options = change.options.map_or(role.options.clone(), |options| options.over(&role.options));
    crate::merge(&mut role.extra, change.rest);

    let mut tx = call.db.begin().await?;
    let statement = sql("UPDATE roles SET name = ?, description = ?, extra = ?, options = ? WHERE id = ?");
    let statement = statement.bind(&role.name).bind(&role.description).bind(&role.extra).bind(&role.options);
    tx.run(statement.bind(&id)).await.or_conflict(|| name_taken(&role.name))?;
    call.settle(tx).await?;
    Ok(Show(role))
}

async fn remove(call: Call<Identity>, Path(id): Path<String>) -> Answer<Done> {
    let role = permitted(&call, &id, "identity:delete_domain_role").await?;
    if role.is_immutable() {
        return Err(immutable("delete", "role", &id));
    }
    let mut tx = call.db.begin().await?;
    store::delete(&mut tx, &id).await?;
    call.settle(tx).await?;
    Ok(Done::with(role))
}
