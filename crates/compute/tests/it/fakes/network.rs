//! Networks, subnets, ports, security groups and floating addresses, with an agent that wires what it is told to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};

use api::message::BoxFuture;
use api::{Endpoint, Json, Method, Query, Reply, Request, json};

use super::{body, missing};

/// The network `private` of project `blue`, with an IPv4 subnet that has DHCP.
pub const PRIVATE: &str = "32e2fb1a-cc82-42cf-b6c6-97dfa8d476ba";
pub const SUBNET: &str = "8ce78cf3-5779-4008-9e50-0f0c93884fbe";
/// The default group of project `blue`, and another.
pub const DEFAULT: &str = "1cf92905-c127-43b4-9a1a-63d21aa5af91";
pub const WEB: &str = "7cf92905-c127-43b4-9a1a-63d21aa5af92";

const KINDS: &[(&str, &str)] = &[
    ("networks", "network"),
    ("subnets", "subnet"),
    ("ports", "port"),
    ("security-groups", "security_group"),
    ("floatingips", "floatingip"),
];

#[derive(Default)]
pub struct FakeNetwork {
    inside: Mutex<Inside>,
    /// Weak: compute holds on to its network.
    compute: OnceLock<Weak<dyn Endpoint>>,
}

#[derive(Default)]
struct Inside {
    rows: BTreeMap<&'static str, BTreeMap<String, Json>>,
    last: u32,
    refuse_ports: Option<String>,
    deaf: bool,
}

impl FakeNetwork {
    pub fn new() -> Arc<FakeNetwork> {
        let network = FakeNetwork::default();
        network.put(
            "networks",
            PRIVATE,
            json!({
                "name": "private", "project_id": "blue", "mtu": 1450, "subnets": [SUBNET], "shared": false,
                "router:external": false,
            }),
        );
        network.put(
            "subnets",
            SUBNET,
            json!({
                "ip_version": 4, "cidr": "10.0.0.0/24", "gateway_ip": "10.0.0.1", "dns_nameservers": ["9.9.9.9"],
                "host_routes": [], "enable_dhcp": true, "ipv6_address_mode": null, "network_id": PRIVATE,
            }),
        );
        for (id, name) in [(DEFAULT, "default"), (WEB, "web")] {
            network.put("security-groups", id, json!({
                "name": name, "description": name, "project_id": "blue", "tenant_id": "blue", "security_group_rules": [],
            }));
        }
        Arc::new(network)
    }

    /// Whom to tell about ports.
    pub fn tell(&self, compute: Arc<dyn Endpoint>) {
        let _ = self.compute.set(Arc::downgrade(&compute));
    }

    /// The one port that there is.
    pub fn only_port(&self) -> String {
        let inside = self.inside();
        let ports = &inside.rows["ports"];
        assert_eq!(ports.len(), 1);
        ports.keys().next().cloned().unwrap()
    }

    pub fn drop_port(&self, id: &str) {
        self.inside().rows.get_mut("ports").unwrap().remove(id);
    }

    /// The next ports are refused with this sentence.
    pub fn refuse_ports(&self, why: Option<&str>) {
        self.inside().refuse_ports = why.map(String::from);
    }

    pub fn start_wiring(&self) {
        self.inside().deaf = false;
    }

    /// Nothing is wired any more.
    pub fn stop_wiring(&self) {
        self.inside().deaf = true;
    }

    pub fn put(&self, kind: &'static str, id: &str, mut row: Json) {
        row["id"] = json!(id);
        self.inside().rows.entry(kind).or_default().insert(id.to_string(), row);
    }

    pub fn row(&self, kind: &'static str, id: &str) -> Option<Json> {
        self.inside().rows.get(kind)?.get(id).cloned()
    }

    /// A port that nobody uses yet; returns its id.
    pub fn free_port(&self) -> String {
        let made = self.inside().make_port(json!({"network_id": PRIVATE, "project_id": "blue"}));
        made["id"].as_str().unwrap().to_string()
    }

    pub fn ports_of_servers(&self) -> Vec<String> {
        let inside = self.inside();
        let ports = inside.rows.get("ports").into_iter().flat_map(BTreeMap::values);
        let used = ports.filter(|port| port["device_id"] != "");
        used.map(|port| format!("port {} of {}", port["id"], port["device_id"])).collect()
    }

