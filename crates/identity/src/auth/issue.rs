//! Issuing a token.

use api::{Answer, AnyBody, Call, Refusal, Reply};
use base::{Time, clock};

use super::methods::{self, Proven};
use super::request::AuthRequest;
use super::scope::{self, Granted};
use crate::sessions::{self, Unusable};
use crate::tokens::{Token, seal};
use crate::users::User;
use crate::{Identity, trusts};

pub(super) async fn issue(call: Call<Identity>, AnyBody(body): AnyBody) -> Answer<Reply> {
    let request = AuthRequest::read(&body, &call.query)?;
    let proven = methods::prove(&call, &request.proofs).await?;
    let user = proven.user.clone().ok_or_else(Refusal::unauthorized)?;
    let granted = scope::grant(&call, &request.wanted, &proven, &user).await?;
    let token = token(&call, &proven, &granted, &user);
    let text = seal(&token, &call.token_keys.keys());

    // A token that would not be accepted is not given out.
    let session = call.session(&text).await.map_err(refused)?;
    if let Some(trust) = &granted.trust {
        trusts::use_once(&call, trust).await?;
    }
    let body = sessions::body(&call.service, &session, request.with_catalog).await?;
    Ok(Reply::text(201, "application/json", body).header("x-subject-token", &text))
}

fn token(identity: &Identity, proven: &Proven, granted: &Granted, user: &User) -> Token {
    let life = identity.settings.token_expiration_s;
    let latest = Time::from_seconds(clock::now().plus_seconds(life).seconds());
    let expires = [proven.expires, granted.expires].into_iter().flatten().fold(latest, Ord::min);
    let own: [u8; 16] = rand::random();
    Token {
        user_id: user.id.clone(),
        methods: proven.methods,
        scope: granted.scope.clone(),
        grant: granted.grant.clone(),
        expires,
        issued: clock::now(),
        audit_ids: std::iter::once(own).chain(proven.parent_audit_id).collect(),
    }
}

/// Upstream: whoever logs in is not told why not, but for what concerns a trust.
fn refused(why: Unusable) -> Refusal {
    tracing::debug!(%why, "no token is issued");
    match why {
        Unusable::Database(error) => error.into(),
        Unusable::Disabled("the trustor") => Refusal::forbidden("Trustor is disabled."),
        _ => Refusal::unauthorized(),
    }
}
