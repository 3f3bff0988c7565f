//! `network_data.json`: how a guest without DHCP sets up its network.

use api::{Json, json};
use ipnet::IpNet;

use crate::orders;
use crate::servers::store::Server;

pub(super) fn document(server: &Server) -> Json {
    let (mut links, mut networks, mut services) = (Vec::new(), Vec::new(), Vec::new());
    for port in server.network_info.as_array().into_iter().flatten() {
        let subnets = used_subnets(port);
        if subnets.is_empty() {
            continue;
        }
        let id = orders::tap(port["port_id"].as_str().unwrap_or_default());
        links.push(link(port, &id, &subnets));
        for (subnet, address) in &subnets {
            let number = networks.len();
            networks.push(network(port, &id, subnet, address, number));
            for service in dns(subnet) {
                if !services.contains(&service) {
                    services.push(service);
                }
            }
        }
    }
    json!({"links": links, "networks": networks, "services": services})
}

/// Upstream: the first IPv4 and the first IPv6 subnet of a port, each with the port's address in it.
fn used_subnets(port: &Json) -> Vec<(&Json, &str)> {
    let address = |subnet: &Json| {
        let mut addresses = port["addresses"].as_array().into_iter().flatten();
        addresses.find(|address| address["subnet_id"] == subnet["id"]).and_then(|address| address["addr"].as_str())
    };
    let first = |version: i64| {
        let mut subnets = port["subnets"].as_array().into_iter().flatten();
        let used = subnets.find(|subnet| subnet["version"] == version && address(subnet).is_some())?;
        Some((used, address(used)?))
    };
    [4, 6].into_iter().filter_map(first).collect()
}

fn link(port: &Json, id: &str, subnets: &[(&Json, &str)]) -> Json {
    // Upstream: with DHCP the MTU comes from there.
    let dhcp = subnets.iter().any(|(subnet, _)| subnet["dhcp"] == true);
    json!({
        "id": id,
        "vif_id": port["port_id"],
        "type": port["vif_type"].as_str().unwrap_or("phy"),
        "mtu": if dhcp { Json::Null } else { port["mtu"].clone() },
        "ethernet_mac_address": port["mac"],
    })
}

fn network(port: &Json, link: &str, subnet: &Json, address: &str, number: usize) -> Json {
    let version = subnet["version"].as_i64().unwrap_or(4);
    let mut network = json!({"id": format!("network{number}"), "link": link, "network_id": port["network_id"]});
    let mode = subnet["address_mode"].as_str();
    if mode.is_none() && subnet["dhcp"] == true {
        network["type"] = json!(format!("ipv{version}_dhcp"));
        return network;
    }
    let suffix = mode.map(|mode| format!("_{mode}")).unwrap_or_default();
    network["type"] = json!(format!("ipv{version}{suffix}"));
    network["ip_address"] = json!(address);
    network["netmask"] = json!(netmask(&subnet["cidr"]));
    network["routes"] = json!(routes(subnet, version));
    network["services"] = json!(dns(subnet));
    network
}

fn routes(subnet: &Json, version: i64) -> Vec<Json> {
    let mut routes = Vec::new();
    if let Some(gateway) = subnet["gateway"].as_str() {
        let (network, netmask) = if version == 4 { ("0.0.0.0", "0.0.0.0") } else { ("::", "::") };
        routes.push(json!({"network": network, "netmask": netmask, "gateway": gateway}));
    }
    for route in subnet["routes"].as_array().into_iter().flatten() {
        let Some(net) = parsed(&route["destination"]) else { continue };
        routes.push(json!({
            "network": net.network().to_string(),
            "netmask": net.netmask().to_string(),
            "gateway": route["nexthop"],
        }));
    }
    routes
}

fn dns(subnet: &Json) -> Vec<Json> {
    let servers = subnet["dns"].as_array().into_iter().flatten();
    servers.map(|address| json!({"type": "dns", "address": address})).collect()
}

fn netmask(cidr: &Json) -> Option<String> {
    parsed(cidr).map(|net| net.netmask().to_string())
}

fn parsed(cidr: &Json) -> Option<IpNet> {
    cidr.as_str()?.parse().ok()
}
