//! The door for the operator's own commands: a socket in the data directory that only its owner can open.
//!
//! One line in (`leaks`, `explain <server>`), text out, closed. What is asked here is answered by the running cloud,
//! because only it holds its hosts.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream as StdStream;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixListener;
use tokio::task::JoinHandle;

use crate::layout::Layout;
use crate::leaks::Inspector;

/// Limit: bytes of a question.
const QUESTION: u64 = 4096;
/// Limit: until an answer must have come.
const PATIENCE: Duration = Duration::from_secs(120);

/// Answers questions until it is dropped.
pub struct Control {
    task: JoinHandle<()>,
    socket: std::path::PathBuf,
}

impl Control {
    pub fn open(layout: &Layout, inspector: Arc<Inspector>) -> Result<Control> {
        let socket = layout.root.join("control.sock");
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).with_context(|| format!("opening {}", socket.display()))?;
        std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o600))?;
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let inspector = inspector.clone();
                tokio::spawn(async move {
                    if let Err(error) = answer(stream, &inspector).await {
                        tracing::debug!(%error, "a question of the operator was not answered");
                    }
                });
            }
        });
        Ok(Control { task, socket })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.task.abort();
        let _ = std::fs::remove_file(&self.socket);
    }
}

async fn answer(stream: tokio::net::UnixStream, inspector: &Inspector) -> Result<()> {
    let (read, mut write) = stream.into_split();
    let mut question = String::new();
    BufReader::new(read.take(QUESTION)).read_line(&mut question).await?;
    let text = match question.trim().split_once(' ').unwrap_or((question.trim(), "")) {
        ("leaks", _) => inspector.leaks().await?.join("\n"),
        ("explain", server) => inspector.explain(server).await?,
        ("check", _) => inspector.check().await.join("\n"),
        (other, _) => format!("unknown question {other}"),
    };
    write.write_all(text.as_bytes()).await?;
    Ok(write.shutdown().await?)
}

/// Asks the running cloud of a data directory.
pub fn ask(layout: &Layout, question: &str) -> Result<String> {
    let socket = layout.root.join("control.sock");
    let stream = StdStream::connect(&socket);
    let Ok(mut stream) = stream else {
        bail!("no cloud runs in {}. Start it: ferrostack up --data-dir {0}", layout.root.display());
    };
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("{question}\n").as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text).context("the cloud did not answer in time")?;
    Ok(text)
}
