//! From a request to the operation that it means, and to the call that its handler gets.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use db::Page;
use http::Method;
use serde::de::IgnoredAny;

use super::App;
use crate::call::Call;
use crate::caller::{AccessRule, AuthError, Caller};
use crate::fault::{Answer, Envelope, Occasion, Refusal};
use crate::input;
use crate::limits;
use crate::message::{Content, Query, Reply, Request};
use crate::operation::Service;
use crate::routes::{Found, Located, Slot};
use crate::version::{Asked, Version};
use crate::view::Reader;

/// What has been found out about a request before its handler runs.
pub(super) struct Target {
    caller: Arc<Caller>,
    version: Version,
    pub(super) index: usize,
    names: Vec<String>,
    mount: String,
    path: String,
}

/// The request with its operation, or the reply to one that means none.
type Aimed = Answer<Result<(Request, Target), Reply>>;

impl<S: Service> App<S> {
    /// Finds the operation that a request means.
    pub(super) async fn aim(&self, mut request: Request, occasion: &mut Occasion) -> Aimed {
        let envelope = S::SHAPE.envelope;
        let located = self.routes.locate(&request.method, &request.path, &S::SHAPE);
        let caller = match self.is_public(&located, &request.method) {
            true => Arc::new(Caller::default()),
            false => self.caller(&mut request).await?,
        };
        let known = located.as_ref().is_some_and(|at| !matches!(at.found, Found::OtherMethods(_)));
        // Upstream: compute looks for the path before the version, placement the other way round.
        let version = match known || envelope == Envelope::Placement {
            true => match self.version(&request, located.as_ref().is_some_and(|at| at.older), occasion) {
                Ok(version) => version,
                Err(reply) => return Ok(Err(*reply)),
            },
            false => Version(0, 0),
        };
        let Some(at) = located.filter(|at| at.names.iter().all(|name| !name.contains('\0'))) else {
            return Ok(Err(envelope.unknown_path(occasion)));
        };
        same_project(&at, &caller)?;
        match at.found {
            Found::Operations(indexes) => {
                let index = match self.choose(at.slot, indexes, &mut request, version).await? {
                    Some(index) => index,
                    None => return Ok(Err(envelope.absent(occasion))),
                };
                let Located { names, mount, path, .. } = at;
                Ok(Ok((request, Target { caller, version, index, names, mount, path })))
            }
            Found::Missing => Err(Refusal::new(501, "", format!("{} is not implemented yet.", request.path))),
            Found::OtherMethods(allowed) => Ok(Err(envelope.unknown_method(&allowed, occasion))),
        }
    }

    /// Whether no token is needed. Upstream: identity looks at tokens only once it knows what is asked of it.
    fn is_public(&self, located: &Option<Located<'_>>, method: &Method) -> bool {
        let identity = S::SHAPE.envelope == Envelope::Identity;
        match located.as_ref().map(|at| &at.found) {
            Some(Found::Operations(indexes)) => indexes.iter().any(|index| self.operations[*index].public),
            Some(Found::OtherMethods(_)) | None => identity,
            Some(Found::Missing) => identity && *method == Method::OPTIONS,
        }
    }

    /// Of the operations on one path, the one for this version and action; none when it is there in other versions.
    async fn choose(
        &self,
        slot: &Slot,
        indexes: &[usize],
        request: &mut Request,
        version: Version,
    ) -> Answer<Option<usize>> {
        let action_of = |index: &usize| self.operations[*index].action;
        let served = |index: &&usize| self.operations[**index].serves(version);
        let plain = indexes.iter().filter(served).find(|index| action_of(index).is_none()).copied();
        if indexes.iter().all(|index| action_of(index).is_none()) {
            return Ok(plain);
        }
        let bytes = input::whole(std::mem::take(&mut request.content)).await?;
        let key = action_key(&bytes)?;
        request.content = Content::Bytes(bytes);
        let named = |index: &&usize| action_of(index) == Some(key.as_str());
        if let Some(index) = indexes.iter().filter(served).find(named).copied().or(plain) {
            return Ok(Some(index));
        }
        if slot.lacks_action(&key) {
            return Err(Refusal::new(501, "", format!("The action {key} is not implemented yet.")));
        }
        match indexes.iter().any(|index| named(&index)) {
            true => Ok(None),
            false => Err(Refusal::bad_request(format!("There is no such action: {key}"))),
        }
    }

    fn version(&self, request: &Request, older: bool, occasion: &mut Occasion) -> Result<Version, Box<Reply>> {
        let Some(versions) = &S::SHAPE.versions else {
            return Ok(Version(0, 0));
        };
        if older {
            // Upstream: below `/v2` compute neither reads nor writes headers of microversions.
            return Ok(versions.min);
        }
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

    /// Who asks. A caller that this process has authenticated already is believed.
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
            None => match self.may_be_used(&caller, request) {
                true => Ok(caller),
                // Upstream: the answer does not say that only this call is out of reach.
                false => Err(Refusal::unauthorized()),
            },
            Some(token) => {
                let service = self.authenticator.authenticate(token).await.map_err(refuse)?;
                // A service passes on what its user was allowed to begin; anybody else's second token opens nothing.
                match service.has_role("service") || self.may_be_used(&caller, request) {
                    true => Ok(Arc::new(Caller { service_roles: service.roles.clone(), ..Caller::clone(&caller) })),
                    false => Err(Refusal::unauthorized()),
                }
            }
        }
    }

    /// Whether the caller's credential is good for this call; most are good for all.
    fn may_be_used(&self, caller: &Caller, request: &Request) -> bool {
        let (method, path) = (request.method.as_str(), &request.path);
        let fits = |rules: &Vec<AccessRule>| rules.iter().any(|rule| rule.fits(S::SHAPE.name, method, path));
        caller.access_rules.as_ref().is_none_or(fits)
    }

    pub(super) fn call(&self, request: Request, target: Target, occasion: &Occasion) -> Answer<Call<S>> {
        let operation = &self.operations[target.index];
        let query = Query::parse(&request.query);
        must_be_sane(&query)?;
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
            raw_query: request.query,
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

/// Upstream: a project in the path is only ever the caller's own.
fn same_project(at: &Located<'_>, caller: &Caller) -> Answer<()> {
    match &at.project {
        Some(project) if caller.project_id.as_ref() != Some(project) => {
            let own = caller.project_id.as_deref().unwrap_or("None");
            Err(Refusal::bad_request(format!(
                "Malformed request URL: URL's project_id '{project}' doesn't match Context's project_id '{own}'"
            )))
        }
        _ => Ok(()),
    }
}

fn must_be_sane(query: &Query) -> Answer<()> {
    if query.0.len() > limits::QUERY_PAIRS {
        return Err(Refusal::bad_request("The query has too many parameters."));
    }
    // Limit: NUL cannot be kept in, nor compared by, every database.
    match query.0.iter().find(|(name, value)| name.contains('\0') || value.contains('\0')) {
        Some((name, _)) => Err(Refusal::bad_request(format!(
            "Invalid input for query parameters {}. A query holds no NUL.",
            name.replace('\0', "")
        ))),
        None => Ok(()),
    }
}

/// The single key of an action's body. What it holds is read by the action's input.
fn action_key(bytes: &Bytes) -> Answer<String> {
    let malformed = || Refusal::bad_request("Malformed request body");
    let body: BTreeMap<String, IgnoredAny> = serde_json::from_slice(bytes).map_err(|_| malformed())?;
    let mut keys = body.into_keys();
    match (keys.next(), keys.next()) {
        (Some(key), None) => Ok(key),
        _ => Err(malformed()),
    }
}
