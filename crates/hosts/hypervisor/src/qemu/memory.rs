//! A suspended guest's memory: written by QEMU's migration to a file, and read back by it.
//!
//! We stand between QEMU and the file, because QEMU 7.2 cannot migrate to a file without starting a shell.
//!
//! Invariant: the file `memory` is complete, and there is one only while the guest has not run since. That is why it is
//! removed before the processors go on.

use std::io;
use std::path::Path;
use std::time::Duration;

use base::json;
use contract::HostError;
use tokio::fs::File;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixListener;
use tokio::time::{sleep, timeout};

use super::seat::Live;
use super::{Owner, disks, process};
use crate::limits::MEMORY_COPY;

const MEMORY: &str = "memory";
const PART: &str = "memory.part";
const SOCKET: &str = "memory.socket";

/// Saves the memory of a guest whose processors stand still.
pub(crate) async fn save(live: &Live, dir: &Path, owner: Option<Owner>) -> Result<(), HostError> {
    if dir.join(MEMORY).exists() {
        return Ok(());
    }
    let saved = timeout(MEMORY_COPY, copy_out(live, dir, owner)).await;
    let _ = disks::remove(&dir.join(SOCKET));
    match saved {
        Ok(Ok(())) => Ok(()),
        failed => {
            let _ = live.qmp.run("migrate_cancel", json!({})).await;
            let _ = disks::remove(&dir.join(PART));
            let error = HostError::again("saving the memory of a suspended server");
            Err(match failed {
                Ok(Err(cause)) => error.because(cause),
                _ => error,
            })
        }
    }
}

/// Gives a new process, which waits for it, the memory back.
pub(crate) async fn load(live: &Live, dir: &Path) -> Result<(), HostError> {
    let error = || HostError::again("loading the memory of a suspended server");
    let loaded = timeout(MEMORY_COPY, copy_in(live, dir)).await;
    let _ = disks::remove(&dir.join(SOCKET));
    loaded.map_err(|_| error())?.map_err(|cause| error().because(cause))
}

pub(crate) fn forget(dir: &Path) -> io::Result<()> {
    for name in [MEMORY, PART, SOCKET] {
        disks::remove(&dir.join(name))?;
    }
    Ok(())
}

async fn copy_out(live: &Live, dir: &Path, owner: Option<Owner>) -> Result<(), io::Error> {
    settle(live).await?;
    let socket = dir.join(SOCKET);
    disks::remove(&socket)?;
    let listener = listen(&socket)?;
    owner.map_or(Ok(()), |owner| owner.own(&socket))?;
    // There is no guest whose pace must be kept: as fast as the disk.
    let unbounded = json!({ "max-bandwidth": 1u64 << 40 });
    live.qmp.run("migrate-set-parameters", unbounded).await.map_err(io::Error::other)?;
    live.qmp.run("migrate", json!({ "uri": format!("unix:{SOCKET}") })).await.map_err(io::Error::other)?;
    let (mut from, _) = listener.accept().await?;
    let part = dir.join(PART);
    let mut file = create_private(&part).await?;
    tokio::io::copy(&mut from, &mut file).await?;
    finished(live).await?;
    file.sync_all().await?;
    std::fs::rename(part, dir.join(MEMORY))
}

/// Ends what an abandoned copy left behind. [`MEMORY_COPY`] bounds the loop.
async fn settle(live: &Live) -> Result<(), io::Error> {
    let run = async |command| live.qmp.run(command, json!({})).await.map_err(io::Error::other);
    loop {
        match run("query-migrate").await?["status"].as_str() {
            None | Some("none" | "failed" | "cancelled" | "completed") => break,
            Some(_) => {
                run("migrate_cancel").await?;
                sleep(Duration::from_millis(10)).await;
            }
        }
    }
    // Upstream: QEMU copies a guest a second time only if it has run since the first.
    if run("query-status").await?["status"] == "postmigrate" {
        run("cont").await?;
        run("stop").await?;
    }
    Ok(())
}

async fn copy_in(live: &Live, dir: &Path) -> Result<(), io::Error> {
    let mut file = File::open(dir.join(MEMORY)).await?;
    disks::remove(&dir.join(SOCKET))?;
    live.qmp.run("migrate-incoming", json!({ "uri": format!("unix:{SOCKET}") })).await.map_err(io::Error::other)?;
    let mut to = process::connect(&dir.join(SOCKET)).await?;
    tokio::io::copy(&mut file, &mut to).await?;
    to.shutdown().await?;
    finished(live).await
}

async fn create_private(path: &Path) -> io::Result<File> {
    File::options().write(true).create(true).truncate(true).mode(0o600).open(path).await
}

/// Waits until QEMU has said that the copy is whole. [`MEMORY_COPY`] bounds the loop.
async fn finished(live: &Live) -> Result<(), io::Error> {
    loop {
        let state = live.qmp.run("query-migrate", json!({})).await.map_err(io::Error::other)?;
        match state["status"].as_str() {
            Some("completed") => return Ok(()),
            Some(bad @ ("failed" | "cancelled")) => {
                return Err(io::Error::other(format!("{bad}: {}", state["error-desc"])));
            }
            _ => sleep(Duration::from_millis(10)).await,
        }
    }
}

/// Listens at `socket`, however deep its directory lies.
fn listen(socket: &Path) -> io::Result<UnixListener> {
    use std::os::fd::AsRawFd;
    let dir = std::fs::File::open(socket.parent().unwrap_or(Path::new("/")))?;
    let name = socket.file_name().unwrap_or_default().to_string_lossy();
    UnixListener::bind(format!("/proc/self/fd/{}/{name}", dir.as_raw_fd()))
}
