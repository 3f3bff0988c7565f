//! From the content of a token to its bearer, as the database has it now.

use std::sync::{Arc, OnceLock};

use api::caller::AccessRule;
use api::{Caller, Secret};
use base::clock;

use super::Session;
use crate::application_credentials::{self, ApplicationCredential};
use crate::assignments::{Actor, effective};
use crate::projects::{Project, store as projects};
use crate::roles::Role;
use crate::tokens::payload::Grant;
use crate::tokens::{Scope, Token};
use crate::trusts::{self, Trust};
use crate::users::{User, store as users};
use crate::{Identity, revocations};

/// Why a token is of no use. Clients that present it are not told which; the log is.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    #[error("it is not one of ours")]
    Foreign,
    #[error("it has expired")]
    Expired,
    #[error("it was revoked")]
    Revoked,
    #[error("{0} is gone")]
    Gone(&'static str),
    #[error("{0} is disabled")]
    Disabled(&'static str),
    #[error("there is no role left")]
    NoRoles,
    #[error("its kind is not served")]
    Kind,
    #[error("the database cannot be asked")]
    Database(#[from] db::Error),
}

/// Looks up everything about a token.
pub async fn resolve(identity: &Identity, token: Token, text: &str) -> Result<Session, Unusable> {
    let db = &identity.db;
    let bearer = users::find(db, &token.user_id).await?.ok_or(Unusable::Gone("the user"))?;
    let scope = scope(identity, &token).await?;
    let trust = trust(identity, &token, &bearer).await?;
    let credential = credential(identity, &token).await?;
    let user = match &trust {
        Some((trust, trustor)) if trust.impersonation => trustor.clone(),
        _ => bearer.clone(),
    };
    let user_domain = enabled_domain(identity, &bearer.domain_id, "the user's domain").await?;
    if !bearer.enabled {
        return Err(Unusable::Disabled("the user"));
    }
    let project_domain = scope.project.as_ref().map_or("", |project| &project.domain_id);
    if revocations::is_revoked(db, &token, [&bearer.domain_id, project_domain]).await? {
        return Err(Unusable::Revoked);
    }
    let roles = roles(identity, &token, &trust, &credential).await?;
    let user_domain = match user.domain_id == user_domain.id {
        true => user_domain,
        false => enabled_domain(identity, &user.domain_id, "the trustor's domain").await?,
    };
    let application_credential = match credential {
        Some(credential) => Some(application_credentials::shown(db, credential).await?),
        None => None,
    };
    let caller = Caller {
        user_id: user.id.clone(),
        user_name: user.name.clone(),
        user_domain_id: user.domain_id.clone(),
        user_domain_name: user_domain.name,
        project_id: scope.project.as_ref().map(|project| project.id.clone()),
        project_name: scope.project.as_ref().map(|project| project.name.clone()),
        project_domain_id: scope.project_domain.as_ref().map(|domain| domain.id.clone()),
        project_domain_name: scope.project_domain.as_ref().map(|domain| domain.name.clone()),
        domain_id: scope.domain.as_ref().map(|domain| domain.id.clone()),
        domain_name: scope.domain.as_ref().map(|domain| domain.name.clone()),
        system: token.scope == Scope::System,
        roles: roles.iter().map(|role| role.name.clone()).collect(),
        role_ids: roles.iter().map(|role| role.id.clone()).collect(),
        methods: token.method_names().into_iter().map(String::from).collect(),
        audit_ids: token.audit_texts(),
        trust_id: trust.as_ref().map(|(trust, _)| trust.id.clone()),
        trustor_user_id: trust.as_ref().map(|(trust, _)| trust.trustor_user_id.clone()),
        trustee_user_id: trust.as_ref().map(|(trust, _)| trust.trustee_user_id.clone()),
        application_credential_id: application_credential.as_ref().map(|shown| shown.credential.id.clone()),
        unrestricted: application_credential.as_ref().is_none_or(|shown| shown.credential.unrestricted),
        access_rules: application_credential.as_ref().and_then(access_rules),
        expires: token.expires,
        issued: token.issued,
        token: Secret(text.to_string()),
        ..Caller::default()
    };
    Ok(Session {
        caller: Arc::new(caller),
        password_expires_at: user.password_expires_at,
        is_domain: scope.project.is_some_and(|project| project.is_domain),
        trust: trust.map(|(trust, _)| trust),
        application_credential,
        token,
        with_catalog: OnceLock::new(),
        without_catalog: OnceLock::new(),
    })
}

fn access_rules(shown: &application_credentials::Shown) -> Option<Vec<AccessRule>> {
    let rule = |rule: &crate::access_rules::AccessRule| AccessRule {
        service: rule.service.clone(),
        method: rule.method.clone(),
        path: rule.path.clone(),
    };
    shown.access_rules.as_ref().map(|rules| rules.iter().map(rule).collect())
}

#[derive(Default)]
struct Scoped {
    project: Option<Project>,
    project_domain: Option<Project>,
    domain: Option<Project>,
}

async fn scope(identity: &Identity, token: &Token) -> Result<Scoped, Unusable> {
    match &token.scope {
        Scope::Unscoped | Scope::System => Ok(Scoped::default()),
        Scope::Domain(id) => {
            let domain = enabled_domain(identity, id, "the domain of the scope").await?;
            Ok(Scoped { domain: Some(domain), ..Scoped::default() })
        }
        Scope::Project(id) => {
            let project = projects::find(&identity.db, id).await?.ok_or(Unusable::Gone("the project"))?;
            if !project.enabled {
                return Err(Unusable::Disabled("the project"));
            }
            let domain_id = project.domain().unwrap_or(&project.id).to_string();
            let domain = enabled_domain(identity, &domain_id, "the project's domain").await?;
            Ok(Scoped { project: Some(project), project_domain: Some(domain), domain: None })
        }
    }
}

async fn enabled_domain(identity: &Identity, id: &str, what: &'static str) -> Result<Project, Unusable> {
    let domain = projects::find_domain(&identity.db, id).await?.ok_or(Unusable::Gone(what))?;
    if domain.enabled { Ok(domain) } else { Err(Unusable::Disabled(what)) }
}

/// The trust that a token comes from, with the user who gave it.
async fn trust(identity: &Identity, token: &Token, bearer: &User) -> Result<Option<(Trust, User)>, Unusable> {
    let Grant::Trust(id) = &token.grant else { return Ok(None) };
    let trust = trusts::store::find(&identity.db, id).await?.ok_or(Unusable::Gone("the trust"))?;
    if trust.expires_at.is_some_and(|expires| expires <= clock::now()) || trust.trustee_user_id != bearer.id {
        return Err(Unusable::Gone("the trust"));
    }
    let trustor = users::find(&identity.db, &trust.trustor_user_id).await?.ok_or(Unusable::Gone("the trustor"))?;
    enabled_domain(identity, &trustor.domain_id, "the trustor's domain").await?;
    if trustor.enabled { Ok(Some((trust, trustor))) } else { Err(Unusable::Disabled("the trustor")) }
}

async fn credential(identity: &Identity, token: &Token) -> Result<Option<ApplicationCredential>, Unusable> {
    match &token.grant {
        Grant::Plain | Grant::Trust(_) => Ok(None),
        Grant::ApplicationCredential(id) => {
            let found = application_credentials::find(&identity.db, id).await?;
            found.ok_or(Unusable::Gone("the application credential")).map(Some)
        }
        Grant::Federation { .. } | Grant::AccessToken(_) | Grant::Certificate { .. } => Err(Unusable::Kind),
    }
}

/// The roles that the token carries now. A scope without any role is no scope.
async fn roles(
    identity: &Identity,
    token: &Token,
    trust: &Option<(Trust, User)>,
    credential: &Option<ApplicationCredential>,
) -> Result<Vec<Role>, Unusable> {
    let db = &identity.db;
    let roles = match (trust, &token.scope) {
        (Some((trust, _)), _) => trusts::roles(db, trust).await?.ok_or(Unusable::NoRoles)?,
        (None, Scope::Unscoped) => return Ok(Vec::new()),
        (None, scope) => effective::roles(db, Actor::User(&token.user_id), scope).await?,
    };
    let roles: Vec<Role> = match credential {
        Some(credential) => roles.into_iter().filter(|role| credential.role_ids.contains(&role.id)).collect(),
        None => roles,
    };
    let scoped = token.scope != Scope::Unscoped;
    if scoped && roles.is_empty() { Err(Unusable::NoRoles) } else { Ok(roles) }
}
