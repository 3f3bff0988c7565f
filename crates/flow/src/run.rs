//! One run of a flow: what the story function sees.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::de::DeserializeOwned;
use tokio::sync::futures::OwnedNotified;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::faults::{Faults, Trouble, abort_if_asked};
use crate::journal::{FlowRow, Journal, Lost, State, StepRow};
use crate::limits::DOCUMENT_BYTES;
use crate::pace::{Pace, pause};
use crate::step::{Act, Failure, Step, StepError, Undo, failure};

tokio::task_local! {
    static REQUEST: String;
}

/// The API request on whose behalf the running step works, for `X-Openstack-Request-Id` and logs.
pub fn request_id() -> Option<String> {
    REQUEST.try_with(String::clone).ok()
}

/// The story ends here; pass it up with `?`. Why is known to the run.
#[derive(Debug)]
pub struct Stop(());

/// Why a run ended before the story did.
#[derive(Debug)]
pub(crate) enum Ended {
    Failed(Failure),
    /// Another controller goes on with it.
    Lost,
    /// A planned crash: as if this process had died.
    Crashed,
}

/// How a run left its flow.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    Over,
    /// The rows are as they were: this or another controller takes the flow up again.
    LetGo,
    Crashed,
}

/// What others tell a run while it runs.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    pub(crate) cancelled: AtomicBool,
    pub(crate) news: Arc<Notify>,
    /// The engine is stopping: the flow is left where it is.
    pub(crate) draining: AtomicBool,
}

/// Everything a run needs from its engine.
pub(crate) struct Launch<C> {
    pub(crate) context: Arc<C>,
    pub(crate) row: FlowRow,
    pub(crate) journal: Journal,
    pub(crate) steps: Vec<StepRow>,
    pub(crate) signal: Arc<Signal>,
    pub(crate) slots: Arc<Semaphore>,
    pub(crate) slot: OwnedSemaphorePermit,
    pub(crate) faults: Arc<Faults>,
    pub(crate) pace: Pace,
}

/// A flow on its way: the story function runs from the top after every crash, and finished steps answer from the
/// journal. Between steps there is only plain code over the order and earlier results.
pub struct Run<C, O> {
    pub(crate) context: Arc<C>,
    pub(crate) order: Arc<O>,
    pub(crate) row: FlowRow,
    pub(crate) journal: Journal,
    pub(crate) steps: HashMap<String, StepRow>,
    pub(crate) undos: Vec<(&'static str, Undo<C, O>)>,
    pub(crate) ended: Option<Ended>,
    pub(crate) faults: Arc<Faults>,
    pub(crate) pace: Pace,
    seen: HashSet<&'static str>,
    signal: Arc<Signal>,
    slots: Arc<Semaphore>,
    slot: Option<OwnedSemaphorePermit>,
    unstoppable: bool,
}

impl<C, O> Run<C, O>
where
    C: Send + Sync + 'static,
    O: Send + Sync + 'static,
{
    /// A step: done once, or answered from the journal. Its act is an "ensure", because a crash may come between the
    /// act and the journal. The name is a stored format and unique within the flow.
    ///
    /// `run.step("claim a host", async |c, new| c.claim(&new).await).undo(…).await?`
    pub fn step<'r, T, F, R, E>(&'r mut self, name: &'static str, act: F) -> Step<'r, C, O, T>
    where
        F: Fn(Arc<C>, Arc<O>) -> R + Send + Sync + 'r,
        R: Future<Output = Result<T, E>> + Send + 'r,
        E: Into<StepError>,
        T: 'r,
    {
        Step::new(self, name, move |context, order| act(context, order).map(|done| done.map(Some)))
    }

    /// A step that waits until `look` finds something, at most `limit` (counted anew after a crash). It looks when
    /// [`crate::Flows::wake`] is called for the resource, and now and then by itself; meanwhile it occupies no place
    /// among the running flows.
    pub fn wait<'r, T, F, R, E>(&'r mut self, name: &'static str, limit: Duration, look: F) -> Step<'r, C, O, T>
    where
        F: Fn(Arc<C>, Arc<O>) -> R + Send + Sync + 'r,
        R: Future<Output = Result<Option<T>, E>> + Send + 'r,
        E: Into<StepError>,
    {
        Step::new(self, name, look).awaiting(limit)
    }

    /// The story itself refuses to go on, because of what earlier steps found. Everything is undone.
    pub fn refuse(&mut self, code: &str, message: impl Into<String>) -> Stop {
        self.fail(failure("", code, message.into()))
    }

    pub fn order(&self) -> &O {
        &self.order
    }

    /// The flow's own id.
    pub fn id(&self) -> &str {
        &self.row.id
    }
}

impl<C, O> Run<C, O> {
    pub(crate) fn new(launch: Launch<C>, order: O, unstoppable: bool) -> Run<C, O> {
        let Launch { context, row, journal, steps, signal, slots, slot, faults, pace } = launch;
        Run {
            context,
            order: Arc::new(order),
            row,
            journal,
            steps: steps.into_iter().map(|step| (step.name.clone(), step)).collect(),
            undos: Vec::new(),
            ended: None,
            faults,
            pace,
            seen: HashSet::new(),
            signal,
            slots,
            slot: Some(slot),
            unstoppable,
        }
    }

