//! Credentials: secrets of users that identity keeps for other programs, sealed.

pub mod store;

use api::listing::text as text_filter;
use api::view::listed;
use api::wire::{Maybe, text};
use api::{
    Answer, Body, Call, Created, Document, Done, Listing, NoInput, Operation, OrConflict, Path, Permitted, Reader,
    Refusal, Show, View, delete, get, patch, post, wire,
};
use base::{Json, json};
use db::{select, sql};

use crate::{Identity, expecting, missing, not_authorized};
pub use store::Credential;
use store::Row;

const CREDENTIALS: Listing =
    Listing { sort: &["id"], filter: &[text_filter("user_id"), text_filter("type")], ..Listing::PLAIN };

pub fn operations() -> Vec<Operation<Identity>> {
    vec![
        get("/credentials", list).rule("identity:list_credentials").paged(&CREDENTIALS),
        post("/credentials", create).rule("identity:create_credential"),
        get("/credentials/{credential_id}", show).rule("identity:get_credential"),
        patch("/credentials/{credential_id}", update).rule("identity:update_credential"),
        delete("/credentials/{credential_id}", remove).rule("identity:delete_credential"),
    ]
}

wire! {
    /// What a client sends for a new credential.
    pub struct NewCredential in "credential" open {
        blob: String = text(0, 65536).required(),
        kind as "type": String = text(1, 255).required(),
        user_id: String = text(1, 64).required(),
        project_id: Option<String> = text(0, 64).nullable(),
    }
}

wire! {
    /// What a client sends to change a credential.
    pub struct CredentialChange in "credential" open {
        id: Option<String> = text(0, 255),
        blob: Option<String> = text(0, 65536),
        kind as "type": Option<String> = text(1, 255),
        user_id: Option<String> = text(1, 64),
        project_id: Maybe<String> = text(0, 64).nullable(),
    }
}

impl View for Credential {
    const ONE: &'static str = "credential";
    const MANY: &'static str = "credentials";

    fn view(&self, to: &Reader) -> Json {
        let mut view = self.extra.clone();
        view["id"] = json!(self.id);
        view["user_id"] = json!(self.user_id);
        view["project_id"] = json!(self.project_id);
        view["type"] = json!(self.kind);
        view["blob"] = json!(self.blob);
        view["links"] = json!({"self": to.link(&format!("/credentials/{}", self.id))});
        view
    }
}

/// Tokens that somebody got by a credential or a trust may not reach other credentials.
pub fn own_rights(call: &Call<Identity>) -> Answer<()> {
    let delegated = ["application_credential", "oauth1", "ec2credential"];
    let methods = &call.caller.methods;
    match call.caller.trust_id.is_some() || methods.iter().any(|method| delegated.contains(&method.as_str())) {
        true => Err(not_authorized("Delegated tokens cannot access credentials directly")),
        false => Ok(()),
    }
}

async fn permitted(call: &Call<Identity>, id: &str) -> Answer<Permitted<Credential>> {
    let found = store::find(&call.db, &call.credential_keys, id).await?;
    let target = found.as_ref().map_or(json!({}), |found| json!({"target": {"credential": found.target()}}));
    let permitted = call.allow_on(&target)?;
    let credential = found.ok_or_else(|| missing("credential", id))?;
    own_rights(call)?;
    Ok(permitted.map(|()| credential))
}

async fn list(call: Call<Identity>, _: NoInput) -> Answer<Document> {
    let own = match call.caller.system {
        true => json!({}),
        false => json!({"target": {"credential": {"user_id": call.caller.user_id}}}),
    };
    let permitted = call.allow_on(&own)?;
    let rows = match own_rights(&call) {
        Ok(()) => crate::rows(&call, select::<Row>("")).await?,
        Err(_) => Vec::new(),
    };
    let opened = rows.into_iter().filter_map(|row| row.opened(&call.credential_keys));
    let visible =
        |one: &Credential| call.may("identity:get_credential", &json!({"target": {"credential": one.target()}}));
    let shown = opened.filter(visible).map(|one| one.view(&call.reader)).collect();
    Ok(Document::new(permitted, listed("credentials", shown, &call.reader)))
}

async fn show(call: Call<Identity>, Path(id): Path<String>) -> Answer<Show<Credential>> {
    Ok(Show(permitted(&call, &id).await?))
}

