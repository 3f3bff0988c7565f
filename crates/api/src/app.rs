//! A service ready to answer: finds the operation, the version, the caller and the rule, and runs the handler.
//!
//! ```text
//! request → document? → mount → route → token → microversion → action → handler → envelope → headers
//!                       └──────────────── aim.rs ───────────────┘
//! ```

mod aim;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use futures_util::FutureExt;
use http::Method;
use tracing::Instrument;

use crate::caller::Authenticator;
use crate::fault::{self, Answer, Envelope, Occasion, Refusal};
use crate::message::{BoxFuture, Content, Endpoint, Reply, Request};
use crate::metrics::Metrics;
use crate::operation::{Operation, Service};
use crate::policy::{Policy, RuleId};
use crate::routes::Routes;
use crate::trace;

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
        for group in routes.groups() {
            must_differ(&operations, group);
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
        if let Some(url) = &self.public_url {
            request.base_url.clone_from(url);
        }
        let occasion = Occasion {
            method: request.method.clone(),
            accepts_json: accepts_json(&request),
            request_id: base::id::request(),
            version: None,
            base_url: request.base_url.clone(),
        };
        let global = trace::global_id(&request.headers);
        let span = trace::span(S::SHAPE.name, &occasion.request_id, global.as_deref());
        let lasting = global.unwrap_or_else(|| occasion.request_id.clone());
        trace::within(lasting, self.measured(request, occasion)).instrument(span).await
    }

    async fn measured(&self, request: Request, mut occasion: Occasion) -> Reply {
        let started = Instant::now();
        let mut index = None;
        let method = request.method.clone();
        // Only for the log, and seldom wanted there.
        let path = tracing::enabled!(tracing::Level::DEBUG).then(|| request.path.clone());
        let reply = self.shielded(request, &mut occasion, &mut index).await;
        let reply = match method == Method::HEAD {
            true => without_body(reply),
            false => reply,
        };
        let took = started.elapsed();
        let status = reply.status.as_u16();
        self.metrics.count(index, status, took);
        tracing::debug!(%method, path, status, took_us = took.as_micros() as u64, "answered");
        self.decorate(reply, &occasion)
    }

    /// Whatever goes wrong in here is answered: a refusal in the service's shape, a panic with 500.
    async fn shielded(&self, request: Request, occasion: &mut Occasion, index: &mut Option<usize>) -> Reply {
        let answer = AssertUnwindSafe(self.answer(request, occasion, index)).catch_unwind().await;
        let answer = answer.unwrap_or_else(|_| {
            let operation = index.map(|index| &self.operations[index]);
            let path = operation.map_or("", |operation| operation.path);
            tracing::error!(path, "answering a request panicked; the line before this one says where");
            Err(Refusal::failure())
        });
        answer.unwrap_or_else(|refusal| S::SHAPE.envelope.reply(&self.finish(refusal, occasion), occasion))
    }

    async fn answer(&self, request: Request, occasion: &mut Occasion, index: &mut Option<usize>) -> Answer<Reply> {
        if let Some(reply) = self.outside_the_table(&request) {
            return Ok(reply);
        }
        let (request, target) = match self.aim(request, occasion).await? {
            Ok(aimed) => aimed,
            Err(reply) => return Ok(reply),
        };
        *index = Some(target.index);
        let operation = &self.operations[target.index];
        let call = self.call(request, target, occasion)?;
        let (asked, marker) = (call.asked.clone(), call.page.marker.clone());
        let answer = operation.run(call).await;
        let answer = answer.map_err(|refusal| match refusal.kind == fault::MARKER {
            true => S::SHAPE.envelope.missing_marker(marker.as_deref().unwrap_or_default()),
            false => refusal,
        });
        if answer.is_ok() && operation.rule.is_some() && !asked.load(Ordering::Relaxed) {
            tracing::error!(path = operation.path, "a handler answered without asking its rule");
            debug_assert!(false, "{} {} answered without asking its rule", operation.method, operation.path);
            return Err(Refusal::failure());
        }
        answer
    }

    fn outside_the_table(&self, request: &Request) -> Option<Reply> {
        match request.path.as_str() {
            "/healthcheck" => Some(Reply::text(200, "text/plain; charset=UTF-8", "OK")),
            "/metrics" if request.method == Method::GET => {
                let text = self.metrics.text(&self.names());
                Some(Reply::text(200, "application/openmetrics-text; version=1.0.0; charset=utf-8", text))
            }
            _ => self.service.document(request),
        }
    }

    /// Headers that refusals of this service always carry.
    fn finish(&self, refusal: Refusal, occasion: &Occasion) -> Refusal {
        match refusal.status {
            401 => {
                let identity = match S::SHAPE.name {
                    "identity" => None,
                    _ => self.authenticator.public_url(),
                };
                let identity = identity.unwrap_or_else(|| format!("{}/v3", occasion.base_url));
                refusal.header("www-authenticate", format!("Keystone uri=\"{identity}\""))
            }
            _ => refusal,
        }
    }

    fn decorate(&self, mut reply: Reply, occasion: &Occasion) -> Reply {
        reply = reply.header("x-openstack-request-id", &occasion.request_id);
        match S::SHAPE.envelope {
            Envelope::Compute => reply = reply.header("x-compute-request-id", &occasion.request_id),
            Envelope::Identity => reply = reply.header("vary", "X-Auth-Token"),
            _ => {}
        }
        let (Some(versions), Some(version)) = (S::SHAPE.versions, occasion.version) else {
            return reply;
        };
        reply = reply.header("openstack-api-version", &format!("{} {version}", versions.word));
        match versions.older_header {
            None => reply.header("vary", "openstack-api-version"),
            Some(older) => reply
                .header(older, &version.to_string())
                .header("vary", "OpenStack-API-Version")
                .another_header("vary", older_spelling(older)),
        }
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

/// Operations on one path with one method must differ in action or version, and agree on whether a token is needed.
fn must_differ<S: Service>(operations: &[Operation<S>], group: &[usize]) {
    let all: Vec<&Operation<S>> = group.iter().map(|index| &operations[*index]).collect();
    for (place, one) in all.iter().enumerate() {
        for other in &all[..place] {
            let meet = one.since <= other.until && other.since <= one.until;
            let same = one.action == other.action && meet;
            assert!(!same, "two operations are {} {} {:?}", one.method, one.path, one.action);
            assert!(one.public == other.public, "{} {} is public and is not", one.method, one.path);
        }
    }
}

/// A HEAD keeps the length that a GET would have had.
fn without_body(mut reply: Reply) -> Reply {
    let length = match std::mem::take(&mut reply.content) {
        Content::Empty => None,
        Content::Bytes(bytes) => Some(bytes.len() as u64),
        Content::Chunks { length, .. } => length,
    };
    match length {
        Some(length) => reply.header("content-length", &length.to_string()),
        None => reply,
    }
}

/// Upstream spells its own header with capitals where it names it.
fn older_spelling(header: &'static str) -> &'static str {
    match header {
        "x-openstack-nova-api-version" => "X-OpenStack-Nova-API-Version",
        other => other,
    }
}

fn accepts_json(request: &Request) -> bool {
    let accept = request.headers.get("accept").and_then(|value| value.to_str().ok()).unwrap_or_default();
    accept.contains("application/json")
}
