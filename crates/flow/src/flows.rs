//! The face of the flows towards the rest of a service: start, cancel, wake, poke.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base::{Time, clock, id};
use db::{Db, Tx, select, sql};
use tokio::sync::Notify;

use crate::definition::{Kind, Order};
use crate::journal::{FlowRow, State};
use crate::limits::DOCUMENT_BYTES;
use crate::run::Signal;

/// A service's flows. Clones are the same; keep one in the service's state.
#[derive(Clone)]
pub struct Flows {
    pub(crate) shared: Arc<Shared>,
    request_id: Option<Arc<str>>,
}

pub(crate) struct Shared {
    pub(crate) service: String,
    pub(crate) db: Db,
    /// Something may be there to claim.
    pub(crate) kick: Notify,
    /// A flow has ended here.
    pub(crate) ended: Notify,
    /// Whether this process runs the elected reconcilers.
    pub(crate) leads: AtomicBool,
    running: Mutex<HashMap<String, Running>>,
    pokes: Mutex<HashMap<String, Arc<Notify>>>,
}

/// A flow that runs in this process.
#[derive(Clone)]
pub(crate) struct Running {
    pub(crate) resource: String,
    pub(crate) created_at: Time,
    pub(crate) woken: i64,
    pub(crate) signal: Arc<Signal>,
}

const UNFINISHED: [State; 3] = [State::Queued, State::Running, State::Undoing];

impl Flows {
    /// The flows of `service`, whose database has [`crate::MIGRATION`].
    pub fn new(service: &str, db: &Db) -> Flows {
        let shared = Shared {
            service: service.to_string(),
            db: db.clone(),
            kick: Notify::new(),
            ended: Notify::new(),
            leads: AtomicBool::new(false),
            running: Mutex::default(),
            pokes: Mutex::default(),
        };
        Flows { shared: Arc::new(shared), request_id: None }
    }

    /// The same flows, starting on behalf of the API request `id`.
    pub fn on_behalf_of(&self, id: &str) -> Flows {
        Flows { request_id: Some(id.into()), ..self.clone() }
    }

    /// Starts a flow if and when `tx` is committed. Returns the flow's id.
    pub async fn start<O: Order>(&self, tx: &mut Tx, kind: Kind<O>, order: &O) -> Result<String, db::Error> {
        let order_json = serde_json::to_string(order).expect("an order is a struct of plain fields");
        assert!(order_json.len() <= DOCUMENT_BYTES, "the order of {} is too large", kind.name);
        let now = ordered_now();
        let row = FlowRow {
            id: id::uuid(),
            service: self.shared.service.clone(),
            kind: kind.name.to_string(),
            version: kind.version,
            resource: order.resource().to_string(),
            request_id: self.request_id.as_deref().map_or_else(id::request, str::to_string),
            order_json,
            state: State::Queued,
            cancelled: false,
            woken: 0,
            failed_step: None,
            error_code: None,
            error: None,
            owner: None,
            fence: 0,
            holding: None,
            created_at: now,
            updated_at: now,
        };
        tx.insert(&row).await?;
        let shared = self.shared.clone();
        tx.after_commit(move || shared.kick.notify_one());
        Ok(row.id)
    }

    /// Cancels what was started for `resource` before now, if and when `tx` is committed: running flows turn back at
    /// their next step, waiting ones are failed when their turn comes. Flows that are `unstoppable` do not care.
    pub async fn cancel(&self, tx: &mut Tx, resource: &str) -> Result<(), db::Error> {
        let cancel = "UPDATE flows SET cancelled = 1 WHERE service = ? AND resource = ? AND state IN (?, ?)";
        let cancel = sql(cancel).bind(&self.shared.service).bind(resource);
        tx.run(cancel.bind(State::Queued).bind(State::Running)).await?;
        let (shared, resource, now) = (self.shared.clone(), resource.to_string(), ordered_now());
        tx.after_commit(move || {
            for running in shared.of(&resource).into_iter().filter(|running| running.created_at < now) {
                running.signal.cancelled.store(true, Ordering::SeqCst);
                running.signal.news.notify_waiters();
            }
        });
        Ok(())
    }