    /// The agent has seen the tap of each port: they are wired, and compute is told.
    pub async fn wire(&self, ports: &[String]) {
        for id in ports {
            let server = {
                let mut inside = self.inside();
                if inside.deaf {
                    return;
                }
                let Some(port) = inside.rows.entry("ports").or_default().get_mut(id) else { continue };
                if port["status"] == "ACTIVE" {
                    continue;
                }
                port["status"] = json!("ACTIVE");
                port["device_id"].as_str().unwrap_or_default().to_string()
            };
            self.event(&server, "network-vif-plugged", id).await;
        }
    }

    pub async fn event(&self, server: &str, name: &str, port: &str) {
        let Some(compute) = self.compute.get().and_then(Weak::upgrade) else { return };
        let body = json!({"events": [{"name": name, "server_uuid": server, "tag": port}]});
        let request = Request::new(Method::POST, "/v2.1/os-server-external-events").json(&body);
        let reply = compute.call(request.header("x-auth-token", "nova")).await;
        assert!(matches!(reply.status.as_u16(), 200 | 207), "{}", reply.status);
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap()
    }
}

impl Inside {
    fn make_port(&mut self, mut port: Json) -> Json {
        self.last += 1;
        let number = self.last;
        let id = base::id::uuid();
        port["id"] = json!(id);
        for (key, value) in
            [("device_id", json!("")), ("device_owner", json!("")), ("security_groups", json!([DEFAULT]))]
        {
            if port[key].is_null() {
                port[key] = value;
            }
        }
        let asked = port["fixed_ips"][0]["ip_address"].as_str().map(String::from);
        let ip = asked.unwrap_or_else(|| format!("10.0.0.{}", number + 10));
        port["fixed_ips"] = json!([{"subnet_id": SUBNET, "ip_address": ip}]);
        port["mac_address"] = json!(format!("fa:16:3e:00:00:{number:02x}"));
        port["status"] = json!("DOWN");
        port["admin_state_up"] = json!(true);
        port["created_at"] = json!(format!("2026-01-01T00:00:{number:02}Z"));
        let bound = port["binding:host_id"].as_str().is_some_and(|host| !host.is_empty());
        port["binding:vif_type"] = json!(if bound { "bridge" } else { "unbound" });
        self.rows.entry("ports").or_default().insert(id, port.clone());
        port
    }

    fn answer(&mut self, method: &str, path: &str, query: &Query, sent: Json) -> Reply {
        let parts: Vec<&str> = path.trim_start_matches("/v2.0/").split('/').collect();
        let Some((kind, one)) = KINDS.iter().copied().find(|(kind, _)| *kind == parts[0]) else {
            panic!("the fake network does not know {method} {path}");
        };
        let many = kind.replace('-', "_");
        let rows = self.rows.entry(kind).or_default();
        match (method, parts.get(1).copied()) {
            ("GET", None) => {
                let fits = |row: &&Json| query.0.iter().all(|(key, _)| key == "fields" || matches(row, key, query));
                let found: Vec<&Json> = rows.values().filter(fits).collect();
                Reply::json(200, &json!({many: found}))
            }
            ("POST", None) => match self.refuse_ports.clone() {
                Some(why) => Reply::json(409, &json!({"NeutronError": {"message": why}})),
                None => {
                    let made = self.make_port(sent[one].clone());
                    Reply::json(201, &json!({one: made}))
                }
            },
            (_, Some(id)) if !rows.contains_key(id) => missing(one),
            ("GET", Some(id)) => Reply::json(200, &json!({one: rows[id]})),
            ("DELETE", Some(id)) => {
                rows.remove(id);
                Reply::new(204)
            }
            (_, Some(id)) => {
                let row = rows.get_mut(id).unwrap();
                for (key, value) in sent[one].as_object().unwrap() {
                    row[key] = value.clone();
                }
                if row["binding:host_id"] == "" {
                    row["status"] = json!("DOWN");
                }
                Reply::json(200, &json!({one: row}))
            }
            _ => panic!("the fake network does not know {method} {path}"),
        }
    }
}

/// Whether a row has one of the values that the query has for `key`.
fn matches(row: &Json, key: &str, query: &Query) -> bool {
    query.all(key).any(|wanted| match &row[key] {
        Json::String(text) => text == wanted,
        Json::Bool(flag) => flag.to_string() == wanted,
        _ => false,
    })
}

impl Endpoint for FakeNetwork {
    fn call(&self, request: Request) -> BoxFuture<'_, Reply> {
        Box::pin(async move {
            let (method, path) = (request.method.to_string(), request.path.clone());
            let query = Query::parse(&request.query);
            let sent = body(request).await;
            self.inside().answer(&method, &path, &query, sent)
        })
    }
}
