//! Validating tokens against an identity service elsewhere: `GET /v3/auth/tokens`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

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

    async fn look_up(&self, token: &str) -> Result<Arc<Caller>, AuthError> {
        // The service user's own first token vouches for itself.
        let own = match self.account.get() {
            Some(account) => Box::pin(account.token()).await.unwrap_or_else(|_| Secret(token.to_string())),
            None => Secret(token.to_string()),
        };
        self.validate(token, &own).await
    }

    async fn validate(&self, token: &str, own: &Secret) -> Result<Arc<Caller>, AuthError> {
        let request = Request::new(Method::GET, "/v3/auth/tokens?nocatalog=1");
        let request = request.header("x-auth-token", &own.0).header("x-subject-token", token);
        let reply = self.identity.call(request).await;
        let status = reply.status.as_u16();
        let body = reply.content.bytes(api::limits::JSON_BODY_BYTES).await.unwrap_or_default();
        match status {
            200 => {
                let body: Json = serde_json::from_slice(&body).map_err(|_| AuthError::Invalid)?;
                Ok(Arc::new(caller(&body["token"], token)))
            }
            401 | 403 | 404 => Err(AuthError::Invalid),
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
        expires: time("expires_at"),
        issued: time("issued_at"),
        token: Secret(secret.to_string()),
    }
}
