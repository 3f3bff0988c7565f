//! A router: a namespace that forwards between networks, translates addresses and answers for metadata.
//!
//! ```text
//! guest ─ qr- ─┬─ (no translation) ──────────── qr- ─ guest of another network
//!              ├─ source = gateway address ──── qg- ─ outside
//!              └─ source = its floating IP ──── qg- ─ outside      and back: floating IP → fixed address
//! ```

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use contract::network::{Failure, Gateway, Router};
use ipnet::IpNet;

use super::inside::{Inside, Wanted};
use super::room::{Room, RoomWire, Service};
use super::rules::{Set, Table};
use super::space::Space;
use super::wires::Place;
use super::{Settings, dhcp, names};

pub(crate) const TABLE: &str = "ip ferrostack";
/// Floating IP to fixed address, and back.
const INWARD: &str = "floating_in";
const OUTWARD: &str = "floating_out";
/// Upstream: `metadata_port`, where the proxy of a router listens.
pub(crate) const PROXY_PORT: u16 = 9697;

/// Kernel settings of a router. Its interfaces answer ARP only for what they have, since one bridge may hold several.
const FORWARDING: [(&str, &str); 7] = [
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv6/conf/all/forwarding", "1"),
    ("net/ipv4/conf/all/rp_filter", "2"),
    ("net/ipv4/conf/all/arp_ignore", "1"),
    ("net/ipv4/conf/all/arp_announce", "2"),
    ("net/ipv4/conf/all/arp_notify", "1"),
    ("net/ipv6/conf/all/accept_ra", "0"),
];

/// The room of a router; an interface whose network has no place here is a failure, and the others work.
pub(crate) fn room(router: &Router, places: &BTreeMap<String, Place>, settings: &Settings) -> (Room, Vec<Failure>) {
    let mut failures = Vec::new();
    let mut wires = Vec::new();
    let mut inside = Inside {
        devices: vec![("lo".into(), 0, Vec::new())],
        settings: FORWARDING.map(|(key, value)| (key.to_string(), value)).to_vec(),
        ..Inside::default()
    };
    let mut join = |port: &str, network: &str, mac: &str, device: String, addresses: Vec<IpNet>| {
        let Some(place) = places.get(network) else {
            let what = format!("the network {network} of its port {port} is not on this host");
            failures.push(Failure { id: router.id.clone(), what });
            return;
        };
        inside.devices.push((device.clone(), place.mtu, addresses));
        let (outside, mac, place) = (names::tap(port), mac.to_lowercase(), place.clone());
        wires.push(RoomWire { outside, inside: device, mac, place });
    };
    for one in &router.interfaces {
        join(&one.port, &one.network, &one.mac, names::router_interface(&one.port), one.addresses.clone());
    }
    if let Some(gateway) = &router.gateway {
        let device = names::router_gateway(&gateway.port);
        let floating = router.floating.iter().map(|floating| IpNet::from(floating.floating));
        let addresses = gateway.addresses.iter().copied().chain(floating).collect();
        join(&gateway.port, &gateway.network, &gateway.mac, device.clone(), addresses);
        inside.announce = Some((device, gateway.mac.to_lowercase()));
    }
    inside.routes = routes(router);
    let space = names::router_space(&router.id, settings.netns.as_deref());
    let service = Service::Router(translation(router));
    (Room { id: router.id.clone(), space, wires, inside, service }, failures)
}

fn routes(router: &Router) -> Vec<Wanted> {
    let extra = router.routes.iter().map(|route| Wanted {
        destination: route.destination.trunc(),
        via: route.nexthop,
        on_link: None,
    });
    let Some(gateway) = &router.gateway else { return extra.collect() };
    let first = |ipv6: bool| gateway.next_hops.iter().find(move |hop| hop.is_ipv6() == ipv6);
    let default = [first(false), first(true)].into_iter().flatten().map(|via| Wanted {
        destination: if via.is_ipv6() { IpNet::V6(Default::default()) } else { IpNet::V4(Default::default()) },
        via: *via,
        on_link: on_link(gateway, via),
    });
    // Next hops of extra routes may themselves be reached through the default one.
    default.chain(extra).collect()
}

