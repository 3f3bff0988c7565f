//! Driver `bridge`: Linux bridges, VXLAN, namespaces, nftables and dnsmasq.
//!
//! Everything is found again by name. The driver remembers what it did only to skip work: forget it, and the next
//! comparison reads the machine instead.
//!
//! ```text
//!            host's namespace                         qdhcp-<network>   qrouter-<router>
//! guest ── tap ┐                                            ns-            qr-      qg-
//! guest ── tap ┼─ brq<network> ── vxlan-<vni> | eth1        │              │        │
//!              ├───────────────── tap (veth) ───────────────┘              │        │
//!              └───────────────── tap (veth) ──────────────────────────────┘   (another brq)
//! ```
//!
//! - [`wires`] bridges, uplinks, ports      - [`filter`] security groups, by [`rules`]; [`forget`] ends connections
//! - [`dhcp`]  dnsmasq                      - [`inside`] addresses and routes of a namespace
//! - [`router`] forwarding, translation      - [`room`]   a namespace of DHCP or a router as a whole
//! - [`metadata`] who asks for metadata, by [`http`]
//! - [`watch`] devices that come and go     - [`space`], [`links`], [`names`], [`kept`] what all of these stand on

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use contract::HostError;
use contract::network::{Desired, Failure, Host, Physical, Report};

use crate::Look;

mod apply;
mod dhcp;
mod filter;
mod forget;
mod http;
mod inside;
mod kept;
mod links;
mod loaded;
mod metadata;
mod names;
mod probe;
mod room;
mod router;
mod rules;
mod space;
mod watch;
mod wires;

use apply::State;
use space::{Error, Space};
use watch::Watch;

#[derive(Debug, Clone)]
pub struct Settings {
    /// The network namespace that is the host; none means the machine's own.
    pub netns: Option<String>,
    /// Physical network to interface; an interface that is a bridge is used as it is.
    pub physical_interface_mappings: BTreeMap<String, String>,
    /// Where other hosts send VXLAN frames to this one.
    pub tunnel_address: IpAddr,
    /// Files of this host's networks; must not be shared with another host.
    pub data_dir: PathBuf,
    pub uuid: String,
    pub name: String,
}

impl Settings {
    fn space(&self) -> Space {
        Space::of_host(self.netns.as_deref())
    }
}

pub struct Bridge {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Settings,
    lacks: Vec<String>,
    watch: Watch,
    state: Mutex<State>,
}

impl Bridge {
    /// Looks at what the kernel can do. Must be called inside a tokio runtime.
    pub fn new(mut settings: Settings) -> Result<Bridge, HostError> {
        let space = settings.space();
        if !space.exists() {
            return Err(HostError::missing(format!("network namespace {}", settings.netns.unwrap_or_default())));
        }
        let failed = |what: &str| {
            let what = what.to_string();
            move |error: Error| HostError::again(what).because(error)
        };
        let folder = &settings.data_dir;
        let made = std::fs::create_dir_all(folder).and_then(|()| folder.canonicalize());
        settings.data_dir = made.map_err(|e| HostError::never(format!("make {}", folder.display())).because(e))?;
        let lacks = probe::lacks(&space).map_err(failed("see what the kernel can do"))?;
        let watch = Watch::open(&space).map_err(failed("watch network devices"))?;
        let state = Mutex::new(State::read(&settings));
        Ok(Bridge { shared: Arc::new(Shared { settings, lacks, watch, state }) })
    }

    pub async fn apply(&self, desired: &Desired, look: Look) -> Result<Report, HostError> {
        let desired = desired.clone();
        self.blocking(move |shared, state| apply::apply(shared, state, &desired, look)).await?
    }

    pub async fn leaks(&self, desired: &Desired) -> Vec<String> {
        let desired = desired.clone();
        let found = self.blocking(move |shared, _| apply::leaks(&shared.settings, &desired)).await;
        let found = found.and_then(|found| found.map_err(|e| HostError::again("look for leaks").because(e)));
        found.unwrap_or_else(|error| vec![format!("could not look for leaks: {error}")])
    }

    pub async fn purge(&self) -> Result<(), HostError> {
        let failures = self.blocking(apply::purge).await?;
        match failures.map_err(|error| HostError::again("remove everything").because(error))?.as_slice() {
            [] => Ok(()),
            [Failure { id, what }, ..] => Err(HostError::again(format!("remove {id}: {what}"))),
        }
    }

    /// Returns when a device of somebody's interest came or went.
    pub async fn changed(&self) {
        self.shared.watch.changed().await;
    }

    pub fn host(&self) -> Host {
        let settings = &self.shared.settings;
        let physical = settings.physical_interface_mappings.iter();
        Host {
            uuid: settings.uuid.clone(),
            name: settings.name.clone(),
            tunnel_address: settings.tunnel_address,
            physical: physical.map(|(n, i)| Physical { network: n.clone(), interface: i.clone() }).collect(),
            lacks: self.shared.lacks.clone(),
            driver: "bridge".into(),
        }
    }

    /// One thing at a time happens to a host, on a thread that may wait for processes.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared, &mut State) -> T + Send + 'static,
    ) -> Result<T, HostError> {
        let shared = self.shared.clone();
        let done = tokio::task::spawn_blocking(move || {
            let mut state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
            work(&shared, &mut state)
        });
        done.await.map_err(|error| HostError::again("the network driver stopped").because(error))
    }
}

/// Ids of failures of one kind of thing.
fn failed_ids(failures: &[Failure]) -> BTreeSet<String> {
    failures.iter().map(|failure| failure.id.clone()).collect()
}
