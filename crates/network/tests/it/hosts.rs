//! Hosts: what they are told, what their reports change, what compute hears.

use api::{Json, json};
use contract::network::{Report, Segment};
use network::events;

use crate::cloud::{Cloud, text};

/// A port of a server on a host.
async fn bound(cloud: &Cloud, network: &str, host: &str) -> Json {
    let body = json!({
        "network_id": network, "device_id": base::id::uuid(), "device_owner": "compute:nova", "project_id": "blue",
        "binding:host_id": host,
    });
    cloud.by("service").port(body).await
}

#[tokio::test]
async fn a_port_is_bound_where_its_network_can_be_carried() {
    let cloud = Cloud::new().await;
    cloud.host("h1", "192.0.2.1").await;
    let (network, _) = cloud.by("alice").joined("10.0.0.0/24").await;
    let port = bound(&cloud, &network, "h1").await;
    assert_eq!(port["binding:vif_type"], "bridge");
    assert_eq!(port["binding:vif_details"]["port_filter"], true);
    assert_eq!(bound(&cloud, &network, "nosuch").await["binding:vif_type"], "binding_failed");
    let flat = json!({"provider:network_type": "flat", "provider:physical_network": "physnet9"});
    let flat = text(&cloud.by("admin").network(flat).await["id"]);
    assert_eq!(bound(&cloud, &flat, "h1").await["binding:vif_type"], "binding_failed");
    let at = format!("/ports/{}", text(&port["id"]));
    let away = cloud.by("service").put(&at, json!({"port": {"binding:host_id": ""}})).await.ok(200);
    assert_eq!(away["port"]["binding:vif_type"], "unbound");
}

#[tokio::test]
async fn a_host_is_told_what_it_should_have() {
    let cloud = Cloud::configured("[DEFAULT]\nmetadata_proxy_shared_secret = s\n").await;
    cloud.host("h1", "192.0.2.1").await;
    cloud.host("h2", "192.0.2.2").await;
    let alice = cloud.by("alice");
    let (network, subnet) = alice.joined("10.0.0.0/24").await;
    let before = cloud.desired("h1").await;
    assert!(before.networks.is_empty() && before.ports.is_empty());
    cloud.poked.taken();
    let one = bound(&cloud, &network, "h1").await;
    assert_eq!(cloud.poked.taken(), ["h1"]);
    let two = bound(&cloud, &network, "h2").await;
    assert_eq!(cloud.poked.taken(), ["h1", "h2"], "the first host learns where frames for the second go");

    let desired = cloud.desired("h1").await;
    assert!(desired.generation > before.generation);
    assert_eq!(desired.metadata.unwrap().shared_secret, "s");
    let [port] = &desired.ports[..] else { panic!("one port") };
    assert_eq!(port.tap, format!("tap{}", &port.id[..11]));
    assert_eq!(port.addresses[0].to_string(), text(&one["fixed_ips"][0]["ip_address"]));
    let [net] = &desired.networks[..] else { panic!("one network") };
    assert!(matches!(net.segment, Segment::Vxlan { .. }));
    assert_eq!(net.remote.len(), 1);
    assert_eq!(net.remote[0].mac, text(&two["mac_address"]));
    assert_eq!(net.peers[0].to_string(), "192.0.2.2");
    let dhcp = net.dhcp.as_ref().expect("a guest needs DHCP");
    assert_eq!(dhcp.subnets[0].id, subnet);
    assert_eq!(dhcp.leases.len(), 2);
    let lease = dhcp.leases.iter().find(|lease| lease.port == port.id).unwrap();
    assert_eq!(lease.device_id, text(&one["device_id"]));
    assert_eq!(lease.hostname, format!("host-{}", port.addresses[0].to_string().replace('.', "-")));
    let security = port.security.as_ref().unwrap();
    let group = desired.groups.iter().find(|group| group.id == security.groups[0]).unwrap();
    assert_eq!(group.rules.len(), 4);
    assert_eq!(group.members.len(), 2, "the default group refers to itself");
    assert_eq!(
        alice.get(&format!("/networks/{network}")).await.ok(200)["network"]["availability_zones"],
        json!(["nova"])
    );
}

#[tokio::test]
async fn a_rule_reaches_the_hosts_that_need_it() {
    let cloud = Cloud::new().await;
    cloud.host("h1", "192.0.2.1").await;
    cloud.host("h2", "192.0.2.2").await;
    let alice = cloud.by("alice");
    let (network, _) = alice.joined("10.0.0.0/24").await;
    let port = bound(&cloud, &network, "h1").await;
    let group = text(&port["security_groups"][0]);
    cloud.poked.taken();
    let body = json!({"security_group_rule": {"security_group_id": group, "direction": "ingress", "protocol": "icmp"}});
    alice.post("/security-group-rules", body).await.ok(201);
    assert_eq!(cloud.poked.taken(), ["h1"]);
    let rule = cloud.desired("h1").await.groups.into_iter().flat_map(|group| group.rules);
    assert!(rule.into_iter().any(|rule| rule.protocol == Some(1)));
    alice.network(json!({})).await;
    assert!(cloud.poked.taken().is_empty(), "a network without ports is no host's business");
}

