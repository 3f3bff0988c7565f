//! Routers, their interfaces and gateways, and floating IPs.

use api::json;

use crate::cloud::{Cloud, text};

#[tokio::test]
async fn a_router_joins_subnets() {
    let cloud = Cloud::new().await;
    let alice = cloud.by("alice");
    let router = alice.router(json!({"name": "r"})).await;
    assert_eq!(router["revision_number"], 1);
    assert!(router.get("ha").is_none(), "only administrators see it");
    let id = text(&router["id"]);
    let (network, subnet) = alice.joined("172.16.1.0/24").await;
    let add = format!("/routers/{id}/add_router_interface");
    let joined = alice.put(&add, json!({"subnet_id": subnet})).await.ok(200);
    assert_eq!(joined["network_id"], network);
    let port = alice.get(&format!("/ports/{}", text(&joined["port_id"]))).await.ok(200)["port"].clone();
    assert_eq!(port["fixed_ips"][0]["ip_address"], "172.16.1.1");
    assert_eq!(port["device_owner"], "network:router_interface");
    let twice = alice.put(&add, json!({"subnet_id": subnet})).await.words(400);
    assert_eq!(twice, format!("Bad router request: Router already has a port on subnet {subnet}."));
    let (_, other) = alice.joined("172.16.1.0/25").await;
    assert!(alice.put(&add, json!({"subnet_id": other})).await.words(400).contains("overlaps with cidr"));
    assert_eq!(alice.delete(&format!("/routers/{id}")).await.refused(409), "RouterInUse");
    let at = format!("/ports/{}", text(&joined["port_id"]));
    assert_eq!(alice.delete(&at).await.refused(409), "ServicePortInUse");
    let leave = format!("/routers/{id}/remove_router_interface");
    assert_eq!(alice.put(&leave, json!({"subnet_id": other})).await.refused(404), "RouterInterfaceNotFoundForSubnet");
    alice.put(&leave, json!({"subnet_id": subnet})).await.ok(200);
    alice.delete(&format!("/routers/{id}")).await.ok(204);
    assert!(alice.list("/ports", "id").await.is_empty());
}

#[tokio::test]
async fn a_port_of_ones_own_becomes_an_interface() {
    let cloud = Cloud::new().await;
    let alice = cloud.by("alice");
    let id = text(&alice.router(json!({})).await["id"]);
    let (network, subnet) = alice.joined("10.0.0.0/24").await;
    let port = text(&alice.port(json!({"network_id": network})).await["id"]);
    let add = format!("/routers/{id}/add_router_interface");
    assert_eq!(alice.put(&add, json!({})).await.refused(400), "BadRequest");
    let both = json!({"port_id": port, "subnet_id": subnet});
    assert!(alice.put(&add, both).await.words(400).contains("Cannot specify both"));
    alice.put(&add, json!({"port_id": port})).await.ok(200);
    assert_eq!(alice.put(&add, json!({"port_id": port})).await.refused(409), "PortInUse");
    let leave = format!("/routers/{id}/remove_router_interface");
    let gone = alice.put(&leave, json!({"port_id": port})).await.ok(200);
    assert_eq!(gone["subnet_id"], subnet);
    assert_eq!(alice.put(&leave, json!({"port_id": port})).await.refused(404), "RouterInterfaceNotFound");
}

#[tokio::test]
async fn ipv6_subnets_of_a_network_share_one_interface() {
    let cloud = Cloud::new().await;
    let alice = cloud.by("alice");
    let id = text(&alice.router(json!({})).await["id"]);
    let network = text(&alice.network(json!({})).await["id"]);
    let mut ports = Vec::new();
    for cidr in ["fd00:1::/64", "fd00:2::/64"] {
        let subnet = alice.subnet(json!({"network_id": network, "ip_version": 6, "cidr": cidr})).await;
        let body = json!({"subnet_id": subnet["id"]});
        ports.push(alice.put(&format!("/routers/{id}/add_router_interface"), body).await.ok(200)["port_id"].clone());
    }
    assert_eq!(ports[0], ports[1]);
}

#[tokio::test]
async fn a_gateway_leads_out() {
    let cloud = Cloud::new().await;
    let (admin, alice) = (cloud.by("admin"), cloud.by("alice"));
    let outside = admin.external().await;
    let id = text(&alice.router(json!({"external_gateway_info": {"network_id": outside}})).await["id"]);
    let at = format!("/routers/{id}");
    let info = alice.get(&at).await.ok(200)["router"]["external_gateway_info"].clone();
    assert_eq!(info["enable_snat"], true);
    assert!(text(&info["external_fixed_ips"][0]["ip_address"]).starts_with("203.0.113."));
    assert!(alice.list("/ports", "id").await.is_empty(), "the gateway's port is nobody's");
    let snat = json!({"router": {"external_gateway_info": {"network_id": outside, "enable_snat": false}}});
    let words = alice.put(&at, snat.clone()).await.words(403);
    assert!(words.contains("rule:update_router:external_gateway_info:enable_snat"), "{words}");
    let done = admin.put(&at, snat).await.ok(200);
    assert_eq!(done["router"]["external_gateway_info"]["enable_snat"], false);
    let (inside, _) = alice.joined("10.0.0.0/24").await;
    let wrong = json!({"router": {"external_gateway_info": {"network_id": inside}}});
    assert!(alice.put(&at, wrong).await.words(400).contains("is not an external network"));
    let close = json!({"router": {"external_gateway_info": {}}});
    assert!(alice.put(&at, close).await.ok(200)["router"]["external_gateway_info"].is_null());
    alice.delete(&at).await.ok(204);
}

