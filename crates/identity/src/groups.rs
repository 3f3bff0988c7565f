//! Groups: users who are given roles together.

pub mod store;

use api::listing::text as text_filter;
use api::view::listed;
use api::wire::{Maybe, text};
use api::{
    Answer, Body, Call, Created, Document, Done, Listed, Listing, NoInput, Operation, OrConflict, Path, Permitted,
    Reader, Refusal, Show, View, delete, get, head, patch, post, put, wire,
};
use base::{Json, json};
use db::{select, sql};

use crate::users::{self, User};
use crate::{Identity, missing, revocations};
pub use store::{Group, Membership};

const GROUPS: Listing =
    Listing { sort: &["name", "id"], filter: &[text_filter("domain_id"), text_filter("name")], ..Listing::PLAIN };

pub fn operations() -> Vec<Operation<Identity>> {
    vec![
        get("/groups", list).rule("identity:list_groups").paged(&GROUPS),
        post("/groups", create).rule("identity:create_group"),
        get("/groups/{group_id}", show).rule("identity:get_group"),
        patch("/groups/{group_id}", update).rule("identity:update_group"),
        delete("/groups/{group_id}", remove).rule("identity:delete_group"),
        get("/groups/{group_id}/users", members).rule("identity:list_users_in_group").paged(&users::USERS),
        put("/groups/{group_id}/users/{user_id}", add_user).rule("identity:add_user_to_group"),
        get("/groups/{group_id}/users/{user_id}", check_user).rule("identity:check_user_in_group"),
        head("/groups/{group_id}/users/{user_id}", check_user).rule("identity:check_user_in_group"),
        delete("/groups/{group_id}/users/{user_id}", remove_user).rule("identity:remove_user_from_group"),
        get("/users/{user_id}/groups", of_user).rule("identity:list_groups_for_user").paged(&GROUPS),
    ]
}

wire! {
    /// What a client sends for a new group.
    pub struct NewGroup in "group" open {
        name: String = text(1, 64).matching(r"[\S]+").required(),
        description: Option<String> = text(0, 65535).nullable(),
        domain_id: Option<String> = text(1, 64).nullable(),
    }
}

wire! {
    /// What a client sends to change a group.
    pub struct GroupChange in "group" open {
        id: Option<String> = text(0, 255),
        name: Option<String> = text(1, 64).matching(r"[\S]+"),
        description: Maybe<String> = text(0, 65535).nullable(),
        domain_id: Maybe<String> = text(0, 64).nullable(),
    }
}

impl View for Group {
    const ONE: &'static str = "group";
    const MANY: &'static str = "groups";

    fn view(&self, to: &Reader) -> Json {
        let mut view = self.extra.clone();
        view["id"] = json!(self.id);
        view["name"] = json!(self.name);
        view["domain_id"] = json!(self.domain_id);
        view["description"] = json!(self.description);
        view["links"] = json!({"self": to.link(&format!("/groups/{}", self.id))});
        view
    }
}

async fn list(call: Call<Identity>, _: NoInput) -> Answer<Listed<Group>> {
    let own = call.caller.domain_id.as_deref();
    let permitted = call.allow_on(&json!({"target": {"group": {"domain_id": own}}}))?;
    let mut select = select::<Group>("");
    if let Some(own) = own {
        select = select.and("domain_id = ?").bind(own);
    }
    let rows = crate::rows(&call, select).await?;
    Ok(Listed(permitted.each(rows)))
}

/// Finds a group and asks the operation's rule about it.
async fn permitted(call: &Call<Identity>, id: &str) -> Answer<Permitted<Group>> {
    let found = store::find(&call.db, id).await?;
    let target = found.as_ref().map_or(json!({}), |group| json!({"target": {"group": group.target()}}));
    let permitted = call.allow_on(&target)?;
    let group = found.ok_or_else(|| missing("group", id))?;
    Ok(permitted.map(|()| group))
}

async fn show(call: Call<Identity>, Path(id): Path<String>) -> Answer<Show<Group>> {
    Ok(Show(permitted(&call, &id).await?))
}

async fn create(call: Call<Identity>, Body(new): Body<NewGroup>) -> Answer<Created<Group>> {
    let permitted = call.allow_on(&json!({"target": {"group": {"domain_id": new.domain_id}}}))?;
    let group = Group {
        id: base::id::hex(),
        domain_id: crate::domain_of(&call, new.domain_id.as_deref()),
        name: new.name.trim().to_string(),
        description: Some(new.description.unwrap_or_default()),
        extra: crate::extra(new.rest),
    };
    crate::projects::store::domain(&call.db, &group.domain_id).await?;
    call.db.insert(&group).await.or_conflict(|| name_taken(&group))?;
    Ok(Created(permitted.map(|()| group)))
}

fn name_taken(group: &Group) -> Refusal {
    let Group { name, domain_id, .. } = group;
    Refusal::conflict(format!(
        "Conflict occurred attempting to store group - Duplicate entry found with name {name} at domain ID \
         {domain_id}."
    ))
}

