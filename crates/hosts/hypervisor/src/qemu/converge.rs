//! Makes a guest what its order says.
//!
//! ```text
//!            start                     cont
//!   Off ───────────────▶ Up: held ◀─────────▶ Up: running
//!    ▲ ▲                    │      stop          │
//!    │ └── end ─────────────┘◀───────────────────┘
//!    │                      │ save
//!    └── forget ── Saved ◀──┘
//! ```
//! Invariant: the phase becomes `Up` only after a process has started, before its processors run; it leaves `Up` before
//! the process is ended. So a process whose phase is not `Up` never does anything of value and may be ended.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use base::json;
use contract::HostError;
use contract::guest::{Guest, Power, Restart};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::qmp::Status;
use super::record::{Phase, Record};
use super::seat::{Live, Seat};
use super::{Shared, command, disks, lock, memory, process, taps};
use crate::limits::{BUTTON_AGAIN, QMP_ANSWER, SHUTDOWN_MAX};

impl Shared {
    /// Finds the guests that an earlier run of ours left here.
    pub(crate) async fn find_guests(self: &Arc<Shared>) -> Result<(), HostError> {
        let failed = |error: std::io::Error| HostError::again("listing the guests of this host").because(error);
        let mut processes = process::find_all(&self.guests_dir);
        let mut waking = JoinSet::new();
        for entry in std::fs::read_dir(&self.guests_dir).map_err(failed)?.flatten() {
            let id = entry.file_name().to_string_lossy().into_owned();
            let record = match Record::load(&entry.path()) {
                Ok(Some(record)) if command::is_guest_id(&id) => record,
                Ok(_) => continue,
                Err(error) => {
                    tracing::error!(server = id, "this guest's record cannot be read: {error}");
                    continue;
                }
            };
            let (seat, phase) = (self.seat(&id), record.phase);
            seat.recall(record);
            if let Some(pid) = processes.remove(&id) {
                waking.spawn(self.clone().wake(seat, pid, phase));
            }
        }
        while waking.join_next().await.is_some() {}
        Ok(())
    }

    async fn wake(self: Arc<Shared>, seat: Arc<Seat>, pid: i32, phase: Phase) {
        if phase != Phase::Up {
            if let Err(error) = seat.end().await {
                tracing::warn!(server = seat.id, "a half-started process is still there: {error}");
            }
            return;
        }
        if let Err(error) = seat.adopt(pid, &self).await {
            tracing::warn!(server = seat.id, "the monitor of a running guest does not answer: {error}");
            seat.stray(pid);
        }
    }

    pub(crate) async fn ensure(self: &Arc<Shared>, order: &Guest) -> Result<(), HostError> {
        command::check(order)?;
        if order.power == Power::Gone {
            return self.ensure_gone(&order.id).await;
        }
        let seat = self.seat(&order.id);
        let _turn = seat.turn.lock().await;
        let mut record = match seat.record() {
            Some(record) => record,
            None => self.settle(&seat, order)?,
        };
        if order.generation < record.order.generation {
            return Err(HostError::never(format!(
                "order {} for server {} is older than {}, which this host has seen",
                order.generation, order.id, record.order.generation
            )));
        }
        if record.applied == Some(order.generation) {
            return Ok(());
        }
        record.begin(order);
        seat.note(&record)?;

        if order.disk_generation > record.disk_generation {
            self.renew_disk(&seat, &mut record, order).await?;
        }
        match order.power {
            Power::Held | Power::Running | Power::Paused => self.up(&seat, &mut record, order).await?,
            Power::Suspended => self.suspend(&seat, &mut record).await?,
            Power::Stopped => self.down(&seat, &mut record).await?,
            Power::Gone => {}
        }
        record.done();
        seat.keep(&record)?;
        self.changed(&order.id);
        Ok(())
    }

    /// Removes everything of a guest. Works from what is there, not from what we know.
    pub(crate) async fn ensure_gone(&self, id: &str) -> Result<(), HostError> {
        if !command::is_guest_id(id) {
            return Err(HostError::never(format!("{id:?} is not the id of a server")));
        }
        let seat = self.seat(id);
        let _turn = seat.turn.lock().await;
        let pid = seat.live().map(|live| live.pid).or_else(|| process::find(&self.guests_dir, id));
        if let Some(pid) = pid {
            process::end(pid, &self.guests_dir, id, Duration::ZERO).await?;
        }
        taps::remove(self.netns(), id).await?;
        match std::fs::remove_dir_all(&seat.dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(seat.disk(error)),
            _ => seat.forget(),
        }
        lock(&self.seats).remove(id);
        self.changed(id);
        Ok(())
    }