    /// Registers a step that the story has reached.
    pub(crate) fn enter(&mut self, name: &'static str, undo: Option<Undo<C, O>>) -> Result<(), Stop> {
        if self.ended.is_some() {
            return Err(Stop(()));
        }
        if !self.seen.insert(name) {
            let message = format!("the flow has two steps named '{name}'");
            return Err(self.fail(failure(name, "defect", message)));
        }
        self.undos.extend(undo.map(|undo| (name, undo)));
        Ok(())
    }

    /// The result of a step that is in the journal.
    pub(crate) fn recorded<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, Stop> {
        let Some(result) = self.steps.get(name).and_then(|step| step.result.as_deref()) else {
            return Ok(None);
        };
        match serde_json::from_str(result) {
            Ok(done) => Ok(Some(done)),
            Err(error) => {
                // Only a changed program does this. Leave the rows alone: the right program can go on with them.
                tracing::error!(flow = self.row.id, step = name, %error, "a step's result cannot be read");
                Err(self.end(Ended::Lost))
            }
        }
    }

    /// Whether a step that is not in the journal may be done now.
    pub(crate) fn may_act(&mut self, name: &str) -> Result<(), Stop> {
        if let Some(why) = self.row.failure().filter(|_| self.row.state == State::Undoing) {
            return Err(self.fail(why));
        }
        if self.signal.draining.load(Ordering::SeqCst) {
            return Err(self.end(Ended::Lost));
        }
        if self.faults.at(name, Trouble::FailBefore) {
            return Err(self.fail(failure(name, "planned", "planned to fail".into())));
        }
        if self.faults.at(name, Trouble::CancelBefore) {
            self.signal.cancelled.store(true, Ordering::SeqCst);
        }
        self.not_cancelled(name).map_err(|why| self.fail(why))
    }

    /// Delete wins: a cancelled flow turns back at its next step.
    pub(crate) fn not_cancelled(&self, name: &str) -> Result<(), Failure> {
        match self.signal.cancelled.load(Ordering::SeqCst) && !self.unstoppable {
            true => Err(failure(name, "cancelled", "something else was asked for meanwhile".into())),
            false => Ok(()),
        }
    }

    pub(crate) fn acting<'f, T>(&self, act: &Act<'f, C, O, T>) -> BoxFuture<'f, Result<T, StepError>>
    where
        T: Send + 'f,
    {
        REQUEST.scope(self.row.request_id.clone(), act(self.context.clone(), self.order.clone())).boxed()
    }

    /// Writes a step's result into the journal.
    pub(crate) async fn record(
        &mut self,
        name: &'static str,
        result: Result<String, serde_json::Error>,
    ) -> Result<(), Stop> {
        self.crash_point(name, Trouble::CrashAfterEffect)?;
        if self.faults.at(name, Trouble::FailAfter) {
            return Err(self.fail(failure(name, "planned", "planned to fail".into())));
        }
        let result = match result {
            Ok(text) if text.len() <= DOCUMENT_BYTES => text,
            Ok(_) => return Err(self.fail(failure(name, "defect", "the step's result is too large".into()))),
            Err(error) => return Err(self.fail(failure(name, "defect", error.to_string()))),
        };
        let position = self.seen.len() as i64;
        let saved = self.journal.save(name, position, result).await;
        saved.map_err(|Lost| self.end(Ended::Lost))?;
        self.faults.pass(name);
        self.crash_point(name, Trouble::CrashAfterJournal)
    }

    pub(crate) fn crash_point(&mut self, name: &str, trouble: Trouble) -> Result<(), Stop> {
        abort_if_asked(&self.row.kind, name, trouble);
        match self.faults.at(name, trouble) {
            true => Err(self.end(Ended::Crashed)),
            false => Ok(()),
        }
    }

    pub(crate) fn fail(&mut self, why: Failure) -> Stop {
        self.end(Ended::Failed(why))
    }

    pub(crate) fn end(&mut self, ended: Ended) -> Stop {
        self.ended.get_or_insert(ended);
        Stop(())
    }

    /// Resolves at the next news for this flow, counted from now.
    pub(crate) fn woken(&self) -> OwnedNotified {
        self.signal.news.clone().notified_owned()
    }

    /// Waits for news or the next look, without occupying a place.
    pub(crate) async fn rest(&mut self, woken: OwnedNotified, looks: u32, deadline: Instant) {
        self.slot = None;
        let next = (Instant::now() + pause(self.pace.look, looks)).min(deadline);
        let _ = tokio::time::timeout_at(next, woken).await;
        self.take_slot().await;
    }

    /// Waits before another try; news (a cancellation) end it early.
    pub(crate) async fn back_off(&mut self, tries: u32) {
        let woken = self.woken();
        self.slot = None;
        let _ = tokio::time::timeout(pause(self.pace.backoff, tries), woken).await;
        self.take_slot().await;
    }

    /// Waits before an undo is tried again; nothing shortens it.
    pub(crate) async fn pause(&mut self, tries: u32) {
        self.slot = None;
        tokio::time::sleep(pause(self.pace.backoff, tries)).await;
        self.take_slot().await;
    }

    async fn take_slot(&mut self) {
        self.slot = self.slots.clone().acquire_owned().await.ok();
    }
}