async fn update(
    call: Call<Identity>,
    (Path(id), Body(change)): (Path<String>, Body<GroupChange>),
) -> Answer<Show<Group>> {
    let mut group = permitted(&call, &id).await?;
    if change.id.as_ref().is_some_and(|other| *other != id) {
        return Err(Refusal::bad_request("Cannot change ID"));
    }
    if change.domain_id.sent().is_some_and(|domain| domain.as_ref() != Some(&group.domain_id)) {
        return Err(Refusal::bad_request("Cannot change Domain ID"));
    }
    group.name = change.name.map_or_else(|| group.name.clone(), |name| name.trim().to_string());
    if let Some(description) = change.description.sent() {
        group.description = description;
    }
    crate::merge(&mut group.extra, change.rest);
    let statement = sql("UPDATE user_groups SET name = ?, description = ?, extra = ? WHERE id = ?");
    let statement = statement.bind(&group.name).bind(&group.description).bind(&group.extra).bind(&id);
    call.db.run(statement).await.or_conflict(|| name_taken(&group))?;
    Ok(Show(group))
}

async fn remove(call: Call<Identity>, Path(id): Path<String>) -> Answer<Done> {
    let group = permitted(&call, &id).await?;
    let mut tx = call.db.begin().await?;
    let granted = sql("SELECT COUNT(*) FROM assignments WHERE actor_kind = 'group' AND actor_id = ?").bind(&id);
    if tx.count(granted).await? > 0 {
        for user in store::members(&mut tx, &id).await? {
            revocations::of_user(&mut tx, &user).await?;
        }
    }
    store::delete(&mut tx, &id).await?;
    call.settle(tx).await?;
    Ok(Done::with(group))
}

async fn members(call: Call<Identity>, Path(id): Path<String>) -> Answer<Listed<User>> {
    let group = permitted(&call, &id).await?;
    let select = select::<User>("JOIN memberships ON memberships.user_id = users.id WHERE memberships.group_id = ?");
    let rows = crate::rows(&call, select.bind(&id)).await?;
    let own = call.caller.domain_id.as_deref();
    let rows = rows.into_iter().filter(|user| own.is_none_or(|own| user.domain_id == own)).collect();
    Ok(Listed(group.map(|_| ()).each(rows)))
}

/// A group and a user, once the operation's rule about both was asked.
async fn both(call: &Call<Identity>, group_id: &str, user_id: &str) -> Answer<Permitted<()>> {
    let group = store::find(&call.db, group_id).await?;
    let user = users::store::find(&call.db, user_id).await?;
    let mut target = json!({"target": {}});
    if let Some(group) = &group {
        target["target"]["group"] = group.target();
    }
    if let Some(user) = &user {
        target["target"]["user"] = user.target();
    }
    let permitted = call.allow_on(&target)?;
    group.ok_or_else(|| missing("group", group_id))?;
    user.ok_or_else(|| missing("user", user_id))?;
    Ok(permitted)
}

async fn add_user(call: Call<Identity>, Path((group_id, user_id)): Path<(String, String)>) -> Answer<Done> {
    let permitted = both(&call, &group_id, &user_id).await?;
    let mut tx = call.db.begin().await?;
    tx.insert_new(&Membership { user_id, group_id }).await?;
    call.settle(tx).await?;
    Ok(Done::with(permitted))
}

fn not_in(user_id: &str, group_id: &str) -> Refusal {
    Refusal::not_found(format!("User '{user_id}' not found in group '{group_id}'"))
}

async fn check_user(call: Call<Identity>, Path((group_id, user_id)): Path<(String, String)>) -> Answer<Done> {
    let permitted = both(&call, &group_id, &user_id).await?;
    match store::members(&call.db, &group_id).await?.contains(&user_id) {
        true => Ok(Done::with(permitted)),
        false => Err(not_in(&user_id, &group_id)),
    }
}

async fn remove_user(call: Call<Identity>, Path((group_id, user_id)): Path<(String, String)>) -> Answer<Done> {
    let permitted = both(&call, &group_id, &user_id).await?;
    let mut tx = call.db.begin().await?;
    let gone = sql("DELETE FROM memberships WHERE user_id = ? AND group_id = ?").bind(&user_id).bind(&group_id);
    if tx.run(gone).await? == 0 {
        return Err(not_in(&user_id, &group_id));
    }
    // Upstream: who leaves a group has to log in again.
    revocations::of_user(&mut tx, &user_id).await?;
    call.settle(tx).await?;
    Ok(Done::with(permitted))
}

async fn of_user(call: Call<Identity>, Path(user_id): Path<String>) -> Answer<Document> {
    let user = users::store::find(&call.db, &user_id).await?;
    let permitted = call.allow_on(&users::target(user.as_ref(), &user_id))?;
    user.ok_or_else(|| missing("user", &user_id))?;
    let mut select =
        select::<Group>("JOIN memberships ON memberships.group_id = user_groups.id WHERE memberships.user_id = ?");
    select = select.bind(&user_id);
    if let Some(own) = &call.caller.domain_id {
        select = select.and("user_groups.domain_id = ?").bind(own);
    }
    let rows = crate::rows(&call, select).await?;
    let shown = rows.iter().map(|group| {
        let mut view = group.view(&call.reader);
        // Upstream: memberships that end by themselves come from elsewhere; ours do not end.
        view["membership_expires_at"] = Json::Null;
        view
    });
    Ok(Document::new(permitted, listed("groups", shown.collect(), &call.reader)))
}
