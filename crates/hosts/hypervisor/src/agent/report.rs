//! What the controllers are told: every change at once, everything from time to time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base::json;
use contract::guest::{Received, Report, State};
use contract::{HostError, message};
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::desk::Known;
use super::{Inner, chain};
use crate::limits::REPORTS;

impl Inner {
    pub(super) async fn keep_reporting(self: &Arc<Inner>) {
        let mut changes = self.driver.changes();
        let mut tick = interval(self.pace.report);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut everything = false;
        let mut again: Option<Instant> = None;
        loop {
            let retry = async {
                match again {
                    Some(then) => sleep_until(then).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                change = changes.recv() => match change {
                    Ok(id) => self.desk().add_news([id]),
                    Err(RecvError::Lagged(_)) => everything = true,
                    // The driver has gone, and so shall we.
                    Err(RecvError::Closed) => return,
                },
                _ = self.news.notified() => {}
                _ = tick.tick() => everything = true,
                _ = retry => {}
            }
            loop {
                match changes.try_recv() {
                    Ok(id) => self.desk().add_news([id]),
                    Err(TryRecvError::Lagged(_)) => everything = true,
                    Err(TryRecvError::Empty | TryRecvError::Closed) => break,
                }
            }
            // While nobody answers, news wait for the next try.
            if again.is_some_and(|then| Instant::now() < then) {
                continue;
            }
            let news = self.desk().take_news();
            again = match self.report(everything, &news).await {
                Ok(()) => {
                    everything = false;
                    None
                }
                Err(error) => {
                    tracing::warn!(host = self.who.name, "reporting to the controllers failed: {}", chain(&error));
                    self.desk().add_news(news);
                    Some(Instant::now() + self.pace.again)
                }
            };
        }
    }

    async fn report(&self, everything: bool, news: &BTreeSet<String>) -> Result<(), HostError> {
        if !everything && news.is_empty() {
            return Ok(());
        }
        let mut here: BTreeMap<String, Report> =
            self.driver.guests().await?.into_iter().map(|report| (report.id.clone(), report)).collect();
        let mut ids = news.clone();
        if everything {
            ids.extend(here.keys().cloned());
            ids.extend(self.desk().unfinished());
        }
        let reports: Vec<Report> = {
            let desk = self.desk();
            ids.into_iter().map(|id| merged(desk.known(&id), here.remove(&id), id)).collect()
        };
        for some in reports.chunks(REPORTS) {
            let body = json!({ "host": self.who.name, "reports": some });
            let answer = self.controllers.request(message::REPORT, body).await?;
            let received: Received = serde_json::from_value(answer)
                .map_err(|error| HostError::again("reading the controllers' answer").because(error))?;
            self.unwant(received, some);
        }
        Ok(())
    }

    fn unwant(&self, received: Received, reports: &[Report]) {
        if received.remove.is_empty() {
            return;
        }
        for id in received.remove {
            let reported = reports.iter().find(|report| report.id == id && report.state != State::Gone);
            if let Some(report) = reported {
                self.desk().unwant(id, report.generation);
            }
        }
        self.poked.notify_one();
    }
}

/// What to say about a guest, from what the desk knows and what the driver sees.
fn merged(known: Option<Known>, seen: Option<Report>, id: String) -> Report {
    let blank = |generation, state| Report {
        id,
        generation,
        restarts: 0,
        disk_generation: 0,
        state,
        error: None,
        memory_bytes: None,
        cpu_ns: None,
    };
    match (known, seen) {
        (Some(Known::Failed { generation, why }), seen) => {
            let report = seen.unwrap_or_else(|| blank(generation, State::Preparing));
            Report { generation, error: Some(why), ..report }
        }
        (_, Some(seen)) => seen,
        (Some(Known::Working), None) => blank(0, State::Preparing),
        (Some(Known::Gone { generation }), None) => blank(generation, State::Gone),
        (Some(Known::Done) | None, None) => blank(0, State::Gone),
    }
}
