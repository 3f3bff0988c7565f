//! Application credentials: a user lets a program log in with some of the own roles on a project.

use api::listing::text as text_filter;
use api::wire::{flag, list as list_of, nested, text};
use api::{
    Answer, Body, Call, Created, Document, Done, Listing, Operation, OrConflict, Path, Permitted, Reader, Refusal,
    Show, View, delete, get, post, wire,
};
use base::{Json, Time, clock, json};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use db::{Queries, select, sql};

use crate::access_rules::{self, AccessRule, NewRule};
use crate::roles::{self, Role, store as role_rows};
use crate::trusts::{expiry, role_named};
use crate::users::password::unusable;
use crate::{Identity, missing, not_authorized};

const CREDENTIALS: Listing = Listing { sort: &["name", "id"], filter: &[text_filter("name")], ..Listing::PLAIN };

/// Limit: roles and rules that one credential can name.
const ITEMS: usize = 256;

pub fn operations() -> Vec<Operation<Identity>> {
    const ONE: &str = "/users/{user_id}/application_credentials/{application_credential_id}";
    vec![
        get("/users/{user_id}/application_credentials", list)
            .rule("identity:list_application_credentials")
            .paged(&CREDENTIALS),
        post("/users/{user_id}/application_credentials", create).rule("identity:create_application_credential"),
        get(ONE, show).rule("identity:get_application_credential"),
        delete(ONE, remove).rule("identity:delete_application_credential"),
    ]
}

wire! {
    /// What a client sends for a new application credential.
    pub struct NewApplicationCredential in "application_credential" open {
        name: String = text(1, 255).matching(r"[\S]+").required(),
        description: Option<String> = text(0, 65535).nullable(),
        secret: Option<String> = text(0, 4096).nullable(),
        expires_at: Option<String> = text(0, 64).nullable(),
        roles: Option<Vec<Json>> = list_of(wire::object()).items(0, ITEMS),
        unrestricted: Option<bool> = flag().nullable(),
        access_rules: Option<Vec<NewRule>> = list_of(nested::<NewRule>()).items(0, ITEMS),
    }
}

db::record! {
    pub struct ApplicationCredential in "application_credentials" {
        pub id: String,
        pub name: String,
        pub user_id: String,
        pub project_id: String,
        pub secret_hash: String,
        pub description: Option<String>,
        pub expires_at: Option<Time>,
        pub unrestricted: bool,
        pub role_ids: Vec<String>,
        /// None when it may call anything that its roles allow.
        pub access_rule_ids: Option<Vec<String>>,
        pub created_at: Time,
    }
}

/// An application credential with what it names in full.
#[derive(Debug, Clone)]
pub struct Shown {
    pub credential: ApplicationCredential,
    pub roles: Vec<Role>,
    pub access_rules: Option<Vec<AccessRule>>,
    /// Only once, in the answer to its making.
    secret: Option<String>,
}

impl View for Shown {
    const ONE: &'static str = "application_credential";
    const MANY: &'static str = "application_credentials";

    fn view(&self, to: &Reader) -> Json {
        let Shown { credential, roles, access_rules, secret } = self;
        let mut view = json!({
            "id": credential.id,
            "name": credential.name,
            "description": credential.description,
            "user_id": credential.user_id,
            "project_id": credential.project_id,
            "system": null,
            "expires_at": credential.expires_at.map(Time::iso_micros),
            "unrestricted": credential.unrestricted,
            "roles": roles.iter().map(roles::plain).collect::<Vec<_>>(),
            "links": {"self": to.link(&format!("/application_credentials/{}", credential.id))},
        });
        if let Some(rules) = access_rules {
            view["access_rules"] = rules.iter().map(access_rules::plain).collect();
        }
        if let Some(secret) = secret {
            view["secret"] = json!(secret);
        }
        view
    }
}

pub async fn find(mut db: impl Queries, id: &str) -> Result<Option<ApplicationCredential>, db::Error> {
    db.maybe(select::<ApplicationCredential>("WHERE id = ?").bind(id)).await
}

pub async fn by_name(
    mut db: impl Queries,
    user_id: &str,
    name: &str,
) -> Result<Option<ApplicationCredential>, db::Error> {
    db.maybe(select::<ApplicationCredential>("WHERE user_id = ? AND name = ?").bind(user_id).bind(name)).await
}

/// Adds roles and rules.
pub async fn shown(mut db: impl Queries, credential: ApplicationCredential) -> Result<Shown, db::Error> {
    let roles = role_rows::by_ids(&mut db, &credential.role_ids).await?;
    let access_rules = match &credential.access_rule_ids {
        Some(ids) => Some(access_rules::by_ids(&mut db, ids).await?),
        None => None,
    };
    Ok(Shown { credential, roles, access_rules, secret: None })
}

/// Tokens from trusts and the like may not see or make credentials that would outlive them.
pub fn not_delegated(call: &Call<Identity>) -> Answer<()> {
    let used = |method: &str| call.caller.methods.iter().any(|used| used == method);
    let delegated = call.caller.trust_id.is_some() || used("oauth1") || used("ec2credential");
    match delegated && !used("application_credential") {
        true => Err(Refusal::forbidden("Cannot manage application credentials with a token issued via delegation.")),
        false => Ok(()),
    }
}

/// A program may manage credentials only if that was allowed when its own was made.
fn unrestricted(call: &Call<Identity>) -> Answer<()> {
    match call.caller.application_credential_id.is_some() && !call.caller.unrestricted {
        true => Err(not_authorized(
            "Using method 'application_credential' is not allowed for managing additional application credentials.",
        )),
        false => Ok(()),
    }
}