#[tokio::test]
async fn routes_need_a_next_hop_that_is_near() {
    let cloud = Cloud::new().await;
    let alice = cloud.by("alice");
    let id = text(&alice.router(json!({})).await["id"]);
    let (_, subnet) = alice.joined("172.16.1.0/24").await;
    alice.put(&format!("/routers/{id}/add_router_interface"), json!({"subnet_id": subnet})).await.ok(200);
    let at = format!("/routers/{id}");
    let routes = |hop: &str| json!({"router": {"routes": [{"destination": "10.20.0.0/16", "nexthop": hop}]}});
    assert_eq!(alice.put(&at, routes("192.168.0.1")).await.refused(400), "InvalidRoutes");
    assert!(alice.put(&at, routes("172.16.1.1")).await.words(400).contains("the nexthop is used by router"));
    let set = alice.put(&at, routes("172.16.1.9")).await.ok(200);
    assert_eq!(set["router"]["routes"][0]["nexthop"], "172.16.1.9");
    let more = json!({"router": {"routes": [{"destination": "10.30.0.0/16", "nexthop": "172.16.1.9"}]}});
    let added = alice.put(&format!("{at}/add_extraroutes"), more.clone()).await.ok(200);
    assert_eq!(added["router"]["routes"].as_array().unwrap().len(), 2);
    let leave = json!({"subnet_id": subnet});
    let leave = alice.put(&format!("{at}/remove_router_interface"), leave).await;
    assert_eq!(leave.refused(409), "RouterInterfaceInUseByRoute");
    let fewer = alice.put(&format!("{at}/remove_extraroutes"), more).await.ok(200);
    assert_eq!(fewer["router"]["routes"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_floating_ip_is_joined_to_a_port_behind_a_router() {
    let cloud = Cloud::new().await;
    let (admin, alice) = (cloud.by("admin"), cloud.by("alice"));
    let outside = admin.external().await;
    let (network, subnet) = alice.joined("10.0.0.0/24").await;
    let port = alice.port(json!({"network_id": network, "fixed_ips": [{"ip_address": "10.0.0.5"}]})).await;
    let new = json!({"floatingip": {"floating_network_id": outside}});
    let floating = alice.post("/floatingips", new.clone()).await.ok(201)["floatingip"].clone();
    assert_eq!(floating["status"], "DOWN");
    assert_eq!(floating["revision_number"], 0);
    let at = format!("/floatingips/{}", text(&floating["id"]));
    let join = json!({"floatingip": {"port_id": port["id"]}});
    assert_eq!(alice.put(&at, join.clone()).await.refused(404), "ExternalGatewayForFloatingIPNotFound");

    let router = text(&alice.router(json!({"external_gateway_info": {"network_id": outside}})).await["id"]);
    alice.put(&format!("/routers/{router}/add_router_interface"), json!({"subnet_id": subnet})).await.ok(200);
    let joined = alice.put(&at, join).await.ok(200)["floatingip"].clone();
    assert_eq!(joined["router_id"], router);
    assert_eq!(joined["fixed_ip_address"], "10.0.0.5");
    assert_eq!(joined["port_details"]["network_id"], network);
    let second = json!({"floatingip": {"floating_network_id": outside, "port_id": port["id"]}});
    assert_eq!(alice.post("/floatingips", second).await.refused(409), "FloatingIPPortAlreadyAssociated");
    let leave = json!({"subnet_id": subnet});
    let leave = alice.put(&format!("/routers/{router}/remove_router_interface"), leave).await;
    assert_eq!(leave.refused(409), "RouterInterfaceInUseByFloatingIP");
    let close = json!({"router": {"external_gateway_info": {}}});
    assert_eq!(
        alice.put(&format!("/routers/{router}"), close).await.refused(409),
        "RouterExternalGatewayInUseByFloatingIp"
    );

    alice.delete(&format!("/ports/{}", text(&port["id"]))).await.ok(204);
    let alone = alice.get(&at).await.ok(200)["floatingip"].clone();
    assert!(alone["port_id"].is_null() && alone["router_id"].is_null());
    alice.delete(&at).await.ok(204);
    assert!(admin.list("/ports?device_owner=network:floatingip", "id").await.is_empty());
}

#[tokio::test]
async fn floating_ips_follow_upstreams_rules() {
    let cloud = Cloud::new().await;
    let (admin, alice) = (cloud.by("admin"), cloud.by("alice"));
    let outside = admin.external().await;
    let (network, _) = alice.joined("10.0.0.0/24").await;
    let ask = |body: api::Json| async move { alice.post("/floatingips", json!({"floatingip": body})).await };
    assert!(ask(json!({"floating_network_id": network})).await.words(400).contains("not a valid external network"));
    let chosen = json!({"floating_network_id": outside, "floating_ip_address": "203.0.113.150"});
    assert_eq!(ask(chosen.clone()).await.refused(403), "PolicyNotAuthorized");
    let given = admin.post("/floatingips", json!({"floatingip": chosen})).await.ok(201);
    assert_eq!(given["floatingip"]["floating_ip_address"], "203.0.113.150");
    let fixed = json!({"floating_network_id": outside, "fixed_ip_address": "10.0.0.5"});
    assert!(ask(fixed).await.words(400).contains("cannot be specified without a port_id"));
    let gone = json!({"floating_network_id": outside, "port_id": base::id::uuid()});
    assert_eq!(ask(gone).await.refused(404), "PortNotFound");
    let busy = json!({"network": {"router:external": false}});
    assert_eq!(admin.put(&format!("/networks/{outside}"), busy).await.refused(409), "ExternalNetworkInUse");
    admin.delete(&format!("/networks/{outside}")).await.ok(204);
    assert!(admin.list("/floatingips", "id").await.is_empty(), "what is joined to nothing does not hold the network");
}
