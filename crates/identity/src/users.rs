//! Users: who may log in.

pub mod password;
pub mod store;

use api::listing::{flag as flag_filter, text as text_filter};
use api::wire::{Maybe, flag, list as list_of, nested, text};
use api::{
    Answer, Body, Call, Created, Document, Done, Listed, Listing, NoInput, Operation, OrConflict, Path, Permitted,
    Query, Reader, Refusal, Show, View, delete, get, patch, post, wire,
};
use base::{Json, Time, clock, json};
use db::{Select, select};

use crate::projects::{self, Project};
use crate::{Identity, assignments, missing, revocations};
pub use store::User;

pub(crate) const USERS: Listing = Listing {
    sort: &["name", "id"],
    filter: &[text_filter("domain_id"), flag_filter("enabled"), text_filter("name")],
    ..Listing::PLAIN
};
const PROJECTS: Listing = Listing {
    sort: &["name", "id"],
    filter: &[text_filter("domain_id"), flag_filter("enabled"), text_filter("name")],
    ..Listing::PLAIN
};

pub fn operations() -> Vec<Operation<Identity>> {
    vec![
        get("/users", list).rule("identity:list_users").paged(&USERS),
        post("/users", create).rule("identity:create_user"),
        get("/users/{user_id}", show).rule("identity:get_user"),
        patch("/users/{user_id}", update).rule("identity:update_user"),
        delete("/users/{user_id}", remove).rule("identity:delete_user"),
        post("/users/{user_id}/password", password::change).public(),
        delete("/users/{user_id}/tokens", revoke_tokens).rule("identity:revoke_tokens_for_user"),
        get("/users/{user_id}/projects", projects_of).rule("identity:list_user_projects").paged(&PROJECTS),
    ]
}

wire! {
    /// What a client sends for a new user. Unknown keys are kept.
    pub struct NewUser in "user" open {
        name: String = text(1, 255).matching(r"[\S]+").required(),
        domain_id: Option<String> = text(1, 64).nullable(),
        default_project_id: Option<String> = text(0, 64).nullable(),
        password: Option<String> = text(0, 8192).nullable(),
        enabled: Option<bool> = flag().loose(),
        options: Option<Options> = nested::<Options>(),
        federated: Option<Vec<Json>> = list_of(wire::object()),
    }
}

wire! {
    /// What a client sends to change a user.
    pub struct UserChange in "user" open {
        id: Option<String> = text(0, 255),
        name: Option<String> = text(1, 255).matching(r"[\S]+"),
        domain_id: Maybe<String> = text(0, 64).nullable(),
        default_project_id: Maybe<String> = text(0, 64).nullable(),
        password: Maybe<String> = text(0, 8192).nullable(),
        enabled: Option<bool> = flag().loose(),
        options: Option<Options> = nested::<Options>(),
        federated: Option<Vec<Json>> = list_of(wire::object()),
    }
}

wire! {
    /// What can be set about a user beside the attributes; null unsets.
    pub struct Options {
        ignore_change_password_upon_first_use: Maybe<bool> = flag().nullable(),
        ignore_password_expiry: Maybe<bool> = flag().nullable(),
        ignore_lockout_failure_attempts: Maybe<bool> = flag().nullable(),
        lock_password: Maybe<bool> = flag().nullable(),
        ignore_user_inactivity: Maybe<bool> = flag().nullable(),
        multi_factor_auth_enabled: Maybe<bool> = flag().nullable(),
        multi_factor_auth_rules: Maybe<Json> =
            list_of(list_of(text(0, 255)).items(1, 16).unique()).items(0, 64).unique().nullable(),
    }
}

impl Options {
    /// `old` with the changes.
    fn over(self, old: &Json) -> Json {
        let mut options = old.clone();
        let flags = [
            ("ignore_change_password_upon_first_use", self.ignore_change_password_upon_first_use),
            ("ignore_password_expiry", self.ignore_password_expiry),
            ("ignore_lockout_failure_attempts", self.ignore_lockout_failure_attempts),
            ("lock_password", self.lock_password),
            ("ignore_user_inactivity", self.ignore_user_inactivity),
            ("multi_factor_auth_enabled", self.multi_factor_auth_enabled),
        ];
        let flags = flags.into_iter().map(|(name, value)| (name, value.sent().map(|value| json!(value))));
        let rules = ("multi_factor_auth_rules", self.multi_factor_auth_rules.sent().map(|value| json!(value)));
        for (name, value) in flags.chain([rules]) {
            match (value, options.as_object_mut()) {
                (Some(Json::Null), Some(map)) => drop(map.remove(name)),
                (Some(value), Some(map)) => drop(map.insert(name.to_string(), value)),
                _ => {}
            }
        }
        options
    }
}

impl View for User {
    const ONE: &'static str = "user";
    const MANY: &'static str = "users";

