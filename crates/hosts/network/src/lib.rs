//! The network of a host: drivers that make it what a controller wants, and the agent that asks and reports.
//!
//! - [`Driver`] what can be done with a host's network, by one of
//!   - [`bridge`] Linux bridges, VXLAN, namespaces, nftables, dnsmasq
//!   - [`fake`]   nothing but memory: every port is wired at once
//! - [`Agent`]  says hello, asks for the desired state, applies it, reports

use contract::HostError;
use contract::network::{Desired, Host, Report};

pub mod agent;
pub mod bridge;
mod check;
pub mod fake;

pub use agent::{Agent, Door};
pub use bridge::{Bridge, Settings};
pub use fake::Fake;

/// How closely the machine is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Devices are compared; namespaces, processes and filters only where their orders changed.
    Changes,
    /// Everything is compared with the machine, and repaired where somebody else's hand was at it.
    Everything,
}

/// A host's network. Every verb is an "ensure": asking twice is the same as asking once.
pub enum Driver {
    Bridge(Bridge),
    Fake(Fake),
}

impl Driver {
    /// Makes the host what is desired and says what it is now. Refuses an order older than one it has applied.
    ///
    /// Every port of the order is wired, unwired (its device is not there, or it is administratively down) or named
    /// in the report's errors.
    pub async fn apply(&self, desired: &Desired, look: Look) -> Result<Report, HostError> {
        match self {
            Driver::Bridge(bridge) => bridge.apply(desired, look).await,
            Driver::Fake(fake) => fake.apply(desired).await,
        }
    }

    pub fn host(&self) -> Host {
        match self {
            Driver::Bridge(bridge) => bridge.host(),
            Driver::Fake(fake) => fake.host(),
        }
    }

    /// What is ours on the host and has no owner in `desired`, one line each.
    pub async fn leaks(&self, desired: &Desired) -> Vec<String> {
        match self {
            Driver::Bridge(bridge) => bridge.leaks(desired).await,
            Driver::Fake(fake) => fake.leaks(desired),
        }
    }

    /// Removes everything that is ours from the host. Guests' devices are left, without a bridge.
    pub async fn purge(&self) -> Result<(), HostError> {
        match self {
            Driver::Bridge(bridge) => bridge.purge().await,
            Driver::Fake(fake) => fake.purge(),
        }
    }

    /// Returns when something happened on the host that asks for a comparison, such as a guest's device appearing.
    pub async fn changed(&self) {
        match self {
            Driver::Bridge(bridge) => bridge.changed().await,
            Driver::Fake(_) => std::future::pending().await,
        }
    }
}