/// The parts of an EC2 credential.
fn ec2_blob(blob: &str) -> Answer<Json> {
    let parts: Json = serde_json::from_str(blob).map_err(|_| Refusal::bad_request("Invalid blob in credential"))?;
    if parts.as_object().is_none_or(|map| map.is_empty()) {
        return Err(expecting("blob", "credential"));
    }
    match parts["access"].is_string() {
        true => Ok(parts),
        false => Err(expecting("access", "credential")),
    }
}

async fn create(call: Call<Identity>, Body(new): Body<NewCredential>) -> Answer<Created<Credential>> {
    let permitted = call.allow_on(&json!({"target": {"credential": {
        "user_id": new.user_id, "project_id": new.project_id, "type": new.kind,
    }}}))?;
    own_rights(&call)?;
    let id = match new.kind.eq_ignore_ascii_case("ec2") {
        false => base::id::hex(),
        true => {
            let parts = ec2_blob(&new.blob)?;
            if new.project_id.is_none() {
                return Err(expecting("project_id", "credential"));
            }
            Credential::id_of_access(parts["access"].as_str().unwrap_or_default())
        }
    };
    let credential = Credential {
        id,
        user_id: new.user_id,
        project_id: new.project_id,
        kind: new.kind,
        blob: new.blob,
        extra: crate::extra(new.rest),
    };
    insert(&call, &credential).await?;
    Ok(Created(permitted.map(|()| credential)))
}

/// Stores a credential, if its user may have one more.
pub async fn insert(call: &Call<Identity>, credential: &Credential) -> Answer<()> {
    let limit = call.settings.credential_limit;
    let mut tx = call.db.begin().await?;
    if limit >= 0 {
        let count = sql("SELECT COUNT(*) FROM credentials WHERE user_id = ?").bind(&credential.user_id);
        if tx.count(count).await? >= limit {
            return Err(Refusal::forbidden(format!(
                "Unable to create additional credentials, maximum of {limit} already exceeded for user."
            )));
        }
    }
    let id = &credential.id;
    let taken = || {
        Refusal::conflict(format!(
            "Conflict occurred attempting to store credential - Duplicate entry found with ID {id}."
        ))
    };
    tx.insert(&credential.sealed(&call.credential_keys)).await.or_conflict(taken)?;
    tx.commit().await?;
    Ok(())
}

async fn update(
    call: Call<Identity>,
    (Path(id), Body(change)): (Path<String>, Body<CredentialChange>),
) -> Answer<Show<Credential>> {
    let old = permitted(&call, &id).await?;
    if change.id.as_ref().is_some_and(|other| *other != id) {
        return Err(Refusal::bad_request("Cannot change ID"));
    }
    let mut new = Credential::clone(&old);
    new.kind = change.kind.unwrap_or(new.kind);
    new.blob = change.blob.unwrap_or(new.blob);
    new.user_id = change.user_id.unwrap_or(new.user_id);
    if let Some(project) = change.project_id.sent() {
        new.project_id = project;
    }
    crate::merge(&mut new.extra, change.rest);
    if new.kind.eq_ignore_ascii_case("ec2") {
        keeps_its_scope(&old, &new)?;
    }
    // Nobody gives a credential away to where the own rights do not reach.
    let permitted = call.allow_on(&json!({"target": {"credential": new.target()}}))?;
    let row = new.sealed(&call.credential_keys);
    let statement = sql(
        "UPDATE credentials SET user_id = ?, project_id = ?, \"type\" = ?, sealed = ?, key_hash = ?, extra = ? WHERE id = ?",
    );
    let statement = statement.bind(&row.user_id).bind(&row.project_id).bind(&row.r#type).bind(&row.sealed);
    call.db.run(statement.bind(&row.key_hash).bind(&row.extra).bind(&id)).await?;
    Ok(Show(permitted.map(|()| new)))
}

/// An EC2 credential that was made with limited rights keeps them.
fn keeps_its_scope(old: &Credential, new: &Credential) -> Answer<()> {
    let (before, after) = (ec2_blob(&old.blob).unwrap_or_default(), ec2_blob(&new.blob)?);
    match ["trust_id", "app_cred_id", "access_token_id", "access_id"].iter().find(|key| before[**key] != after[**key]) {
        Some(key) => Err(Refusal::bad_request(format!("{key} can not be updated for credential"))),
        None => Ok(()),
    }
}

async fn remove(call: Call<Identity>, Path(id): Path<String>) -> Answer<Done> {
    let credential = permitted(&call, &id).await?;
    store::delete(&call.db, &id).await?;
    Ok(Done::with(credential))
}
