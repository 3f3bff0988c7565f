//! Reconcilers: functions without input that compare what should be with what is, and repair the difference.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::engine::told_to;
use crate::flows::Shared;
use crate::lease::{Election, Office};
use crate::pace::Pace;
use crate::step::{StepError, attempt, chain};

/// Limit: one run of a reconciler. What is not done then is done by the next run.
const RUN_TIME: Duration = Duration::from_secs(600);

type Act<C> = Arc<dyn Fn(Arc<C>) -> BoxFuture<'static, Result<(), StepError>> + Send + Sync>;

/// Runs when poked and on a timer, never beside itself; in one process of the cloud unless said otherwise.
pub struct Reconciler<C> {
    name: &'static str,
    period: Duration,
    everywhere: bool,
    act: Act<C>,
}

impl<C: Send + Sync + 'static> Reconciler<C> {
    /// `Reconciler::new("dead hosts", Duration::from_secs(60), async |c| c.mark_dead_hosts().await)`
    pub fn new<F, R, E>(name: &'static str, period: Duration, act: F) -> Reconciler<C>
    where
        F: Fn(Arc<C>) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<StepError>,
    {
        let act: Act<C> = Arc::new(move |context| act(context).map(|done| done.map_err(Into::into)).boxed());
        Reconciler { name, period, everywhere: false, act }
    }

    /// Runs in every process that has the role: it repairs something of the process's own.
    pub fn everywhere(mut self) -> Reconciler<C> {
        self.everywhere = true;
        self
    }
}

/// Starts a task for each reconciler, and one that stands for election if any of them needs it.
pub(crate) fn start<C: Send + Sync + 'static>(
    shared: &Arc<Shared>,
    owner: &str,
    context: &Arc<C>,
    reconcilers: Vec<Reconciler<C>>,
    pace: Pace,
    stopped: &watch::Receiver<bool>,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let (lead, leads) = watch::channel(false);
    let names: Vec<_> = reconcilers.iter().filter(|each| !each.everywhere).map(|each| each.name).collect();
    if !names.is_empty() {
        let election = Election::new(shared.office(), owner);
        tasks.spawn(stand(shared.clone(), election, names, pace, lead, stopped.clone()));
    }
    for reconciler in reconcilers {
        tasks.spawn(keep_running(shared.clone(), reconciler, context.clone(), leads.clone(), stopped.clone()));
    }
    tasks
}

/// Stands for election at every beat.
async fn stand(
    shared: Arc<Shared>,
    mut election: Election,
    names: Vec<&'static str>,
    pace: Pace,
    lead: watch::Sender<bool>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut beat = tokio::time::interval(pace.beat);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = told_to(&mut stopped) => break,
            _ = beat.tick() => {}
        }
        let office = match election.stand(&shared.db, pace.lapse).await {
            Ok(office) => office,
            Err(error) => {
                tracing::warn!(%error, "the election cannot be held");
                Office::Not
            }
        };
        if office == (Office::Held { poked: true }) {
            names.iter().for_each(|name| shared.poked(name).notify_one());
        }
        let leads = office != Office::Not;
        shared.leads.store(leads, Ordering::Relaxed);
        lead.send_if_modified(|before| std::mem::replace(before, leads) != leads);
    }
    shared.leads.store(false, Ordering::Relaxed);
    lead.send_replace(false);
    if let Err(error) = election.resign(&shared.db).await {
        tracing::warn!(%error, "the office was not given back; others wait until it lapses");
    }
}

async fn keep_running<C: Send + Sync + 'static>(
    shared: Arc<Shared>,
    reconciler: Reconciler<C>,
    context: Arc<C>,
    mut leads: watch::Receiver<bool>,
    mut stopped: watch::Receiver<bool>,
) {
    let Reconciler { name, period, everywhere, act } = reconciler;
    let poked = shared.poked(name);
    loop {
        if !everywhere {
            tokio::select! {
                () = told_to(&mut stopped) => return,
                () = told_to(&mut leads) => {}
            }
        }
        let run = attempt(act(context.clone()), RUN_TIME);
        tokio::select! {
            done = run => if let Err(error) = done {
                tracing::warn!(reconciler = name, error = chain(&error), "a reconciler did not get through");
            },
            // Half a run is harmless; two leaders are not.
            () = deposed(&mut leads), if !everywhere => continue,
            () = told_to(&mut stopped) => return,
        }
        tokio::select! {
            () = told_to(&mut stopped) => return,
            _ = poked.notified() => {}
            _ = tokio::time::sleep(period) => {}
        }
    }
}

async fn deposed(leads: &mut watch::Receiver<bool>) {
    let _ = leads.wait_for(|leads| !*leads).await;
}
