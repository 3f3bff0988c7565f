//! A service ready to answer: finds the operation, the version, the caller and the rule, and runs the handler.
//!
//! ```text
//! request → document? → mount → route → token → microversion → action → handler → envelope → headers
//! ```

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use base::Json;
use bytes::Bytes;
use db::Page;
use futures_util::FutureExt;
use http::Method;

use crate::call::Call;
use crate::caller::{AuthError, Authenticator, Caller};
use crate::fault::{Answer, Envelope, Occasion, Refusal};
use crate::limits;
use crate::message::{BoxFuture, Content, Endpoint, Query, Reply, Request};
use crate::metrics::Metrics;
use crate::operation::{Operation, Service};
use crate::policy::{Policy, RuleId};
use crate::routes::{Found, Routes};
use crate::version::{Asked, Version};
use crate::view::Reader;

/// A service with its table of operations, its policy and its door to identity.
pub struct App<S: Service> {
    service: Arc<S>,
    operations: Vec<Operation<S>>,
    rules: Vec<Option<RuleId>>,
    routes: Routes,
    policy: Arc<Policy>,
    authenticator: Arc<dyn Authenticator>,
    metrics: Metrics,
    public_url: Option<String>,
}

/// What has been found out about a request before its handler runs.
struct Target {
    caller: Arc<Caller>,
    version: Version,
    index: usize,
    names: Vec<String>,
    mount: String,
    path: String,
}

impl<S: Service> App<S> {
    /// `missing` lists the operations that are not there yet, a line each (`METHOD /path[ action] …`); they answer 501.
    ///
    /// # Panics
    /// When an operation names a rule that the policy does not have, or two operations cannot be told apart: both are
    /// mistakes in our tables.
    pub fn new(
        service: Arc<S>,
        operations: Vec<Operation<S>>,
        missing: &str,
        policy: Policy,
        authenticator: Arc<dyn Authenticator>,
    ) -> App<S> {
        let rules = operations.iter().map(|operation| {
            operation.rule.map(|name| policy.rule(name).unwrap_or_else(|| panic!("the policy has no rule {name}")))
        });
        let rules = rules.collect();
        let mut routes = Routes::default();
        for (index, operation) in operations.iter().enumerate() {
            routes.add(&operation.method, operation.path, index);
        }
        routes.add_missing(missing, S::SHAPE.mounts);
        let metrics = Metrics::new(S::SHAPE.name, operations.len());
        App { service, operations, rules, routes, policy: Arc::new(policy), authenticator, metrics, public_url: None }
    }

    /// What links in answers begin with, instead of the host that the client asked for.
    pub fn public_url(mut self, url: Option<String>) -> App<S> {
        self.public_url = url.map(|url| url.trim_end_matches('/').to_string());
        self
    }

    pub fn service(&self) -> &Arc<S> {
        &self.service
    }

    pub fn operations(&self) -> &[Operation<S>] {
        &self.operations
    }

    pub fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    async fn handle(&self, mut request: Request) -> Reply {
        let started = Instant::now();
        if let Some(url) = &self.public_url {
            request.base_url.clone_from(url);
        }
        let mut occasion = Occasion {
            method: request.method.to_string(),
            accepts_json: accepts_json(&request),
            request_id: base::id::request(),
            version: None,
            base_url: request.base_url.clone(),
        };
        let head = request.method == Method::HEAD;
        let (method, path) = (request.method.clone(), request.path.clone());
        let mut index = None;
        let mut reply = match self.answer(request, &mut occasion, &mut index).await {
            Ok(reply) => reply,
            Err(refusal) => S::SHAPE.envelope.reply(&self.finish(refusal, &occasion), &occasion),
        };
        if head {
            // A HEAD keeps the length that a GET would have had.
            if let Content::Bytes(bytes) = &reply.content {
                reply = Reply { content: Content::Empty, ..reply_length(bytes.len(), reply.status, &reply.headers) };
            }
        }
        let took = started.elapsed();
        self.metrics.count(index, reply.status.as_u16(), took);
        tracing::debug!(
            service = S::SHAPE.name,
            %method,
            path,
            status = reply.status.as_u16(),
            request = occasion.request_id,
            took_us = took.as_micros() as u64,
            "answered"
        );
        self.decorate(reply, &occasion)
    }

    /// Headers that refusals of this service always carry.
    fn finish(&self, refusal: Refusal, occasion: &Occasion) -> Refusal {
        match refusal.status {
            401 => {
                let identity = self.service_identity_url(occasion);
                refusal.header("www-authenticate", format!("Keystone uri=\"{identity}\""))
            }
            _ => refusal,
        }
    }

    fn service_identity_url(&self, occasion: &Occasion) -> String {
        match S::SHAPE.name {
            "identity" => format!("{}/v3", occasion.base_url),
            _ => self.authenticator_url().unwrap_or_else(|| format!("{}/v3", occasion.base_url)),
        }
    }

    fn authenticator_url(&self) -> Option<String> {
        self.authenticator.public_url()
    }

