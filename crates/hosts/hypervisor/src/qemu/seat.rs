//! A guest's place in memory: its record, its process, and who works on it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use base::Json;
use contract::HostError;
use contract::guest::{Report, State};
use tokio::sync::{Mutex as Turn, watch};

use super::command::MONITOR;
use super::qmp::{Qmp, QmpError, Status};
use super::record::{Phase, Record};
use super::{Shared, lock, process};
use crate::limits::PROCESS_END;

pub(crate) struct Seat {
    pub(crate) id: String,
    pub(crate) dir: PathBuf,
    pub(crate) guests_dir: PathBuf,
    /// Held by whoever changes the guest.
    pub(crate) turn: Turn<()>,
    inside: Mutex<Inside>,
}

#[derive(Default)]
struct Inside {
    record: Option<Record>,
    live: Option<Live>,
    stray: Option<i32>,
}

/// A QEMU process and our connection to it.
#[derive(Clone)]
pub(crate) struct Live {
    pub(crate) pid: i32,
    pub(crate) qmp: Qmp,
}

impl Live {
    /// Runs a monitor command for somebody who can do nothing about its failure but try again.
    pub(crate) async fn order(&self, command: &'static str, arguments: Json) -> Result<Json, HostError> {
        self.qmp.run(command, arguments).await.map_err(|error| HostError::again("speaking to QEMU").because(error))
    }
}

impl Seat {
    pub(crate) fn new(id: &str, guests_dir: &Path) -> Seat {
        let dir = guests_dir.join(id);
        let guests_dir = guests_dir.to_path_buf();
        Seat { id: id.to_string(), dir, guests_dir, turn: Turn::default(), inside: Mutex::default() }
    }

    pub(crate) fn record(&self) -> Option<Record> {
        lock(&self.inside).record.clone()
    }

    /// Keeps the record, on disk first.
    pub(crate) fn keep(&self, record: &Record) -> Result<(), HostError> {
        self.save(record, true)
    }

    /// Notes what need not survive a power cut, because no process does.
    pub(crate) fn note(&self, record: &Record) -> Result<(), HostError> {
        self.save(record, false)
    }

    fn save(&self, record: &Record, for_good: bool) -> Result<(), HostError> {
        record.save(&self.dir, for_good).map_err(|error| self.disk(error))?;
        lock(&self.inside).record = Some(record.clone());
        Ok(())
    }

    pub(crate) fn recall(&self, record: Record) {
        lock(&self.inside).record = Some(record);
    }

    pub(crate) fn forget(&self) {
        *lock(&self.inside) = Inside::default();
    }

    /// The process, unless its monitor has closed.
    pub(crate) fn live(&self) -> Option<Live> {
        lock(&self.inside).live.clone().filter(|live| live.qmp.status() != Status::Closed)
    }

    pub(crate) fn report(&self) -> Option<Report> {
        let (record, live) = {
            let inside = lock(&self.inside);
            (inside.record.clone()?, inside.live.clone())
        };
        let state = match self.stray_pid() {
            Some(_) => State::Preparing,
            None => record.state(live.as_ref().map(|live| live.qmp.status())),
        };
        let usage = live.as_ref().and_then(|live| process::usage(live.pid));
        Some(Report {
            id: self.id.clone(),
            generation: record.applied.unwrap_or_default(),
            restarts: record.restarts,
            disk_generation: record.disk_generation,
            state,
            error: None,
            memory_bytes: usage.map(|(memory, _)| memory),
            cpu_ns: usage.map(|(_, cpu)| cpu),
        })
    }

    /// Connects to the process of this guest and follows it.
    pub(crate) async fn adopt(self: &Arc<Seat>, pid: i32, shared: &Arc<Shared>) -> Result<Live, QmpError> {
        let qmp = Qmp::connect(&self.dir.join(MONITOR)).await?;
        let live = Live { pid, qmp };
        {
            let mut inside = lock(&self.inside);
            (inside.live, inside.stray) = (Some(live.clone()), None);
        }
        tokio::spawn(follow(Arc::downgrade(shared), Arc::downgrade(self), pid, live.qmp.follow()));
        Ok(live)
    }

    /// Notes a process whose monitor does not answer: its guest may well run, so nothing is said about it.
    pub(crate) fn stray(&self, pid: i32) {
        lock(&self.inside).stray = Some(pid);
    }

    /// The process that [`Seat::stray`] noted, if it still is one.
    pub(crate) fn stray_pid(&self) -> Option<i32> {
        let stray = lock(&self.inside).stray;
        stray.filter(|pid| process::is_alive(*pid, &self.guests_dir, &self.id))
    }

    /// Ends the process of a guest that powered itself off.
    async fn put_away(&self, pid: i32) -> Result<(), HostError> {
        let _turn = self.turn.lock().await;
        let here = self.live().is_some_and(|live| live.pid == pid && live.qmp.status() == Status::Shutdown);
        if let (true, Some(mut record)) = (here, self.record()) {
            record.phase = Phase::Off;
            self.keep(&record)?;
            self.end().await?;
        }
        Ok(())
    }

    fn lost(&self, pid: i32) {
        let mut inside = lock(&self.inside);
        if inside.live.as_ref().is_some_and(|live| live.pid == pid) {
            inside.live = None;
            inside.stray = Some(pid);
        }
    }

    /// Ends the process if there is one, by whatever it takes. What the guest had not written is lost.
    pub(crate) async fn end(&self) -> Result<(), HostError> {
        let live = self.live();
        if let Some(live) = &live {
            let _ = live.qmp.run("quit", base::json!({})).await;
        }
        let patience = if live.is_some() { PROCESS_END } else { Duration::ZERO };
        // Also a process that we do not know of, because we died when we had just started it.
        let pid = live.map(|live| live.pid).or_else(|| process::find(&self.guests_dir, &self.id));
        if let Some(pid) = pid {
            process::end(pid, &self.guests_dir, &self.id, patience).await?;
        }
        let mut inside = lock(&self.inside);
        (inside.live, inside.stray) = (None, None);
        Ok(())
    }

    pub(crate) fn disk(&self, error: io::Error) -> HostError {
        HostError::again(format!("keeping guest {}", self.id)).because(error)
    }
}

/// Tells every change of a guest's run state, and puts away the process of a guest that powered itself off.
async fn follow(shared: Weak<Shared>, seat: Weak<Seat>, pid: i32, mut status: watch::Receiver<Status>) {
    // Weak, so that the connection closes when the driver is dropped: QEMU serves one client at a time.
    loop {
        let now = *status.borrow_and_update();
        let (Some(driver), Some(guest)) = (shared.upgrade(), seat.upgrade()) else { return };
        driver.changed(&guest.id);
        match now {
            Status::Shutdown => {
                if let Err(error) = guest.put_away(pid).await {
                    tracing::warn!(server = guest.id, "a guest that powered itself off still has a process: {error}");
                }
            }
            Status::Closed => return guest.lost(pid),
            Status::Running | Status::Paused => {}
        }
        drop((driver, guest));
        if status.changed().await.is_err() {
            return;
        }
    }
}
