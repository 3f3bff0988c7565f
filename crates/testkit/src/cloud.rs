//! The cloud of one test.

use std::collections::BTreeMap;
use std::time::Duration;

use api::{Json, Secret, json};
use base::config::Config;
use bus::Bus;
use clients::Login;
use db::Db;
use engines::{TestBus, TestDb};

use crate::client::Reply;
use crate::controller::Controller;
use crate::host::Host;
use crate::member::Member;

/// Limit: until something that goes on in the background has come about.
const PATIENCE: Duration = Duration::from_secs(60);

/// Every user's password.
pub const PASSWORD: &str = "a long enough secret";

/// What a test asks for.
#[derive(Clone)]
pub struct Plan {
    pub controllers: usize,
    /// The names of the hosts that are there from the beginning.
    pub hosts: Vec<&'static str>,
    /// Options of a service, in the syntax of its configuration file.
    pub config: BTreeMap<&'static str, &'static str>,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan { controllers: 1, hosts: vec!["host-1"], config: BTreeMap::new() }
    }
}

/// All services, their databases and their hosts. What it keeps goes away with it.
pub struct Cloud {
    pub controllers: Vec<Controller>,
    pub hosts: Vec<Host>,
    pub(crate) bus: Bus,
    pub(crate) files: tempfile::TempDir,
    databases: BTreeMap<&'static str, TestDb>,
    config: BTreeMap<&'static str, &'static str>,
    _bus: TestBus,
}

pub(crate) const SERVICES: [&str; 5] = ["identity", "image", "placement", "network", "compute"];
/// The users by which services speak to each other.
const SERVICE_USERS: [&str; 4] = ["glance", "placement", "nova", "neutron"];

impl Cloud {
    /// One controller and one host.
    pub async fn new() -> Cloud {
        Cloud::with(Plan::default()).await
    }

    pub async fn with(plan: Plan) -> Cloud {
        let held = engines::test_bus();
        let bus = match held.url() {
            "fake://" => Bus::local(),
            url => Bus::connect(url).unwrap(),
        };
        let mut cloud = Cloud {
            controllers: Vec::new(),
            hosts: Vec::new(),
            bus,
            files: tempfile::tempdir().unwrap(),
            databases: SERVICES.iter().map(|service| (*service, engines::test_db())).collect(),
            config: plan.config,
            _bus: held,
        };
        for index in 0..plan.controllers {
            let controller = Controller::start(&cloud, &format!("controller-{}", index + 1)).await;
            cloud.controllers.push(controller);
            if index == 0 {
                cloud.furnish().await;
            }
        }
        for name in plan.hosts {
            cloud.add_host(name).await;
        }
        cloud
    }

    /// What `keystone-manage bootstrap` and an operator's first hour give every cloud.
    async fn furnish(&self) {
        let identity = &self.controllers[0].identity;
        let wanted = identity::manage::Bootstrap { password: PASSWORD.into(), ..Default::default() };
        identity::manage::bootstrap(identity, wanted).await.unwrap();
        let admin = self.admin().await;
        let project = admin.make_project("service").await;
        for name in SERVICE_USERS {
            let user = admin.make_user(name).await;
            admin.grant("admin", &project, &user).await;
            admin.grant("service", &project, &user).await;
        }
    }

    /// Another host. Returns when both of its agents have said hello.
    pub async fn add_host(&mut self, name: &str) -> &Host {
        let host = Host::start(self, name);
        self.hosts.push(host);
        let admin = self.admin().await;
        let (compute, network) = (admin.compute(2, 53), admin.network());
        self.until("a host has said hello", async || {
            let known = compute.get("/os-hypervisors").await.ok(200)["hypervisors"].clone();
            let agents = network.get("/agents").await.ok(200)["agents"].clone();
            let has =
                |list: &Json, key: &str| list.as_array().is_some_and(|list| list.iter().any(|row| row[key] == name));
            has(&known, "hypervisor_hostname") && has(&agents, "host")
        })
        .await;
        self.hosts.last().unwrap()
    }

    pub fn host(&self, name: &str) -> &Host {
        self.hosts.iter().find(|host| host.name == name).unwrap()
    }

    /// The administrator, in the project `admin`.
    pub async fn admin(&self) -> Member<'_> {
        Member::log_in(self, "admin", "admin").await
    }

    /// A user with the role `member` in a project of the same name.
    pub async fn member(&self, name: &str) -> Member<'_> {
        self.member_of(name, name, "member").await
    }

    /// A user with a role in a project; both are made when they are not there.
    pub async fn member_of(&self, name: &str, project: &str, role: &str) -> Member<'_> {
        let admin = self.admin().await;
        let user = admin.make_user(name).await;
        let id = admin.make_project(project).await;
        admin.grant(role, &id, &user).await;
        Member::log_in(self, name, project).await
    }

    /// The database of a service, one connection of its own.
    pub fn database(&self, service: &str) -> Db {
        let options = db::Options { connections: 3, ..db::Options::test() };
        Db::open(self.databases[service].url(), options).unwrap()
    }

    pub(crate) fn config(&self, service: &str) -> Config {
        Config::parse(self.config.get(service).copied().unwrap_or_default()).unwrap()
    }

    /// Waits until no flow is left unfinished.
    pub async fn settled(&self) {
        let flows = &self.controllers[0].compute.flows;
        tokio::time::timeout(PATIENCE, flows.settled()).await.expect("flows come to an end").unwrap();
    }

    /// Asks again and again until the answer is yes.
    pub async fn until(&self, what: &str, so: impl AsyncFn() -> bool) {
        let waited = tokio::time::timeout(PATIENCE, async {
            while !so().await {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        waited.await.unwrap_or_else(|_| panic!("waiting until {what}"));
    }

    /// What is left at placement, network and on hosts that belongs to servers, a line each.
    pub async fn leaks(&self) -> Vec<String> {
        let admin = self.admin().await;
        let mut leaks = Vec::new();
        let ports = admin.network().get("/ports?device_owner=compute:nova").await.ok(200);
        leaks.extend(ports["ports"].as_array().unwrap().iter().map(|port| format!("port {}", port["id"])));
        let placement = admin.placement(1, 39);
        let providers = placement.get("/resource_providers").await.ok(200);
        for provider in providers["resource_providers"].as_array().unwrap() {
            let id = provider["uuid"].as_str().unwrap();
            let held = placement.get(&format!("/resource_providers/{id}/allocations")).await.ok(200);
            leaks.extend(
                held["allocations"].as_object().unwrap().keys().map(|consumer| format!("allocation {consumer}")),
            );
        }
        for host in &self.hosts {
            leaks.extend(host.guests().await.into_iter().map(|guest| format!("guest {guest} on {}", host.name)));
        }
        leaks
    }
}

/// How the user of a service logs in.
pub(crate) fn service_login(user: &str) -> Login {
    Login {
        username: user.to_string(),
        password: Secret(PASSWORD.to_string()),
        user_domain: "Default".to_string(),
        project: "service".to_string(),
        project_domain: "Default".to_string(),
    }
}

/// The id of the thing in a reply, which has it under its only key.
pub(crate) fn id_of(reply: Reply, status: u16) -> String {
    let body = reply.ok(status);
    let inner = body.as_object().and_then(|body| body.values().next()).unwrap_or(&json!(null)).clone();
    inner["id"].as_str().or(body["id"].as_str()).unwrap_or_else(|| panic!("{body} has an id")).to_string()
}