/// Upstream: a next hop outside of the gateway's subnet is taken to be on its wire.
fn on_link(gateway: &Gateway, via: &IpAddr) -> Option<String> {
    let near = gateway.addresses.iter().any(|address| address.contains(via));
    (!near).then(|| names::router_gateway(&gateway.port))
}

fn translation(router: &Router) -> Table {
    let mut table = Table::new(TABLE);
    let mut inward = Set::map("type ipv4_addr : ipv4_addr");
    let mut outward = Set::map("type ipv4_addr : ipv4_addr");
    for one in &router.floating {
        if one.floating.is_ipv4() && one.fixed.is_ipv4() {
            inward.map_to(one.floating.to_string(), one.fixed.to_string());
            outward.map_to(one.fixed.to_string(), one.floating.to_string());
        }
    }
    table.set(INWARD, inward);
    table.set(OUTWARD, outward);

    let dnat = format!("dnat to ip daddr map @{INWARD}");
    let metadata = format!("iifname \"qr-*\" ip daddr {} tcp dport 80 redirect to :{PROXY_PORT}", dhcp::METADATA);
    table.chain("inward", "type nat hook prerouting priority -100; policy accept;", vec![dnat.clone(), metadata]);
    table.chain("own", "type nat hook output priority -100; policy accept;", vec![dnat]);
    table.chain("outward", "type nat hook postrouting priority 100; policy accept;", outward_rules(router));
    let closed = format!("iifname \"qg-*\" tcp dport {PROXY_PORT} drop");
    table.chain("closed", "type filter hook input priority 0; policy accept;", vec![closed]);
    table
}

fn outward_rules(router: &Router) -> Vec<String> {
    let mut rules = vec![
        // A guest that asks for a neighbour's floating IP must get the answer through here, not straight from it.
        "ct status dnat iifname \"qr-*\" oifname \"qr-*\" masquerade".to_string(),
        "ct status dnat accept".to_string(),
    ];
    let Some(gateway) = &router.gateway else { return rules };
    let device = names::router_gateway(&gateway.port);
    rules.push(format!("oifname \"{device}\" snat to ip saddr map @{OUTWARD}"));
    if let (true, Some(own)) = (gateway.snat, first_ipv4(gateway)) {
        rules.push(format!("iifname \"qr-*\" oifname \"{device}\" snat to {own}"));
    }
    rules
}

fn first_ipv4(gateway: &Gateway) -> Option<Ipv4Addr> {
    gateway.addresses.iter().find_map(|address| match address.addr() {
        IpAddr::V4(own) => Some(own),
        IpAddr::V6(_) => None,
    })
}

/// Ends connections through floating IPs that are gone or have moved to another guest.
pub(crate) fn forget_connections(before: Option<&Table>, now: &Table, space: &Space) {
    let Some(before) = before else { return };
    for floating in before.lost(now, INWARD) {
        for end in ["--orig-dst", "--reply-dst"] {
            // It fails where there is none, and where the program is not installed connections end by themselves.
            space.run("conntrack", &["-D", end, floating], "").ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::network::Interface;

    #[test]
    fn a_next_hop_outside_of_the_subnet_is_on_the_wire() {
        let gateway = Gateway {
            port: "p".into(),
            network: "n".into(),
            mac: "52:54:00:00:00:01".into(),
            addresses: vec!["198.51.100.10/32".parse().unwrap()],
            next_hops: vec!["198.51.100.1".parse().unwrap()],
            snat: true,
        };
        let router = Router {
            id: "r".into(),
            admin_state_up: true,
            interfaces: Vec::<Interface>::new(),
            gateway: Some(gateway),
            floating: vec![],
            routes: vec![],
            leases: vec![],
        };
        let routes = routes(&router);
        assert_eq!(routes.len(), 1);
        assert_eq!(routes[0].destination, "0.0.0.0/0".parse().unwrap());
        assert_eq!(routes[0].on_link.as_deref(), Some("qg-p"));
    }
}
