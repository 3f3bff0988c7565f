//! An identity service and another service that do as they are told, and remember what they were asked.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use api::message::BoxFuture;
use api::{AuthError, Authenticator, Caller, Endpoint, Method, Reply, Request, Secret, json};
use base::clock;
use clients::{Account, Login};

/// Gives out `service-1`, `service-2`, …; knows besides whichever tokens are in `good`.
#[derive(Default)]
pub struct Identity(Mutex<Inside>);

#[derive(Default)]
struct Inside {
    good: BTreeSet<String>,
    log_ins: u32,
    questions: u32,
    lifetime: i64,
    status: Option<u16>,
}

impl Identity {
    pub fn new() -> Arc<Identity> {
        let identity = Arc::new(Identity::default());
        identity.inside().lifetime = 3600;
        identity.inside().good.insert("alice".into());
        identity
    }

    fn inside(&self) -> std::sync::MutexGuard<'_, Inside> {
        self.0.lock().unwrap()
    }

    /// From now on, tokens are good for so many seconds.
    pub fn lifetime(&self, seconds: i64) {
        self.inside().lifetime = seconds;
    }

    pub fn revoke(&self, token: &str) {
        self.inside().good.remove(token);
    }

    /// Answers every question about tokens with this status.
    pub fn answer(&self, status: u16) {
        self.inside().status = Some(status);
    }

    pub fn log_ins(&self) -> u32 {
        self.inside().log_ins
    }

    /// Questions about tokens.
    pub fn questions(&self) -> u32 {
        self.inside().questions
    }

    pub fn knows(&self, token: &str) -> bool {
        self.inside().good.contains(token)
    }

    fn log_in(&self) -> Reply {
        let mut inside = self.inside();
        inside.log_ins += 1;
        let token = format!("service-{}", inside.log_ins);
        inside.good.insert(token.clone());
        let expires = clock::now().plus_seconds(inside.lifetime).iso_micros_z();
        Reply::json(201, &json!({"token": {"expires_at": expires}})).header("x-subject-token", &token)
    }

    fn tell(&self, request: &Request) -> Reply {
        let header = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let mut inside = self.inside();
        inside.questions += 1;
        if let Some(status) = inside.status {
            return Reply::new(status);
        }
        let (own, about) = (header("x-auth-token"), header("x-subject-token"));
        match (inside.good.contains(own), inside.good.contains(about)) {
            (false, _) => Reply::new(401),
            (_, false) => Reply::new(404),
            _ => Reply::json(
                200,
                &json!({"token": {
                    "user": {"id": about, "name": about, "domain": {"id": "default", "name": "Default"}},
                    "roles": [{"id": "r1", "name": "member"}],
                    "project": {"id": "p1", "name": "blue", "domain": {"id": "default", "name": "Default"}},
                    "expires_at": clock::now().plus_seconds(3600).iso_micros_z(),
                    "issued_at": clock::now().iso_micros_z(),
                    "application_credential": {"id": "a1", "restricted": true, "access_rules": [
                        {"id": "x", "service": "compute", "method": "GET", "path": "/v2.1/servers"},
                    ]},
                }}),
            ),
        }
    }
}

impl Endpoint for Identity {
    fn call(&self, request: Request) -> BoxFuture<'_, Reply> {
        Box::pin(async move {
            // Others get their turn, as they would with a socket in between.
            tokio::task::yield_now().await;
            match request.method {
                Method::POST => self.log_in(),
                _ => self.tell(&request),
            }
        })
    }
}

impl Authenticator for Identity {
    fn authenticate<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Arc<Caller>, AuthError>> {
        Box::pin(async move {
            let caller = Caller { user_id: token.to_string(), token: Secret(token.to_string()), ..Caller::default() };
            self.knows(token).then(|| Arc::new(caller)).ok_or(AuthError::Invalid)
        })
    }
}

pub fn login() -> Login {
    Login {
        username: "nova".into(),
        password: Secret("s3kr1t".into()),
        user_domain: "Default".into(),
        project: "service".into(),
        project_domain: "Default".into(),
    }
}

pub fn account(identity: &Arc<Identity>) -> Arc<Account> {
    Arc::new(Account::new(identity.clone(), identity.clone(), login()))
}

/// What a request to the other service looked like.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    pub method: String,
    pub token: String,
    pub caller: Option<String>,
    pub request_id: String,
    pub version: String,
    pub body: String,
}

/// Another service: accepts the tokens that `identity` knows and says how it was asked.
pub struct Other {
    identity: Arc<Identity>,
    pub asked: Mutex<Vec<Asked>>,
}

impl Other {
    pub fn new(identity: &Arc<Identity>) -> Arc<Other> {
        Arc::new(Other { identity: identity.clone(), asked: Mutex::default() })
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

impl Endpoint for Other {
    fn call(&self, request: Request) -> BoxFuture<'_, Reply> {
        Box::pin(async move {
            let header = |name: &str| {
                request.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_string()
            };
            let (token, request_id) = (header("x-auth-token"), header("x-openstack-request-id"));
            let version = header("openstack-api-version");
            let caller = request.caller.as_ref().map(|caller| caller.user_id.clone());
            let refused = caller.is_none() && !self.identity.knows(&token);
            let (method, path) = (request.method.to_string(), request.path.clone());
            let body = request.content.bytes(1000).await.unwrap();
            let body = String::from_utf8(body.to_vec()).unwrap();
            self.asked.lock().unwrap().push(Asked { method, token, caller, request_id, version, body });
            match path.as_str() {
                _ if refused => Reply::new(401),
                "/missing" => Reply::json(404, &json!({"itemNotFound": {"code": 404, "message": "No such thing."}})),
                "/full" => {
                    Reply::json(409, &json!({"NeutronError": {"type": "T", "message": "It is full.", "detail": ""}}))
                }
                "/broken" => Reply::text(500, "text/html", "<h1>Oh</h1>"),
                _ => Reply::json(200, &json!({"fine": true})),
            }
        })
    }
}
