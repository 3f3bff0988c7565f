//! A network service of its own for one test, people who use it, hosts, and a compute that listens.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use api::message::BoxFuture;
use api::{App, AuthError, Authenticator, Caller, Endpoint, Json, Method, Reply, Request, json};
use base::config::Config;
use clients::account::Login;
use clients::{Account, Peer};
use network::{Network, Pokes};

pub struct Cloud {
    pub app: Arc<App<Network>>,
    pub network: Arc<Network>,
    pub poked: Arc<Poked>,
    pub compute: Arc<Compute>,
    _db: engines::TestDb,
}

/// Hosts that were told to compare.
#[derive(Default)]
pub struct Poked(Mutex<BTreeSet<String>>);

impl Pokes for Poked {
    fn poke(&self, host: &str) {
        self.0.lock().unwrap().insert(host.to_string());
    }
}

impl Poked {
    /// Who was poked since the last look.
    pub fn taken(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap()).into_iter().collect()
    }
}

/// A compute that writes down what it is told, or is not there.
#[derive(Default)]
pub struct Compute {
    pub heard: Mutex<Vec<Json>>,
    pub down: std::sync::atomic::AtomicBool,
}

impl Endpoint for Compute {
    fn call(&self, request: Request) -> BoxFuture<'_, Reply> {
        Box::pin(async move {
            if self.down.load(std::sync::atomic::Ordering::SeqCst) {
                return Reply::new(503);
            }
            assert_eq!(request.path, "/v2.1/os-server-external-events");
            let bytes = request.content.bytes(1 << 20).await.unwrap();
            let body: Json = serde_json::from_slice(&bytes).unwrap();
            self.heard.lock().unwrap().extend(body["events"].as_array().unwrap().iter().cloned());
            Reply::json(200, &json!({"events": []}))
        })
    }
}

/// An identity that logs the service user in.
struct Door;

impl Endpoint for Door {
    fn call(&self, _: Request) -> BoxFuture<'_, Reply> {
        Box::pin(async { Reply::json(201, &json!({"token": {}})).header("x-subject-token", "service") })
    }
}

/// Tokens are names of people: `admin`; `alice` and `reader` of project `blue`; `bob` of `red`; `service`.
struct People(HashMap<&'static str, Arc<Caller>>);

impl People {
    fn new() -> People {
        let person = |name: &'static str, project: &str, roles: &[&str]| {
            let caller = Caller {
                user_id: name.to_string(),
                project_id: Some(project.to_string()),
                roles: roles.iter().map(|role| role.to_string()).collect(),
                ..Caller::default()
            };
            (name, Arc::new(caller))
        };
        People(HashMap::from([
            person("admin", "admins", &["admin", "manager", "member", "reader"]),
            person("alice", "blue", &["member", "reader"]),
            person("reader", "blue", &["reader"]),
            person("bob", "red", &["member", "reader"]),
            person("service", "services", &["service", "admin", "manager", "member", "reader"]),
        ]))
    }
}

impl Authenticator for People {
    fn authenticate<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Arc<Caller>, AuthError>> {
        Box::pin(async move { self.0.get(token).cloned().ok_or(AuthError::Invalid) })
    }
}

impl Cloud {
    pub async fn new() -> Cloud {
        Cloud::configured("").await
    }

    pub async fn configured(text: &str) -> Cloud {
        let db = engines::test_db();
        let open = db::Db::open(db.url(), db::Options::test()).unwrap();
        open.migrate(&network::SCHEMA).await.unwrap();
        let people: Arc<dyn Authenticator> = Arc::new(People::new());
        let compute = Arc::new(Compute::default());
        let login = Login {
            username: "network".into(),
            password: api::Secret("x".into()),
            user_domain: "Default".into(),
            project: "services".into(),
            project_domain: "Default".into(),
        };
        let account = Arc::new(Account::new(Arc::new(Door), people.clone(), login));
        let peer = Peer::local("compute", compute.clone(), account);
        let config = Config::parse(text).unwrap();
        let poked = Arc::new(Poked::default());
        let network = Arc::new(Network::new(open, &config, poked.clone(), Some(peer)).unwrap());
        let app = Arc::new(network::app(network.clone(), None, people).unwrap());
        Cloud { app, network, poked, compute, _db: db }
    }

    pub fn by<'a>(&'a self, token: &'a str) -> Person<'a> {
        Person { cloud: self, token }
    }

    /// A host joined to `physnet1` says hello.
    pub async fn host(&self, name: &str, address: &str) {
        let hello = json!({
            "uuid": format!("uuid-of-{name}"), "name": name, "tunnel_address": address,
            "physical": [{"network": "physnet1", "interface": "eth1"}], "lacks": [], "driver": "fake",
        });
        self.network.handle("hello", hello).await.unwrap();
    }

    pub async fn desired(&self, host: &str) -> contract::network::Desired {
        let body = self.network.handle("desired", json!({"host": host})).await.unwrap();
        serde_json::from_value(body).unwrap()
    }

