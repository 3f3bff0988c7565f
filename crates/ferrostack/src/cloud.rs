//! The services of this process, wired together.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use api::{Authenticator, Endpoint};
use base::config::Config;
use bus::{Bus, Message, Subscription};
use clients::identity::RemoteIdentity;
use compute::{Compute, Peers};
use db::{Db, Schema};
use flow::{Engine, Flows, Work};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::configuration;
use crate::doors::{Doors, service_login};
use crate::layout::Layout;
use crate::ports::Ports;
use crate::sockets;

/// Limit: until flows in progress have come to a step's end when the process stops.
const DRAIN: Duration = Duration::from_secs(5);

/// What a process is to run.
pub struct Plan {
    pub layout: Layout,
    pub config_dir: PathBuf,
    /// The public nouns: `identity`, `compute`, ….
    pub services: Vec<&'static str>,
    pub ports: Ports,
    /// What the catalog calls this host: `http://127.0.0.1`.
    pub host_url: String,
    /// Links in answers begin with this host instead of the one that the client asked for.
    pub fixed_links: bool,
    /// Where identity is, when it does not run here.
    pub auth_url: Option<String>,
    pub service_password: String,
    pub metadata_secret: String,
    /// Whether tables are made and migrated here; else an operator does it with `*-manage db_sync`.
    pub migrate: bool,
}

/// The services of this process.
pub struct Cloud {
    pub doors: Doors,
    pub bus: Bus,
    pub identity: Option<Arc<identity::Identity>>,
    pub compute: Option<Arc<Compute>>,
    pub network: Option<Arc<network::Network>>,
    pub images: Option<Arc<image::Images>>,
    /// By name, for listeners and for the single port.
    pub endpoints: BTreeMap<&'static str, Arc<dyn Endpoint>>,
    engines: Vec<Engine>,
    _subscriptions: Vec<Subscription>,
    listeners: JoinSet<()>,
    stop: watch::Sender<bool>,
}

impl Cloud {
    /// Opens databases and makes the services; nothing listens yet.
    pub async fn build(plan: &Plan) -> Result<Cloud> {
        let bus = plan.bus()?;
        let identity = match plan.runs("identity") {
            true => Some(plan.identity().await?),
            false => None,
        };
        let doors = plan.doors(identity.as_ref())?;
        let mut cloud = Cloud {
            doors,
            bus,
            identity,
            compute: None,
            network: None,
            images: None,
            endpoints: BTreeMap::new(),
            engines: Vec::new(),
            _subscriptions: Vec::new(),
            listeners: JoinSet::new(),
            stop: watch::Sender::new(false),
        };
        cloud.add_services(plan).await?;
        Ok(cloud)
    }

    async fn add_services(&mut self, plan: &Plan) -> Result<()> {
        if let Some(identity) = self.identity.clone() {
            let app = identity::app(identity, plan.policy("identity")?.as_deref())?;
            self.add("identity", Arc::new(app.public_url(plan.links("identity"))));
        }
        if plan.runs("placement") {
            self.add_placement(plan).await?;
        }
        if plan.runs("image") {
            self.add_image(plan).await?;
        }
        if plan.runs("network") {
            self.add_network(plan).await?;
        }
        if plan.runs("compute") || plan.runs("metadata") {
            self.add_compute(plan).await?;
        }
        Ok(())
    }

    fn add(&mut self, service: &'static str, endpoint: Arc<dyn Endpoint>) {
        self.doors.open(service, endpoint.clone());
        self.endpoints.insert(service, endpoint);
    }

    async fn add_placement(&mut self, plan: &Plan) -> Result<()> {
        let db = plan.database("placement", &placement::SCHEMA).await?;
        let config = plan.config("placement")?;
        let settings = placement::Settings::read(&config)?;
        configuration::report_unknown("placement", &config);
        let service = Arc::new(placement::Placement::new(db, settings).await?);
        let app = placement::app(service, plan.policy("placement")?.as_deref(), self.doors.authenticator.clone())?;
        self.add("placement", Arc::new(app.public_url(plan.links("placement"))));
        Ok(())
    }

    async fn add_image(&mut self, plan: &Plan) -> Result<()> {
        let mut config = plan.config("image")?;
        if config.text("glance_store", "filesystem_store_datadir").is_none() {
            config.set("glance_store", "filesystem_store_datadir", plan.layout.images().display().to_string());
        }
        let options = image::Options::read(&config)?;
        configuration::report_unknown("image", &config);
        let db = plan.database("image", &image::SCHEMA).await?;
        let service = Arc::new(image::Images::new(db, options).await?);
        image::start(&service);
        self.images = Some(service.clone());
        let app = image::app(service, plan.policy("image")?.as_deref(), self.doors.authenticator.clone())?;
        self.add("image", Arc::new(app.public_url(plan.links("image"))));
        Ok(())
    }

