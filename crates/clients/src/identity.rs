//! Validating tokens against an identity service elsewhere: `GET /v3/auth/tokens`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use api::caller::AccessRule;
use api::message::BoxFuture;
use api::{AuthError, Authenticator, Caller, Endpoint, Json, Method, Request, Secret};
use base::Time;

use crate::account::Account;

/// Limit: how long an answer is believed; a revocation takes effect here after at most this time.
const BELIEVED: Duration = Duration::from_secs(5);
/// Limit: answers remembered at once.
const REMEMBERED: usize = 10_000;

/// The door to an identity service elsewhere.
pub struct RemoteIdentity {
    identity: Arc<dyn Endpoint>,
    account: OnceLock<Arc<Account>>,
    public_url: String,
    known: Mutex<HashMap<String, (Instant, Arc<Caller>)>>,
}

impl RemoteIdentity {
    pub fn new(identity: Arc<dyn Endpoint>, public_url: &str) -> RemoteIdentity {
        RemoteIdentity { identity, account: OnceLock::new(), public_url: public_url.into(), known: Mutex::default() }
    }

    /// The service user asks about tokens; it is made after this door, because it needs it.
    pub fn ask_as(&self, account: Arc<Account>) {
        let _ = self.account.set(account);
    }

    /// Asks with the service user's token. When identity does not accept that one, it is fetched anew, once: it says
    /// nothing about the token that was asked about.
    async fn look_up(&self, token: &str) -> Result<Arc<Caller>, AuthError> {
        let Some(account) = self.account.get() else {
            return self.validate(token, token).await?.ok_or(AuthError::Invalid);
        };
        let own = account.token().await?;
        // The service user's own token vouches for itself.
        if own.0 == token {
            return self.validate(token, token).await?.ok_or(AuthError::Invalid);
        }
        if let Some(caller) = self.validate(token, &own.0).await? {
            return Ok(caller);
        }
        account.refused(&own).await;
        let own = account.token().await?;
        let refused = || AuthError::Unreachable("identity refuses the service user's token".to_string());
        self.validate(token, &own.0).await?.ok_or_else(refused)
    }

    /// What identity says about `token`; none when it does not accept `own`.
    async fn validate(&self, token: &str, own: &str) -> Result<Option<Arc<Caller>>, AuthError> {
        let request = Request::new(Method::GET, "/v3/auth/tokens?nocatalog=1")
            .header("x-auth-token", own)
            .header("x-subject-token", token)
            .header("openstack-identity-access-rules", "1.0");
        let reply = self.identity.call(request).await;
        let status = reply.status.as_u16();
        let body = reply.content.bytes(api::limits::JSON_BODY_BYTES).await.unwrap_or_default();
        match status {
            200 => {
                let body: Json = serde_json::from_slice(&body)
                    .map_err(|_| AuthError::Unreachable("the answer about a token is no JSON".into()))?;
                Ok(Some(Arc::new(caller(&body["token"], token))))
            }
            401 => Ok(None),
            404 => Err(AuthError::Invalid),
            status => Err(AuthError::Unreachable(format!("validating a token gave {status}"))),
        }
    }

    fn remembered(&self, token: &str) -> Option<Arc<Caller>> {
        let known = self.known.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let (since, caller) = known.get(token)?;
        (since.elapsed() < BELIEVED && caller.expires > base::clock::now()).then(|| caller.clone())
    }

    fn remember(&self, token: &str, caller: &Arc<Caller>) {
        let mut known = self.known.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if known.len() >= REMEMBERED {
            known.retain(|_, (since, _)| since.elapsed() < BELIEVED);
        }
        if known.len() < REMEMBERED {
            known.insert(token.to_string(), (Instant::now(), caller.clone()));
        }
    }
}

impl Authenticator for RemoteIdentity {
    fn authenticate<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Arc<Caller>, AuthError>> {
        Box::pin(async move {
            if let Some(caller) = self.remembered(token) {
                return Ok(caller);
            }
            let caller = self.look_up(token).await?;
            self.remember(token, &caller);
            Ok(caller)
        })
    }

    fn public_url(&self) -> Option<String> {
        Some(self.public_url.clone())
    }
}

/// The only calls that a token is good for, where it says so.
fn access_rules(rules: &Json) -> Option<Vec<AccessRule>> {
    let text = |value: &Json| value.as_str().unwrap_or_default().to_string();
    let rule = |rule: &Json| AccessRule {
        service: text(&rule["service"]),
        method: text(&rule["method"]),
        path: text(&rule["path"]),
    };
    rules.as_array().map(|rules| rules.iter().map(rule).collect())
}

/// Reads the body of a token as identity shows it.
fn caller(token: &Json, secret: &str) -> Caller {
    let text = |value: &Json| value.as_str().map(String::from);
    let names = |key: &str, field: &str| -> Vec<String> {
        token[key].as_array().into_iter().flatten().filter_map(|role| text(&role[field])).collect()
    };
    let words = |key: &str| -> Vec<String> { token[key].as_array().into_iter().flatten().filter_map(text).collect() };
    let time = |key: &str| token[key].as_str().and_then(Time::parse).unwrap_or_default();
    let (user, project, trust) = (&token["user"], &token["project"], &token["OS-TRUST:trust"]);
    Caller {
        user_id: text(&user["id"]).unwrap_or_default(),
        user_name: text(&user["name"]).unwrap_or_default(),
        user_domain_id: text(&user["domain"]["id"]).unwrap_or_default(),
        user_domain_name: text(&user["domain"]["name"]).unwrap_or_default(),
        project_id: text(&project["id"]),
        project_name: text(&project["name"]),
        project_domain_id: text(&project["domain"]["id"]),
        project_domain_name: text(&project["domain"]["name"]),
        domain_id: text(&token["domain"]["id"]),
        domain_name: text(&token["domain"]["name"]),
        system: token["system"]["all"].as_bool().unwrap_or(false),
        roles: names("roles", "name"),
        role_ids: names("roles", "id"),
        service_roles: Vec::new(),
        methods: words("methods"),
        audit_ids: words("audit_ids"),
        trust_id: text(&trust["id"]),
        trustor_user_id: text(&trust["trustor_user"]["id"]),
        trustee_user_id: text(&trust["trustee_user"]["id"]),
        application_credential_id: text(&token["application_credential"]["id"]),
        unrestricted: !token["application_credential"]["restricted"].as_bool().unwrap_or(false),
        access_rules: access_rules(&token["application_credential"]["access_rules"]),
        expires: time("expires_at"),
        issued: time("issued_at"),
        token: Secret(secret.to_string()),
    }
}