    fn decorate(&self, reply: Reply, occasion: &Occasion) -> Reply {
        let mut reply = reply.header("x-openstack-request-id", &occasion.request_id);
        if S::SHAPE.name == "compute" {
            reply = reply.header("x-compute-request-id", &occasion.request_id);
        }
        if S::SHAPE.name == "identity" {
            reply = reply.header("vary", "X-Auth-Token");
        }
        let (Some(versions), Some(version)) = (S::SHAPE.versions, occasion.version) else {
            return reply;
        };
        reply = reply.header("openstack-api-version", &format!("{} {version}", versions.word));
        match versions.older_header {
            None => reply.header("vary", "openstack-api-version"),
            Some(older) => reply
                .header(older, &version.to_string())
                .header("vary", "OpenStack-API-Version, X-OpenStack-Nova-API-Version"),
        }
    }

    async fn answer(&self, mut request: Request, occasion: &mut Occasion, index: &mut Option<usize>) -> Answer<Reply> {
        if request.path == "/healthcheck" {
            return Ok(Reply::text(200, "text/plain; charset=UTF-8", "OK"));
        }
        if request.path == "/metrics" && request.method == Method::GET {
            let text = self.metrics.text(&self.names());
            return Ok(Reply::text(200, "application/openmetrics-text; version=1.0.0; charset=utf-8", text));
        }
        if let Some(reply) = self.service.document(&request) {
            return Ok(reply);
        }
        let target = match self.aim(&mut request, occasion).await? {
            Ok(target) => target,
            Err(reply) => return Ok(reply),
        };
        *index = Some(target.index);
        let operation = &self.operations[target.index];
        let call = self.call(request, target, occasion)?;
        let asked = call.asked.clone();
        let answer = AssertUnwindSafe(operation.run(call)).catch_unwind().await.unwrap_or_else(|_| {
            tracing::error!(path = operation.path, request = occasion.request_id, "a handler panicked");
            Err(Refusal::failure())
        });
        if answer.is_ok() && operation.rule.is_some() && !asked.load(Ordering::Relaxed) {
            tracing::error!(path = operation.path, "a handler answered without asking its rule");
            debug_assert!(false, "{} {} answered without asking its rule", operation.method, operation.path);
            return Err(Refusal::failure());
        }
        answer
    }

    /// Finds the operation that a request means, or the reply to one that means none.
    async fn aim(&self, request: &mut Request, occasion: &mut Occasion) -> Answer<Result<Target, Reply>> {
        let envelope = S::SHAPE.envelope;
        let located = self.routes.locate(&request.method, &request.path, &S::SHAPE);
        let public = matches!(&located, Some(at) if self.is_public(&at.found));
        let caller = match public {
            true => Arc::new(Caller::default()),
            false if located.is_none() && S::SHAPE.name == "identity" => {
                return Ok(Err(envelope.unknown_path(occasion)));
            }
            false => self.caller(request).await?,
        };
        let version = match self.version(request, occasion) {
            Ok(version) => version,
            Err(reply) => return Ok(Err(*reply)),
        };
        let Some(at) = located else {
            return Ok(Err(envelope.unknown_path(occasion)));
        };
        match at.found {
            Found::Operations(indexes) => {
                let index = self.choose(&indexes, request, version, occasion).await?;
                let target = |index| Target { caller, version, index, names: at.names, mount: at.mount, path: at.path };
                Ok(index.map(target))
            }
            Found::Missing => Err(Refusal::new(501, "", format!("{} is not implemented yet.", request.path))),
            Found::OtherMethods(allowed) => Ok(Err(envelope.unknown_method(&allowed, occasion))),
        }
    }

    fn is_public(&self, found: &Found) -> bool {
        match found {
            Found::Operations(indexes) => indexes.iter().any(|index| self.operations[*index].public),
            Found::OtherMethods(_) => S::SHAPE.name == "identity",
            Found::Missing => false,
        }
    }

    /// Of the operations on one path, the one for this version and action.
    async fn choose(
        &self,
        indexes: &[usize],
        request: &mut Request,
        version: Version,
        occasion: &Occasion,
    ) -> Answer<Result<usize, Reply>> {
        let served = || indexes.iter().copied().filter(|index| self.operations[*index].serves(version));
        let plain = served().find(|index| self.operations[*index].action.is_none());
        if indexes.iter().all(|index| self.operations[*index].action.is_none()) {
            return Ok(plain.ok_or_else(|| self.absent(occasion)));
        }
        let content = std::mem::take(&mut request.content);
        let Some(bytes) = content.bytes(limits::JSON_BODY_BYTES).await else {
            return Err(Refusal::new(413, "", "Request is too large."));
        };
        let key = action_key(&bytes)?;
        request.content = Content::Bytes(bytes);
        if let Some(index) = served().find(|index| self.operations[*index].action == Some(key.as_str())) {
            return Ok(Ok(index));
        }
        if let Some(index) = plain {
            return Ok(Ok(index));
        }
        if self.routes.missing_action(&key) {
            return Err(Refusal::new(501, "", format!("The action {key} is not implemented yet.")));
        }
        match indexes.iter().any(|index| self.operations[*index].action == Some(key.as_str())) {
            true => Ok(Err(self.absent(occasion))),
            false => Err(Refusal::bad_request(format!("There is no such action: {key}"))),
        }
    }

