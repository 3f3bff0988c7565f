//! Keypairs: the SSH keys a user may have placed in servers.

mod keys;

use std::borrow::Cow;

use api::wire::{one_of, text};
use api::{
    Answer, Body, Call, Created, Document, Done, Json, Limit, Listing, NoInput, Operation, OrConflict, Path, Reader,
    Refusal, Show, Target, View, delete, get, json, post, quota, v, view,
};
use base::Time;
use db::{Db, Order, Page, record, select, sql};

use crate::{Compute, names, query};

const BY_NAME: Listing = Listing { sort: &[], order: &[("name", Order::Asc)], marker: "name", ..Listing::PLAIN };

/// Limit: characters of a public key or certificate.
const KEY_MAX: usize = 16384;

/// Upstream counts keypairs by user; the key of the count is the user.
const KEY_PAIRS: Limit =
    Limit { name: "key_pairs", default: 100, count: "SELECT COUNT(*) FROM keypairs WHERE user_id = ?" };

pub fn operations() -> Vec<Operation<Compute>> {
    vec![
        get("/os-keypairs", list).rule("os_compute_api:os-keypairs:index").paged(&BY_NAME),
        post("/os-keypairs", create).rule("os_compute_api:os-keypairs:create").was(200, v(2, 1)),
        get("/os-keypairs/{name}", show).rule("os_compute_api:os-keypairs:show"),
        delete("/os-keypairs/{name}", remove).rule("os_compute_api:os-keypairs:delete").was(202, v(2, 1)),
    ]
}

api::wire! {
    /// What a client sends to import a key.
    pub struct NewKeypair in "keypair" {
        name: String = text(1, 255).required(),
        public_key: Option<String> = text(0, KEY_MAX).required_since(v(2, 92)),
        kind as "type": Option<String> = one_of(&["ssh", "x509"]).since(v(2, 2)),
        user_id: Option<String> = text(1, 255).since(v(2, 10)),
    }
}

record! {
    pub struct Keypair in "keypairs" {
        pub user_id: String,
        pub name: String,
        pub kind: String,
        pub fingerprint: String,
        pub public_key: String,
        /// The integer id that the API shows.
        pub number: i64,
        pub created_at: Time,
    }
}

impl Target for Keypair {
    fn attribute(&self, name: &str) -> Option<Cow<'_, str>> {
        (name == "user_id").then_some(Cow::Borrowed(&self.user_id))
    }
}

impl Keypair {
    fn short(&self, to: &Reader) -> Json {
        let mut view = json!({"name": self.name, "public_key": self.public_key, "fingerprint": self.fingerprint});
        if to.since(v(2, 2)) {
            view["type"] = json!(self.kind);
        }
        view
    }
}

impl View for Keypair {
    const ONE: &'static str = "keypair";
    const MANY: &'static str = "keypairs";

    fn view(&self, to: &Reader) -> Json {
        let mut view = self.short(to);
        view["user_id"] = json!(self.user_id);
        view["id"] = json!(self.number);
        view["created_at"] = json!(self.created_at.iso_micros());
        view["updated_at"] = Json::Null;
        view["deleted_at"] = Json::Null;
        view["deleted"] = json!(false);
        view
    }

    fn item(&self, to: &Reader) -> Json {
        json!({"keypair": self.short(to)})
    }
}

/// A keypair just made; the private half is shown this once and never kept.
struct Made {
    keypair: Keypair,
    private: Option<String>,
}

impl View for Made {
    const ONE: &'static str = "keypair";
    const MANY: &'static str = "keypairs";

    fn view(&self, to: &Reader) -> Json {
        let mut view = self.keypair.short(to);
        view["user_id"] = json!(self.keypair.user_id);
        if let Some(private) = &self.private {
            view["private_key"] = json!(private);
        }
        view
    }
}

api::faults! {
    /// Why a keypair call may be refused.
    pub enum KeypairFault {
        NotFound(name: String, user: String) = 404 "itemNotFound" "Keypair {name} not found for user {user}",
        Exists(name: String) = 409 "conflictingRequest" "Key pair '{name}' already exists.",
        BadKey(kind: String) = 400 "badRequest" "Keypair data is invalid: failed to generate {kind}fingerprint",
        BadName(name: String, pattern: String) = 400 "badRequest"
            "Invalid input for field/attribute name. Value: {name}. '{name}' does not match '{pattern}'",
        NoCertificates() = 400 "badRequest"
            "Keypair data is invalid: this cloud makes no certificates; send the public half of one that you made.",
        NoMarker(name: String) = 400 "badRequest" "Marker {name} could not be found.",
        TooMany() = 403 "forbidden" "Quota exceeded, too many key pairs.",
    }
}

