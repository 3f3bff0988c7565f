//! The engine: claims flows, runs them, shows that it lives, and takes over from those that do not.

use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use db::{Db, select, sql};
use futures_util::FutureExt;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior};

use crate::definition::Definition;
use crate::faults::Faults;
use crate::flows::{Flows, Running, Shared};
use crate::journal::{Claim, FlowRow, Journal, State, claim, purge};
use crate::lease::{self, Observer};
use crate::limits::{OWNED, ROUND, RUNNING};
use crate::pace::Pace;
use crate::reconcile::{self, Reconciler};
use crate::run::{End, Launch, Signal};

/// What an engine can do.
pub struct Work<C> {
    pub flows: Vec<Definition<C>>,
    pub reconcilers: Vec<Reconciler<C>>,
}

/// A running engine. Dropping it is a crash: work stops where it is, and the rows stay ours until we or others take
/// them up. [`Engine::stop`] is the polite way.
pub struct Engine {
    shared: Arc<Shared>,
    owner: String,
    stop: watch::Sender<bool>,
    worker: JoinHandle<()>,
    reconcilers: JoinSet<()>,
}

impl Engine {
    /// Starts working. `owner` names this process beyond its own death (the UUID in its data directory): flows that it
    /// left behind in an earlier life are taken up at once.
    pub fn start<C>(flows: &Flows, owner: &str, context: Arc<C>, work: Work<C>) -> Engine
    where
        C: Send + Sync + 'static,
    {
        Engine::start_at(flows, owner, context, work, Pace::default())
    }

    /// The same at another pace, for tests.
    pub fn start_at<C>(flows: &Flows, owner: &str, context: Arc<C>, work: Work<C>, pace: Pace) -> Engine
    where
        C: Send + Sync + 'static,
    {
        Engine::start_with(flows, owner, context, work, pace, Arc::default())
    }

    pub(crate) fn start_with<C>(
        flows: &Flows,
        owner: &str,
        context: Arc<C>,
        work: Work<C>,
        pace: Pace,
        faults: Arc<Faults>,
    ) -> Engine
    where
        C: Send + Sync + 'static,
    {
        let shared = flows.shared.clone();
        let (stop, stopped) = watch::channel(false);
        let reconcilers = reconcile::start(&shared, owner, &context, work.reconcilers, pace, &stopped);
        let definitions = work.flows.into_iter().map(|flow| ((flow.name.to_string(), flow.version), flow));
        let worker = Worker {
            shared: shared.clone(),
            owner: owner.to_string(),
            context,
            definitions: definitions.collect(),
            pace,
            faults,
            slots: Arc::new(Semaphore::new(RUNNING)),
            tasks: JoinSet::new(),
            observer: Observer::default(),
            let_go: HashMap::new(),
            unknown: HashSet::new(),
            purged: None,
        };
        Engine { shared, owner: owner.to_string(), stop, worker: tokio::spawn(worker.work(stopped)), reconcilers }
    }

    /// Claims nothing more, lets each flow finish the step it is at, at most `limit`, and leaves the rest to others.
    pub async fn stop(mut self, limit: Duration) -> Result<(), db::Error> {
        self.stop.send_replace(true);
        for running in self.shared.running().values() {
            running.signal.draining.store(true, Ordering::SeqCst);
            running.signal.news.notify_waiters();
        }
        let ends = async {
            let _ = (&mut self.worker).await;
            while self.reconcilers.join_next().await.is_some() {}
        };
        if tokio::time::timeout(limit, ends).await.is_err() {
            tracing::warn!("steps that did not end in time are repeated after the next start");
        }
        self.worker.abort();
        release(&self.shared.db, &self.shared.service, &self.owner).await
    }

    /// Waits until the engine ends by itself, which only a planned crash makes it do.
    pub(crate) async fn crashed(&mut self) {
        let _ = (&mut self.worker).await;
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.worker.abort();
        self.shared.running().clear();
    }
}

/// Lets everybody have what `owner` has. Whoever still works there loses its fence.
async fn release(db: &Db, service: &str, owner: &str) -> Result<(), db::Error> {
    let free = "UPDATE flows SET owner = NULL, fence = fence + 1 WHERE service = ? AND owner = ?";
    db.run(sql(free).bind(service).bind(owner)).await.map(drop)
}

