//! The service user: its rights inside the process, its token between processes.

use std::sync::Arc;

use api::{AuthError, Authenticator, Caller, Endpoint, Json, Method, Request, Secret};
use base::{Time, clock, json};
use tokio::sync::Mutex;

/// Limit: a token is renewed this long before it expires.
const RENEW_SECONDS: i64 = 120;

/// How the service user logs in: the options of `[keystone_authtoken]` and its kin.
#[derive(Debug, Clone)]
pub struct Login {
    pub username: String,
    pub password: Secret,
    pub user_domain: String,
    pub project: String,
    pub project_domain: String,
}

/// The service user of this process.
pub struct Account {
    identity: Arc<dyn Endpoint>,
    authenticator: Arc<dyn Authenticator>,
    login: Login,
    held: Mutex<Option<(Secret, Time)>>,
}

impl Account {
    /// `identity` answers `POST /v3/auth/tokens`; `authenticator` says what the token is worth.
    pub fn new(identity: Arc<dyn Endpoint>, authenticator: Arc<dyn Authenticator>, login: Login) -> Account {
        Account { identity, authenticator, login, held: Mutex::new(None) }
    }

    /// What the service user's token says; for services in this process.
    pub async fn caller(&self) -> Result<Arc<Caller>, AuthError> {
        let token = self.token().await?;
        match self.authenticator.authenticate(&token.0).await {
            // Revoked since: log in once more.
            Err(AuthError::Invalid) => {
                self.refused(&token).await;
                let token = self.token().await?;
                self.authenticator.authenticate(&token.0).await
            }
            answer => answer,
        }
    }

    /// A token of the service user; for services elsewhere.
    pub async fn token(&self) -> Result<Secret, AuthError> {
        let mut held = self.held.lock().await;
        let soon = clock::now().plus_seconds(RENEW_SECONDS);
        if let Some((token, expires)) = held.as_ref()
            && *expires > soon
        {
            return Ok(token.clone());
        }
        let (token, expires) = self.log_in().await?;
        *held = Some((token.clone(), expires));
        Ok(token)
    }

    /// Forgets the token, after somebody refused it.
    pub async fn forget(&self) {
        *self.held.lock().await = None;
    }

    /// Forgets `token`, after somebody refused it. One that has been fetched since is kept.
    pub async fn refused(&self, token: &Secret) {
        let mut held = self.held.lock().await;
        if held.as_ref().is_some_and(|(held, _)| held == token) {
            *held = None;
        }
    }

    async fn log_in(&self) -> Result<(Secret, Time), AuthError> {
        let request = Request::new(Method::POST, "/v3/auth/tokens?nocatalog=1").json(&self.login.body());
        let reply = self.identity.call(request).await;
        let token = reply.headers.get("x-subject-token").and_then(|value| value.to_str().ok()).map(String::from);
        match (reply.status.as_u16(), token) {
            (201, Some(token)) => {
                let bytes = reply.content.bytes(api::limits::JSON_BODY_BYTES).await.unwrap_or_default();
                let body: Json = serde_json::from_slice(&bytes).unwrap_or_default();
                let expires = body["token"]["expires_at"].as_str().and_then(Time::parse);
                Ok((Secret(token), expires.unwrap_or_default()))
            }
            (401 | 403, _) => {
                tracing::error!(user = self.login.username, "identity refuses the service user's password");
                Err(AuthError::Unreachable(format!("identity refuses the service user {}", self.login.username)))
            }
            (status, _) => Err(AuthError::Unreachable(format!("logging in as {} gave {status}", self.login.username))),
        }
    }
}

impl Login {
    fn body(&self) -> Json {
        json!({"auth": {
            "identity": {"methods": ["password"], "password": {"user": {
                "name": self.username, "domain": {"name": self.user_domain}, "password": self.password.0,
            }}},
            "scope": {"project": {"name": self.project, "domain": {"name": self.project_domain}}},
        }})
    }
}