async fn list(call: Call<Identity>, Path(user_id): Path<String>) -> Answer<Document> {
    let permitted = call.allow_on(&json!({"user_id": user_id}))?;
    not_delegated(&call)?;
    let rows = crate::rows(&call, select::<ApplicationCredential>("WHERE user_id = ?").bind(&user_id)).await?;
    let mut items = Vec::new();
    for row in rows {
        items.push(shown(&call.db, row).await?.view(&call.reader));
    }
    Ok(Document::new(permitted, api::view::listed(Shown::MANY, items, &call.reader)))
}

async fn permitted(call: &Call<Identity>, user_id: &str, id: &str) -> Answer<Permitted<ApplicationCredential>> {
    let found = find(&call.db, id).await?;
    let owner = found.as_ref().map_or(user_id, |found| &found.user_id);
    let permitted = call.allow_on(&json!({"user_id": owner}))?;
    not_delegated(call)?;
    let credential = found.ok_or_else(|| missing("Application Credential", id))?;
    Ok(permitted.map(|()| credential))
}

async fn show(call: Call<Identity>, Path((user_id, id)): Path<(String, String)>) -> Answer<Show<Shown>> {
    let credential = permitted(&call, &user_id, &id).await?;
    let shown = shown(&call.db, ApplicationCredential::clone(&credential)).await?;
    Ok(Show(credential.map(|_| shown)))
}

async fn create(
    call: Call<Identity>,
    (Path(user_id), Body(new)): (Path<String>, Body<NewApplicationCredential>),
) -> Answer<Created<Shown>> {
    let permitted = call.allow_on(&json!({"user_id": user_id}))?;
    not_delegated(&call)?;
    unrestricted(&call)?;
    if call.caller.user_id != user_id {
        return Err(not_authorized("Cannot create an application credential for another user."));
    }
    let Some(project_id) = call.caller.project_id.clone() else {
        return Err(not_authorized("identity:create_application_credential"));
    };
    let secret = new.secret.clone().filter(|secret| !secret.is_empty()).unwrap_or_else(fresh_secret);
    let expires_at = expiry(new.expires_at.as_deref().filter(|text| !text.is_empty()))?;
    let role_ids = carried(&call, new.roles.as_deref().unwrap_or_default()).await?;
    let secret_hash = call.passwords.hash(&secret).await.map_err(unusable)?;

    let mut tx = call.db.begin().await?;
    room(&call, &mut tx, &user_id).await?;
    let mut rule_ids = Vec::new();
    for rule in new.access_rules.iter().flatten() {
        rule_ids.push(access_rules::ensure(&mut tx, &user_id, rule).await?.id);
    }
    let credential = ApplicationCredential {
        id: base::id::hex(),
        name: new.name,
        user_id,
        project_id,
        secret_hash,
        description: new.description,
        expires_at,
        unrestricted: new.unrestricted.unwrap_or(false),
        role_ids,
        // Upstream: no rules and an empty list of rules are the same.
        access_rule_ids: Some(rule_ids).filter(|ids| !ids.is_empty()),
        created_at: clock::now(),
    };
    tx.insert(&credential).await.or_conflict(|| name_taken(&credential))?;
    tx.commit().await?;
    let shown = Shown { secret: Some(secret), ..shown(&call.db, credential).await? };
    Ok(Created(permitted.map(|()| shown)))
}

fn name_taken(credential: &ApplicationCredential) -> Refusal {
    Refusal::conflict(format!(
        "Conflict occurred attempting to store application_credential - Duplicate entry found with name {}.",
        credential.name
    ))
}

fn fresh_secret() -> String {
    let bytes: [u8; 64] = std::array::from_fn(|_| rand::random());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The roles that a new credential carries: those named with all that they imply, else all of the token's.
async fn carried(call: &Call<Identity>, named: &[Json]) -> Answer<Vec<String>> {
    if named.is_empty() {
        return Ok(call.caller.role_ids.clone());
    }
    let mut ids = Vec::new();
    for role in named {
        match (role["id"].as_str(), role["name"].as_str()) {
            (Some(id), _) => ids.push(id.to_string()),
            (None, Some(name)) => ids.push(role_named(call, name).await?),
            _ => return Err(Refusal::bad_request("Invalid input for field 'roles': a role needs an id or a name")),
        }
    }
    let ids = role_rows::closure(ids, &role_rows::implications(&call.db).await?);
    match ids.iter().all(|id| call.caller.role_ids.contains(id)) {
        true => Ok(ids.into_iter().collect()),
        false => Err(Refusal::bad_request(
            "Invalid application credential: Cannot create an application credential with unassigned role",
        )),
    }
}

async fn room(call: &Call<Identity>, mut tx: impl Queries, user_id: &str) -> Answer<()> {
    let limit = call.settings.application_credential_limit;
    if limit < 0 {
        return Ok(());
    }
    let count = sql("SELECT COUNT(*) FROM application_credentials WHERE user_id = ?").bind(user_id);
    match tx.count(count).await? >= limit {
        true => Err(Refusal::forbidden(format!(
            "Unable to create additional application credentials, maximum of {limit} already exceeded for user."
        ))),
        false => Ok(()),
    }
}

async fn remove(call: Call<Identity>, Path((user_id, id)): Path<(String, String)>) -> Answer<Done> {
    let credential = permitted(&call, &user_id, &id).await?;
    unrestricted(&call)?;
    let mut tx = call.db.begin().await?;
    tx.run(sql("DELETE FROM application_credentials WHERE id = ?").bind(&id)).await?;
    call.settle(tx).await?;
    call.passwords.forget(&credential.secret_hash);
    Ok(Done::with(credential))
}
