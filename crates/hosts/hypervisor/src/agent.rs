//! Keeps a host as the controllers want it: asks what should be here, compares, repairs, reports.
//!
//! The agent holds no truth. A lost poke, order or report is made good by the next comparison; a guest that the
//! controllers do not mention is reported and left alone.
//!
//! - [`desk`]   what has been ordered and how far it is
//! - [`report`] what the controllers are told

mod desk;
mod report;

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base::{Json, json};
use contract::guest::{Desired, Guest, Power};
use contract::{HostError, message};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};

use crate::hypervisor::{Hypervisor, Identity, Vnc, Work};
use crate::limits::{ATTEMPTS, BACKOFF, BACKOFF_MAX, COMPARE, CONSOLE_BYTES, CONTROLLERS_AGAIN, REPORT, WORKERS};
use desk::Desk;

/// The way to the controllers. [`HostError::Never`] is their refusal; every other error means that nobody answered.
pub trait Controllers: Send + Sync {
    fn request<'a>(&'a self, kind: &'a str, body: Json) -> Work<'a, Json>;
}

/// How often the agent does what; tests hurry it.
#[derive(Debug, Clone)]
pub struct Pace {
    pub compare: Duration,
    pub report: Duration,
    /// Before a request to the controllers is repeated.
    pub again: Duration,
    /// Before a step that failed for the moment is repeated; doubled each time.
    pub backoff: Duration,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace { compare: COMPARE, report: REPORT, again: CONTROLLERS_AGAIN, backoff: BACKOFF }
    }
}

/// The agent of one host. Clones are the same agent.
#[derive(Clone)]
pub struct Agent {
    inner: Arc<Inner>,
}

struct Inner {
    who: Identity,
    pace: Pace,
    driver: Arc<dyn Hypervisor>,
    controllers: Arc<dyn Controllers>,
    desk: Mutex<Desk>,
    poked: Notify,
    news: Notify,
    workers: Semaphore,
}

impl Agent {
    pub fn new(who: Identity, driver: Arc<dyn Hypervisor>, controllers: Arc<dyn Controllers>) -> Agent {
        Agent::paced(who, driver, controllers, Pace::default())
    }

    pub fn paced(who: Identity, driver: Arc<dyn Hypervisor>, controllers: Arc<dyn Controllers>, pace: Pace) -> Agent {
        let (desk, poked, news) = (Mutex::default(), Notify::new(), Notify::new());
        let workers = Semaphore::new(WORKERS);
        Agent { inner: Arc::new(Inner { who, pace, driver, controllers, desk, poked, news, workers }) }
    }

    /// Works until it is dropped. Dropping it abandons what is under way; guests go on, and the next run repairs.
    pub async fn run(&self) {
        self.inner.introduce().await;
        tokio::join!(self.inner.compare(), self.inner.keep_reporting());
    }

    /// Something changed: compare now.
    pub fn poke(&self) {
        self.inner.poked.notify_one();
    }

    /// Answers a request of the controllers.
    pub async fn answer(&self, kind: &str, body: &Json) -> Result<Json, HostError> {
        let guest = body["guest"].as_str().unwrap_or_default();
        let driver = &self.inner.driver;
        match kind {
            message::POKE => {
                self.poke();
                Ok(json!({}))
            }
            message::CONSOLE_LOG => {
                let bytes = body["bytes"].as_u64().unwrap_or(CONSOLE_BYTES).min(CONSOLE_BYTES);
                Ok(json!({ "text": driver.console_log(guest, bytes).await? }))
            }
            message::CONSOLE_VNC => Ok(match driver.vnc(guest).await? {
                Vnc::Socket(path) => json!({ "socket": path }),
                Vnc::Address(address) => json!({ "address": address }),
            }),
            message::CRASH_DUMP => driver.nmi(guest).await.map(|()| json!({})),
            message::DIAGNOSTICS => driver.diagnostics(guest).await,
            other => Err(HostError::never(format!("this host does not know the request {other:?}"))),
        }
    }

    /// What lies on this host and belongs to no server that the controllers know here, one line each.
    pub async fn leaks(&self) -> Result<Vec<String>, HostError> {
        let desired = self.inner.desired().await?;
        let known: Vec<String> = desired.guests.into_iter().map(|guest| guest.id).collect();
        self.inner.driver.leaks(&known).await
    }
}

impl Inner {
    /// Says hello until the controllers take us. A second agent under the same name is refused, and must touch nothing.
    async fn introduce(&self) {
        loop {
            match self.hello().await {
                Ok(()) => return,
                Err(error @ HostError::Never { .. }) => {
                    tracing::error!(host = self.who.name, "the controllers refuse this host: {}", chain(&error));
                    sleep(self.pace.report).await;
                }
                Err(error) => {
                    tracing::warn!(host = self.who.name, "no controller answers: {}", chain(&error));
                    sleep(self.pace.again).await;
                }
            }
        }
    }

    async fn hello(&self) -> Result<(), HostError> {
        let host = self.driver.host(&self.who).await?;
        let host =
            serde_json::to_value(host).map_err(|error| HostError::never("describing this host").because(error))?;
        self.controllers.request(message::HELLO, host).await.map(|_| ())
    }

    async fn desired(&self) -> Result<Desired, HostError> {
        let answer = self.controllers.request(message::DESIRED, json!({ "host": self.who.name })).await?;
        serde_json::from_value(answer)
            .map_err(|error| HostError::again("reading the controllers' order").because(error))
    }