    async fn add_network(&mut self, plan: &Plan) -> Result<()> {
        let mut config = plan.config("network")?;
        if config.text("DEFAULT", "metadata_proxy_shared_secret").is_none() && plan.runs("metadata") {
            config.set("DEFAULT", "metadata_proxy_shared_secret", plan.metadata_secret.clone());
            config.set("DEFAULT", "nova_metadata_host", "127.0.0.1");
            config.set("DEFAULT", "nova_metadata_port", plan.ports.of("metadata").to_string());
        }
        let db = plan.database("network", &network::SCHEMA).await?;
        let account = self.doors.account(service_login("neutron", &plan.service_password));
        let compute = self.doors.peer("compute", &account).at_version("compute 2.93");
        let pokes = Arc::new(Pokes { bus: self.bus.clone() });
        let service = Arc::new(network::Network::new(db, &config, pokes, Some(compute))?);
        configuration::report_unknown("network", &config);
        let app = network::app(service.clone(), plan.policy("network")?.as_deref(), self.doors.authenticator.clone())?;
        self.add("network", Arc::new(app.public_url(plan.links("network"))));
        let served = service.clone();
        self._subscriptions.push(self.bus.serve("network", move |message: Message| {
            let network = served.clone();
            async move {
                let answer = network.handle(&message.kind, message.body).await;
                answer.map_err(|refusal| bus::Refusal::new(refusal.code, refusal.message))
            }
        }));
        network::start(&service);
        self.network = Some(service);
        Ok(())
    }

    async fn add_compute(&mut self, plan: &Plan) -> Result<()> {
        let config = plan.config("compute")?;
        let db = plan.database("compute", &compute::SCHEMA).await?;
        let account = self.doors.account(service_login("nova", &plan.service_password));
        let peers = Peers {
            placement: self.doors.peer("placement", &account).at_version("placement 1.39"),
            image: self.doors.peer("image", &account),
            network: self.doors.peer("network", &account),
            identity: self.doors.peer("identity", &account),
        };
        let flows = Flows::new("compute", &db);
        let compute = Arc::new(Compute {
            db,
            peers,
            bus: self.bus.clone(),
            flows,
            ratios: compute::Ratios::read(&config)?,
            scheduler: compute::scheduler::Settings::read(&config)?,
            consoles: compute::consoles::Consoles {
                port: plan.ports.of("console"),
                ..compute::consoles::Consoles::read(&config)
            },
        });
        configuration::report_unknown("compute", &config);
        if plan.runs("metadata") {
            let metadata = compute::metadata::Service::new(compute.clone(), &plan.metadata_secret);
            self.endpoints.insert("metadata", Arc::new(metadata));
        }
        if plan.runs("compute") {
            let policy = plan.policy("compute")?;
            let app = compute::app(compute.clone(), policy.as_deref(), self.doors.authenticator.clone())?;
            self.add("compute", Arc::new(app.public_url(plan.links("compute"))));
            let served = compute.clone();
            self._subscriptions.push(self.bus.serve("compute", move |message: Message| {
                let compute = served.clone();
                async move { compute::hosts::answer(&compute, &message.kind, message.body).await }
            }));
        }
        self.compute = Some(compute);
        Ok(())
    }

    /// Starts the work that outlives requests. `owner` is who takes its own flows over again after a restart.
    pub fn start_engines(&mut self, owner: &str) {
        if let Some(compute) = &self.compute {
            let work = Work { flows: compute::flows(), reconcilers: Vec::new() };
            self.engines.push(Engine::start(&compute.flows, owner, compute.clone(), work));
        }
    }

    /// Opens every service's port at `bind`, and at the loopback of `netns` when one is named.
    pub fn listen(&mut self, plan: &Plan, bind: IpAddr, netns: Option<&str>) -> Result<()> {
        let mut sockets = Vec::new();
        for (service, endpoint) in &self.endpoints {
            let port = plan.ports.of(service);
            sockets.push((sockets::listen(SocketAddr::new(bind, port), None)?, endpoint.clone()));
            if netns.is_some() {
                let inside = SocketAddr::new(IpAddr::from([127, 0, 0, 1]), port);
                sockets.push((sockets::listen(inside, netns)?, endpoint.clone()));
            }
        }
        for (listener, endpoint) in sockets {
            self.listeners.spawn(api::server::serve(listener, endpoint, self.stop.subscribe()));
        }
        if let Some(compute) = self.compute.as_ref().filter(|_| plan.runs("compute")) {
            let listener = sockets::listen(SocketAddr::new(bind, plan.ports.of("console")), None)?;
            self.listeners.spawn(compute::console_proxy::serve(listener, compute.clone(), self.stop.subscribe()));
        }
        Ok(())
    }