    /// Something happened to `resource`: a flow that waits for it looks now, in this process or elsewhere.
    pub fn wake(&self, resource: &str) {
        let here = self.shared.of(resource);
        for running in &here {
            running.signal.news.notify_waiters();
        }
        if here.is_empty() {
            let (shared, holding) = (self.shared.clone(), format!("{}/{resource}", self.shared.service));
            tokio::spawn(async move {
                if let Err(error) = wake_elsewhere(&shared.db, &holding).await {
                    tracing::warn!(resource = holding, %error, "a flow was not woken; it looks by itself later");
                }
            });
        }
    }

    /// Lets the reconciler `name` run soon, here or in the process that leads.
    pub fn poke(&self, name: &str) {
        self.shared.poked(name).notify_one();
        if !self.shared.leads.load(Ordering::Relaxed) {
            let shared = self.shared.clone();
            tokio::spawn(async move {
                let poke = sql("UPDATE leases SET pokes = pokes + 1 WHERE name = ?").bind(shared.office());
                if let Err(error) = shared.db.run(poke).await {
                    tracing::warn!(%error, "a poke is lost; the timer makes good for it");
                }
            });
        }
    }

    /// Lets the engine look now. Not needed after [`Flows::start`].
    pub fn kick(&self) {
        self.shared.kick.notify_one();
    }

    /// The flows of a resource, newest first.
    pub async fn of(&self, resource: &str) -> Result<Vec<FlowRow>, db::Error> {
        let rows = select("WHERE service = ? AND resource = ? ORDER BY created_at DESC LIMIT 100");
        self.shared.db.all(rows.bind(&self.shared.service).bind(resource)).await
    }

    /// Waits until no flow of this service is unfinished. For tests and for draining.
    pub async fn settled(&self) -> Result<(), db::Error> {
        loop {
            let ended = self.shared.ended.notified();
            let left = sql("SELECT COUNT(*) FROM flows WHERE service = ? AND state IN (?, ?, ?)");
            if self.shared.db.count(left.bind(&self.shared.service).bind_all(UNFINISHED)).await? == 0 {
                return Ok(());
            }
            // Another process may end them too.
            let _ = tokio::time::timeout(Duration::from_millis(20), ended).await;
        }
    }

    pub(crate) fn db(&self) -> &Db {
        &self.shared.db
    }
}

async fn wake_elsewhere(db: &Db, holding: &str) -> Result<(), db::Error> {
    // A read first: most news concern no flow at all.
    let there = sql("SELECT COUNT(*) FROM flows WHERE holding = ?").bind(holding);
    if db.count(there).await? > 0 {
        db.run(sql("UPDATE flows SET woken = woken + 1 WHERE holding = ?").bind(holding)).await?;
    }
    Ok(())
}

impl Shared {
    pub(crate) fn running(&self) -> MutexGuard<'_, HashMap<String, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, resource: &str) -> Vec<Running> {
        self.running().values().filter(|running| running.resource == resource).cloned().collect()
    }

    /// The bell of a reconciler.
    pub(crate) fn poked(&self, name: &str) -> Arc<Notify> {
        let mut pokes = self.pokes.lock().unwrap_or_else(PoisonError::into_inner);
        pokes.entry(name.to_string()).or_default().clone()
    }

    /// The lease of whoever runs the elected reconcilers.
    pub(crate) fn office(&self) -> String {
        format!("reconcilers/{}", self.service)
    }
}

/// The present, but never the same moment twice in this process, so that flows keep the order of their start.
fn ordered_now() -> Time {
    static LAST: AtomicI64 = AtomicI64::new(0);
    let now = clock::now().0;
    let last = LAST.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |last| Some(now.max(last + 1)));
    Time(now.max(last.unwrap_or_default() + 1))
}
