//! One other service, and whose rights a request to it carries.

use std::sync::Arc;

use api::{Caller, Content, Endpoint, Json, Method, Reply, Request};

use crate::account::Account;

/// Whose rights a request carries.
#[derive(Debug, Clone, Copy)]
pub enum Rights<'a> {
    /// The user's own, within the request that brought them.
    User(&'a Arc<Caller>),
    /// Those of the service user: for work that outlives the request.
    Service,
}

#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// The other service answered no.
    #[error("{service} refused {method} {path}: {status} {message}")]
    Refused { service: &'static str, method: Method, path: String, status: u16, message: String },
    /// It cannot be reached, or failed itself: the outcome is unknown.
    #[error("{service} did not carry out {method} {path}: {status} {message}")]
    Failed { service: &'static str, method: Method, path: String, status: u16, message: String },
}

impl PeerError {
    pub fn status(&self) -> u16 {
        match self {
            PeerError::Refused { status, .. } | PeerError::Failed { status, .. } => *status,
        }
    }

    /// The other service's own words.
    pub fn message(&self) -> &str {
        match self {
            PeerError::Refused { message, .. } | PeerError::Failed { message, .. } => message,
        }
    }

    pub fn is_missing(&self) -> bool {
        self.status() == 404
    }
}

/// A door to one other service.
#[derive(Clone)]
pub struct Peer {
    service: &'static str,
    endpoint: Arc<dyn Endpoint>,
    /// The other service runs in this process and believes in callers without tokens.
    local: bool,
    account: Arc<Account>,
    /// The microversion header sent with every request: `("openstack-api-version", "placement 1.39")`.
    version: Option<(&'static str, String)>,
}

impl Peer {
    /// A service in this process.
    pub fn local(service: &'static str, endpoint: Arc<dyn Endpoint>, account: Arc<Account>) -> Peer {
        Peer { service, endpoint, local: true, account, version: None }
    }

    /// A service elsewhere.
    pub fn remote(service: &'static str, endpoint: Arc<dyn Endpoint>, account: Arc<Account>) -> Peer {
        Peer { service, endpoint, local: false, account, version: None }
    }

    /// Asks in this microversion: `"placement 1.39"`.
    pub fn at_version(mut self, version: &str) -> Peer {
        self.version = Some(("openstack-api-version", version.to_string()));
        self
    }

    pub async fn get(&self, rights: Rights<'_>, target: &str) -> Result<Json, PeerError> {
        self.ask(rights, Request::new(Method::GET, target)).await
    }

    pub async fn post(&self, rights: Rights<'_>, target: &str, body: &Json) -> Result<Json, PeerError> {
        self.ask(rights, Request::new(Method::POST, target).json(body)).await
    }

    pub async fn put(&self, rights: Rights<'_>, target: &str, body: &Json) -> Result<Json, PeerError> {
        self.ask(rights, Request::new(Method::PUT, target).json(body)).await
    }

    pub async fn patch(&self, rights: Rights<'_>, target: &str, body: &Json) -> Result<Json, PeerError> {
        self.ask(rights, Request::new(Method::PATCH, target).json(body)).await
    }

    pub async fn delete(&self, rights: Rights<'_>, target: &str) -> Result<Json, PeerError> {
        self.ask(rights, Request::new(Method::DELETE, target)).await
    }

    /// Sends `request` and reads a JSON answer; an empty answer is null.
    pub async fn ask(&self, rights: Rights<'_>, request: Request) -> Result<Json, PeerError> {
        let (method, path) = (request.method.clone(), request.path.clone());
        let reply = self.send(rights, request).await;
        let status = reply.status.as_u16();
        let bytes = reply.content.bytes(api::limits::JSON_REPLY_BYTES).await;
        let body = bytes.as_deref().map(|bytes| serde_json::from_slice(bytes).unwrap_or(Json::Null));
        let service = self.service;
        match (status, body) {
            (200..300, Some(body)) => Ok(body),
            (200..300, None) => {
                Err(PeerError::Failed { service, method, path, status: 502, message: "the answer broke off".into() })
            }
            (400..500, body) => Err(PeerError::Refused { service, method, path, status, message: words(body) }),
            (_, body) => Err(PeerError::Failed { service, method, path, status, message: words(body) }),
        }
    }

    /// Sends `request` and hands the reply over as it comes: for bodies of any size.
    ///
    /// When the service user's token is refused, it is forgotten, and a request that can be sent twice is.
    pub async fn send(&self, rights: Rights<'_>, mut request: Request) -> Reply {
        if let Some((name, value)) = &self.version
            && !request.headers.contains_key(*name)
        {
            request = request.header(name, value);
        }
        if let Some(lasting) = api::trace::current() {
            request = request.header(api::trace::HEADER, &lasting);
        }
        request = request.header("accept", "application/json");
        match (rights, self.local) {
            (Rights::User(caller), true) => {
                self.endpoint.call(Request { caller: Some(caller.clone()), ..request }).await
            }
            (Rights::User(caller), false) => self.endpoint.call(request.header("x-auth-token", &caller.token.0)).await,
            (Rights::Service, true) => match self.account.caller().await {
                Ok(caller) => self.endpoint.call(Request { caller: Some(caller), ..request }).await,
                Err(error) => unreachable_reply(&error.to_string()),
            },
            (Rights::Service, false) => self.send_with_token(request).await,
        }
    }

    async fn send_with_token(&self, request: Request) -> Reply {
        let again = repeatable(&request);
        let token = match self.account.token().await {
            Ok(token) => token,
            Err(error) => return unreachable_reply(&error.to_string()),
        };
        let reply = self.endpoint.call(request.header("x-auth-token", &token.0)).await;
        if reply.status != 401 {
            return reply;
        }
        self.account.refused(&token).await;
        // A refused request has not been carried out, so any method may be sent again.
        match (again, self.account.token().await) {
            (Some(request), Ok(token)) => self.endpoint.call(request.header("x-auth-token", &token.0)).await,
            _ => reply,
        }
    }
}

/// The request once more, unless its body can be read only once.
fn repeatable(request: &Request) -> Option<Request> {
    let content = match &request.content {
        Content::Empty => Content::Empty,
        Content::Bytes(bytes) => Content::Bytes(bytes.clone()),
        Content::Chunks { .. } => return None,
    };
    Some(Request {
        method: request.method.clone(),
        path: request.path.clone(),
        query: request.query.clone(),
        headers: request.headers.clone(),
        content,
        caller: request.caller.clone(),
        base_url: request.base_url.clone(),
    })
}

fn unreachable_reply(why: &str) -> Reply {
    Reply::json(503, &base::json!({"message": format!("no token for the service user: {why}")}))
}

/// The sentence in an error body, whatever its shape.
fn words(body: Option<Json>) -> String {
    fn find(body: &Json) -> Option<&str> {
        let direct = ["message", "detail", "faultstring"].iter().find_map(|key| body.get(key)?.as_str());
        direct.or_else(|| match body {
            Json::Object(map) => map.values().find_map(find),
            Json::Array(items) => items.iter().find_map(find),
            _ => None,
        })
    }
    body.as_ref().and_then(find).unwrap_or_default().to_string()
}
