//! Starts QEMU for a guest, with its processors standing still.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use contract::HostError;
use contract::guest::{Guest, Power};
use tokio::process::Child;
use tokio::time::{Instant, sleep};

use super::command::{CONSOLE_LOG, QEMU_LOG, Start};
use super::qmp::QmpError;
use super::record::{Phase, Record};
use super::seat::{Live, Seat};
use super::{Shared, command, disks, memory, process, taps};
use crate::limits::QEMU_START;

/// How often we knock at a monitor that is not open yet.
const KNOCK: Duration = Duration::from_millis(2);

impl Shared {
    /// Makes what the guest needs, starts its process, and gives it its memory back if it was suspended. Afterwards its
    /// phase is `Up` and its processors stand still.
    pub(crate) async fn start(
        self: &Arc<Shared>,
        seat: &Arc<Seat>,
        record: &mut Record,
        order: &Guest,
    ) -> Result<Live, HostError> {
        // A process that we lost sight of has not run yet, or no longer answers.
        seat.end().await?;
        let machine = match &record.machine {
            Some(machine) => machine.clone(),
            None => self.qemu.machine(order.hints.get("hw_machine_type").map(String::as_str))?,
        };
        let (places, ()) = tokio::try_join!(
            disks::ensure(&seat.dir, order, &self.images, self.owner),
            taps::ensure(self.netns(), &seat.id, &order.nics, self.owner)
        )?;
        disks::config_drive(&seat.dir, order.config_drive.as_ref(), self.owner)?;
        self.clear(&seat.dir).map_err(|error| seat.disk(error))?;

        let loading = record.phase == Phase::Saved;
        let start = Start {
            guest: order,
            dir: &seat.dir,
            places: &places,
            machine: &machine,
            accel: self.accel,
            qemu: &self.qemu,
            netns: self.netns(),
            owner: self.owner,
            loading,
        };
        let line = command::line(&start)?;
        let live = {
            let _permit = self.boots.acquire().await.map_err(|error| seat.disk(std::io::Error::other(error)))?;
            self.launch(seat, &line).await?
        };
        if loading {
            memory::load(&live, &seat.dir).await?;
        }
        record.machine = Some(machine);
        record.phase = Phase::Up;
        record.restarts = record.restarts.max(order.restarts);
        record.held = order.power == Power::Held;
        seat.note(record)?;
        Ok(live)
    }

    /// Removes the sockets of an earlier process, and gives its logs to the user that QEMU runs as now.
    fn clear(&self, dir: &Path) -> std::io::Result<()> {
        for name in ["pid", "qmp", "vnc", "serial", "agent"] {
            disks::remove(&dir.join(name))?;
        }
        let Some(owner) = self.owner else { return Ok(()) };
        let console = dir.join(CONSOLE_LOG);
        fs::File::options().create(true).append(true).open(&console)?;
        owner.own(&console)?;
        owner.own(dir)
    }

    async fn launch(self: &Arc<Shared>, seat: &Arc<Seat>, line: &[String]) -> Result<Live, HostError> {
        let log = seat.dir.join(QEMU_LOG);
        let said = fs::metadata(&log).map_or(0, |file| file.len());
        let mut child = process::spawn(line, &seat.dir, &log).map_err(|error| failed().because(error))?;
        let live = self.knock(seat, &mut child).await;
        let live = match live {
            Ok(live) => live,
            Err(error) => {
                let _ = child.kill().await;
                let words = last_words(&log, said);
                let words = if words.is_empty() { error.to_string() } else { words };
                return Err(failed().because(words));
            }
        };
        // Somebody must take note of its end while we are its parent.
        tokio::spawn(async move { child.wait().await });
        Ok(live)
    }

    /// Waits until QEMU opens its monitor.
    async fn knock(self: &Arc<Shared>, seat: &Arc<Seat>, child: &mut Child) -> Result<Live, QmpError> {
        let deadline = Instant::now() + QEMU_START;
        loop {
            let pid = child.id().unwrap_or_default() as i32;
            match seat.adopt(pid, self).await {
                Err(QmpError::Connect(error)) if Instant::now() >= deadline => return Err(error.into()),
                Err(QmpError::Connect(_)) => {}
                done => return done,
            }
            if child.try_wait()?.is_some() {
                return Err(QmpError::Closed);
            }
            sleep(KNOCK).await;
        }
    }
}

fn failed() -> HostError {
    HostError::again("starting the server")
}

/// The last line that QEMU wrote since `from`.
fn last_words(log: &Path, from: u64) -> String {
    let mut text = String::new();
    let read = fs::File::open(log).and_then(|mut file| {
        file.seek(SeekFrom::Start(from))?;
        file.take(64 << 10).read_to_string(&mut text)
    });
    match read {
        Ok(_) => text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().to_string(),
        Err(_) => String::new(),
    }
}
