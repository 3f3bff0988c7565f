//! The doors of a host: what a hypervisor driver can do, and where base images come from.

use std::path::PathBuf;
use std::pin::Pin;

use base::Json;
use bytes::Bytes;
use contract::HostError;
use contract::guest::{Guest, Host, Report};
use tokio::sync::{broadcast, mpsc};

/// Work in flight at one of the doors. Dropping it abandons the work at its next pause; doing it again repairs that.
pub type Work<'a, T> = Pin<Box<dyn Future<Output = Result<T, HostError>> + Send + 'a>>;

/// What a host must be able to do with guests. Every verb is an "ensure": asking twice is the same as asking once.
///
/// An order is applied once: what the guest does afterwards (powers itself off, crashes) is reported and left alone
/// until an order with a higher generation comes.
pub trait Hypervisor: Send + Sync {
    /// What this host is; `who` is copied into the answer.
    fn host<'a>(&'a self, who: &'a Identity) -> Work<'a, Host>;

    /// Every guest that is here, whoever started it and however often we have been restarted since.
    fn guests(&self) -> Work<'_, Vec<Report>>;

    /// Makes the guest what the order says. An order older than the applied one is refused with [`HostError::Never`].
    /// Changed disks, NICs, processors and memory of a guest that has a process take effect when it is next started.
    fn ensure<'a>(&'a self, guest: &'a Guest) -> Work<'a, ()>;

    /// Nothing of the guest remains: process, disks, taps, directory. Also for guests that were never here.
    fn ensure_gone<'a>(&'a self, id: &'a str) -> Work<'a, ()>;

    /// The last bytes that the guest wrote to its serial console, also after it stopped.
    fn console_log<'a>(&'a self, id: &'a str, bytes: u64) -> Work<'a, String>;

    /// Where the guest's screen is served; [`HostError::Missing`] when it has none or does not run.
    fn vnc<'a>(&'a self, id: &'a str) -> Work<'a, Vnc>;

    /// Injects a non-maskable interrupt, on which a guest's kernel writes a crash dump.
    fn nmi<'a>(&'a self, id: &'a str) -> Work<'a, ()>;

    /// Counters of processors, memory, disks and NICs, in the shape compute's 2.48 shows.
    fn diagnostics<'a>(&'a self, id: &'a str) -> Work<'a, Json>;

    /// What is on this host and belongs to none of the `known` guests, one line each.
    fn leaks<'a>(&'a self, known: &'a [String]) -> Work<'a, Vec<String>>;

    /// The ids of guests whose state has just changed, by our doing or by their own. A listener that lags looks at
    /// [`Hypervisor::guests`] again.
    fn changes(&self) -> broadcast::Receiver<String>;
}

/// Which host this is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// See [`crate::agent::host_uuid`].
    pub uuid: String,
    pub name: String,
    /// Where other hosts and the console proxy reach this one.
    pub address: String,
}

/// Where a guest's screen is served: RFB without a password, so the door to it must be guarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Vnc {
    Socket(PathBuf),
    Address(String),
}

/// Where base images come from.
pub trait Images: Send + Sync {
    /// Sends the image's bytes, from the first to the last. Returning an error makes the receiver forget what came;
    /// a closed channel means that the receiver has given up.
    fn fetch<'a>(&'a self, image: &'a str, to: mpsc::Sender<Bytes>) -> Work<'a, ()>;
}