    /// Stops accepting, finishes what is in progress, leaves flows to be taken up again.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        while self.listeners.join_next().await.is_some() {}
        for engine in self.engines {
            if let Err(error) = engine.stop(DRAIN).await {
                tracing::warn!(%error, "a flow engine did not stop in an orderly way; its flows are taken up at the next start");
            }
        }
    }
}

impl Plan {
    pub fn runs(&self, service: &str) -> bool {
        self.services.contains(&service)
    }

    fn config(&self, service: &str) -> Result<Config> {
        configuration::read(&self.config_dir, service)
    }

    fn policy(&self, service: &str) -> Result<Option<String>> {
        configuration::policy(&self.config_dir, service, &self.config(service)?)
    }

    fn links(&self, service: &str) -> Option<String> {
        self.fixed_links.then(|| self.ports.url(&self.host_url, service))
    }

    /// The bus that hosts are reached by: in process, unless compute's or network's file names a broker.
    fn bus(&self) -> Result<Bus> {
        for service in ["compute", "network"] {
            if let Some(url) = self.config(service)?.text("DEFAULT", "transport_url") {
                return Bus::connect(url).with_context(|| format!("[DEFAULT] transport_url of {service}"));
            }
        }
        Ok(Bus::local())
    }

    /// The database of a service, ready to be used.
    pub async fn database(&self, service: &'static str, schema: &Schema) -> Result<Db> {
        let config = self.config(service)?;
        let file = format!("sqlite:///{}/{service}.sqlite", self.layout.databases().display());
        // Upstream keeps placement's connection in a section of its own name; compute's in [database].
        let named = config.text("database", "connection").or_else(|| config.text("placement_database", "connection"));
        let db = Db::open(named.unwrap_or(&file), db::Options::default());
        let db = db.with_context(|| format!("opening the database of {service}"))?;
        if self.migrate {
            db.migrate(schema).await.with_context(|| format!("bringing the database of {service} up to date"))?;
        } else {
            db.check(schema).await.with_context(|| format!("the database of {service}"))?;
        }
        Ok(db)
    }

    async fn identity(&self) -> Result<Arc<identity::Identity>> {
        let settings = self.identity_settings()?;
        let db = self.database("identity", &identity::SCHEMA).await?;
        if self.migrate {
            identity::manage::fernet_setup(&settings)?;
            identity::manage::credential_setup(&settings)?;
        }
        let public_url = format!("{}/v3", self.ports.url(&self.host_url, "identity"));
        identity::Identity::new(db, settings, Some(public_url)).context("opening the key repositories of identity")
    }

    pub fn identity_settings(&self) -> Result<identity::Settings> {
        let mut config = self.config("identity")?;
        for (section, folder) in [("fernet_tokens", "fernet-keys"), ("credential", "credential-keys")] {
            if config.text(section, "key_repository").is_none() {
                let path = self.layout.root.join("keys").join(folder);
                config.set(section, "key_repository", path.display().to_string());
            }
        }
        let settings = identity::Settings::read(&config)?;
        configuration::report_unknown("identity", &config);
        Ok(settings)
    }

    fn doors(&self, identity: Option<&Arc<identity::Identity>>) -> Result<Doors> {
        let url_of = |service: &str| self.peer_url(service);
        if let Some(identity) = identity {
            let authenticator: Arc<dyn Authenticator> = identity.clone();
            return Doors::new(&self.services, url_of, authenticator);
        }
        let url = self.peer_url("identity");
        let endpoint = Arc::new(api::client::Remote::new(&url).context("[keystone_authtoken] auth_url")?);
        let remote = Arc::new(RemoteIdentity::new(endpoint, &format!("{url}/v3")));
        let doors = Doors::new(&self.services, url_of, remote.clone())?;
        remote.ask_as(doors.account(service_login("nova", &self.service_password)));
        Ok(doors)
    }

    /// Where a service is that does not run here: beside identity, at its standard port.
    fn peer_url(&self, service: &str) -> String {
        let identity = self.auth_url.clone().unwrap_or_else(|| self.ports.url(&self.host_url, "identity"));
        let identity = identity.trim_end_matches('/').trim_end_matches("/v3").to_string();
        if service == "identity" {
            return identity;
        }
        let host = identity.rsplit_once(':').map_or(identity.as_str(), |(host, _)| host);
        self.ports.url(host, service)
    }
}

/// Tells hosts that something about their networks has changed.
struct Pokes {
    bus: Bus,
}

impl network::Pokes for Pokes {
    fn poke(&self, host: &str) {
        let subject = contract::message::host("network", host);
        self.bus.poke(&subject, contract::message::POKE, api::json!({}));
    }
}
