//! Keypairs: the SSH keys a user may have placed in servers.

use std::borrow::Cow;

use api::wire::{one_of, text};
use api::{
    Answer, Body, Call, Created, Done, Json, Limit, Listed, Listing, NoInput, Operation, OrConflict, Path, Permitted,
    Reader, Refusal, Show, Target, View, delete, get, json, post, quota, v,
};
use base::Time;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use db::{Db, Order, record, select, sql};
use md5::{Digest, Md5};

use crate::Compute;

const BY_NAME: Listing = Listing { sort: &[], order: &[("name", Order::Asc)], marker: "name", ..Listing::PLAIN };

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
        public_key: Option<String> = text(1, 16384).required_since(v(2, 92)),
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

/// A keypair just made.
struct Imported(Keypair);

impl View for Imported {
    const ONE: &'static str = "keypair";
    const MANY: &'static str = "keypairs";

    fn view(&self, to: &Reader) -> Json {
        let mut view = self.0.short(to);
        view["user_id"] = json!(self.0.user_id);
        view
    }
}

api::faults! {
    /// Why a keypair call may be refused.
    pub enum KeypairFault {
        NotFound(name: String, user: String) = 404 "itemNotFound" "Keypair {name} not found for user {user}",
        Exists(name: String) = 409 "conflictingRequest" "Key pair '{name}' already exists.",
        BadKey() = 400 "badRequest" "Keypair data is invalid: failed to generate fingerprint",
        BadName() = 400 "badRequest" "Keypair data is invalid: Keypair name contains unsafe characters",
        NoGenerator(kind: String) = 400 "badRequest"
            "This cloud does not make private keys ({kind}): send the public key of a pair that you made, for example with ssh-keygen.",
        TooMany() = 403 "forbidden" "Quota exceeded, too many key pairs.",
    }
}

async fn list(call: Call<Compute>, _: NoInput) -> Answer<Listed<Keypair>> {
    let user = user(&call);
    call.allow_on(&[("user_id", user.as_str())])?;
    let rows = select::<Keypair>("WHERE user_id = ?").bind(&user);
    // Upstream: paging came with 2.35; before it, everything.
    let page = db::Page { limit: call.page.limit.filter(|_| call.version >= v(2, 35)), ..call.page.clone() };
    let rows = call.db.page(rows, &page).await.map_err(|error| match error {
        db::Error::MarkerNotFound { .. } => Refusal::bad_request("Marker not found"),
        error => error.into(),
    })?;
    rows.into_iter().map(|row| call.permit(row)).collect::<Answer<Vec<Permitted<Keypair>>>>().map(Listed)
}

async fn show(call: Call<Compute>, Path(name): Path<String>) -> Answer<Show<Keypair>> {
    let user = user(&call);
    call.allow_on(&[("user_id", user.as_str())])?;
    let keypair = find(&call.db, &user, &name).await?;
    let keypair = keypair.ok_or(KeypairFault::NotFound { name, user })?;
    Ok(Show(call.permit(keypair)?))
}

async fn create(call: Call<Compute>, Body(new): Body<NewKeypair>) -> Answer<Created<Imported>> {
    let kind = new.kind.unwrap_or_else(|| "ssh".to_string());
    let user_id = new.user_id.unwrap_or_else(|| call.caller.user_id.clone());
    call.allow_on(&[("user_id", user_id.as_str())])?;
    let name = safe_name(&new.name, &call)?;
    let public_key = new.public_key.ok_or_else(|| KeypairFault::NoGenerator { kind: kind.clone() })?;
    let fingerprint = fingerprint(&kind, &public_key).ok_or(KeypairFault::BadKey {})?;
    let created_at = base::clock::now();

    let mut tx = call.db.begin().await?;
    if quota::within(&mut tx, &user_id, &KEY_PAIRS, 1).await?.is_err() {
        return Err(KeypairFault::TooMany {}.into());
    }
    let number = 1 + tx.count(sql("SELECT MAX(number) FROM keypairs")).await?;
    let keypair = call.permit(Keypair { user_id, name, kind, fingerprint, public_key, number, created_at })?;
    tx.insert(&*keypair).await.or_conflict(|| KeypairFault::Exists { name: keypair.name.clone() })?;
    tx.commit().await?;
    Ok(Created(keypair.map(Imported)))
}

async fn remove(call: Call<Compute>, Path(name): Path<String>) -> Answer<Done> {
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
fn safe_name(name: &str, call: &Call<Compute>) -> Answer<String> {
    let later = call.version >= v(2, 92);
    let fits = |c: char| c.is_ascii_alphanumeric() || "_- ".contains(c) || (later && "@.".contains(c));
    if !name.chars().all(fits) || name.trim() != name {
        return Err(KeypairFault::BadName {}.into());
    }
    Ok(name.to_string())
}

/// The MD5 of the key's octets, in pairs of hex digits; of a certificate, of its DER form.
fn fingerprint(kind: &str, public_key: &str) -> Option<String> {
    let octets = match kind {
        "x509" => {
            let lines = public_key.lines().map(str::trim).filter(|line| !line.starts_with("-----"));
            STANDARD.decode(lines.collect::<String>()).ok().filter(|der| !der.is_empty())?
        }
        _ => ssh_octets(public_key)?,
    };
    let digest = Md5::digest(&octets);
    Some(digest.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":"))
}

/// The octets of an OpenSSH public key, whose first field must name the same type as the line does.
fn ssh_octets(line: &str) -> Option<Vec<u8>> {
    let mut words = line.split_whitespace();
    let (kind, coded) = (words.next()?, words.next()?);
    let octets = STANDARD.decode(coded).ok()?;
    let length = u32::from_be_bytes(octets.get(..4)?.try_into().ok()?) as usize;
    let named = octets.get(4..4usize.checked_add(length)?)?;
    (named == kind.as_bytes()).then_some(octets)
}

pub async fn find(db: &Db, user: &str, name: &str) -> Result<Option<Keypair>, db::Error> {
    db.maybe(select::<Keypair>("WHERE user_id = ? AND name = ?").bind(user).bind(name)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_the_fingerprint_that_upstream_shows() {
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMLaANPpj6Ko6K0Qa8iQJZG0C/ukuevGoosOjuJSVsOq test@example\n";
        let shown = "cb:77:07:44:44:23:09:79:cb:8a:f6:b4:b5:0d:8e:fd";
        assert_eq!(fingerprint("ssh", key).as_deref(), Some(shown));
        assert_eq!(fingerprint("ssh", "zz"), None);
        assert_eq!(fingerprint("ssh", &key.replace("ssh-ed25519", "ssh-rsa")), None);
    }
}
