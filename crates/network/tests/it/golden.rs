//! The shapes that a real cloud was recorded with, key by key: `tests/it/golden.tsv` has one answer a line.

use std::collections::BTreeMap;

use api::{Json, json};

use crate::cloud::{Cloud, Got, text};

fn recorded() -> BTreeMap<&'static str, (u16, Vec<&'static str>)> {
    let lines = include_str!("golden.tsv").lines().filter(|line| !line.starts_with('#'));
    let row = |line: &'static str| {
        let [name, status, keys] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
        (name, (status.parse().unwrap(), keys.split(',').collect()))
    };
    lines.map(row).collect()
}

fn compare(name: &str, got: &Got, path: &str) {
    let (status, keys) = recorded()[name].clone();
    let body = got.ok(status);
    let part = if path.is_empty() { &body } else { body.pointer(path).unwrap_or_else(|| panic!("{name}: {body}")) };
    let found: Vec<&str> = part.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(found, keys, "{name}");
}

#[tokio::test]
async fn every_resource_has_the_keys_that_clients_know() {
    let cloud = Cloud::new().await;
    let (admin, alice) = (cloud.by("admin"), cloud.by("alice"));
    let provider = json!({"network": {
        "name": "provider", "router:external": true, "shared": true, "provider:physical_network": "physnet1",
        "provider:network_type": "flat",
    }});
    let provider = admin.post("/networks", provider).await;
    compare("network", &provider, "/network");
    assert_eq!(provider.body["network"]["revision_number"], 1);
    let outside = text(&provider.body["network"]["id"]);
    let subnet = json!({"subnet": {"network_id": outside, "ip_version": 4, "cidr": "203.0.113.0/24"}});
    compare("subnet", &admin.post("/subnets", subnet).await, "/subnet");
    compare("network of a member", &alice.post("/networks", json!({"network": {"name": "n"}})).await, "/network");
    compare("network in a list", &admin.get("/networks?name=n").await, "/networks/0");
    let (network, subnet) = admin.joined("172.16.1.0/24").await;
    let own = text(&alice.network(json!({})).await["id"]);
    let body = json!({"subnet": {"network_id": own, "ip_version": 4, "cidr": "10.77.0.0/24"}});
    compare("subnet of a member", &alice.post("/subnets", body).await, "/subnet");
    compare("port of a member", &alice.post("/ports", json!({"port": {"network_id": own}})).await, "/port");

    let pool = json!({"subnetpool": {"name": "pool1", "prefixes": ["10.100.0.0/16"]}});
    compare("subnetpool", &admin.post("/subnetpools", pool).await, "/subnetpool");
    let scope = json!({"address_scope": {"name": "as1", "ip_version": 4}});
    compare("address scope", &admin.post("/address-scopes", scope).await, "/address_scope");
    let router = admin.post("/routers", json!({"router": {"name": "router"}})).await;
    compare("router", &router, "/router");
    let at = format!("/routers/{}", text(&router.body["router"]["id"]));
    let joined = admin.put(&format!("{at}/add_router_interface"), json!({"subnet_id": subnet})).await;
    compare("interface", &joined, "");
    let gateway = json!({"router": {"external_gateway_info": {"network_id": outside}}});
    compare("gateway", &admin.put(&at, gateway).await, "/router/external_gateway_info");

    let group = admin.post("/security-groups", json!({"security_group": {"name": "web"}})).await;
    compare("security group", &group, "/security_group");
    compare("rule inside", &group, "/security_group/security_group_rules/0");
    let rule = json!({"security_group_id": group.body["security_group"]["id"], "direction": "ingress"});
    let rule = admin.post("/security-group-rules", json!({"security_group_rule": rule})).await;
    compare("rule", &rule, "/security_group_rule");
    let port = admin.post("/ports", json!({"port": {"network_id": network, "name": "p1"}})).await;
    compare("port", &port, "/port");
    let floating = admin.post("/floatingips", json!({"floatingip": {"floating_network_id": outside}})).await;
    compare("floating ip", &floating, "/floatingip");
    let at = format!("/floatingips/{}", text(&floating.body["floatingip"]["id"]));
    let join = json!({"floatingip": {"port_id": port.body["port"]["id"]}});
    compare("port details", &admin.put(&at, join).await, "/floatingip/port_details");
    let policy = json!({"rbac_policy": {
        "action": "access_as_shared", "object_id": network, "object_type": "network", "target_tenant": "blue",
    }});
    compare("rbac policy", &admin.post("/rbac-policies", policy).await, "/rbac_policy");
    compare("availability", &admin.get("/network-ip-availabilities").await, "/network_ip_availabilities/0");
    compare("segment", &admin.get("/segments").await, "/segments/0");
    compare("quota", &admin.get("/quotas/admins").await, "/quota");
    compare("extension", &admin.get("/extensions/router").await, "/extension");
    compare("service provider", &admin.get("/service-providers").await, "/service_providers/0");
}

#[tokio::test]
async fn every_listed_extension_is_one_that_upstream_has() {
    let cloud = Cloud::new().await;
    let body = cloud.by("alice").get("/extensions").await.ok(200);
    let aliases: Vec<String> =
        body["extensions"].as_array().unwrap().iter().map(|entry| text(&entry["alias"])).collect();
    assert!(aliases.len() > 60);
    for alias in ["binding", "security-group", "router", "quotas", "standard-attr-tag"] {
        assert!(aliases.iter().any(|known| known == alias), "{alias}");
    }
    let unlike: Vec<&Json> =
        body["extensions"].as_array().unwrap().iter().filter(|entry| entry["updated"] == "").collect();
    assert!(unlike.is_empty());
}
