//! Grants: giving a role on a project, on a domain or on the system to a user or a group, and taking it back.

use api::view::listed;
use api::{Answer, Call, Document, Done, JsonMap, Operation, Path, Permitted, Refusal, View, delete, get, head, put};
use base::{Json, json};
use db::Tx;

use crate::assignments::store::{self, Filter};
use crate::assignments::{Assignment, SYSTEM};
use crate::projects::store as projects;
use crate::roles::{Role, store as roles};
use crate::{Identity, groups, users};

/// To whom, on what, and whether for the projects below it.
#[derive(Debug, Clone, Copy)]
struct Place {
    target: &'static str,
    actor: &'static str,
    inherited: bool,
}

/// Target, actor and role, as they stand in the path.
type Names = (String, String, String);

pub fn operations() -> Vec<Operation<Identity>> {
    let plain = |target, actor| Place { target, actor, inherited: false };
    let below = |target, actor| Place { target, actor, inherited: true };
    let mut all = Vec::new();
    all.extend(lists(plain("project", "user"), "/projects/{project_id}/users/{user_id}/roles"));
    all.extend(lists(plain("project", "group"), "/projects/{project_id}/groups/{group_id}/roles"));
    all.extend(lists(plain("domain", "user"), "/domains/{domain_id}/users/{user_id}/roles"));
    all.extend(lists(plain("domain", "group"), "/domains/{domain_id}/groups/{group_id}/roles"));
    all.extend(lists(
        below("domain", "user"),
        "/OS-INHERIT/domains/{domain_id}/users/{user_id}/roles/inherited_to_projects",
    ));
    all.extend(lists(
        below("domain", "group"),
        "/OS-INHERIT/domains/{domain_id}/groups/{group_id}/roles/inherited_to_projects",
    ));
    all.extend(single(plain("project", "user"), "/projects/{project_id}/users/{user_id}/roles/{role_id}"));
    all.extend(single(plain("project", "group"), "/projects/{project_id}/groups/{group_id}/roles/{role_id}"));
    all.extend(single(plain("domain", "user"), "/domains/{domain_id}/users/{user_id}/roles/{role_id}"));
    all.extend(single(plain("domain", "group"), "/domains/{domain_id}/groups/{group_id}/roles/{role_id}"));
    all.extend(single(
        below("project", "user"),
        "/OS-INHERIT/projects/{project_id}/users/{user_id}/roles/{role_id}/inherited_to_projects",
    ));
    all.extend(single(
        below("project", "group"),
        "/OS-INHERIT/projects/{project_id}/groups/{group_id}/roles/{role_id}/inherited_to_projects",
    ));
    all.extend(single(
        below("domain", "user"),
        "/OS-INHERIT/domains/{domain_id}/users/{user_id}/roles/{role_id}/inherited_to_projects",
    ));
    all.extend(single(
        below("domain", "group"),
        "/OS-INHERIT/domains/{domain_id}/groups/{group_id}/roles/{role_id}/inherited_to_projects",
    ));
    all.extend(on_the_system());
    all
}

fn lists(place: Place, path: &'static str) -> Vec<Operation<Identity>> {
    let of =
        move |call: Call<Identity>, Path((target, actor)): Path<(String, String)>| list(call, place, target, actor);
    vec![get(path, of).rule("identity:list_grants")]
}

fn single(place: Place, path: &'static str) -> Vec<Operation<Identity>> {
    let check = move |call: Call<Identity>, Path(names): Path<Names>| check(call, place, names);
    let give = move |call: Call<Identity>, Path(names): Path<Names>| give(call, place, names);
    let take = move |call: Call<Identity>, Path(names): Path<Names>| take(call, place, names);
    vec![
        get(path, check).rule("identity:check_grant"),
        head(path, check).rule("identity:check_grant"),
        put(path, give).rule("identity:create_grant"),
        delete(path, take).rule("identity:revoke_grant"),
    ]
}

fn on_the_system() -> Vec<Operation<Identity>> {
    const USERS: &str = "/system/users/{user_id}/roles";
    const USER: &str = "/system/users/{user_id}/roles/{role_id}";
    const GROUPS: &str = "/system/groups/{group_id}/roles";
    const GROUP: &str = "/system/groups/{group_id}/roles/{role_id}";
    let place = |actor| Place { target: SYSTEM, actor, inherited: false };
    let (user, group) = (place("user"), place("group"));
    type Pair = Path<(String, String)>;
    let names = |Path((actor, role)): Pair| (SYSTEM.to_string(), actor, role);
    let check_user = move |call: Call<Identity>, pair: Pair| check(call, user, names(pair));
    let check_group = move |call: Call<Identity>, pair: Pair| check(call, group, names(pair));
    let list_user = move |call: Call<Identity>, Path(id): Path<String>| list(call, user, SYSTEM.into(), id);
    let list_group = move |call: Call<Identity>, Path(id): Path<String>| list(call, group, SYSTEM.into(), id);
    let give_user = move |call: Call<Identity>, pair: Pair| give(call, user, names(pair));
    let give_group = move |call: Call<Identity>, pair: Pair| give(call, group, names(pair));
    let take_user = move |call: Call<Identity>, pair: Pair| take(call, user, names(pair));
    let take_group = move |call: Call<Identity>, pair: Pair| take(call, group, names(pair));
    vec![
        get(USERS, list_user).rule("identity:list_system_grants_for_user"),
        get(USER, check_user).rule("identity:check_system_grant_for_user"),
        head(USER, check_user).rule("identity:check_system_grant_for_user"),
        put(USER, give_user).rule("identity:create_system_grant_for_user"),
        delete(USER, take_user).rule("identity:revoke_system_grant_for_user"),
        get(GROUPS, list_group).rule("identity:list_system_grants_for_group"),
        get(GROUP, check_group).rule("identity:check_system_grant_for_group"),
        head(GROUP, check_group).rule("identity:check_system_grant_for_group"),
        put(GROUP, give_group).rule("identity:create_system_grant_for_group"),
        delete(GROUP, take_group).rule("identity:revoke_system_grant_for_group"),
    ]
}

