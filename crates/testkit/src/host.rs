//! A fake host: both of its agents, and how to make it misbehave.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use api::{Json, json};
use bus::{Bus, Message, Subscription};
use contract::network as wires;
use contract::{HostError, message};
use host_hypervisor::hypervisor::Work;
use host_hypervisor::{FakeBehaviour, FakeSize, Hypervisor, Identity};
use tokio::task::JoinSet;

use crate::cloud::Cloud;

/// Limit: until a controller has answered an agent.
const ANSWER: Duration = Duration::from_secs(10);
/// How often the agents compare when nobody tells them anything.
const COMPARE: Duration = Duration::from_millis(200);

/// One host. Dropping it is its end: nobody answers for it any more.
pub struct Host {
    pub name: String,
    hypervisor: Arc<host_hypervisor::Fake>,
    network: Arc<host_network::Driver>,
    _served: Vec<Subscription>,
    _running: JoinSet<()>,
}

/// The way of one agent to its controllers.
#[derive(Clone)]
struct Door {
    bus: Bus,
    subject: &'static str,
}

impl Door {
    async fn ask(&self, kind: &str, body: Json) -> Result<Json, HostError> {
        self.bus.request(self.subject, kind, body, ANSWER).await.map_err(|error| match error {
            bus::Error::Refused { ref code, .. } if code == "taken" => HostError::never(error.to_string()),
            error => HostError::again(format!("asking {} for {kind}", self.subject)).because(error),
        })
    }
}

impl host_network::agent::Door for Door {
    fn request<'a>(&'a self, kind: &'a str, body: Json) -> host_network::agent::Answer<'a> {
        Box::pin(self.ask(kind, body))
    }
}

impl host_hypervisor::agent::Controllers for Door {
    fn request<'a>(&'a self, kind: &'a str, body: Json) -> Work<'a, Json> {
        Box::pin(self.ask(kind, body))
    }
}

impl Host {
    pub(crate) fn start(cloud: &Cloud, name: &str) -> Host {
        let bus = cloud.bus.clone();
        let door = |subject| Arc::new(Door { bus: bus.clone(), subject });
        let uuid = base::id::uuid();
        let hypervisor = Arc::new(host_hypervisor::Fake::new(FakeSize::default(), FakeBehaviour::default()));
        let who = Identity { uuid: uuid.clone(), name: name.to_string(), address: "127.0.0.1".into() };
        let pace = host_hypervisor::Pace {
            compare: COMPARE,
            report: Duration::from_millis(50),
            again: Duration::from_millis(20),
            backoff: Duration::from_millis(5),
        };
        let guests = host_hypervisor::Agent::paced(who, hypervisor.clone(), door(message::COMPUTE), pace);
        let network = Arc::new(host_network::Driver::Fake(host_network::Fake::new(facts(uuid, name))));
        let wires = host_network::Agent::new(network.clone(), door(message::NETWORK), COMPARE);
        let served = vec![serve_guests(&bus, name, &guests), serve_wires(&bus, name, &wires)];
        let mut running = JoinSet::new();
        running.spawn(async move { guests.run().await });
        running.spawn(async move { wires.run().await });
        Host { name: name.to_string(), hypervisor, network, _served: served, _running: running }
    }

    /// From now on, orders for guests go like this.
    pub fn behave(&self, behaviour: FakeBehaviour) {
        self.hypervisor.behave(behaviour);
    }

    /// The ids of the guests on it.
    pub async fn guests(&self) -> Vec<String> {
        let guests = self.hypervisor.guests().await.unwrap();
        guests.iter().map(|guest| serde_json::to_value(guest).unwrap()["id"].as_str().unwrap().to_string()).collect()
    }

    /// Lets a guest crash, as if its process had been killed.
    pub fn crash(&self, guest: &str) {
        self.hypervisor.crash(guest);
    }

    /// What its network was last ordered to be.
    pub fn network(&self) -> wires::Desired {
        match &*self.network {
            host_network::Driver::Fake(fake) => fake.applied(),
            _ => unreachable!("hosts of tests are fake"),
        }
    }
}

fn facts(uuid: String, name: &str) -> wires::Host {
    wires::Host {
        uuid,
        name: name.to_string(),
        tunnel_address: IpAddr::from([127, 0, 0, 1]),
        physical: vec![wires::Physical { network: "physnet1".into(), interface: "fake0".into() }],
        lacks: Vec::new(),
        driver: "fake".into(),
    }
}

fn serve_guests(bus: &Bus, host: &str, agent: &host_hypervisor::Agent) -> Subscription {
    let agent = agent.clone();
    bus.serve(&message::host("compute", host), move |message: Message| {
        let agent = agent.clone();
        async move { agent.answer(&message.kind, &message.body).await.map_err(|error| refusal(&error)) }
    })
}

fn serve_wires(bus: &Bus, host: &str, agent: &Arc<host_network::Agent>) -> Subscription {
    let agent = agent.clone();
    bus.serve(&message::host("network", host), move |message: Message| {
        let agent = agent.clone();
        async move {
            match message.kind.as_str() {
                message::POKE => {
                    agent.poke();
                    Ok(json!({}))
                }
                other => Err(bus::Refusal::unknown_kind(other)),
            }
        }
    })
}

fn refusal(error: &HostError) -> bus::Refusal {
    let code = match error {
        HostError::Again { .. } => "again",
        HostError::Never { .. } => "never",
        HostError::Missing { .. } => "missing",
    };
    bus::Refusal::new(code, error.to_string())
}
