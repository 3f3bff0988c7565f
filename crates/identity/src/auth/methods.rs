//! The methods of authentication: each turns a proof into a user.

use std::collections::BTreeSet;

use api::{Answer, Refusal};
use base::{Time, clock};

use super::password::{self, Expired};
use super::request::{Named, Proof};
use crate::application_credentials::{self as credentials, ApplicationCredential};
use crate::projects::{Project, store as projects};
use crate::tokens::Scope;
use crate::tokens::payload::{Grant, METHODS};
use crate::users::password::unusable;
use crate::users::{User, store as users};
use crate::{Identity, not_authorized};

/// Who somebody has proven to be, and what follows for the token.
#[derive(Default)]
pub(super) struct Proven {
    pub user: Option<User>,
    /// Bits of [`METHODS`].
    pub methods: u32,
    /// The token may not outlive what it comes from.
    pub expires: Option<Time>,
    /// The first of the chain of tokens.
    pub parent_audit_id: Option<[u8; 16]>,
    pub credential: Option<ApplicationCredential>,
    /// Whether a token of the system was the proof, which is good for that scope only.
    pub from_system: bool,
}

/// Checks all proofs; they must agree about the user.
pub(super) async fn prove(identity: &Identity, proofs: &[Proof]) -> Answer<Proven> {
    let mut proven = Proven::default();
    for proof in proofs {
        let user = match proof {
            Proof::Password { user, password } => by_password(identity, &mut proven, user, password).await?,
            Proof::Token { id } => by_token(identity, &mut proven, id).await?,
            Proof::ApplicationCredential { credential, user, secret } => {
                by_credential(identity, &mut proven, credential, user.as_ref(), secret).await?
            }
        };
        match &proven.user {
            Some(earlier) if earlier.id != user.id => return Err(Refusal::unauthorized()),
            _ => proven.user = Some(user),
        }
    }
    let user = proven.user.as_ref().ok_or_else(Refusal::unauthorized)?;
    enough(user, proven.methods)?;
    Ok(proven)
}

fn bit(method: &str) -> u32 {
    METHODS.iter().position(|known| *known == method).map_or(0, |at| 1 << at)
}

/// The user that a client names. A domain that is gone or disabled has no users.
pub(super) async fn named_user(identity: &Identity, named: &Named) -> Answer<Option<User>> {
    let db = &identity.db;
    let found = match (&named.id, &named.name, &named.domain) {
        (_, Some(name), Some(domain)) => match named_domain(identity, domain).await? {
            Some(domain) => users::by_name(db, &domain.id, name).await?,
            None => None,
        },
        (Some(id), ..) => users::find(db, id).await?,
        _ => None,
    };
    let Some(user) = found else { return Ok(None) };
    let domain = projects::find_domain(db, &user.domain_id).await?;
    Ok(domain.is_some_and(|domain| domain.enabled).then_some(user))
}

/// The enabled domain that a client names.
pub(super) async fn named_domain(identity: &Identity, named: &Named) -> Answer<Option<Project>> {
    let found = match (&named.name, &named.id) {
        (Some(name), _) => projects::by_name(&identity.db, "", name).await?,
        (None, Some(id)) => projects::find_domain(&identity.db, id).await?,
        (None, None) => None,
    };
    Ok(found.filter(|domain| domain.enabled))
}

async fn by_password(identity: &Identity, proven: &mut Proven, named: &Named, password: &str) -> Answer<User> {
    let user = named_user(identity, named).await?;
    let user = password::verify(identity, user, password, Expired::Refused).await?;
    proven.methods |= bit("password");
    Ok(user)
}

async fn by_token(identity: &Identity, proven: &mut Proven, text: &str) -> Answer<User> {
    let session = identity.living_session(text, 0).await.map_err(|why| super::not_recognised(why, text))?;
    let token = &session.token;
    match &token.grant {
        Grant::Plain => {}
        Grant::Trust(_) => {
            return Err(not_authorized(
                "Using trust-scoped token to create another token. Create a new trust-scoped token instead",
            ));
        }
        _ => return Err(not_authorized("Using a delegated token to create another token is not allowed.")),
    }
    if token.scope != Scope::Unscoped && !identity.settings.allow_rescope {
        return Err(not_authorized("rescope a scoped token"));
    }
    proven.from_system = token.scope == Scope::System;
    proven.methods |= token.methods | bit("token");
    proven.expires = Some(token.expires);
    proven.parent_audit_id = token.audit_ids.last().copied();
    users::find(&identity.db, &token.user_id).await?.ok_or_else(Refusal::unauthorized)
}

async fn by_credential(
    identity: &Identity,
    proven: &mut Proven,
    named: &Named,
    user: Option<&Named>,
    secret: &str,
) -> Answer<User> {
    let db = &identity.db;
    let found = match (&named.id, &named.name, user) {
        (Some(id), ..) => credentials::find(db, id).await?,
        (None, Some(name), Some(user)) => match named_user(identity, user).await? {
            Some(user) => credentials::by_name(db, &user.id, name).await?,
            None => None,
        },
        _ => None,
    };
    let stored = found.as_ref().map(|credential| credential.secret_hash.as_str());
    let right = identity.passwords.verify(secret, stored).await.map_err(unusable)?;
    let credential = found.filter(|_| right).ok_or_else(Refusal::unauthorized)?;
    if credential.expires_at.is_some_and(|expires| expires <= clock::now()) {
        return Err(Refusal::unauthorized());
    }
    let owner = Named { id: Some(credential.user_id.clone()), ..Named::default() };
    let user = named_user(identity, &owner).await?.filter(|user| user.enabled).ok_or_else(Refusal::unauthorized)?;
    proven.methods |= bit("application_credential");
    proven.expires = credential.expires_at;
    proven.credential = Some(credential);
    Ok(user)
}

/// Whether the methods used fulfil one of the user's rules. Methods that we do not have are not demanded.
fn enough(user: &User, methods: u32) -> Answer<()> {
    let rules = user.options["multi_factor_auth_rules"].as_array();
    let (true, Some(rules)) = (user.option("multi_factor_auth_enabled"), rules) else { return Ok(()) };
    let demanded = |rule: &base::Json| -> BTreeSet<u32> {
        let methods = rule.as_array().into_iter().flatten().filter_map(|method| method.as_str());
        methods.map(bit).filter(|bit| *bit != 0).collect()
    };
    let rules: Vec<BTreeSet<u32>> = rules.iter().map(demanded).filter(|rule| !rule.is_empty()).collect();
    let fulfilled = |rule: &BTreeSet<u32>| rule.iter().all(|bit| methods & bit != 0);
    match rules.is_empty() || rules.iter().any(fulfilled) {
        true => Ok(()),
        false => Err(Refusal::new(
            401,
            "",
            format!("Insufficient auth methods received for {}. Auth Methods Provided: {}.", user.id, names(methods)),
        )),
    }
}

fn names(methods: u32) -> String {
    let used = METHODS.iter().enumerate().filter(|(at, _)| methods & (1 << at) != 0);
    used.map(|(_, name)| *name).collect::<Vec<_>>().join(", ")
}