    fn view(&self, to: &Reader) -> Json {
        let mut view = self.extra.clone();
        view["id"] = json!(self.id);
        view["name"] = json!(self.name);
        view["domain_id"] = json!(self.domain_id);
        view["enabled"] = json!(self.enabled);
        if let Some(project) = &self.default_project_id {
            view["default_project_id"] = json!(project);
        }
        view["password_expires_at"] = json!(self.password_expires_at.map(|expires| expires.iso_micros_z()));
        view["options"] = self.options.clone();
        view["links"] = json!({"self": to.link(&format!("/users/{}", self.id))});
        view
    }
}

/// What rules see of a user who may not exist; `id` stands in the path.
pub fn target(user: Option<&User>, id: &str) -> Json {
    match user {
        Some(user) => json!({"user_id": id, "target": {"user": user.target()}}),
        None => json!({"user_id": id}),
    }
}

async fn list(call: Call<Identity>, _: NoInput) -> Answer<Listed<User>> {
    let permitted = call.allow_on(&json!({"target": {"domain_id": call.caller.domain_id}}))?;
    let mut select = select::<User>("");
    if let Some(own) = &call.caller.domain_id {
        select = select.and("domain_id = ?").bind(own);
    }
    let select = with_expiry(select, &call.query)?;
    // Nobody here comes from elsewhere.
    let elsewhere = ["idp_id", "protocol_id", "unique_id"].iter().any(|name| call.query.has(name));
    let select = if elsewhere { select.and("1 = 0") } else { select };
    let rows = crate::rows(&call, select).await?;
    Ok(Listed(permitted.each(rows)))
}

/// `password_expires_at=lt:2026-12-08T22:02:00Z`
fn with_expiry(mut select: Select<User>, query: &Query) -> Answer<Select<User>> {
    for text in query.all("password_expires_at") {
        let (operator, time) = text.split_once(':').unwrap_or(("eq", text));
        let (operator, time) = if operator.contains('-') { ("eq", text) } else { (operator, time) };
        let compare = match operator {
            "eq" => "=",
            "neq" => "<>",
            "lt" => "<",
            "lte" => "<=",
            "gt" => ">",
            "gte" => ">=",
            other => {
                return Err(Refusal::bad_request(format!(
                    "The given operator {other} is not valid. It must be one of the following: 'eq', 'neq', 'lt', \
                     'lte', 'gt', or 'gte'."
                )));
            }
        };
        let time = Time::parse(time).ok_or_else(|| {
            Refusal::bad_request(
                "Timestamp not in expected format. The server could not comply with the request since it is either \
                 malformed or otherwise incorrect. The client is assumed to be in error.",
            )
        })?;
        select = select.and(format!("password_expires_at {compare} ?")).bind(time);
    }
    Ok(select)
}

/// Finds a user and asks the operation's rule about them.
pub async fn permitted(call: &Call<Identity>, id: &str) -> Answer<Permitted<User>> {
    let found = store::find(&call.db, id).await?;
    let permitted = call.allow_on(&target(found.as_ref(), id))?;
    let user = found.ok_or_else(|| missing("user", id))?;
    Ok(permitted.map(|()| user))
}

async fn show(call: Call<Identity>, Path(id): Path<String>) -> Answer<Show<User>> {
    Ok(Show(permitted(&call, &id).await?))
}

async fn create(call: Call<Identity>, Body(new): Body<NewUser>) -> Answer<Created<User>> {
    let permitted = call.allow_on(&json!({"target": {"user": {"name": new.name, "domain_id": new.domain_id}}}))?;
    not_from_elsewhere(new.federated.as_deref())?;
    let now = clock::now();
    let mut user = User {
        id: base::id::hex(),
        domain_id: crate::domain_of(&call, new.domain_id.as_deref()),
        name: new.name.trim().to_string(),
        enabled: new.enabled.unwrap_or(true),
        default_project_id: new.default_project_id,
        password_hash: None,
        password_created_at: None,
        password_expires_at: None,
        password_self_service: false,
        failed_auth_count: 0,
        failed_auth_at: None,
        last_active_at: None,
        created_at: now,
        extra: crate::extra(new.rest),
        options: new.options.map_or(json!({}), |options| options.over(&json!({}))),
    };
    if let Some(text) = &new.password {
        password::check(&call, text)?;
    }
    projects::store::domain(&call.db, &user.domain_id).await?;
    no_domain(&call, user.default_project_id.as_deref()).await?;
    if let Some(text) = &new.password {
        password::choose(&call, &mut user, text).await?;
        expire_first(&call, &mut user, now);
    }
    let mut tx = call.db.begin().await?;
    tx.insert(&user).await.or_conflict(|| store::name_taken(&user))?;
    store::remember(&mut tx, &user).await?;
    tx.commit().await?;
    Ok(Created(permitted.map(|()| user)))
}

/// Where the operator wants it, a password that somebody else chose is good for being changed only.
fn expire_first(call: &Call<Identity>, user: &mut User, now: Time) {
    let wanted = call.settings.compliance.change_password_upon_first_use;
    if wanted && !user.option("ignore_change_password_upon_first_use") {
        user.password_expires_at = Some(now);
    }
}

