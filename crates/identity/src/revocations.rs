//! Revocations: what makes tokens void before they expire.
//!
//! Most of what a token is good for is looked up when it is used, so that removing a role or disabling a user needs no
//! entry here. Entries are for what cannot be looked up: this token was given back, tokens from before the password
//! was changed, tokens from before something was disabled that is enabled again by now.

use api::{Answer, Call, Document, NoInput, Operation, Refusal, get};
use base::{Time, clock, json};
use db::{Queries, select, sql};

use crate::Identity;
use crate::tokens::{Scope, Token};

db::record! {
    /// Tokens that every named column fits are void if they were issued before.
    #[derive(Default)]
    pub struct Revocation in "revocations" {
        pub id: String,
        pub user_id: String,
        pub project_id: String,
        pub domain_id: String,
        pub audit_id: String,
        pub audit_chain_id: String,
        pub issued_before: Time,
        pub revoked_at: Time,
    }
}

/// Limit: entries in one answer; older ones are found with `since`.
const EVENTS: u32 = 10_000;

pub fn operations() -> Vec<Operation<Identity>> {
    vec![get("/OS-REVOKE/events", list).rule("identity:list_revoke_events")]
}

/// Tokens of this user, so far.
pub async fn of_user(db: impl Queries, user_id: &str) -> Result<(), db::Error> {
    add(db, Revocation { user_id: user_id.into(), ..Revocation::default() }).await
}

/// Tokens with this scope, so far.
pub async fn of_project(db: impl Queries, project_id: &str) -> Result<(), db::Error> {
    add(db, Revocation { project_id: project_id.into(), ..Revocation::default() }).await
}

/// Tokens of users and projects of this domain, and with this scope, so far.
pub async fn of_domain(db: impl Queries, domain_id: &str) -> Result<(), db::Error> {
    add(db, Revocation { domain_id: domain_id.into(), ..Revocation::default() }).await
}

/// This one token.
pub async fn of_token(db: impl Queries, token: &Token) -> Result<(), db::Error> {
    let audit_id = token.audit_texts().into_iter().next().unwrap_or_default();
    add(db, Revocation { audit_id, ..Revocation::default() }).await
}

async fn add(mut db: impl Queries, revocation: Revocation) -> Result<(), db::Error> {
    let now = clock::now();
    db.insert(&Revocation { id: base::id::hex(), issued_before: now, revoked_at: now, ..revocation }).await
}

/// Whether a token has been made void. `domains` are those of its user and of its project.
pub async fn is_revoked(mut db: impl Queries, token: &Token, domains: [&str; 2]) -> Result<bool, db::Error> {
    Ok(concerning(&mut db, token, domains).await?.iter().any(|revocation| token.issued <= revocation.issued_before))
}

/// The entries that fit a token, whenever it was issued.
async fn concerning(
    db: &mut impl Queries,
    token: &Token,
    [of_user, of_project]: [&str; 2],
) -> Result<Vec<Revocation>, db::Error> {
    let audit = token.audit_texts();
    let chain = audit.last().cloned().unwrap_or_default();
    let (project, domain) = match &token.scope {
        Scope::Project(id) => (id.as_str(), ""),
        Scope::Domain(id) => ("", id.as_str()),
        _ => ("", ""),
    };
    let found = select::<Revocation>(
        "WHERE user_id IN ('', ?) AND project_id IN ('', ?) AND domain_id IN ('', ?, ?, ?) \
         AND audit_id IN ('', ?) AND audit_chain_id IN ('', ?)",
    );
    let first = audit.first().cloned().unwrap_or_default();
    db.all(found.bind(&token.user_id).bind(project).bind_all([domain, of_user, of_project]).bind(first).bind(chain))
        .await
}

/// Removes entries that no living token can fit.
pub async fn flush(identity: &Identity) -> Result<u64, db::Error> {
    let settings = &identity.settings;
    let life = settings.token_expiration_s + settings.revocation_buffer_s;
    let oldest = clock::now().plus_seconds(-life);
    identity.db.run(sql("DELETE FROM revocations WHERE revoked_at < ?").bind(oldest)).await
}

async fn list(call: Call<Identity>, _: NoInput) -> Answer<Document> {
    let permitted = call.allow()?;
    let since = match call.query.get("since") {
        None => Time(0),
        Some(text) => {
            Time::parse(text).ok_or_else(|| Refusal::bad_request(format!("invalidate date format {text}")))?
        }
    };
    let select = select::<Revocation>(format!("WHERE revoked_at >= ? ORDER BY revoked_at LIMIT {EVENTS}"));
    let events = call.db.all(select.bind(since)).await?;
    let events: Vec<_> = events.iter().map(event).collect();
    let own = call.reader.link("/OS-REVOKE/events");
    let links = json!({"next": null, "self": own, "previous": null});
    Ok(Document::new(permitted, json!({"events": events, "links": links})))
}

/// Upstream: only what an entry names is shown.
fn event(revocation: &Revocation) -> base::Json {
    let mut event = json!({"issued_before": revocation.issued_before.iso_micros_z()});
    let columns = [
        ("user_id", &revocation.user_id),
        ("project_id", &revocation.project_id),
        ("domain_id", &revocation.domain_id),
        ("audit_id", &revocation.audit_id),
        ("audit_chain_id", &revocation.audit_chain_id),
    ];
    for (name, value) in columns.into_iter().filter(|(_, value)| !value.is_empty()) {
        event[name] = json!(value);
    }
    event
}
