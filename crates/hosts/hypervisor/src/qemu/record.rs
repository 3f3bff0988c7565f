//! What we keep beside a guest, so that it is found again as it was left: `<data-dir>/guests/<id>/guest.json`.
//!
//! Invariant: a living process tells the state, the record only says what the absence of one means. That is why a
//! crash of ours between a step and its note never lies about the guest.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use contract::guest::{Guest, Power, State};
use serde::{Deserialize, Serialize};

use super::qmp::Status;
use crate::limits::RECORD_BYTES;

const NAME: &str = "guest.json";

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The order last begun, without the files of its config drive.
    pub(crate) order: Guest,
    /// The generation of the order last carried out to its end; none before the first.
    pub(crate) applied: Option<u64>,
    pub(crate) restarts: u64,
    pub(crate) disk_generation: u64,
    /// What it means when there is no process.
    pub(crate) phase: Phase,
    /// Whether processors that stand still are held (before the first packet) or paused (on request).
    pub(crate) held: bool,
    /// The machine type this guest was first started with: never an alias, so that an upgrade of QEMU changes nothing
    /// that the guest sees.
    pub(crate) machine: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    /// It was stopped, or never started.
    Off,
    /// It should be there: it crashed.
    Up,
    /// Its memory lies in the file `memory`.
    Saved,
}

impl Record {
    pub(crate) fn new(order: &Guest) -> Record {
        let mut record = Record {
            order: order.clone(),
            applied: None,
            restarts: order.restarts,
            disk_generation: order.disk_generation,
            phase: Phase::Off,
            held: false,
            machine: None,
        };
        record.begin(order);
        record
    }

    /// Notes that `order` is being carried out.
    pub(crate) fn begin(&mut self, order: &Guest) {
        self.order = Guest { config_drive: None, ..order.clone() };
    }

    pub(crate) fn done(&mut self) {
        self.applied = Some(self.order.generation);
        self.restarts = self.restarts.max(self.order.restarts);
        self.held = self.order.power == Power::Held;
    }

    /// What the guest is, given the run state of its process if it has one.
    pub(crate) fn state(&self, status: Option<Status>) -> State {
        match (status, self.phase) {
            (Some(Status::Running), _) => State::Running,
            (Some(Status::Paused), _) if self.held => State::Held,
            (Some(Status::Paused), _) => State::Paused,
            (Some(Status::Shutdown), _) => State::Stopped,
            (Some(Status::Closed) | None, Phase::Up) => State::Crashed,
            (Some(Status::Closed) | None, Phase::Saved) => State::Suspended,
            (Some(Status::Closed) | None, Phase::Off) if self.applied.is_none() => State::Preparing,
            (Some(Status::Closed) | None, Phase::Off) => State::Stopped,
        }
    }

    /// None when there is no record in `dir`.
    pub(crate) fn load(dir: &Path) -> io::Result<Option<Record>> {
        let path = dir.join(NAME);
        match fs::metadata(&path) {
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
            Ok(file) if file.len() > RECORD_BYTES => return Err(io::Error::other("the record is too large")),
            Ok(_) => {}
        }
        Ok(Some(serde_json::from_slice(&fs::read(path)?)?))
    }

    /// Replaces the record: after a crash of ours there is the old one or the new one. With `for_good` also after a
    /// power cut, which costs a wait for the disk.
    pub(crate) fn save(&self, dir: &Path, for_good: bool) -> io::Result<()> {
        let (path, fresh) = (dir.join(NAME), dir.join("guest.json.new"));
        let mut file = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        if for_good {
            file.sync_data()?;
        }
        fs::rename(fresh, path)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use contract::guest::{Console, Restart};

    pub(crate) fn order() -> Guest {
        Guest {
            id: "6c1fd0a4-7d0c-4b7c-9f0b-6a8f3d6d1f10".into(),
            generation: 1,
            name: "one, \"two\"".into(),
            project_id: "p".into(),
            power: Power::Running,
            restarts: 0,
            restart: Restart::Hard,
            disk_generation: 0,
            vcpus: 1,
            memory_mb: 128,
            disks: Vec::new(),
            nics: Vec::new(),
            config_drive: None,
            console: Console { vnc: true, log_bytes: 65536 },
            hints: Default::default(),
        }
    }

    #[test]
    fn a_record_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Record::load(dir.path()).unwrap().is_none());
        let mut record = Record::new(&order());
        record.done();
        record.save(dir.path(), true).unwrap();
        let read = Record::load(dir.path()).unwrap().unwrap();
        assert_eq!((read.applied, read.order), (Some(1), record.order));
    }

    #[test]
    fn the_secrets_of_a_config_drive_are_not_kept() {
        let files = [("openstack/latest/meta_data.json".to_string(), b"{}".to_vec())];
        let order = Guest { config_drive: Some(files.into()), ..order() };
        assert_eq!(Record::new(&order).order.config_drive, None);
    }

    #[test]
    fn a_missing_process_means_what_was_last_done() {
        let mut record = Record::new(&order());
        assert_eq!(record.state(None), State::Preparing);
        record.phase = Phase::Up;
        assert_eq!(record.state(Some(Status::Paused)), State::Paused);
        assert_eq!(record.state(None), State::Crashed);
        record.phase = Phase::Saved;
        assert_eq!(record.state(Some(Status::Closed)), State::Suspended);
        record.phase = Phase::Off;
        record.done();
        assert_eq!(record.state(None), State::Stopped);
    }
}
