//! A compute service of its own for one test: its neighbours, its hosts and people who use it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use api::message::{BoxFuture, HeaderMap};
use api::{App, AuthError, Authenticator, Caller, Endpoint, Json, Method, Request, Secret, json};
use base::config::Config;
use clients::{Account, Login, Peer};
use compute::scheduler::Settings;
use compute::{Compute, Peers, Ratios};
use flow::{Engine, Flows, Pace, Work};

use crate::fakes::host::FakeHost;
use crate::fakes::identity::FakeIdentity;
use crate::fakes::image::{FakeImages, IMAGE};
use crate::fakes::network::FakeNetwork;
use crate::fakes::placement::FakePlacement;

pub const SECRET: &str = "the proxies' secret";

/// One empty service with one flavor (`small`), one image and one network (`private`). Hosts are added by the test.
pub struct Cloud {
    pub app: Arc<App<Compute>>,
    pub compute: Arc<Compute>,
    pub placement: Arc<FakePlacement>,
    pub network: Arc<FakeNetwork>,
    pub images: Arc<FakeImages>,
    engine: Option<Engine>,
    _served: bus::Subscription,
    _db: engines::TestDb,
}

/// Tokens are names of people: `admin`; `alice` and `reader` of project `blue`; `bob` of `red`; `nova`, the service.
pub struct People(HashMap<&'static str, Arc<Caller>>);

impl People {
    fn new() -> People {
        let person = |name: &str, project: &str, roles: &[&str]| {
            let caller = Caller {
                user_id: name.to_string(),
                project_id: Some(project.to_string()),
                roles: roles.iter().map(|role| role.to_string()).collect(),
                token: Secret(name.to_string()),
                ..Caller::default()
            };
            Arc::new(caller)
        };
        let member = &["member", "reader"];
        People(HashMap::from([
            ("admin", person("admin", "admins", &["admin", "manager", "member", "reader"])),
            ("alice", person("alice", "blue", member)),
            ("reader", person("reader", "blue", &["reader"])),
            ("bob", person("bob", "red", member)),
            ("nova", person("nova", "service", &["admin", "service"])),
        ]))
    }
}

impl Authenticator for People {
    fn authenticate<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Arc<Caller>, AuthError>> {
        Box::pin(async move { self.0.get(token).cloned().ok_or(AuthError::Invalid) })
    }

    fn public_url(&self) -> Option<String> {
        Some("http://controller:5000/v3".to_string())
    }
}

impl Cloud {
    /// With a running flow engine.
    pub async fn new() -> Cloud {
        Cloud::configured("").await
    }

    /// The same with options from a configuration file.
    pub async fn configured(text: &str) -> Cloud {
        let mut cloud = Cloud::prepare(text).await;
        let work = Work { flows: compute::flows(), reconcilers: Vec::new() };
        let compute = cloud.compute.clone();
        cloud.engine = Some(Engine::start_at(&compute.flows, "test", compute.clone(), work, Pace::test()));
        cloud
    }

    /// With nobody who runs flows.
    pub async fn idle() -> Cloud {
        Cloud::prepare("").await
    }

    async fn prepare(text: &str) -> Cloud {
        let test_db = engines::test_db();
        let db = db::Db::open(test_db.url(), db::Options::test()).unwrap();
        db.migrate(&compute::SCHEMA).await.unwrap();
        let people: Arc<dyn Authenticator> = Arc::new(People::new());
        let login = Login {
            username: "nova".into(),
            password: Secret("secret".into()),
            user_domain: "default".into(),
            project: "service".into(),
            project_domain: "default".into(),
        };
        let identity = Arc::new(FakeIdentity);
        let account = Arc::new(Account::new(identity.clone(), people.clone(), login));
        let (placement, network, images) = (FakePlacement::new(), FakeNetwork::new(), FakeImages::new());
        let peers = Peers {
            placement: Peer::local("placement", placement.clone(), account.clone()).at_version("placement 1.39"),
            image: Peer::local("image", images.clone(), account.clone()),
            network: Peer::local("network", network.clone(), account.clone()),
            identity: Peer::local("identity", identity, account),
        };
        let bus = bus::Bus::local();
        let flows = Flows::new("compute", &db);
        let compute = Arc::new(Compute {
            db,
            peers,
            bus: bus.clone(),
            flows,
            ratios: Ratios::default(),
            scheduler: Settings::read(&Config::parse(text).unwrap()).unwrap(),
            consoles: Default::default(),
        });
        let app = Arc::new(compute::app(compute.clone(), None, people).unwrap());
        let answering = compute.clone();
        let served = bus.serve("compute", move |message| {
            let compute = answering.clone();
            async move { compute::hosts::answer(&compute, &message.kind, message.body).await }
        });
        network.tell(app.clone());
        let cloud = Cloud { app, compute, placement, network, images, engine: None, _served: served, _db: test_db };
        let flavor = json!({"flavor": {"name": "small", "id": "1", "ram": 512, "vcpus": 1, "disk": 1}});
        cloud.by("admin").post("/v2.1/flavors", flavor).await.expect(200);
        cloud
    }

    /// The same for a host that is not like the others.
    pub async fn host_like(&self, name: &str, change: impl FnOnce(&mut contract::guest::Host)) -> FakeHost {
        let mut facts = FakeHost::facts(name);
        change(&mut facts);
        FakeHost::start_with(facts, &self.compute.bus, &self.network).await
    }

    /// Adds a host and waits until it has said hello.
    pub async fn host(&self, name: &str) -> FakeHost {
        FakeHost::start(name, &self.compute.bus, &self.network).await
    }

    pub fn by<'a>(&'a self, token: &'a str) -> Person<'a> {
        Person { cloud: self, token, version: None }
    }

    /// Waits until no flow is left unfinished.
    pub async fn settled(&self) {
        tokio::time::timeout(Duration::from_secs(60), self.compute.flows.settled()).await.unwrap().unwrap();
    }

    /// A server of Alice's on the network `private`, as soon as it has been accepted.
    pub async fn ask_for_server(&self, name: &str) -> String {
        let body = new_server(name);
        let got = self.by("alice").post("/v2.1/servers", body).await.expect(202);
        got.body["server"]["id"].as_str().unwrap().to_string()
    }

    /// The same, once nothing goes on any more.
    pub async fn boot(&self, name: &str) -> String {
        let id = self.ask_for_server(name).await;
        self.settled().await;
        id
    }

    /// What an administrator sees of a server at the newest version.
    pub async fn server(&self, id: &str) -> Json {
        let got = self.by("admin").at("2.104").get(&format!("/v2.1/servers/{id}")).await.expect(200);
        got.body["server"].clone()
    }

    /// What belongs to servers at the neighbours, one line each.
    pub fn leaks(&self) -> Vec<String> {
        let mut leaks = self.placement.claims();
        leaks.extend(self.network.ports_of_servers());
        leaks
    }
}

/// The body of a request for a server on the network `private`.
pub fn new_server(name: &str) -> Json {
    json!({"server": {
        "name": name, "flavorRef": "1", "imageRef": IMAGE, "networks": [{"uuid": crate::fakes::network::PRIVATE}],
    }})
}

#[derive(Clone, Copy)]
pub struct Person<'a> {
    cloud: &'a Cloud,
    token: &'a str,
    version: Option<&'a str>,
}

