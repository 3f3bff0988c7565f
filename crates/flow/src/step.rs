//! One step of a flow: its act, its undo, its limits; and what may come of it.

use std::future::{Future, IntoFuture};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::limits::{RETRIES, STEP_TIME};
use crate::run::{Run, Stop};

/// Why a step did not work.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// It may work later: the step is tried again, within its limits.
    #[error("{0}")]
    Again(Box<dyn std::error::Error + Send + Sync>),
    /// It will never work: the flow unwinds. `code` is for programs, `message` for the user.
    #[error("{message}")]
    Refused { code: String, message: String },
}

impl StepError {
    pub fn again(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StepError {
        StepError::Again(why.into())
    }

    pub fn refused(code: impl Into<String>, message: impl Into<String>) -> StepError {
        StepError::Refused { code: code.into(), message: message.into() }
    }
}

impl From<db::Error> for StepError {
    fn from(error: db::Error) -> StepError {
        StepError::Again(error.into())
    }
}

/// Why a flow failed; kept in its row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The step that could not be done; empty when the story itself refused.
    pub step: String,
    /// The refusal's code, or `exhausted`, `timeout`, `cancelled`, `defect`.
    pub code: String,
    /// In words for the user.
    pub message: String,
}

pub(crate) type Act<'r, C, O, T> =
    Box<dyn Fn(Arc<C>, Arc<O>) -> BoxFuture<'r, Result<T, StepError>> + Send + Sync + 'r>;
pub(crate) type Undo<C, O> = Act<'static, C, O, ()>;

/// A step that waits to be told its limits and then awaited.
#[must_use = "a step does nothing until it is awaited"]
pub struct Step<'r, C, O, T> {
    run: &'r mut Run<C, O>,
    name: &'static str,
    act: Act<'r, C, O, Option<T>>,
    undo: Option<Undo<C, O>>,
    within: Duration,
    retries: u32,
    awaits: Option<Duration>,
}

impl<'r, C, O, T> Step<'r, C, O, T>
where
    C: Send + Sync + 'static,
    O: Send + Sync + 'static,
{
    pub(crate) fn new<F, R, E>(run: &'r mut Run<C, O>, name: &'static str, act: F) -> Self
    where
        F: Fn(Arc<C>, Arc<O>) -> R + Send + Sync + 'r,
        R: Future<Output = Result<Option<T>, E>> + Send + 'r,
        E: Into<StepError>,
    {
        let act: Act<'r, C, O, Option<T>> =
            Box::new(move |context, order| act(context, order).map(|done| done.map_err(Into::into)).boxed());
        Step { run, name, act, undo: None, within: STEP_TIME, retries: RETRIES, awaits: None }
    }

    pub(crate) fn awaiting(mut self, limit: Duration) -> Self {
        self.awaits = Some(limit);
        self
    }

    /// How to take the step back, also when it is only half done or not done at all. It sees the order and nothing else.
    pub fn undo<F, R, E>(mut self, undo: F) -> Self
    where
        F: Fn(Arc<C>, Arc<O>) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<StepError>,
    {
        self.undo =
            Some(Box::new(move |context, order| undo(context, order).map(|done| done.map_err(Into::into)).boxed()));
        self
    }

    /// How long one try may take; after that its outcome is unknown and it is tried again.
    pub fn within(mut self, limit: Duration) -> Self {
        self.within = limit;
        self
    }

    /// How often the step is tried again after the first failure that may pass.
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }
}

impl<'r, C, O, T> IntoFuture for Step<'r, C, O, T>
where
    C: Send + Sync + 'static,
    O: Send + Sync + 'static,
    T: Serialize + DeserializeOwned + Send + 'static,
{
    type Output = Result<T, Stop>;
    type IntoFuture = BoxFuture<'r, Result<T, Stop>>;

    fn into_future(self) -> Self::IntoFuture {
        perform(self).boxed()
    }
}

async fn perform<C, O, T>(step: Step<'_, C, O, T>) -> Result<T, Stop>
where
    C: Send + Sync + 'static,
    O: Send + Sync + 'static,
    T: Serialize + DeserializeOwned + Send + 'static,
{
    let Step { run, name, act, undo, within, retries, awaits } = step;
    run.enter(name, undo)?;
    if let Some(done) = run.recorded(name)? {
        return Ok(done);
    }
    run.may_act(name)?;

    let done = match awaits {
        None => attempts(run, name, &act, within, retries).await,
        Some(limit) => awaited(run, name, &act, within, retries, limit).await,
    };
    match done {
        Ok(done) => {
            run.record(name, serde_json::to_string(&done)).await?;
            Ok(done)
        }
        Err(failure) => Err(run.fail(failure)),
    }
}

/// Tries until it works, is refused, or has been tried often enough.
async fn attempts<C, O, T: Send + 'static>(
    run: &mut Run<C, O>,
    name: &str,
    act: &Act<'_, C, O, Option<T>>,
    within: Duration,
    retries: u32,
) -> Result<T, Failure> {
    match look(run, name, act, within, retries).await? {
        Some(done) => Ok(done),
        // Only steps that wait may find nothing.
        None => Err(failure(name, "defect", "the step ended without a result".into())),
    }
}

/// Looks until there is something to see, or the time is over.
async fn awaited<C, O, T: Send + 'static>(
    run: &mut Run<C, O>,
    name: &str,
    act: &Act<'_, C, O, Option<T>>,
    within: Duration,
    retries: u32,
    limit: Duration,
) -> Result<T, Failure> {
    let deadline = tokio::time::Instant::now() + limit;
    let mut looks = 0;
    loop {
        // Taken before the look, so that nothing is missed between the look and the wait.
        let woken = run.woken();
        if let Some(done) = look(run, name, act, within, retries).await? {
            return Ok(done);
        }
        if tokio::time::Instant::now() >= deadline {
            let message = format!("{name}: nothing happened within {} s", limit.as_secs());
            return Err(failure(name, "timeout", message));
        }
        run.rest(woken, looks, deadline).await;
        run.not_cancelled(name)?;
        looks += 1;
    }
}

async fn look<C, O, T: Send + 'static>(
    run: &mut Run<C, O>,
    name: &str,
    act: &Act<'_, C, O, Option<T>>,
    within: Duration,
    retries: u32,
) -> Result<Option<T>, Failure> {
    let mut tries = 0;
    loop {
        let why = match attempt(run.acting(act), within).await {
            Ok(done) => return Ok(done),
            Err(StepError::Refused { code, message }) => return Err(failure(name, &code, message)),
            Err(StepError::Again(why)) => chain(&*why),
        };
        if tries >= retries {
            return Err(failure(name, "exhausted", why));
        }
        tracing::warn!(flow = run.row.id, step = name, tries, error = why, "a step is tried again");
        run.back_off(tries).await;
        run.not_cancelled(name)?;
        tries += 1;
    }
}

/// One try, bounded in time; a panic is a refusal.
pub(crate) async fn attempt<T>(act: BoxFuture<'_, Result<T, StepError>>, within: Duration) -> Result<T, StepError> {
    match tokio::time::timeout(within, AssertUnwindSafe(act).catch_unwind()).await {
        Ok(Ok(done)) => done,
        Ok(Err(_panic)) => Err(StepError::refused("defect", "an unexpected failure inside the cloud")),
        Err(_) => Err(StepError::again(format!("no result within {} s", within.as_secs_f32()))),
    }
}

pub(crate) fn failure(step: &str, code: &str, message: String) -> Failure {
    Failure { step: step.to_string(), code: code.to_string(), message }
}

/// The error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
