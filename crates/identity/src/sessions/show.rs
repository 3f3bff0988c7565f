//! A session as clients see it: the body of `/v3/auth/tokens`.

use api::Json;
use base::{Time, json};
use bytes::Bytes;

use super::Session;
use crate::tokens::Scope;
use crate::{Identity, catalog};

/// The body for a session, made once per generation of what is remembered.
pub async fn body(identity: &Identity, session: &Session, with_catalog: bool) -> Result<Bytes, db::Error> {
    let kept = if with_catalog { &session.with_catalog } else { &session.without_catalog };
    if let Some(body) = kept.get() {
        return Ok(body.clone());
    }
    let mut token = token(session);
    if with_catalog && session.token.scope != Scope::Unscoped {
        token["catalog"] = catalog::of(identity, &session.caller).await?;
    }
    let body = Bytes::from(json!({"token": token}).to_string());
    Ok(kept.get_or_init(|| body).clone())
}

fn token(session: &Session) -> Json {
    let Session { token, caller, .. } = session;
    let mut view = json!({
        "methods": caller.methods,
        "user": {
            "domain": {"id": caller.user_domain_id, "name": caller.user_domain_name},
            "id": caller.user_id,
            "name": caller.user_name,
            "password_expires_at": session.password_expires_at.map(|expires| expires.iso_micros_z()),
        },
        "audit_ids": caller.audit_ids,
        "expires_at": token.expires.iso_micros_z(),
        "issued_at": Time::from_seconds(token.issued.seconds()).iso_micros_z(),
    });
    match &token.scope {
        Scope::Unscoped => {}
        Scope::System => view["system"] = json!({"all": true}),
        Scope::Domain(_) => view["domain"] = json!({"id": caller.domain_id, "name": caller.domain_name}),
        Scope::Project(_) => {
            view["project"] = json!({
                "domain": {"id": caller.project_domain_id, "name": caller.project_domain_name},
                "id": caller.project_id,
                "name": caller.project_name,
            });
            // Upstream: tokens from trusts do not say it.
            if session.trust.is_none() {
                view["is_domain"] = json!(session.is_domain);
            }
        }
    }
    if token.scope != Scope::Unscoped {
        let roles = caller.role_ids.iter().zip(&caller.roles);
        view["roles"] = roles.map(|(id, name)| json!({"id": id, "name": name})).collect();
    }
    if let Some(trust) = &session.trust {
        view["OS-TRUST:trust"] = json!({
            "id": trust.id,
            "trustor_user": {"id": trust.trustor_user_id},
            "trustee_user": {"id": trust.trustee_user_id},
            "impersonation": trust.impersonation,
        });
    }
    if let Some(shown) = &session.application_credential {
        view["application_credential"] = json!({
            "id": shown.credential.id,
            "name": shown.credential.name,
            "restricted": !shown.credential.unrestricted,
        });
        if let Some(rules) = &shown.access_rules {
            view["application_credential"]["access_rules"] = rules.iter().map(crate::access_rules::plain).collect();
        }
    }
    view
}