/// Looks up everything that a grant names, and asks the operation's rule about it. Upstream: what is not there is said
/// before the rule is asked; only to take a grant back, the actor may be gone.
async fn permit(
    call: &Call<Identity>,
    place: Place,
    (target_id, actor_id): (&str, &str),
    role: Option<&Role>,
    actor_may_be_gone: bool,
) -> Answer<Permitted<()>> {
    let mut seen = JsonMap::new();
    if let Some(role) = role {
        seen.insert("role".into(), role.target());
    }
    let actor = match place.actor {
        "user" => users::store::user(&call.db, actor_id).await.map(|user| user.target()),
        _ => groups::store::group(&call.db, actor_id).await.map(|group| group.target()),
    };
    match actor {
        Ok(actor) => drop(seen.insert(place.actor.into(), actor)),
        Err(refusal) if refusal.status != 404 || !actor_may_be_gone => return Err(refusal),
        Err(_) => {}
    }
    match place.target {
        "project" => drop(seen.insert("project".into(), projects::project(&call.db, target_id).await?.target())),
        "domain" => drop(seen.insert("domain".into(), projects::domain(&call.db, target_id).await?.target())),
        _ => {}
    }
    call.allow_on(&json!({"target": Json::Object(seen)}))
}

fn assignment(place: Place, (target_id, actor_id, role_id): &Names) -> Assignment {
    Assignment {
        actor_kind: place.actor.into(),
        actor_id: actor_id.clone(),
        target_kind: place.target.into(),
        target_id: target_id.clone(),
        role_id: role_id.clone(),
        inherited: place.inherited,
    }
}

fn not_granted((target_id, actor_id, role_id): &Names) -> Refusal {
    Refusal::not_found(format!(
        "Could not find role assignment with role: {role_id}, user or group: {actor_id}, project, domain, or system: \
         {target_id}."
    ))
}

async fn list(call: Call<Identity>, place: Place, target_id: String, actor_id: String) -> Answer<Document> {
    let permitted = permit(&call, place, (&target_id, &actor_id), None, false).await?;
    let group_ids = [actor_id.clone()];
    let target_ids = [target_id.clone()];
    let filter = Filter {
        user_id: Some(actor_id.as_str()).filter(|_| place.actor == "user"),
        group_ids: Some(group_ids.as_slice()).filter(|_| place.actor == "group"),
        domain_id: Some(target_id.as_str()).filter(|_| place.target == "domain"),
        project_ids: Some(target_ids.as_slice()).filter(|_| place.target == "project"),
        system: Some(place.target == SYSTEM),
        inherited: Some(place.inherited),
        role_id: None,
    };
    let ids: Vec<String> = store::list(&call.db, &filter).await?.into_iter().map(|row| row.role_id).collect();
    let roles = roles::by_ids(&call.db, &ids).await?;
    let shown = roles.iter().map(|role| role.view(&call.reader)).collect();
    Ok(Document::new(permitted, listed("roles", shown, &call.reader)))
}

async fn check(call: Call<Identity>, place: Place, names: Names) -> Answer<Done> {
    let role = roles::role(&call.db, &names.2).await?;
    let permitted = permit(&call, place, (&names.0, &names.1), Some(&role), false).await?;
    match store::exists(&call.db, &assignment(place, &names)).await? {
        true => Ok(Done::with(permitted)),
        false => Err(not_granted(&names)),
    }
}

async fn give(call: Call<Identity>, place: Place, names: Names) -> Answer<Done> {
    let role = roles::role(&call.db, &names.2).await?;
    let permitted = permit(&call, place, (&names.0, &names.1), Some(&role), false).await?;
    fits(&call, place, &names, &role).await?;
    let mut tx = call.db.begin().await?;
    tx.insert_new(&assignment(place, &names)).await?;
    call.settle(tx).await?;
    Ok(Done::with(permitted))
}

/// A domain's role is for that domain's projects.
async fn fits(call: &Call<Identity>, place: Place, (target_id, _, role_id): &Names, role: &Role) -> Answer<()> {
    let Some(domain_id) = role.domain() else { return Ok(()) };
    match place.target {
        SYSTEM => Err(Refusal::bad_request(format!(
            "Role {role_id} is a domain-specific role. Unable to use a domain-specific role in a system assignment."
        ))),
        "project" if projects::project(&call.db, target_id).await?.domain_id != domain_id => Err(Refusal::forbidden(
            format!("Project {target_id} must be in the same domain as the role {role_id} being assigned."),
        )),
        _ => Ok(()),
    }
}

async fn take(call: Call<Identity>, place: Place, names: Names) -> Answer<Done> {
    let role = roles::role(&call.db, &names.2).await?;
    let permitted = permit(&call, place, (&names.0, &names.1), Some(&role), true).await?;
    let mut tx: Tx = call.db.begin().await?;
    if !store::delete(&mut tx, &assignment(place, &names)).await? {
        return Err(not_granted(&names));
    }
    call.settle(tx).await?;
    Ok(Done::with(permitted))
}