#[tokio::test]
async fn compute_hears_of_a_port_once_it_is_wired() {
    let cloud = Cloud::new().await;
    cloud.host("h1", "192.0.2.1").await;
    let (network, subnet) = cloud.by("alice").joined("10.0.0.0/24").await;
    let id = text(&bound(&cloud, &network, "h1").await["id"]);
    let wired = || Report { wired: vec![id.clone()], ..Report::default() };
    cloud.report("h1", wired()).await;
    assert_eq!(cloud.events().await, ["network-vif-plugged"]);
    let at = format!("/ports/{id}");
    assert_eq!(cloud.by("service").get(&at).await.ok(200)["port"]["status"], "ACTIVE");
    cloud.report("h1", wired()).await;
    assert!(cloud.events().await.is_empty(), "once");
    let more = json!({"port": {"fixed_ips": [{"subnet_id": subnet, "ip_address": "10.0.0.99"}]}});
    cloud.by("service").put(&at, more).await.ok(200);
    assert_eq!(cloud.events().await, ["network-changed"]);
    cloud.report("h1", Report { unwired: vec![id.clone()], ..Report::default() }).await;
    assert_eq!(cloud.events().await, ["network-vif-unplugged"]);
    cloud.by("service").delete(&at).await.ok(204);
    assert_eq!(cloud.events().await, ["network-vif-deleted"]);
}