    /// The operation exists, but not at this version.
    fn absent(&self, occasion: &Occasion) -> Reply {
        S::SHAPE.envelope.absent(occasion)
    }

    fn version(&self, request: &Request, occasion: &mut Occasion) -> Result<Version, Box<Reply>> {
        let Some(versions) = &S::SHAPE.versions else {
            return Ok(Version(0, 0));
        };
        let envelope = S::SHAPE.envelope;
        match versions.negotiate(&request.headers) {
            Asked::Version(version) => {
                occasion.version = Some(version);
                Ok(version)
            }
            Asked::OutOfRange(version) => {
                // Upstream: placement's answer is of no version.
                occasion.version = Some(version).filter(|_| envelope != Envelope::Placement);
                Err(Box::new(envelope.bad_version(&version.to_string(), true, versions, occasion)))
            }
            Asked::Unreadable(text) => Err(Box::new(envelope.bad_version(&text, false, versions, occasion))),
        }
    }

    async fn caller(&self, request: &mut Request) -> Answer<Arc<Caller>> {
        if let Some(caller) = request.caller.take() {
            return Ok(caller);
        }
        let header = |name| request.headers.get(name).and_then(|value| value.to_str().ok());
        let Some(token) = header("x-auth-token") else {
            return Err(Refusal::unauthorized());
        };
        let caller = self.authenticator.authenticate(token).await.map_err(refuse)?;
        match header("x-service-token") {
            None => Ok(caller),
            Some(token) => {
                let service = self.authenticator.authenticate(token).await.map_err(refuse)?;
                Ok(Arc::new(Caller { service_roles: service.roles.clone(), ..Caller::clone(&caller) }))
            }
        }
    }

    fn call(&self, request: Request, target: Target, occasion: &Occasion) -> Answer<Call<S>> {
        let operation = &self.operations[target.index];
        let query = Query::parse(&request.query);
        let page = match operation.listing {
            Some(listing) => {
                let page = crate::listing::page(listing, &query, S::SHAPE.envelope)?;
                let limit = page.limit.or(self.service.list_limit());
                Page { limit, ..page }
            }
            None => Page::default(),
        };
        let rule = self.rules[target.index].zip(operation.rule);
        let reader = Reader {
            caller: target.caller.clone(),
            version: target.version,
            base_url: request.base_url,
            mount: target.mount,
            path: target.path,
            query: query.clone(),
            page: page.clone(),
            listing: operation.listing,
            policy: self.policy.clone(),
            envelope: S::SHAPE.envelope,
        };
        Ok(Call {
            service: self.service.clone(),
            caller: target.caller,
            version: target.version,
            query,
            page,
            headers: request.headers,
            request_id: occasion.request_id.clone(),
            reader: Arc::new(reader),
            action: operation.action,
            names: target.names,
            content: Mutex::new(request.content),
            rule,
            policy: self.policy.clone(),
            asked: Arc::new(AtomicBool::new(operation.open || operation.public)),
        })
    }

    fn names(&self) -> Vec<String> {
        let name = |operation: &Operation<S>| {
            let action = operation.action.map(|key| format!(" {key}")).unwrap_or_default();
            format!("{} {}{action}", operation.method, operation.path)
        };
        self.operations.iter().map(name).collect()
    }
}

impl<S: Service> Endpoint for App<S> {
    fn call(&self, request: Request) -> BoxFuture<'_, Reply> {
        Box::pin(self.handle(request))
    }
}

fn refuse(error: AuthError) -> Refusal {
    match error {
        AuthError::Invalid => Refusal::unauthorized(),
        AuthError::Unreachable(why) => {
            tracing::error!(why, "identity cannot be asked");
            Refusal::new(503, "", "Identity cannot be asked at the moment.")
        }
    }
}

fn reply_length(length: usize, status: http::StatusCode, headers: &http::HeaderMap) -> Reply {
    let reply = Reply { status, headers: headers.clone(), content: Content::Empty };
    reply.header("content-length", &length.to_string())
}

fn accepts_json(request: &Request) -> bool {
    let accept = request.headers.get("accept").and_then(|value| value.to_str().ok()).unwrap_or_default();
    accept.contains("application/json")
}

/// The single key of an action's body.
fn action_key(bytes: &Bytes) -> Answer<String> {
    let malformed = || Refusal::bad_request("Malformed request body");
    let body: Json = serde_json::from_slice(bytes).map_err(|_| malformed())?;
    match body.as_object() {
        Some(map) if map.len() == 1 => Ok(map.keys().next().cloned().unwrap_or_default()),
        _ => Err(malformed()),
    }
}