/// What came back.
#[derive(Debug)]
pub struct Got {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Json,
}

impl<'a> Person<'a> {
    pub fn at(self, version: &'a str) -> Person<'a> {
        Person { version: Some(version), ..self }
    }

    pub async fn get(&self, target: &str) -> Got {
        self.ask(Request::new(Method::GET, target)).await
    }

    pub async fn post(&self, target: &str, body: Json) -> Got {
        self.ask(Request::new(Method::POST, target).json(&body)).await
    }

    pub async fn put(&self, target: &str, body: Json) -> Got {
        self.ask(Request::new(Method::PUT, target).json(&body)).await
    }

    pub async fn delete(&self, target: &str) -> Got {
        self.ask(Request::new(Method::DELETE, target)).await
    }

    pub async fn act(&self, server: &str, body: Json) -> Got {
        self.post(&format!("/v2.1/servers/{server}/action"), body).await
    }

    async fn ask(&self, request: Request) -> Got {
        let mut request = request.header("x-auth-token", self.token).header("accept", "application/json");
        request.base_url = "http://controller:8774".to_string();
        if let Some(version) = self.version {
            request = request.header("openstack-api-version", &format!("compute {version}"));
            request = request.header("x-openstack-nova-api-version", version);
        }
        let reply = self.cloud.app.call(request).await;
        let bytes = reply.content.bytes(1 << 24).await.unwrap();
        let body = serde_json::from_slice(&bytes).unwrap_or_default();
        Got { status: reply.status.as_u16(), headers: reply.headers, body }
    }
}

impl Got {
    #[track_caller]
    pub fn expect(self, status: u16) -> Got {
        assert_eq!(self.status, status, "{}", self.body);
        self
    }

    /// The sentence of a refusal.
    pub fn message(&self) -> String {
        let fault = self.body.as_object().and_then(|body| body.values().next());
        fault.and_then(|fault| fault["message"].as_str()).unwrap_or_default().to_string()
    }
}

impl Cloud {
    /// Waits until a server has this status.
    pub async fn until(&self, id: &str, status: &str) {
        for _ in 0..2000 {
            if self.server(id).await["status"] == status {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("server {id} does not become {status}: {}", self.server(id).await);
    }
}

/// Waits until something is so.
pub async fn soon(so: impl Fn() -> bool) {
    for _ in 0..2000 {
        if so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it does not come to pass");
}
