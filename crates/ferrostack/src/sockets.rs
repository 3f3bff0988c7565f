//! Listening sockets, on the machine and inside network namespaces.

use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::fd::AsFd;

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns};
use tokio::net::TcpListener;

/// Opens a listener at `address`, in the namespace `netns` when one is named.
pub fn listen(address: SocketAddr, netns: Option<&str>) -> Result<TcpListener> {
    let listener = match netns {
        None => bind(address),
        Some(name) => within(name, move || bind(address))?,
    };
    let place = netns.map(|name| format!(" in the network namespace {name}")).unwrap_or_default();
    let listener = listener.with_context(|| {
        format!("the port {address}{place} cannot be opened; is another cloud, or an OpenStack service, running there?")
    })?;
    Ok(TcpListener::from_std(listener)?)
}

fn bind(address: SocketAddr) -> std::io::Result<StdListener> {
    let listener = StdListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Runs `work` on a thread of its own inside the namespace; the thread ends with it, so that no other work strays there.
pub fn within<T: Send + 'static>(netns: &str, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let path = format!("/run/netns/{netns}");
    let space = std::fs::File::open(&path)
        .with_context(|| format!("there is no network namespace {netns}; make it with «ip netns add {netns}»"))?;
    let enter = move || {
        setns(space.as_fd(), CloneFlags::CLONE_NEWNET)?;
        Ok::<T, nix::Error>(work())
    };
    let entered = std::thread::spawn(enter).join().map_err(|_| anyhow::anyhow!("the thread inside {netns} died"))?;
    entered.with_context(|| format!("entering the network namespace {netns}; that needs root"))
}