    /// Compares when poked and from time to time. One comparison at a time, so that none overtakes another.
    async fn compare(self: &Arc<Inner>) {
        let mut works = JoinSet::new();
        let mut tick = interval(self.pace.compare);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut hello_due = Instant::now() + self.pace.report;
        // The next try after one that failed.
        let mut again: Option<Instant> = None;
        loop {
            let retry = async {
                match again {
                    Some(then) => sleep_until(then).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = self.poked.notified() => {}
                _ = tick.tick() => {}
                _ = retry => {}
                Some(_) = works.join_next() => continue,
            }
            let unwanted = self.desk().take_unwanted();
            for (id, generation) in unwanted {
                self.begin(&mut works, gone(id, generation));
            }
            let compared = self.compare_once(&mut works, &mut hello_due).await;
            again = compared.err().map(|error| {
                tracing::warn!(host = self.who.name, "comparing with the controllers failed: {}", chain(&error));
                let refused = matches!(error, HostError::Never { .. });
                Instant::now() + if refused { self.pace.report } else { self.pace.again }
            });
        }
    }

    async fn compare_once(
        self: &Arc<Inner>,
        works: &mut JoinSet<()>,
        hello_due: &mut Instant,
    ) -> Result<(), HostError> {
        if Instant::now() >= *hello_due {
            self.hello().await?;
            *hello_due = Instant::now() + self.pace.report;
        }
        let desired = self.desired().await?;
        self.desk().forget_failed_but(&desired);
        for guest in desired.guests {
            self.begin(works, Order::Guest(Box::new(guest)));
        }
        Ok(())
    }

    /// Starts work on an order that is newer than what is known; whatever was under way for an older one is abandoned.
    fn begin(self: &Arc<Inner>, works: &mut JoinSet<()>, order: Order) {
        let (id, generation, gone) = match &order {
            Order::Guest(guest) => (guest.id.clone(), guest.generation, guest.power == Power::Gone),
            Order::Gone { id, generation } => (id.clone(), *generation, true),
        };
        // Held over the start, or work that is done at once would be finished before it is noted.
        let mut desk = self.desk();
        if desk.accept(&id, generation, gone) {
            let inner = self.clone();
            let work = works.spawn(async move { inner.work(order).await });
            desk.working(&id, generation, gone, work);
        }
        drop(desk);
        self.news.notify_one();
    }

    async fn work(&self, order: Order) {
        let _permit = self.workers.acquire().await;
        let mut backoff = self.pace.backoff;
        let mut attempt = 1;
        let (id, generation) = order.name();
        let failed = loop {
            let done = match &order {
                Order::Guest(guest) => self.driver.ensure(guest).await,
                Order::Gone { id, .. } => self.driver.ensure_gone(id).await,
            };
            match done {
                Ok(()) => break None,
                Err(error @ HostError::Again { .. }) if attempt < ATTEMPTS => {
                    tracing::warn!(server = id, attempt, "an order failed for the moment: {}", chain(&error));
                    sleep(backoff).await;
                    backoff = (backoff * 2).min(BACKOFF_MAX);
                    attempt += 1;
                }
                Err(error) => {
                    tracing::error!(server = id, "an order cannot be carried out: {}", chain(&error));
                    break Some(for_the_user(&error, attempt));
                }
            }
        };
        self.desk().finished(id, generation, failed);
        self.news.notify_one();
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Order {
    Guest(Box<Guest>),
    /// The controllers know no such server here.
    Gone {
        id: String,
        generation: u64,
    },
}

impl Order {
    fn name(&self) -> (&str, u64) {
        match self {
            Order::Guest(guest) => (&guest.id, guest.generation),
            Order::Gone { id, generation } => (id, *generation),
        }
    }
}

fn gone(id: String, generation: u64) -> Order {
    Order::Gone { id, generation }
}

/// Why we have given up, in a sentence for the server's owner.
fn for_the_user(error: &HostError, attempts: u32) -> String {
    match error {
        HostError::Again { what, source: Some(cause) } => {
            format!("{what} did not work in {attempts} attempts: {cause}").chars().take(500).collect()
        }
        HostError::Again { what, source: None } => format!("{what} did not work in {attempts} attempts"),
        other => other.to_string(),
    }
}

/// The error and its causes, for the log.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

/// The UUID of this host, written once into `<data-dir>/host-uuid`.
pub fn host_uuid(data_dir: &Path) -> Result<String, HostError> {
    let path = data_dir.join("host-uuid");
    let write = || -> std::io::Result<String> {
        if let Ok(text) = std::fs::read_to_string(&path) {
            return Ok(text);
        }
        std::fs::create_dir_all(data_dir)?;
        let fresh = data_dir.join(format!("host-uuid.{}", std::process::id()));
        let mut file = std::fs::File::options().write(true).create(true).truncate(true).mode(0o644).open(&fresh)?;
        file.write_all(base::id::uuid().as_bytes())?;
        file.sync_all()?;
        // Whoever comes first has chosen.
        let linked = std::fs::hard_link(&fresh, &path);
        std::fs::remove_file(&fresh)?;
        match linked {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
            _ => std::fs::read_to_string(&path),
        }
    };
    let text = write().map_err(|error| HostError::again("reading the host's UUID").because(error))?;
    base::id::dashed(text.trim()).ok_or_else(|| HostError::never(format!("{} holds no UUID", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hosts_uuid_is_written_once() {
        let dir = tempfile::tempdir().unwrap();
        let uuid = host_uuid(&dir.path().join("data")).unwrap();
        assert_eq!(host_uuid(&dir.path().join("data")).unwrap(), uuid);
        std::fs::write(dir.path().join("data/host-uuid"), "?").unwrap();
        assert!(host_uuid(&dir.path().join("data")).is_err());
    }

    #[test]
    fn giving_up_is_explained() {
        let error = HostError::again("starting the server").because("no memory");
        assert_eq!(for_the_user(&error, 5), "starting the server did not work in 5 attempts: no memory");
        assert_eq!(for_the_user(&HostError::never("no"), 1), "no");
    }
}