#[tokio::test]
async fn events_wait_until_compute_is_there() {
    let cloud = Cloud::new().await;
    cloud.host("h1", "192.0.2.1").await;
    let (network, _) = cloud.by("alice").joined("10.0.0.0/24").await;
    let id = text(&bound(&cloud, &network, "h1").await["id"]);
    cloud.compute.down.store(true, std::sync::atomic::Ordering::SeqCst);
    cloud.report("h1", Report { wired: vec![id], ..Report::default() }).await;
    assert!(events::deliver(&cloud.network, &cloud.peer()).await.is_err());
    cloud.compute.down.store(false, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(cloud.events().await, ["network-vif-plugged"]);
}

#[tokio::test]
async fn a_router_comes_to_a_host_and_a_floating_ip_becomes_active_there() {
    let cloud = Cloud::new().await;
    let (admin, alice) = (cloud.by("admin"), cloud.by("alice"));
    let outside = admin.external().await;
    let (network, subnet) = alice.joined("10.0.0.0/24").await;
    let router = text(&alice.router(json!({"external_gateway_info": {"network_id": outside}})).await["id"]);
    alice.put(&format!("/routers/{router}/add_router_interface"), json!({"subnet_id": subnet})).await.ok(200);
    cloud.host("h1", "192.0.2.1").await;
    let port = bound(&cloud, &network, "h1").await;
    let body = json!({"floatingip": {"floating_network_id": outside, "port_id": port["id"]}});
    let floating = alice.post("/floatingips", body).await.ok(201)["floatingip"].clone();
    assert_eq!(cloud.events().await, ["network-changed"]);

    let desired = cloud.desired("h1").await;
    let [own] = &desired.routers[..] else { panic!("the router came to the host that said hello") };
    assert_eq!(own.interfaces[0].addresses[0].to_string(), "10.0.0.1/24");
    let gateway = own.gateway.as_ref().unwrap();
    assert!(gateway.snat);
    assert_eq!(gateway.next_hops[0].to_string(), "203.0.113.1");
    assert_eq!(own.floating[0].floating.to_string(), text(&floating["floating_ip_address"]));
    assert!(
        desired.networks.iter().any(|net| matches!(&net.segment, Segment::Flat { physical } if physical == "physnet1"))
    );

    let at = format!("/floatingips/{}", text(&floating["id"]));
    let status = || async { text(&alice.get(&at).await.ok(200)["floatingip"]["status"]) };
    let applied = |generation| Report { generation, routers: vec![router.clone()], ..Report::default() };
    cloud.report("h1", applied(1)).await;
    assert_eq!(status().await, "DOWN", "the host has not come that far");
    cloud.report("h1", applied(desired.generation)).await;
    assert_eq!(status().await, "ACTIVE");
    let ports = admin.list(&format!("/ports?device_id={router}"), "status").await;
    assert_eq!(ports, ["ACTIVE", "ACTIVE"]);
    alice.put(&at, json!({"floatingip": {"port_id": null}})).await.ok(200);
    assert_eq!(status().await, "DOWN");
    assert!(cloud.desired("h1").await.routers[0].floating.is_empty());
}

#[tokio::test]
async fn a_gateway_waits_until_its_host_is_joined_to_the_network() {
    let cloud = Cloud::new().await;
    let (admin, alice) = (cloud.by("admin"), cloud.by("alice"));
    let hello = |physical: Json| {
        json!({
            "uuid": "u1", "name": "h1", "tunnel_address": "192.0.2.1", "physical": physical, "lacks": [], "driver": "fake",
        })
    };
    cloud.network.handle("hello", hello(json!([]))).await.unwrap();
    let outside = admin.external().await;
    let (_, subnet) = alice.joined("10.0.0.0/24").await;
    let router = text(&alice.router(json!({})).await["id"]);
    alice.put(&format!("/routers/{router}/add_router_interface"), json!({"subnet_id": subnet})).await.ok(200);
    let gateway = json!({"router": {"external_gateway_info": {"network_id": outside}}});
    alice.put(&format!("/routers/{router}"), gateway).await.ok(200);
    let owned = format!("/ports?device_id={router}&device_owner=network:router_gateway");
    assert_eq!(admin.list(&owned, "binding:vif_type").await, ["binding_failed"]);
    let joined = json!([{"network": "physnet1", "interface": "eth1"}]);
    cloud.network.handle("hello", hello(joined)).await.unwrap();
    assert_eq!(admin.list(&owned, "binding:vif_type").await, ["bridge"]);
}

#[tokio::test]
async fn a_router_that_is_switched_off_is_wired_all_the_same() {
    let cloud = Cloud::new().await;
    cloud.host("h1", "192.0.2.1").await;
    let alice = cloud.by("alice");
    let (_, subnet) = alice.joined("10.0.0.0/24").await;
    let router = text(&alice.router(json!({"admin_state_up": false})).await["id"]);
    alice.put(&format!("/routers/{router}/add_router_interface"), json!({"subnet_id": subnet})).await.ok(200);
    assert_eq!(alice.list(&format!("/ports?device_id={router}"), "status").await, ["DOWN"]);
    cloud.report("h1", Report::default()).await;
    assert_eq!(alice.list(&format!("/ports?device_id={router}"), "status").await, ["ACTIVE"]);
}

#[tokio::test]
async fn hosts_show_as_the_agents_that_guides_know() {
    let cloud = Cloud::new().await;
    cloud.host("h1", "192.0.2.1").await;
    cloud.host("h1", "192.0.2.1").await;
    let admin = cloud.by("admin");
    let mut types = admin.list("/agents?host=h1", "agent_type").await;
    types.sort();
    assert_eq!(types, ["DHCP agent", "L3 agent", "Linux bridge agent", "Metadata agent"]);
    let agent = admin.get("/agents?agent_type=L3%20agent").await.ok(200)["agents"][0].clone();
    assert_eq!((agent["alive"].clone(), agent["binary"].clone()), (json!(true), json!("neutron-l3-agent")));
    let at = format!("/agents/{}", text(&agent["id"]));
    let off = json!({"agent": {"admin_state_up": false, "description": "broken"}});
    assert_eq!(admin.put(&at, off).await.ok(200)["agent"]["description"], "broken");
    assert!(cloud.by("alice").list("/agents", "id").await.is_empty());
    let zones = cloud.by("alice").get("/availability_zones").await.ok(200)["availability_zones"].clone();
    assert_eq!(zones, json!([{"name": "nova", "resource": "network", "state": "available"}]));
    admin.delete(&at).await.ok(204);
    assert_eq!(admin.get(&at).await.refused(404), "AgentNotFound");
    let twin = json!({
        "uuid": "other", "name": "h1", "tunnel_address": "192.0.2.9", "physical": [], "lacks": [], "driver": "fake",
    });
    assert_eq!(cloud.network.handle("hello", twin).await.unwrap_err().code, "host_taken");
    let stranger = cloud.network.handle("desired", json!({"host": "h9"})).await.unwrap_err();
    assert_eq!(stranger.code, "unknown_host");
}

#[tokio::test]
async fn dhcp_follows_the_subnets() {
    let cloud = Cloud::new().await;
    cloud.host("h1", "192.0.2.1").await;
    let (admin, alice) = (cloud.by("admin"), cloud.by("alice"));
    let (network, subnet) = alice.joined("10.0.0.0/24").await;
    let port = bound(&cloud, &network, "h1").await;
    let owned = format!("/ports?device_owner=network:dhcp&network_id={network}");
    let addresses = || async {
        let body = admin.get(&owned).await.ok(200);
        body["ports"][0]["fixed_ips"].as_array().map_or(0, Vec::len)
    };
    assert_eq!(addresses().await, 1);
    let more = json!({"network_id": network, "ip_version": 4, "cidr": "10.1.0.0/24"});
    let more = text(&alice.subnet(more).await["id"]);
    assert_eq!(addresses().await, 2);
    alice.delete(&format!("/subnets/{more}")).await.ok(204);
    assert_eq!(addresses().await, 1);
    alice.put(&format!("/subnets/{subnet}"), json!({"subnet": {"enable_dhcp": false}})).await.ok(200);
    assert_eq!(addresses().await, 0);
    alice.put(&format!("/subnets/{subnet}"), json!({"subnet": {"enable_dhcp": true}})).await.ok(200);
    cloud.by("service").delete(&format!("/ports/{}", text(&port["id"]))).await.ok(204);
    alice.delete(&format!("/networks/{network}")).await.ok(204);
    assert!(admin.list("/ports", "id").await.is_empty(), "the service's own ports go with the network");
}
