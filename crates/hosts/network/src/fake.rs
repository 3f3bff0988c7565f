//! Driver `fake`: a host that has nothing but memory, for clouds without machines and for thousands of hosts.
//!
//! It wires every port at once, and can be slow or refuse on request.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use contract::HostError;
use contract::network::{Desired, Failure, Host, Report};

pub struct Fake {
    host: Box<Host>,
    memory: Mutex<Box<Memory>>,
}

#[derive(Default)]
struct Memory {
    applied: Desired,
    trouble: Trouble,
}

/// What a fake host does badly.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trouble {
    /// How long each comparison takes.
    pub delay: Duration,
    /// Every comparison fails.
    pub broken: bool,
    /// Ports, networks and routers that cannot be done, with what is said about each.
    pub refused: BTreeMap<String, String>,
    /// Ports whose device does not appear.
    pub missing: Vec<String>,
}

impl Fake {
    pub fn new(host: Host) -> Fake {
        Fake { host: Box::new(Host { driver: "fake".into(), ..host }), memory: Mutex::default() }
    }

    pub fn trouble(&self, trouble: Trouble) {
        self.memory().trouble = trouble;
    }

    /// The order that was applied last.
    pub fn applied(&self) -> Desired {
        self.memory().applied.clone()
    }

    pub async fn apply(&self, desired: &Desired) -> Result<Report, HostError> {
        let trouble = self.memory().trouble.clone();
        if !trouble.delay.is_zero() {
            tokio::time::sleep(trouble.delay).await;
        }
        if trouble.broken {
            return Err(HostError::again("this fake host is broken on request"));
        }
        let mut memory = self.memory();
        let (generation, applied) = (desired.generation, memory.applied.generation);
        if generation < applied {
            return Err(HostError::never(format!("the order of generation {generation} is older than {applied}")));
        }
        memory.applied = desired.clone();
        Ok(report(desired, &trouble))
    }

    pub fn host(&self) -> Host {
        (*self.host).clone()
    }

    pub fn leaks(&self, desired: &Desired) -> Vec<String> {
        let applied = &self.memory().applied;
        let ports = applied.ports.iter().filter(|port| !desired.ports.iter().any(|wanted| wanted.id == port.id));
        let routers = applied.routers.iter().filter(|own| !desired.routers.iter().any(|wanted| wanted.id == own.id));
        let networks = applied.networks.iter().filter(|own| !desired.networks.iter().any(|wanted| wanted.id == own.id));
        let ports = ports.map(|port| format!("port {}", port.id));
        let routers = routers.map(|router| format!("router {}", router.id));
        ports.chain(routers).chain(networks.map(|network| format!("network {}", network.id))).collect()
    }

    pub fn purge(&self) -> Result<(), HostError> {
        self.memory().applied = Desired::default();
        Ok(())
    }

    fn memory(&self) -> MutexGuard<'_, Box<Memory>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn report(desired: &Desired, trouble: &Trouble) -> Report {
    let refused = |id: &String| trouble.refused.contains_key(id);
    let sound = desired.ports.iter().filter(|port| !refused(&port.id));
    let (wired, unwired): (Vec<_>, Vec<_>) =
        sound.partition(|port| port.admin_state_up && !trouble.missing.contains(&port.id));
    let routers = desired.routers.iter().filter(|router| router.admin_state_up && !refused(&router.id));
    let networks = desired.networks.iter().map(|network| &network.id);
    let all = networks.chain(desired.ports.iter().map(|port| &port.id)).chain(desired.routers.iter().map(|r| &r.id));
    let failure = |id: &String| Some(Failure { id: id.clone(), what: trouble.refused.get(id)?.clone() });
    Report {
        generation: desired.generation,
        wired: wired.into_iter().map(|port| port.id.clone()).collect(),
        unwired: unwired.into_iter().map(|port| port.id.clone()).collect(),
        routers: routers.map(|router| router.id.clone()).collect(),
        errors: all.filter_map(failure).collect(),
    }
}
