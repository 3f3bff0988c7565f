//! Two hosts, a server on each.

use std::time::{Duration, Instant};

use api::{Json, json};
use nix::fcntl::{Flock, FlockArg};

use crate::admin::Admin;
use crate::cloud::{Cloud, PASSWORD};
use crate::console::Console;

/// Limit: until hosts have removed what has been deleted.
const REMOVED: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn servers_on_two_hosts_reach_each_other_as_far_as_their_security_group_allows() {
    if std::env::var("FERROSTACK_HOST_TESTS").as_deref() != Ok("1") {
        eprintln!("skipped: FERROSTACK_HOST_TESTS is not 1");
        return;
    }
    let _boots = may_boot();
    let mut cloud = Cloud::start(2);
    let admin = Admin::log_in(cloud.offset, PASSWORD).await;
    admin.make_services(PASSWORD).await;
    cloud.start_agents(2);
    let up = |body: &Json| body["hypervisors"].as_array().is_some_and(|hosts| hosts.len() == 2);
    admin.until("compute", "/v2.1/os-hypervisors", up).await;

    let network = admin.make("network", "/v2.0/networks", "network", json!({"name": "between"})).await;
    let subnet = json!({"network_id": network, "ip_version": 4, "cidr": "10.7.0.0/24"});
    admin.make("network", "/v2.0/subnets", "subnet", subnet).await;
    let group = admin.make("network", "/v2.0/security-groups", "security_group", json!({"name": "ping"})).await;
    let rule = json!({"security_group_id": group, "direction": "ingress", "protocol": "icmp"});
    let rule = admin.make("network", "/v2.0/security-group-rules", "security_group_rule", rule).await;

    let [one, other] = servers(&admin, &network).await;
    let mut console = Console::log_in(&cloud.serial(0, &one.id)).await;
    let ask = "wget -q -O - http://169.254.169.254/latest/meta-data/instance-id";
    assert!(console.succeeds(ask).await, "the metadata service of the controllers is reached from a host");
    // The other guest may still be booting.
    let ping = format!("ping -c 1 -W 3 {}", other.address);
    let asked_often = format!("for i in $(seq 20); do {ping} && break; sleep 1; done; {ping}");
    assert!(console.succeeds(&asked_often).await, "the servers reach each other over the tunnel");

    admin.delete("network", &format!("/v2.0/security-group-rules/{rule}")).await;
    let blocked = format!("for i in $(seq 10); do {ping} || break; sleep 1; done; {ping}");
    assert!(!console.succeeds(&blocked).await, "without the rule they do not");

    for server in [&one, &other] {
        admin.delete("compute", &format!("/v2.1/servers/{}", server.id)).await;
    }
    let none = |body: &Json| body["servers"].as_array().is_some_and(Vec::is_empty);
    admin.until("compute", "/v2.1/servers", none).await;
    admin.delete("network", &format!("/v2.0/networks/{network}")).await;
    let deleted = Instant::now();
    while !cloud.site.left().is_empty() {
        assert!(deleted.elapsed() < REMOVED, "left on the hosts: {:?}", cloud.site.left());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

struct Server {
    id: String,
    address: String,
}

/// A server on each host.
async fn servers(admin: &Admin, network: &str) -> [Server; 2] {
    let image = admin.upload(&std::env::var("FERROSTACK_GUEST_IMAGE").unwrap()).await;
    let flavor = json!({"name": "nano", "vcpus": 1, "ram": 128, "disk": 1});
    let flavor = admin.make("compute", "/v2.1/flavors", "flavor", flavor).await;
    let mut ids = Vec::new();
    for host in ["host1", "host2"] {
        let new = json!({
            "name": host, "imageRef": image, "flavorRef": flavor, "availability_zone": format!("nova:{host}"),
            "networks": [{"uuid": network}], "security_groups": [{"name": "ping"}],
        });
        ids.push(admin.make("compute", "/v2.1/servers", "server", new).await);
    }
    let mut servers = Vec::new();
    for id in ids {
        let settled = |body: &Json| matches!(body["server"]["status"].as_str(), Some("ACTIVE" | "ERROR"));
        let body = admin.until("compute", &format!("/v2.1/servers/{id}"), settled).await;
        assert_eq!(body["server"]["status"], "ACTIVE", "{}", body["server"]["fault"]);
        let address = body["server"]["addresses"]["between"][0]["addr"].as_str().unwrap().to_string();
        servers.push(Server { id, address });
    }
    servers.try_into().unwrap_or_else(|_| panic!("two were asked for"))
}

/// Few guests may boot at once on one machine, whoever runs the tests.
fn may_boot() -> Flock<std::fs::File> {
    let file = std::fs::File::options().create(true).append(true).open("/tmp/boot.lock").unwrap();
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error).unwrap()
}