    pub async fn report(&self, host: &str, report: contract::network::Report) {
        self.network.handle("report", json!({"host": host, "report": report})).await.unwrap();
    }

    /// The names of the events that compute hears now, sorted.
    pub async fn events(&self) -> Vec<String> {
        let peer = self.peer();
        while network::events::deliver(&self.network, &peer).await.unwrap() > 0 {}
        let heard = std::mem::take(&mut *self.compute.heard.lock().unwrap());
        let mut names: Vec<String> = heard.iter().map(|event| text(&event["name"])).collect();
        names.sort();
        names
    }

    pub fn peer(&self) -> Peer {
        let login = Login {
            username: "network".into(),
            password: api::Secret("x".into()),
            user_domain: "Default".into(),
            project: "services".into(),
            project_domain: "Default".into(),
        };
        let account = Arc::new(Account::new(Arc::new(Door), Arc::new(People::new()), login));
        Peer::local("compute", self.compute.clone(), account)
    }
}

#[derive(Clone, Copy)]
pub struct Person<'a> {
    cloud: &'a Cloud,
    token: &'a str,
}

#[derive(Debug)]
pub struct Got {
    pub status: u16,
    pub body: Json,
    pub raw: String,
}

impl Person<'_> {
    pub async fn send(
        &self,
        method: Method,
        target: &str,
        body: Option<Json>,
        header: Option<(&'static str, &str)>,
    ) -> Got {
        let mut request = Request::new(method, &format!("/v2.0{target}")).header("x-auth-token", self.token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        let reply = self.cloud.app.call(request).await;
        let status = reply.status.as_u16();
        let bytes = reply.content.bytes(1 << 30).await.unwrap();
        let raw = String::from_utf8_lossy(&bytes).into_owned();
        Got { status, body: serde_json::from_slice(&bytes).unwrap_or_default(), raw }
    }

    pub async fn get(&self, target: &str) -> Got {
        self.send(Method::GET, target, None, None).await
    }

    pub async fn post(&self, target: &str, body: Json) -> Got {
        self.send(Method::POST, target, Some(body), None).await
    }

    pub async fn put(&self, target: &str, body: Json) -> Got {
        self.send(Method::PUT, target, Some(body), None).await
    }

    pub async fn delete(&self, target: &str) -> Got {
        self.send(Method::DELETE, target, None, None).await
    }

    pub async fn network(&self, body: Json) -> Json {
        self.post("/networks", json!({"network": body})).await.ok(201)["network"].clone()
    }

    /// A network with one IPv4 subnet; their ids.
    pub async fn joined(&self, cidr: &str) -> (String, String) {
        let network = text(&self.network(json!({"name": "net"})).await["id"]);
        let subnet = self.subnet(json!({"network_id": network, "ip_version": 4, "cidr": cidr})).await;
        (network, text(&subnet["id"]))
    }

    pub async fn subnet(&self, body: Json) -> Json {
        self.post("/subnets", json!({"subnet": body})).await.ok(201)["subnet"].clone()
    }

    pub async fn port(&self, body: Json) -> Json {
        self.post("/ports", json!({"port": body})).await.ok(201)["port"].clone()
    }

    pub async fn router(&self, body: Json) -> Json {
        self.post("/routers", json!({"router": body})).await.ok(201)["router"].clone()
    }

    /// An external network with a subnet; its id.
    pub async fn external(&self) -> String {
        let body = json!({
            "name": "provider", "router:external": true, "provider:network_type": "flat",
            "provider:physical_network": "physnet1",
        });
        let id = text(&self.network(body).await["id"]);
        let pool = json!([{"start": "203.0.113.101", "end": "203.0.113.250"}]);
        let body = json!({
            "network_id": id, "ip_version": 4, "cidr": "203.0.113.0/24", "allocation_pools": pool, "enable_dhcp": false,
        });
        self.subnet(body).await;
        id
    }

    /// The values of `key` in a list, in its order.
    pub async fn list(&self, target: &str, key: &str) -> Vec<String> {
        let body = self.get(target).await.ok(200);
        let items = body.as_object().unwrap().values().find_map(Json::as_array).unwrap().clone();
        items.iter().map(|item| text(&item[key])).collect()
    }
}

impl Got {
    #[track_caller]
    pub fn ok(&self, status: u16) -> Json {
        assert_eq!(self.status, status, "{}", self.raw);
        self.body.clone()
    }

    /// The type of a refusal.
    #[track_caller]
    pub fn refused(&self, status: u16) -> String {
        text(&self.ok(status)["NeutronError"]["type"])
    }

    /// The words of a refusal.
    #[track_caller]
    pub fn words(&self, status: u16) -> String {
        text(&self.ok(status)["NeutronError"]["message"])
    }
}

#[track_caller]
pub fn text(value: &Json) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_string()
}