fn not_from_elsewhere(federated: Option<&[Json]>) -> Answer<()> {
    match federated.unwrap_or_default().first() {
        None => Ok(()),
        Some(object) => {
            let provider = object["idp_id"].as_str().unwrap_or_default();
            Err(Refusal::bad_request(format!("Could not find Identity Provider: {provider}")))
        }
    }
}

/// Upstream: the default project may be missing, but may not be a domain.
async fn no_domain(call: &Call<Identity>, project_id: Option<&str>) -> Answer<()> {
    let Some(id) = project_id else { return Ok(()) };
    match projects::store::find(&call.db, id).await? {
        Some(Project { is_domain: true, .. }) => {
            Err(Refusal::bad_request(format!("User's default project ID cannot be a domain ID: {id}")))
        }
        _ => Ok(()),
    }
}

async fn update(call: Call<Identity>, (Path(id), Body(change)): (Path<String>, Body<UserChange>)) -> Answer<Document> {
    let user = permitted(&call, &id).await?;
    let new = changed(&call, &user, &change).await?;
    let mut tx = call.db.begin().await?;
    store::update(&mut tx, &new).await.or_conflict(|| store::name_taken(&new))?;
    if !change.password.is_absent() {
        store::set_password(&mut tx, &new, call.settings.compliance.unique_last_password_count).await?;
    }
    let disabled = user.enabled && !new.enabled;
    if disabled || change.password.clone().value().is_some() {
        revocations::of_user(&mut tx, &id).await?;
    }
    call.settle(tx).await?;
    if !change.password.is_absent() {
        user.password_hash.iter().for_each(|hash| call.passwords.forget(hash));
    }
    let mut view = new.view(&call.reader);
    // Upstream: the answer to a change repeats the free attributes under `extra`.
    view["extra"] = new.extra.clone();
    Ok(Document::of(user, |_| json!({"user": view})))
}

/// The user as the change wants it.
async fn changed(call: &Call<Identity>, old: &User, change: &UserChange) -> Answer<User> {
    let UserChange { id, name, domain_id, default_project_id, password: secret, enabled, options, federated, rest } =
        change.clone();
    not_from_elsewhere(federated.as_deref())?;
    if id.is_some_and(|id| id != old.id) {
        return Err(Refusal::bad_request("Cannot change user ID"));
    }
    if domain_id.sent().is_some_and(|domain| domain.as_ref() != Some(&old.domain_id)) {
        return Err(Refusal::bad_request("Cannot change Domain ID"));
    }
    let mut new = old.clone();
    new.name = name.map_or(new.name, |name| name.trim().to_string());
    new.enabled = enabled.unwrap_or(old.enabled);
    if let Some(project) = default_project_id.sent() {
        new.default_project_id = project;
    }
    no_domain(call, new.default_project_id.as_deref().filter(|_| new.default_project_id != old.default_project_id))
        .await?;
    if let Some(options) = options {
        new.options = options.over(&old.options);
        const IGNORE: &str = "ignore_password_expiry";
        if new.option(IGNORE) != old.option(IGNORE) {
            let created = old.password_created_at;
            new.password_expires_at =
                created.and_then(|created| password::expiry(&call.settings.compliance, &new, created));
        }
    }
    crate::merge(&mut new.extra, rest);
    match secret {
        Maybe::Absent => {}
        Maybe::Null => new.password_hash = None,
        Maybe::Value(text) => {
            password::check(call, &text)?;
            password::choose(call, &mut new, &text).await?;
            expire_first(call, &mut new, clock::now());
        }
    }
    Ok(new)
}

async fn remove(call: Call<Identity>, Path(id): Path<String>) -> Answer<Done> {
    let user = permitted(&call, &id).await?;
    let mut tx = call.db.begin().await?;
    store::delete(&mut tx, &id).await?;
    call.settle(tx).await?;
    user.password_hash.iter().for_each(|hash| call.passwords.forget(hash));
    Ok(Done::with(user))
}

/// Makes all tokens of a user void: for those who cannot change their password to the same end.
async fn revoke_tokens(call: Call<Identity>, Path(id): Path<String>) -> Answer<Done> {
    let user = permitted(&call, &id).await?;
    let mut tx = call.db.begin().await?;
    revocations::of_user(&mut tx, &id).await?;
    call.settle(tx).await?;
    Ok(Done::with(user))
}

async fn projects_of(call: Call<Identity>, Path(id): Path<String>) -> Answer<Document> {
    let user = permitted(&call, &id).await?;
    let ids = assignments::projects_of_user(&call.db, &id).await?;
    let rows = crate::rows(&call, select::<Project>("").in_list("id", &ids)).await?;
    let shown = projects::Shown::all(&call.db, rows).await?;
    Ok(Document::of(user, |_| projects::page(&shown, &call.reader)))
}