struct Worker<C> {
    shared: Arc<Shared>,
    owner: String,
    context: Arc<C>,
    definitions: HashMap<(String, u32), Definition<C>>,
    pace: Pace,
    faults: Arc<Faults>,
    slots: Arc<Semaphore>,
    tasks: JoinSet<(String, End)>,
    observer: Observer,
    /// Ours, but not to be tried again before this moment.
    let_go: HashMap<String, Instant>,
    /// Flows of programs that we are not, already reported.
    unknown: HashSet<(String, u32)>,
    purged: Option<Instant>,
}

impl<C: Send + Sync + 'static> Worker<C> {
    async fn work(mut self, mut stopped: watch::Receiver<bool>) {
        let shared = self.shared.clone();
        let (mut poll, mut beat) = (ticks(self.pace.poll), ticks(self.pace.beat));
        self.report(release(&shared.db, &shared.service, &self.owner).await);

        // Until told to stop, or until a planned crash.
        loop {
            tokio::select! {
                () = told_to(&mut stopped) => break,
                Some(ended) = self.tasks.join_next(), if !self.tasks.is_empty() => match ended {
                    Ok((_, End::Crashed)) => return self.tasks.abort_all(),
                    Ok((id, end)) => self.ended(id, end),
                    Err(error) => tracing::error!(%error, "a flow's task ended"),
                },
                _ = shared.kick.notified() => self.claim_some().await,
                _ = poll.tick() => {
                    self.listen().await;
                    self.claim_some().await;
                }
                _ = beat.tick() => self.live().await,
            }
        }
        while let Some(ended) = self.tasks.join_next().await {
            if let Ok((id, end)) = ended {
                self.ended(id, end);
            }
        }
    }

    fn ended(&mut self, id: String, end: End) {
        self.shared.running().remove(&id);
        if end == End::LetGo {
            self.let_go.insert(id, Instant::now() + self.pace.lapse);
        }
        self.shared.ended.notify_waiters();
        // A place is free, and so is a resource.
        self.shared.kick.notify_one();
    }

    /// Claims what nobody has, oldest first, as far as there is room.
    async fn claim_some(&mut self) {
        let room = self.slots.available_permits().min(OWNED.saturating_sub(self.tasks.len()));
        if room == 0 {
            return;
        }
        let rows = self.claimable().await;
        let rows = self.report(rows).unwrap_or_default();
        let mut resources = HashSet::new();
        for row in rows {
            if !resources.insert(row.resource.clone()) || !self.knows(&row) {
                continue;
            }
            if !self.take(&row).await {
                return;
            }
        }
    }

    async fn claimable(&self) -> Result<Vec<FlowRow>, db::Error> {
        let rows = select::<FlowRow>(
            "WHERE service = ? AND state IN (?, ?, ?) AND owner IS NULL AND NOT EXISTS (\
             SELECT 1 FROM flows holder WHERE holder.holding = flows.service || '/' || flows.resource \
             AND holder.id <> flows.id) ORDER BY created_at, id LIMIT ?",
        );
        let rows = rows.bind(&self.shared.service).bind(State::Queued).bind(State::Running).bind(State::Undoing);
        self.shared.db.all(rows.bind(ROUND)).await
    }

    /// A flow of another version is left alone: the program that knows it may still be there, or come back.
    fn knows(&mut self, row: &FlowRow) -> bool {
        let key = (row.kind.clone(), row.version);
        let known = self.definitions.contains_key(&key);
        if !known && self.unknown.insert(key) {
            let FlowRow { id, kind, version, resource, .. } = row;
            tracing::warn!(flow = id, kind, version, resource, "a flow of an unknown version waits for its program");
        }
        known
    }

    /// Claims one flow and starts it; false if there is no room.
    async fn take(&mut self, row: &FlowRow) -> bool {
        let Ok(slot) = self.slots.clone().try_acquire_owned() else { return false };
        let Some(definition) = self.definitions.get(&(row.kind.clone(), row.version)).cloned() else { return true };
        let claimed = claim(&self.shared.db, row, &self.owner).await;
        let Some(Claim::Ours(row)) = self.report(claimed) else { return true };

        let db = self.shared.db.clone();
        let journal = Journal { db, id: row.id.clone(), owner: self.owner.clone(), fence: row.fence };
        let steps = journal.steps().await;
        let Some(steps) = self.report(steps) else {
            self.let_go.insert(row.id, Instant::now());
            return true;
        };
        let signal = Arc::new(Signal::default());
        signal.cancelled.store(row.cancelled, Ordering::SeqCst);
        let running = Running {
            resource: row.resource.clone(),
            created_at: row.created_at,
            woken: row.woken,
            signal: signal.clone(),
        };
        self.shared.running().insert(row.id.clone(), running);
        self.launch(
            definition,
            Launch {
                context: self.context.clone(),
                row: *row,
                journal,
                steps,
                signal,
                slots: self.slots.clone(),
                slot,
                faults: self.faults.clone(),
                pace: self.pace,
            },
        );
        true
    }

    fn launch(&mut self, definition: Definition<C>, launch: Launch<C>) {
        let FlowRow { id, kind, resource, request_id, .. } = launch.row.clone();
        tracing::debug!(flow = id, kind, resource, request = request_id, "a flow runs");
        self.tasks.spawn(async move {
            let told = AssertUnwindSafe((definition.tell)(launch)).catch_unwind().await;
            let end = told.unwrap_or_else(|_panic| {
                tracing::error!(flow = id, kind, resource, "a flow's story failed between its steps; it is let go");
                End::LetGo
            });
            (id, end)
        });
    }

    /// Hears what other processes wrote into the rows of our flows, and takes up again what we let go.
    async fn listen(&mut self) {
        if self.tasks.is_empty() && self.let_go.is_empty() {
            return;
        }
        let mine = select::<FlowRow>("WHERE service = ? AND owner = ?").bind(&self.shared.service).bind(&self.owner);
        let mine = self.shared.db.all(mine).await;
        let mine = self.report(mine).unwrap_or_default();
        self.let_go.retain(|id, _| mine.iter().any(|row| row.id == *id));
        for row in mine {
            let heard = self.shared.running().get_mut(&row.id).map(|running| hear(running, &row));
            let due = self.let_go.get(&row.id).is_some_and(|due| *due <= Instant::now());
            if heard.is_none() && due {
                self.let_go.remove(&row.id);
                self.take(&row).await;
            }
        }
    }

    /// Shows that we live, and looks who does not.
    async fn live(&mut self) {
        let (shared, pace) = (self.shared.clone(), self.pace);
        if !self.tasks.is_empty() {
            self.report(lease::beat(&shared.db, &shared.service, &self.owner).await);
        }
        let others = self.others().await;
        let others = self.report(others).unwrap_or_default();
        let lapsed = self.observer.lapsed(&shared.db, &shared.service, others, pace.lapse).await;
        for owner in self.report(lapsed).unwrap_or_default() {
            tracing::warn!(owner, "a controller stands still; its flows are taken over");
            self.report(release(&shared.db, &shared.service, &owner).await);
            shared.kick.notify_one();
        }
        if self.purged.is_none_or(|last| last.elapsed() > Duration::from_secs(3600)) {
            self.purged = Some(Instant::now());
            self.report(purge(&shared.db, &shared.service).await);
        }
    }

    async fn others(&self) -> Result<Vec<String>, db::Error> {
        let others = sql("SELECT DISTINCT owner FROM flows WHERE state IN (?, ?) AND service = ? AND owner <> ?");
        let others = others.bind(State::Running).bind(State::Undoing).bind(&self.shared.service).bind(&self.owner);
        self.shared.db.rows(others).await?.iter().map(|row| row.get(0)).collect()
    }

    /// The database may be away for a while; the next round tries again.
    fn report<T>(&self, done: Result<T, db::Error>) -> Option<T> {
        done.inspect_err(|error| tracing::warn!(%error, "the flow engine cannot use its database")).ok()
    }
}

fn hear(running: &mut Running, row: &FlowRow) {
    let woken = std::mem::replace(&mut running.woken, row.woken) != row.woken;
    let cancelled = row.cancelled && !running.signal.cancelled.swap(true, Ordering::SeqCst);
    if woken || cancelled {
        running.signal.news.notify_waiters();
    }
}

/// Resolves when the flag is up, or nobody is left who could raise it.
pub(crate) async fn told_to(flag: &mut watch::Receiver<bool>) {
    let _ = flag.wait_for(|up| *up).await;
}

fn ticks(period: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
