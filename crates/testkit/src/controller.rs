//! One set of services, as one process would run it.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::{Authenticator, Endpoint};
use bus::{Bus, Message, Subscription};
use clients::{Account, Late, Peer};
use compute::{Compute, Peers};
use db::{Db, Schema};
use flow::{Engine, Flows, Pace, Work};
use network::Network;

use crate::cloud::{Cloud, SERVICES, service_login};

/// The services of one process. Dropping it is a crash: what it was doing stops where it is.
pub struct Controller {
    pub name: String,
    pub identity: Arc<identity::Identity>,
    pub images: Arc<image::Images>,
    pub placement: Arc<placement::Placement>,
    pub network: Arc<Network>,
    pub compute: Arc<Compute>,
    endpoints: BTreeMap<&'static str, Arc<dyn Endpoint>>,
    engine: Option<Engine>,
    courier: tokio::task::JoinHandle<()>,
    _served: Vec<Subscription>,
}

/// The doors of one controller's services to each other.
struct Doors {
    late: BTreeMap<&'static str, Arc<Late>>,
    authenticator: Arc<dyn Authenticator>,
}

impl Doors {
    fn account(&self, user: &str) -> Arc<Account> {
        Arc::new(Account::new(self.late["identity"].clone(), self.authenticator.clone(), service_login(user)))
    }

    fn peer(&self, service: &'static str, account: &Arc<Account>) -> Peer {
        Peer::local(service, self.late[service].clone(), account.clone())
    }
}

impl Controller {
    pub(crate) async fn start(cloud: &Cloud, name: &str) -> Controller {
        let identity = identity(cloud).await;
        let late = SERVICES.iter().map(|service| (*service, Late::new())).collect();
        let doors = Doors { late, authenticator: identity.clone() };
        let placement = placement(cloud).await;
        let images = images(cloud).await;
        let network = network(cloud, &doors).await;
        let compute = compute(cloud, &doors).await;
        let endpoints = endpoints(&identity, &images, &placement, &network, &compute);
        for (service, endpoint) in &endpoints {
            doors.late[service].set(endpoint.clone());
        }
        let work = Work { flows: compute::flows(), reconcilers: Vec::new() };
        let engine = Engine::start_at(&compute.flows, name, compute.clone(), work, Pace::test());
        let courier = network::start(&network);
        let _served = vec![serve_network(&cloud.bus, &network), serve_compute(&cloud.bus, &compute)];
        let (name, engine) = (name.to_string(), Some(engine));
        Controller { name, identity, images, placement, network, compute, endpoints, engine, courier, _served }
    }

    /// A service behind its API.
    pub fn endpoint(&self, service: &str) -> &Arc<dyn Endpoint> {
        &self.endpoints[service]
    }

    /// Stops running flows; they wait for another controller.
    pub fn stop_flows(&mut self) {
        self.engine = None;
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.courier.abort();
    }
}

async fn database(cloud: &Cloud, service: &str, schema: &Schema) -> Db {
    let db = cloud.database(service);
    db.migrate(schema).await.unwrap();
    db
}

async fn identity(cloud: &Cloud) -> Arc<identity::Identity> {
    let mut settings = identity::Settings::read(&cloud.config("identity")).unwrap();
    // Real passwords are hashed slowly on purpose; there are many people in tests.
    settings.rounds = settings.rounds.or(Some(4));
    settings.token_keys = cloud.files.path().join("fernet-keys");
    settings.credential_keys = cloud.files.path().join("credential-keys");
    identity::manage::fernet_setup(&settings).unwrap();
    identity::manage::credential_setup(&settings).unwrap();
    let db = database(cloud, "identity", &identity::SCHEMA).await;
    identity::Identity::new(db, settings, Some("http://localhost/identity/v3".into())).unwrap()
}

async fn placement(cloud: &Cloud) -> Arc<placement::Placement> {
    let settings = placement::Settings::read(&cloud.config("placement")).unwrap();
    let db = database(cloud, "placement", &placement::SCHEMA).await;
    Arc::new(placement::Placement::new(db, settings).await.unwrap())
}

async fn images(cloud: &Cloud) -> Arc<image::Images> {
    let mut config = cloud.config("image");
    let folder = cloud.files.path().join("images");
    config.set("glance_store", "filesystem_store_datadir", folder.display().to_string());
    let options = image::Options::read(&config).unwrap();
    let db = database(cloud, "image", &image::SCHEMA).await;
    Arc::new(image::Images::new(db, options).await.unwrap())
}

async fn network(cloud: &Cloud, doors: &Doors) -> Arc<Network> {
    let db = database(cloud, "network", &network::SCHEMA).await;
    let compute = doors.peer("compute", &doors.account("neutron")).at_version("compute 2.93");
    let pokes = Arc::new(Pokes { bus: cloud.bus.clone() });
    Arc::new(Network::new(db, &cloud.config("network"), pokes, Some(compute)).unwrap())
}

async fn compute(cloud: &Cloud, doors: &Doors) -> Arc<Compute> {
    let config = cloud.config("compute");
    let db = database(cloud, "compute", &compute::SCHEMA).await;
    let account = doors.account("nova");
    let peers = Peers {
        placement: doors.peer("placement", &account).at_version("placement 1.39"),
        image: doors.peer("image", &account),
        network: doors.peer("network", &account),
        identity: doors.peer("identity", &account),
    };
    Arc::new(Compute {
        flows: Flows::new("compute", &db),
        db,
        peers,
        bus: cloud.bus.clone(),
        ratios: compute::Ratios::read(&config).unwrap(),
        scheduler: compute::scheduler::Settings::read(&config).unwrap(),
        consoles: compute::consoles::Consoles::read(&config),
    })
}

fn endpoints(
    identity: &Arc<identity::Identity>,
    images: &Arc<image::Images>,
    placement: &Arc<placement::Placement>,
    network: &Arc<Network>,
    compute: &Arc<Compute>,
) -> BTreeMap<&'static str, Arc<dyn Endpoint>> {
    let authenticator: Arc<dyn Authenticator> = identity.clone();
    let door = || authenticator.clone();
    let mut endpoints: BTreeMap<&'static str, Arc<dyn Endpoint>> = BTreeMap::new();
    endpoints.insert("identity", Arc::new(identity::app(identity.clone(), None).unwrap()));
    endpoints.insert("image", Arc::new(image::app(images.clone(), None, door()).unwrap()));
    endpoints.insert("placement", Arc::new(placement::app(placement.clone(), None, door()).unwrap()));
    endpoints.insert("network", Arc::new(network::app(network.clone(), None, door()).unwrap()));
    endpoints.insert("compute", Arc::new(compute::app(compute.clone(), None, door()).unwrap()));
    endpoints
}

fn serve_network(bus: &Bus, network: &Arc<Network>) -> Subscription {
    let network = network.clone();
    bus.serve("network", move |message: Message| {
        let network = network.clone();
        async move {
            let answer = network.handle(&message.kind, message.body).await;
            answer.map_err(|refusal| bus::Refusal::new(refusal.code, refusal.message))
        }
    })
}

fn serve_compute(bus: &Bus, compute: &Arc<Compute>) -> Subscription {
    let compute = compute.clone();
    bus.serve("compute", move |message: Message| {
        let compute = compute.clone();
        async move { compute::hosts::answer(&compute, &message.kind, message.body).await }
    })
}

/// Tells hosts that something about their networks has changed.
struct Pokes {
    bus: Bus,
}

impl network::hosts::Pokes for Pokes {
    fn poke(&self, host: &str) {
        self.bus.poke(&contract::message::host("network", host), contract::message::POKE, api::json!({}));
    }
}