async fn list(call: Call<Compute>, _: NoInput) -> Answer<Document> {
    query::strict(&call, v(2, 75), &["user_id", "limit", "marker"])?;
    let user = user(&call);
    let permitted = call.allow_on(&[("user_id", user.as_str())])?;
    let rows = select::<Keypair>("WHERE user_id = ?").bind(&user);
    // Upstream: paging came with 2.35; before it, everything.
    let paged = call.version >= v(2, 35);
    let page = match paged {
        true => call.page.clone(),
        false => Page { limit: None, marker: None, ..call.page.clone() },
    };
    let rows = call.db.page(rows, &page).await.map_err(|error| match error {
        db::Error::MarkerNotFound => KeypairFault::NoMarker { name: page.marker.unwrap_or_default() }.into(),
        error => Refusal::from(error),
    })?;
    let items: Vec<Json> = rows.iter().map(|row| row.item(&call.reader)).collect();
    let body = if paged { view::listed(Keypair::MANY, items, &call.reader) } else { json!({"keypairs": items}) };
    Ok(Document::new(permitted, body))
}

async fn show(call: Call<Compute>, Path(name): Path<String>) -> Answer<Show<Keypair>> {
    query::strict(&call, v(2, 75), &["user_id"])?;
    let user = user(&call);
    call.allow_on(&[("user_id", user.as_str())])?;
    let keypair = find(&call.db, &user, &name).await?;
    let keypair = keypair.ok_or(KeypairFault::NotFound { name, user })?;
    Ok(Show(call.permit(keypair)?))
}

async fn create(call: Call<Compute>, Body(new): Body<NewKeypair>) -> Answer<Created<Made>> {
    let kind = new.kind.unwrap_or_else(|| "ssh".to_string());
    let user_id = new.user_id.unwrap_or_else(|| call.caller.user_id.clone());
    call.allow_on(&[("user_id", user_id.as_str())])?;
    check_name(&new.name, &call)?;
    let (public_key, private) = match new.public_key {
        Some(public_key) => (public_key, None),
        None if kind == "x509" => return Err(KeypairFault::NoCertificates {}.into()),
        None => {
            let pair = generate().await?;
            (pair.public, Some(pair.private))
        }
    };
    let words = if kind == "x509" { "X509 " } else { "" };
    let fingerprint = keys::fingerprint(&kind, &public_key);
    let fingerprint = fingerprint.ok_or(KeypairFault::BadKey { kind: words.into() })?;
    let created_at = base::clock::now();

    let mut tx = call.db.begin().await?;
    if quota::within(&mut tx, &user_id, &KEY_PAIRS, 1).await?.is_err() {
        return Err(KeypairFault::TooMany {}.into());
    }
    let number = 1 + tx.count(sql("SELECT MAX(number) FROM keypairs")).await?;
    let name = new.name;
    let keypair = call.permit(Keypair { user_id, name, kind, fingerprint, public_key, number, created_at })?;
    tx.insert(&*keypair).await.or_conflict(|| KeypairFault::Exists { name: keypair.name.clone() })?;
    tx.commit().await?;
    Ok(Created(keypair.map(|keypair| Made { keypair, private })))
}

/// Upstream: up to 2.91 a client may leave the making of keys to the cloud.
async fn generate() -> Answer<keys::Pair> {
    let made = tokio::task::spawn_blocking(keys::generate).await;
    let made = made.map_err(|error| api::failed("making a key", &error))?;
    made.map_err(|error| api::failed("making a key", &error))
}

async fn remove(call: Call<Compute>, Path(name): Path<String>) -> Answer<Done> {
    query::strict(&call, v(2, 75), &["user_id"])?;
    let user = user(&call);
    let permitted = call.allow_on(&[("user_id", user.as_str())])?;
    let gone = sql("DELETE FROM keypairs WHERE user_id = ? AND name = ?");
    if call.db.run(gone.bind(&user).bind(&name)).await? == 0 {
        return Err(KeypairFault::NotFound { name, user }.into());
    }
    Ok(Done::with(permitted))
}

/// Whose keypairs the call is about: from 2.10 an administrator may name another user.
fn user(call: &Call<Compute>) -> String {
    let named = call.query.get("user_id").filter(|_| call.version >= v(2, 10));
    named.unwrap_or(&call.caller.user_id).to_string()
}

/// Upstream: up to 2.91 a name is letters, digits, blanks, `_` and `-`; later also `@` and `.`.
fn check_name(name: &str, call: &Call<Compute>) -> Answer<()> {
    let later = call.version >= v(2, 92);
    let pattern = if later { r"^[_\\-\\@\\. a-zA-Z0-9]+$" } else { r"^[_\\- a-zA-Z0-9]+$" };
    let fits = |c: char| c.is_ascii_alphanumeric() || "_- ".contains(c) || (later && "@.".contains(c));
    if !name.chars().all(fits) {
        return Err(KeypairFault::BadName { name: name.into(), pattern: pattern.into() }.into());
    }
    names::check("name", name)
}

pub async fn find(db: &Db, user: &str, name: &str) -> Result<Option<Keypair>, db::Error> {
    db.maybe(select::<Keypair>("WHERE user_id = ? AND name = ?").bind(user).bind(name)).await
}
