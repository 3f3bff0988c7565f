//! The agent of a host's network: asks controllers what should be, makes it so, and says what is.
//!
//! ```text
//!   hello ──► desired ──► apply ──► report ──┐
//!               ▲                            │ poked · a device came or went · the interval is over
//!               └────────────────────────────┘
//! ```
//! A controller that cannot be reached changes nothing on the host: the last order goes on being compared and repaired.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use contract::network::{Desired, Report};
use contract::{HostError, message};
use serde_json::{Value as Json, json};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::{Driver, Look};

/// How often everything is compared when nothing happens.
pub const INTERVAL: Duration = Duration::from_secs(30);
/// Limit: of the wait after a failure, which doubles with each further one.
const SHORTEST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(15);

/// The way to the controllers, on the subject [`message::NETWORK`].
pub trait Door: Send + Sync + 'static {
    /// Asks one thing ([`message::HELLO`], [`message::DESIRED`], [`message::REPORT`]) and waits for the answer.
    fn request<'a>(&'a self, kind: &'a str, body: Json) -> Answer<'a>;
}

pub type Answer<'a> = Pin<Box<dyn Future<Output = Result<Json, HostError>> + Send + 'a>>;

pub struct Agent {
    driver: Arc<Driver>,
    door: Arc<dyn Door>,
    interval: Duration,
    poked: Notify,
}

/// What the agent knows between two rounds.
#[derive(Default)]
struct Round {
    order: Option<Desired>,
    /// The report that a controller has received.
    told: Option<Report>,
    told_at: Option<Instant>,
}

/// Why a round begins.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Cause {
    Poke,
    Device,
    Retry,
    Interval,
}

impl Agent {
    pub fn new(driver: Arc<Driver>, door: Arc<dyn Door>, interval: Duration) -> Arc<Agent> {
        Arc::new(Agent { driver, door, interval, poked: Notify::new() })
    }

    pub fn driver(&self) -> &Arc<Driver> {
        &self.driver
    }

    /// Something changed at a controller: ask and compare now.
    pub fn poke(&self) {
        self.poked.notify_one();
    }

    /// Runs until it is dropped. What it has made on the host stays.
    pub async fn run(&self) {
        self.hello().await;
        let mut round = Round::default();
        let (mut cause, mut next, mut failures) = (Cause::Interval, Instant::now() + self.interval, 0);
        loop {
            let failed = self.round(&mut round, cause).await;
            failures = if failed { failures + 1 } else { 0 };
            if cause == Cause::Interval {
                next = Instant::now() + self.interval;
            }
            let wake = if failed { next.min(Instant::now() + wait(failures)) } else { next };
            cause = tokio::select! {
                () = self.poked.notified() => Cause::Poke,
                () = self.driver.changed() => Cause::Device,
                () = tokio::time::sleep_until(wake) => if wake == next { Cause::Interval } else { Cause::Retry },
            };
        }
    }

    /// Says who is here, until a controller has heard it.
    async fn hello(&self) {
        let body = serde_json::to_value(self.driver.host()).expect("a host is JSON");
        let mut failures = 0;
        while let Err(error) = self.door.request(message::HELLO, body.clone()).await {
            tracing::warn!(error = chain(&error), "no controller has taken this network host yet");
            failures += 1;
            tokio::select! {
                () = tokio::time::sleep(wait(failures)) => {}
                () = self.poked.notified() => {}
            }
        }
    }

    /// One comparison; true if it should be tried again before its time.
    async fn round(&self, round: &mut Round, cause: Cause) -> bool {
        let mut failed = false;
        if cause != Cause::Device || round.order.is_none() {
            match self.desired().await {
                Ok(order) => round.order = Some(order),
                Err(error) => {
                    tracing::warn!(error = chain(&error), "could not ask what this host's network should be");
                    failed = true;
                }
            }
        }
        let Some(order) = &round.order else { return true };
        let look = if cause == Cause::Interval { Look::Everything } else { Look::Changes };
        match self.driver.apply(order, look).await {
            Ok(report) => {
                failed |= !report.errors.is_empty();
                failed | self.tell(round, report).await
            }
            Err(error) => {
                tracing::error!(error = chain(&error), "this host's network could not be made what it should be");
                true
            }
        }
    }

    async fn desired(&self) -> Result<Desired, HostError> {
        let answer = self.door.request(message::DESIRED, json!({ "host": self.driver.host().name })).await?;
        serde_json::from_value(answer).map_err(|error| HostError::again("read the desired state").because(error))
    }

    /// Reports what changed at once, and what did not with each interval.
    async fn tell(&self, round: &mut Round, report: Report) -> bool {
        let fresh = round.told_at.is_some_and(|at| at.elapsed() < self.interval);
        if fresh && round.told.as_ref() == Some(&report) {
            return false;
        }
        for failure in &report.errors {
            let known = round.told.as_ref().is_some_and(|told| told.errors.contains(failure));
            if !known {
                tracing::warn!(id = failure.id, what = failure.what, "part of this host's network could not be done");
            }
        }
        let body = json!({ "host": self.driver.host().name, "report": &report });
        match self.door.request(message::REPORT, body).await {
            Ok(_) => {
                (round.told, round.told_at) = (Some(report), Some(Instant::now()));
                false
            }
            Err(error) => {
                tracing::warn!(error = chain(&error), "could not report this host's network");
                true
            }
        }
    }
}

fn wait(failures: u32) -> Duration {
    const MOST_DOUBLINGS: u32 = 8;
    (SHORTEST_WAIT * 2_u32.pow(failures.saturating_sub(1).min(MOST_DOUBLINGS))).min(LONGEST_WAIT)
}

/// An error with everything that caused it, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text += &format!(": {next}");
        cause = next.source();
    }
    text
}
