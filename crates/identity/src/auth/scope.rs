//! From the scope that a client asks for to the one of its token.

use api::{Answer, Refusal};
use base::{Time, clock};

use super::methods::{Proven, named_domain};
use super::request::{Named, Wanted};
use crate::assignments::{Actor, effective};
use crate::projects::{Project, store as projects};
use crate::tokens::Scope;
use crate::tokens::payload::Grant;
use crate::trusts::{self, Trust};
use crate::users::User;
use crate::{Identity, not_authorized};

/// What a token will be good for.
pub(super) struct Granted {
    pub scope: Scope,
    pub grant: Grant,
    pub expires: Option<Time>,
    /// To be used up by one once the token is issued.
    pub trust: Option<Trust>,
}

fn plain(scope: Scope) -> Granted {
    Granted { scope, grant: Grant::Plain, expires: None, trust: None }
}

pub(super) async fn grant(identity: &Identity, wanted: &Wanted, proven: &Proven, user: &User) -> Answer<Granted> {
    if let Some(credential) = &proven.credential {
        let scope = Scope::Project(credential.project_id.clone());
        return Ok(Granted { grant: Grant::ApplicationCredential(credential.id.clone()), ..plain(scope) });
    }
    if proven.from_system && matches!(wanted, Wanted::Project(_) | Wanted::Domain(_)) {
        return Err(not_authorized(
            "Using a system-scoped token to create a project-scoped or domain-scoped token is not allowed.",
        ));
    }
    match wanted {
        Wanted::Unscoped => Ok(plain(Scope::Unscoped)),
        Wanted::System => Ok(plain(Scope::System)),
        Wanted::Project(named) => {
            let project = named_project(identity, named).await?.ok_or_else(Refusal::unauthorized)?;
            Ok(plain(Scope::Project(project.id)))
        }
        Wanted::Domain(named) => {
            let domain = named_domain(identity, named).await?.ok_or_else(Refusal::unauthorized)?;
            Ok(plain(Scope::Domain(domain.id)))
        }
        Wanted::Trust(id) => of_trust(identity, id, user).await,
        Wanted::Default => of_user(identity, user).await,
    }
}

/// The project that a client names, if neither it nor its domain is disabled.
async fn named_project(identity: &Identity, named: &Named) -> Answer<Option<Project>> {
    let db = &identity.db;
    let found = match (&named.name, &named.domain, &named.id) {
        (Some(name), Some(domain), _) => match named_domain(identity, domain).await? {
            Some(domain) => projects::by_name(db, &domain.id, name).await?,
            None => None,
        },
        (_, _, Some(id)) => projects::find(db, id).await?,
        _ => None,
    };
    // Upstream: a domain is no project here.
    let Some(project) = found.filter(|project| project.enabled && !project.is_domain) else { return Ok(None) };
    let domain = projects::find_domain(db, &project.domain_id).await?;
    Ok(domain.is_some_and(|domain| domain.enabled).then_some(project))
}

/// The user's default project, where that is of any use; else no scope.
async fn of_user(identity: &Identity, user: &User) -> Answer<Granted> {
    let Some(id) = &user.default_project_id else { return Ok(plain(Scope::Unscoped)) };
    let named = Named { id: Some(id.clone()), ..Named::default() };
    let Some(project) = named_project(identity, &named).await? else { return Ok(plain(Scope::Unscoped)) };
    let scope = Scope::Project(project.id);
    let roles = effective::roles(&identity.db, Actor::User(&user.id), &scope).await?;
    Ok(plain(if roles.is_empty() { Scope::Unscoped } else { scope }))
}

async fn of_trust(identity: &Identity, id: &str, user: &User) -> Answer<Granted> {
    let trust = trusts::store::find(&identity.db, id).await?.ok_or_else(Refusal::unauthorized)?;
    if trust.expires_at.is_some_and(|expires| expires <= clock::now()) {
        return Err(Refusal::unauthorized());
    }
    if trust.trustee_user_id != user.id {
        return Err(Refusal::forbidden("User is not a trustee."));
    }
    let Some(project_id) = trust.project_id.clone() else {
        return Ok(Granted { expires: trust.expires_at, ..plain(Scope::Unscoped) });
    };
    let named = Named { id: Some(project_id.clone()), ..Named::default() };
    named_project(identity, &named).await?.ok_or_else(Refusal::unauthorized)?;
    if trusts::roles(&identity.db, &trust).await?.is_none() {
        return Err(Refusal::forbidden("Trustee has no delegated roles."));
    }
    Ok(Granted {
        scope: Scope::Project(project_id),
        grant: Grant::Trust(trust.id.clone()),
        expires: trust.expires_at,
        trust: Some(trust),
    })
}
