//! Identity: who somebody is, what they may do, and where the services are.
//!
//! - [`projects`], [`domains`], [`users`], [`groups`] who and what there is
//! - [`roles`], [`grants`], [`assignments`] who has which role on what
//! - [`auth`] from a password to a token; [`sessions`] from a token to its bearer; [`revocations`]
//! - [`tokens`], [`passwords`] the formats, which are keystone's
//! - [`regions`], [`services`], [`endpoints`], [`endpoint_filter`], [`catalog`] where the services are
//! - [`credentials`], [`ec2`], [`application_credentials`], [`access_rules`], [`trusts`], [`consumers`] other ways in
//! - [`limits`], [`registered_limits`], [`policies`], [`domain_options`] kept for others
//! - [`bootstrap`], [`manage`] what an operator runs

pub mod access_rules;
pub mod application_credentials;
pub mod assignments;
pub mod auth;
pub mod bootstrap;
pub mod catalog;
pub mod consumers;
pub mod credentials;
mod documents;
pub mod domain_options;
pub mod domains;
pub mod ec2;
pub mod endpoint_filter;
pub mod endpoints;
pub mod grants;
pub mod groups;
pub mod limits;
pub mod manage;
pub mod passwords;
pub mod policies;
pub mod projects;
pub mod regions;
pub mod registered_limits;
pub mod revocations;
pub mod roles;
pub mod services;
pub mod sessions;
pub mod settings;
pub mod tokens;
pub mod trusts;
pub mod users;

use std::sync::Arc;
use std::time::Duration;

use api::policy::PolicyError;
use api::{
    Answer, App, Authenticator, Call, Envelope, JsonMap, Operation, Policy, Query, Refusal, Reply, Request, Service,
    Shape,
};
use base::Json;
use db::{Db, Migration, Record, Schema, Select, Tx};

use passwords::Passwords;
use sessions::Sessions;
pub use settings::Settings;
use tokens::{KeyError, KeyRepository};

pub const SCHEMA: Schema = Schema {
    service: "identity",
    migrations: &[Migration { number: 1, name: "identity", sql: include_str!("../migrations/0001_identity.sql") }],
};

/// The identity service of one process.
pub struct Identity {
    pub db: Db,
    pub settings: Settings,
    pub passwords: Passwords,
    pub token_keys: KeyRepository,
    pub credential_keys: KeyRepository,
    pub sessions: Sessions,
    /// Where clients find us, with `/v3`.
    pub public_url: Option<String>,
}

impl Service for Identity {
    const SHAPE: Shape = Shape {
        name: "identity",
        envelope: Envelope::Identity,
        versions: None,
        mounts: &["/v3"],
        project_in_path: false,
    };

    fn document(&self, request: &Request) -> Option<Reply> {
        documents::answer(request)
    }

    fn list_limit(&self) -> Option<u32> {
        self.settings.list_limit
    }
}

impl Identity {
    /// Reads the key repositories, which must have been set up.
    pub fn new(db: Db, settings: Settings, public_url: Option<String>) -> Result<Arc<Identity>, KeyError> {
        let passwords = Passwords::new(settings.algorithm, settings.rounds);
        let token_keys = KeyRepository::open(&settings.token_keys)?;
        let credential_keys = KeyRepository::open(&settings.credential_keys)?;
        let sessions = Sessions::default();
        Ok(Arc::new(Identity { db, settings, passwords, token_keys, credential_keys, sessions, public_url }))
    }

    /// Commits a change that may alter what tokens are good for, and makes it felt: here at once, in other processes
    /// within [`sessions::STALE`].
    pub async fn settle(&self, mut tx: Tx) -> Answer<()> {
        sessions::raise_epoch(&mut tx).await?;
        tx.commit().await?;
        self.sessions.forget();
        Ok(())
    }
}

pub fn operations() -> Vec<Operation<Identity>> {
    let all = [
        auth::operations(),
        domains::operations(),
        projects::operations(),
        users::operations(),
        groups::operations(),
        roles::operations(),
        grants::operations(),
        assignments::operations(),
        regions::operations(),
        services::operations(),
        endpoints::operations(),
        endpoint_filter::operations(),
        policies::operations(),
        credentials::operations(),
        ec2::operations(),
        application_credentials::operations(),
        access_rules::operations(),
        trusts::operations(),
        limits::operations(),
        registered_limits::operations(),
        revocations::operations(),
        domain_options::operations(),
        consumers::operations(),
    ];
    all.into_iter().flatten().collect()
}

/// Operations of the reference that are not served yet; they answer 501.
const MISSING: &str = include_str!("../../../tests/ratchet/operations/identity.txt");

/// The service behind its API. It authenticates by itself.
pub fn app(identity: Arc<Identity>, policy_overrides: Option<&str>) -> Result<App<Identity>, PolicyError> {
    let policy = Policy::new(include_str!("../policy.tsv"), policy_overrides)?;
    let authenticator: Arc<dyn Authenticator> = identity.clone();
    Ok(App::new(identity, operations(), MISSING, policy, authenticator))
}

/// How often revocations that no living token can fit are removed.
const FLUSH: Duration = Duration::from_secs(3600);

/// Starts the periodic work of identity; it ends with the service.
pub fn start(identity: &Arc<Identity>) {
    let identity = Arc::downgrade(identity);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(FLUSH).await;
            let Some(identity) = identity.upgrade() else { return };
            match revocations::flush(&identity).await {
                Ok(0) => {}
                Ok(count) => tracing::info!(count, "removed revocations of expired tokens"),
                Err(error) => tracing::warn!(%error, "revocations of expired tokens stay for now"),
            }
        }
    });
}

/// The words for something that is not there.
fn missing(what: &str, id: &str) -> Refusal {
    Refusal::not_found(format!("Could not find {what}: {id}."))
}

/// The words for a body that lacks something. Upstream: two sentences of the HTTP library follow.
fn expecting(attribute: &str, target: &str) -> Refusal {
    Refusal::bad_request(format!(
        "Expecting to find {attribute} in {target}. The server could not comply with the request since it is either \
         malformed or otherwise incorrect. The client is assumed to be in error."
    ))
}

/// The words for a rule of ours that is not the policy's.
fn not_authorized(action: &str) -> Refusal {
    Refusal::forbidden(format!("You are not authorized to perform the requested action: {action}."))
}

/// Whether a flag of the query is up. Upstream: anything but `0` is up, even nothing.
fn asks(query: &Query, name: &str) -> bool {
    query.get(name).is_some_and(|value| value != "0")
}

/// The rows of a list, as the query filters and pages them.
async fn rows<T: Record>(call: &Call<Identity>, select: Select<T>) -> Answer<Vec<T>> {
    Ok(call.db.page(select, &call.page).await?)
}

/// The domain of something new: the one named, else that of the caller's token.
fn domain_of(call: &Call<Identity>, named: Option<&str>) -> String {
    let caller = &call.caller;
    let own = caller.domain_id.as_deref().or(caller.project_domain_id.as_deref());
    named.or(own).unwrap_or(&call.settings.default_domain_id).to_string()
}

/// Attributes that we do not know, as a document.
fn extra(rest: JsonMap) -> Json {
    Json::Object(rest)
}

/// Puts changes over a document of free attributes.
fn merge(extra: &mut Json, changes: JsonMap) {
    if let Some(map) = extra.as_object_mut() {
        map.extend(changes);
    }
}
