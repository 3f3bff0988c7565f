//! One request on its way through a handler.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use base::Json;
use db::Page;
use db::Tx;

use crate::caller::Caller;
use crate::fault::{Answer, Refusal};
use crate::message::{Content, HeaderMap, Query};
use crate::operation::Service;
use crate::permit::{Own, Permitted};
use crate::policy::{Policy, RuleId, Target};
use crate::quota::{self, Limit};
use crate::version::Version;
use crate::view::Reader;

/// One request: who asks, for what, in which version. Derefs to the service, so that `call.db` is the service's.
pub struct Call<S: Service> {
    pub service: Arc<S>,
    pub caller: Arc<Caller>,
    pub version: Version,
    pub query: Query,
    pub page: Page,
    pub headers: HeaderMap,
    pub request_id: String,
    /// How the answer will be rendered; links and field rights.
    pub reader: Arc<Reader>,
    /// The body's key on `…/action` paths.
    pub action: Option<&'static str>,
    pub(crate) names: Vec<String>,
    /// Behind a lock only so that a shared call may cross threads; nobody contends.
    pub(crate) content: Mutex<Content>,
    pub(crate) rule: Option<(RuleId, &'static str)>,
    pub(crate) policy: Arc<Policy>,
    /// Set once the operation's rule has been asked; an answer without it is a defect of ours.
    pub(crate) asked: Arc<AtomicBool>,
}

impl<S: Service> Deref for Call<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.service
    }
}

impl<S: Service> Call<S> {
    /// Permits `row` if the operation's rule allows the caller this row; else 403 in the service's words.
    pub fn permit<T: Target>(&self, row: T) -> Answer<Permitted<T>> {
        if self.passes(&row) { Ok(Permitted::new(row)) } else { Err(self.denied()) }
    }

    /// Permits `row`, or answers `hidden`: for things whose very existence is nobody else's business.
    pub fn permit_or<T: Target>(&self, row: T, hidden: impl Into<Refusal>) -> Answer<Permitted<T>> {
        if self.passes(&row) { Ok(Permitted::new(row)) } else { Err(hidden.into()) }
    }

    /// Permits the call as such, judged on an object of the caller's own.
    pub fn allow(&self) -> Answer<Permitted<()>> {
        if self.passes(&Own(&self.caller)) { Ok(Permitted::new(())) } else { Err(self.denied()) }
    }

    /// Permits the call as such, judged on `target`.
    pub fn allow_on(&self, target: &dyn Target) -> Answer<Permitted<()>> {
        if self.passes(target) { Ok(Permitted::new(())) } else { Err(self.denied()) }
    }

    /// Permits the call by another rule than the operation's, for operations that stand under several.
    pub fn allow_by(&self, rule: &str, target: &dyn Target) -> Answer<Permitted<()>> {
        self.asked.store(true, Ordering::Relaxed);
        self.must(rule, target)?;
        Ok(Permitted::new(()))
    }

    /// Permits a list: the call as such must be allowed; rows that the rule does not allow are left out.
    pub fn permit_all<T: Target>(&self, rows: Vec<T>) -> Answer<Vec<Permitted<T>>> {
        self.allow()?;
        Ok(rows.into_iter().filter(|row| self.passes(row)).map(Permitted::new).collect())
    }

    /// Permits rows of a list without looking at each: for lists whose query holds only what the caller may see.
    pub fn permit_listed<T>(&self, rows: Vec<T>) -> Answer<Vec<Permitted<T>>> {
        self.allow()?;
        Ok(rows.into_iter().map(Permitted::new).collect())
    }

    /// A second question: does the caller pass `rule` about `target`? A rule that does not exist refuses.
    pub fn may(&self, rule: &str, target: &dyn Target) -> bool {
        self.reader.may(rule, target)
    }

    /// A second question about things of the caller's own.
    pub fn may_own(&self, rule: &str) -> bool {
        self.reader.may_own(rule)
    }

    /// Demands `rule` about `target` beside the operation's own rule; 403 otherwise.
    pub fn must(&self, rule: &str, target: &dyn Target) -> Answer<()> {
        if self.may(rule, target) { Ok(()) } else { Err(S::SHAPE.envelope.denied(rule)) }
    }

    /// Checks that `requested` more of `limit` fit into the caller's project. Holds until the transaction ends.
    pub async fn within(&self, tx: &mut Tx, limit: &Limit, requested: i64) -> Answer<()> {
        self.within_of(tx, self.caller.project(), limit, requested).await
    }

    /// The same for a project that need not be the caller's.
    pub async fn within_of(&self, tx: &mut Tx, project: &str, limit: &Limit, requested: i64) -> Answer<()> {
        quota::within(tx, project, limit, requested).await?.map_err(|over| S::over_quota(&over))
    }

    /// The body as JSON; an empty body is null. The body is gone afterwards.
    pub async fn json(&mut self) -> Answer<Json> {
        crate::input::json(self.take_content(), self.version, S::SHAPE.envelope).await
    }

    /// The body as it arrives. It is gone afterwards.
    pub fn take_content(&mut self) -> Content {
        std::mem::take(self.content.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }

    /// A header's value, when it is readable text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    fn passes(&self, target: &dyn Target) -> bool {
        self.asked.store(true, Ordering::Relaxed);
        self.rule.is_none_or(|(rule, _)| self.policy.allows(rule, &self.caller, target))
    }

    fn denied(&self) -> Refusal {
        S::SHAPE.envelope.denied(self.rule.map_or("", |(_, name)| name))
    }
}