    /// Makes the directory and the first record of a guest that is new here.
    fn settle(&self, seat: &Seat, order: &Guest) -> Result<Record, HostError> {
        let make = || {
            std::fs::create_dir_all(&seat.dir)?;
            std::fs::set_permissions(&seat.dir, std::fs::Permissions::from_mode(0o700))?;
            self.owner.map_or(Ok(()), |owner| owner.own(&seat.dir))
        };
        make().map_err(|error| seat.disk(error))?;
        // Whatever ran here without a record has never got beyond its start.
        Ok(Record::new(order))
    }

    async fn up(self: &Arc<Shared>, seat: &Arc<Seat>, record: &mut Record, order: &Guest) -> Result<(), HostError> {
        if order.restarts > record.restarts {
            if order.restart == Restart::Soft {
                self.press_power(seat, record).await;
            }
            self.end(seat, record, Phase::Off).await?;
            memory::forget(&seat.dir).map_err(|error| seat.disk(error))?;
        }
        let live = match seat.live() {
            Some(live) if live.qmp.status() == Status::Shutdown => {
                self.end(seat, record, Phase::Off).await?;
                self.start(seat, record, order).await?
            }
            Some(live) => live,
            None => self.start(seat, record, order).await?,
        };
        match order.power {
            Power::Running => {
                // From here on the saved memory would be older than the disks.
                memory::forget(&seat.dir).map_err(|error| seat.disk(error))?;
                turn(&live, "cont", Status::Running).await
            }
            _ => turn(&live, "stop", Status::Paused).await,
        }
    }

    async fn down(&self, seat: &Arc<Seat>, record: &mut Record) -> Result<(), HostError> {
        self.press_power(seat, record).await;
        self.end(seat, record, Phase::Off).await?;
        memory::forget(&seat.dir).map_err(|error| seat.disk(error))?;
        taps::remove(self.netns(), &seat.id).await
    }

    async fn suspend(&self, seat: &Arc<Seat>, record: &mut Record) -> Result<(), HostError> {
        match (seat.live(), record.phase) {
            (Some(live), _) if live.qmp.status() != Status::Shutdown => {
                turn(&live, "stop", Status::Paused).await?;
                memory::save(&live, &seat.dir, self.owner).await?;
                self.end(seat, record, Phase::Saved).await?;
            }
            (_, Phase::Saved) => {}
            _ => return Err(HostError::never("the server does not run, so it cannot be suspended")),
        }
        taps::remove(self.netns(), &seat.id).await
    }

    /// Throws the root disk away, and all that depends on it.
    async fn renew_disk(&self, seat: &Arc<Seat>, record: &mut Record, order: &Guest) -> Result<(), HostError> {
        self.end(seat, record, Phase::Off).await?;
        let forget = || {
            memory::forget(&seat.dir)?;
            disks::remove(&seat.dir.join(command::CONSOLE_LOG))?;
            disks::forget_root(&seat.dir)
        };
        forget().map_err(|error| seat.disk(error))?;
        // Another image may ask for another machine.
        (record.machine, record.disk_generation) = (None, order.disk_generation);
        seat.keep(record)
    }

    async fn end(&self, seat: &Seat, record: &mut Record, phase: Phase) -> Result<(), HostError> {
        if record.phase != phase {
            record.phase = phase;
            seat.keep(record)?;
        }
        seat.end().await
    }

    /// Asks a running guest to shut down and waits for it, at most its timeout.
    async fn press_power(&self, seat: &Seat, record: &Record) {
        let Some(live) = seat.live().filter(|live| live.qmp.status() == Status::Running) else { return };
        let asked = record.order.hints.get("os_shutdown_timeout").and_then(|seconds| seconds.parse().ok());
        let patience = asked.map_or(self.config.shutdown_timeout, Duration::from_secs).min(SHUTDOWN_MAX);
        let deadline = Instant::now() + patience;
        let mut status = live.qmp.follow();
        while Instant::now() < deadline {
            if live.qmp.run("system_powerdown", json!({})).await.is_err() {
                return;
            }
            let wait = BUTTON_AGAIN.min(deadline - Instant::now());
            let off = status.wait_for(|now| matches!(now, Status::Shutdown | Status::Closed));
            if timeout(wait, off).await.is_ok() {
                return;
            }
        }
        tracing::info!(server = seat.id, "the guest did not shut down in {patience:?}: ending it");
    }
}

/// Sets the processors going or still, and waits until they are.
async fn turn(live: &Live, command: &'static str, wanted: Status) -> Result<(), HostError> {
    if live.qmp.status() == wanted {
        return Ok(());
    }
    live.order(command, json!({})).await?;
    let mut status = live.qmp.follow();
    let reached = status.wait_for(|now| *now == wanted || *now == Status::Closed);
    match timeout(QMP_ANSWER, reached).await {
        Ok(Ok(now)) if *now == wanted => Ok(()),
        _ => Err(HostError::again("setting the guest's processors going or still")),
    }
}
