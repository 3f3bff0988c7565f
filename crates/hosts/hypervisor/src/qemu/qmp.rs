//! A small QMP client: commands and their answers, and the run state that QEMU's events tell.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use base::{Json, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use crate::limits::{QMP_ANSWER, QMP_LINE_BYTES};

#[derive(Debug, thiserror::Error)]
pub(crate) enum QmpError {
    #[error("QEMU has closed its monitor")]
    Closed,
    #[error("QEMU did not answer {0} in time")]
    Silent(&'static str),
    #[error("QEMU refused {command}: {reason}")]
    Refused { command: &'static str, reason: String },
    #[error("connecting to the monitor")]
    Connect(#[from] std::io::Error),
}

/// What QEMU's last event says about the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Running,
    /// Its processors stand still: held, paused, saved or loading.
    Paused,
    /// The guest powered itself off; the process waits to be told to end.
    Shutdown,
    /// The monitor is closed: the process ends or has ended.
    Closed,
}

/// A connection to one QEMU. Clones share it; it closes when the last one is dropped.
#[derive(Clone)]
pub(crate) struct Qmp {
    calls: mpsc::Sender<Call>,
    status: watch::Receiver<Status>,
}

struct Call {
    command: &'static str,
    arguments: Json,
    answer: oneshot::Sender<Result<Json, QmpError>>,
}

type Pending = Arc<Mutex<HashMap<u64, (&'static str, oneshot::Sender<Result<Json, QmpError>>)>>>;

impl Qmp {
    /// Connects and asks for the run state. QEMU serves one client at a time: a second one waits in silence.
    pub(crate) async fn connect(socket: &Path) -> Result<Qmp, QmpError> {
        let stream = super::process::connect(socket).await?;
        let (read, write) = stream.into_split();
        let (calls, queue) = mpsc::channel(16);
        let (tell, status) = watch::channel(Status::Paused);
        let pending = Pending::default();
        tokio::spawn(write_calls(write, queue, pending.clone()));
        tokio::spawn(read_lines(read, pending, tell.clone()));

        let qmp = Qmp { calls, status };
        qmp.run("qmp_capabilities", json!({})).await?;
        let shown = qmp.run("query-status", json!({})).await?;
        // An event that comes before this line is newer than the answer only by a hair, and the next one corrects it.
        tell.send_if_modified(|now| {
            let changed = *now == Status::Paused;
            if changed {
                *now = named(shown["status"].as_str().unwrap_or_default());
            }
            changed
        });
        Ok(qmp)
    }

    /// Runs one command and waits for its answer, at most [`QMP_ANSWER`].
    pub(crate) async fn run(&self, command: &'static str, arguments: Json) -> Result<Json, QmpError> {
        let (answer, answered) = oneshot::channel();
        let call = Call { command, arguments, answer };
        let asked = async {
            self.calls.send(call).await.map_err(|_| QmpError::Closed)?;
            answered.await.map_err(|_| QmpError::Closed)?
        };
        timeout(QMP_ANSWER, asked).await.map_err(|_| QmpError::Silent(command))?
    }

    pub(crate) fn status(&self) -> Status {
        *self.status.borrow()
    }

    /// Follows the run state; ends with [`Status::Closed`].
    pub(crate) fn follow(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }
}

async fn write_calls(mut write: OwnedWriteHalf, mut queue: mpsc::Receiver<Call>, pending: Pending) {
    let mut next: u64 = 0;
    while let Some(call) = queue.recv().await {
        next += 1;
        let line = json!({ "execute": call.command, "arguments": call.arguments, "id": next });
        lock(&pending).insert(next, (call.command, call.answer));
        if write.write_all(format!("{line}\n").as_bytes()).await.is_err() {
            lock(&pending).clear();
            return;
        }
    }
}

async fn read_lines(read: OwnedReadHalf, pending: Pending, tell: watch::Sender<Status>) {
    let mut lines = BufReader::new(read);
    let mut line = Vec::new();
    loop {
        line.clear();
        let room = QMP_LINE_BYTES as u64;
        match (&mut lines).take(room).read_until(b'\n', &mut line).await {
            Ok(1..) if line.ends_with(b"\n") => {}
            _ => break,
        }
        let Ok(message) = serde_json::from_slice::<Json>(&line) else { continue };
        if let Some(event) = message["event"].as_str() {
            tell.send_if_modified(|now| follow_event(now, event));
        } else if let Some(id) = message["id"].as_u64()
            && let Some((command, answer)) = lock(&pending).remove(&id)
        {
            let _ = answer.send(answered(command, message));
        }
    }
    tell.send_replace(Status::Closed);
    lock(&pending).clear();
}

fn answered(command: &'static str, mut message: Json) -> Result<Json, QmpError> {
    match message["error"]["desc"].as_str() {
        None => Ok(message["return"].take()),
        Some(reason) => Err(QmpError::Refused { command, reason: reason.to_string() }),
    }
}

/// Folds one event into the run state; true when it changed.
fn follow_event(now: &mut Status, event: &str) -> bool {
    let next = match (event, *now) {
        ("SHUTDOWN", _) => Status::Shutdown,
        // Upstream: QEMU says STOP right after SHUTDOWN when it is started with -no-shutdown.
        ("STOP", Status::Shutdown) => Status::Shutdown,
        ("STOP", _) => Status::Paused,
        ("RESUME", _) => Status::Running,
        _ => return false,
    };
    std::mem::replace(now, next) != next
}

/// The run states of `query-status`.
fn named(status: &str) -> Status {
    match status {
        // A guest that sleeps (ACPI S3) wakes up by itself.
        "running" | "suspended" => Status::Running,
        "shutdown" => Status::Shutdown,
        _ => Status::Paused,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::UnixListener;

    /// A monitor that answers with `script`, line by line, whatever it is asked.
    async fn monitor(script: &'static [&'static str]) -> (tempfile::TempDir, Qmp) {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("qmp");
        let listener = UnixListener::bind(&socket).unwrap();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let (read, mut write) = stream.into_split();
            let mut lines = BufReader::new(read).lines();
            write.write_all(b"{\"QMP\": {}}\n").await.unwrap();
            for answer in script {
                lines.next_line().await.unwrap();
                write.write_all(answer.as_bytes()).await.unwrap();
            }
            // The next command ends it.
            lines.next_line().await.unwrap();
        });
        let qmp = Qmp::connect(&socket).await.unwrap();
        (dir, qmp)
    }

    #[tokio::test]
    async fn an_event_between_question_and_answer_is_heard() {
        let (_dir, qmp) = monitor(&[
            "{\"return\": {}, \"id\": 1}\n",
            "{\"return\": {\"status\": \"prelaunch\"}, \"id\": 2}\n",
            "{\"event\": \"RESUME\"}\n{\"return\": {}, \"id\": 3}\n",
        ])
        .await;
        assert_eq!(qmp.status(), Status::Paused);
        qmp.run("cont", json!({})).await.unwrap();
        assert_eq!(qmp.status(), Status::Running);
        assert!(matches!(qmp.run("quit", json!({})).await, Err(QmpError::Closed)));
        assert_eq!(qmp.status(), Status::Closed);
    }

    #[tokio::test]
    async fn a_refusal_is_told_in_qemus_words() {
        let (_dir, qmp) = monitor(&[
            "{\"return\": {}, \"id\": 1}\n",
            "{\"return\": {\"status\": \"running\"}, \"id\": 2}\n",
            "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}, \"id\": 3}\n",
        ])
        .await;
        let error = qmp.run("cont", json!({})).await.unwrap_err();
        assert_eq!(error.to_string(), "QEMU refused cont: no");
    }

    #[test]
    fn a_guest_that_powers_itself_off_is_not_paused() {
        let mut status = Status::Running;
        assert!(follow_event(&mut status, "SHUTDOWN"));
        assert!(!follow_event(&mut status, "STOP"));
        assert_eq!(status, Status::Shutdown);
    }
}
