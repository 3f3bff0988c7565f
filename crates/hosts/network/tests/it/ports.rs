//! Guests of one and of two hosts: addresses, neighbours, wires that come and go.

use std::net::Ipv4Addr;

use contract::network::{Dhcp, Network, Segment};

use crate::dhcp_client;
use crate::lab::{self, dhcp, external, lab, lease, network, port};

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_gets_its_address_routes_and_name_by_dhcp() {
    if !lab::allowed() {
        return;
    }
    let mut lab = lab(1);
    let host = &mut lab.hosts[0];
    let mut net = network(Segment::Vxlan { vni: 100 });
    let one = port(&net, &["10.0.0.5"]);
    net.dhcp = Some(dhcp("10.0.0.0/24", "10.0.0.2", &[&one]));
    host.order.networks.push(net);
    let guest = host.add(one.clone());

    let report = host.apply().await;
    assert_eq!(report.wired, [one.id]);

    let leased = dhcp_client::lease(&guest).expect("the guest gets a lease");
    assert_eq!(leased.address, Ipv4Addr::new(10, 0, 0, 5));
    assert_eq!(leased.addresses(3), [Ipv4Addr::new(10, 0, 0, 1)]);
    assert_eq!(leased.addresses(6), [Ipv4Addr::new(9, 9, 9, 9)]);
    assert_eq!(leased.text(12), "host-10-0-0-5");
    assert_eq!(leased.text(15), "openstacklocal");
    assert_eq!(leased.options[&26], 1450_u16.to_be_bytes());
    let routes = [32, 169, 254, 169, 254, 10, 0, 0, 2, 0, 10, 0, 0, 1];
    assert_eq!(leased.options[&121], routes);
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_of_one_network_reach_each_other_and_those_of_another_do_not() {
    if !lab::allowed() {
        return;
    }
    let mut lab = lab(1);
    let host = &mut lab.hosts[0];
    let (red, blue) = (network(Segment::Vxlan { vni: 1 }), network(Segment::Local));
    let guests: Vec<_> = [(&red, "10.0.0.5"), (&red, "10.0.0.6"), (&blue, "10.0.0.7")]
        .map(|(network, address)| host.add(port(network, &[address, &format!("fd00::{}", &address[7..])])))
        .into();
    host.order.networks.extend([red, blue]);
    host.apply().await;
    guests.iter().for_each(|guest| guest.configure(24, None));

    assert!(guests[0].space.pings("10.0.0.6"));
    assert!(guests[0].space.pings("fd00::6"));
    assert!(guests[0].space.cannot_ping("10.0.0.7"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_address_of_a_port_that_is_gone_goes_to_its_next_owner_without_a_new_server() {
    if !lab::allowed() {
        return;
    }
    let mut lab = lab(1);
    let host = &mut lab.hosts[0];
    let mut net = network(Segment::Local);
    let (old, new) = (port(&net, &["10.0.0.5"]), port(&net, &["10.0.0.5"]));
    net.dhcp = Some(dhcp("10.0.0.0/24", "10.0.0.2", &[&old]));
    host.order.networks.push(net);
    let before = host.add(old);
    host.apply().await;
    assert!(dhcp_client::lease(&before).is_some());
    let pid = host.folder.path().join("dhcp").join(&host.order.networks[0].id).join("pid");
    let process = std::fs::read_to_string(&pid).unwrap();

    host.order.ports.clear();
    server(&mut host.order.networks[0]).leases.clear();
    host.apply().await;
    assert!(dhcp_client::lease(&before).is_none());

    server(&mut host.order.networks[0]).leases.push(lease(&new));
    let after = host.add(new);
    host.apply().await;
    assert!(dhcp_client::lease(&after).is_some());
    assert_eq!(std::fs::read_to_string(&pid).unwrap(), process);
}

fn server(network: &mut Network) -> &mut Dhcp {
    network.dhcp.as_mut().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flat_network_leads_to_the_wire_and_keeps_dhcp_to_itself() {
    if !lab::allowed() {
        return;
    }
    let mut lab = lab(2);
    let mut net = external();
    let (one, two) = (port(&net, &["198.51.100.5"]), port(&net, &["198.51.100.6"]));
    net.dhcp = Some(dhcp("198.51.100.0/24", "198.51.100.2", &[&one, &two]));
    lab.hosts[0].order.networks.push(net.clone());
    let first = lab.hosts[0].add(one);
    lab.hosts[0].apply().await;
    // The second host has no answerer: if it gets an answer, it came over the wire.
    net.dhcp = None;
    lab.hosts[1].order.networks.push(net);
    let second = lab.hosts[1].add(two);
    lab.hosts[1].apply().await;

    assert!(dhcp_client::lease(&first).is_some());
    assert!(dhcp_client::lease(&second).is_none());
    first.configure(24, None);
    second.configure(24, None);
    assert!(first.space.pings("198.51.100.1"));
    assert!(first.space.pings("198.51.100.6"));
    assert!(first.space.pings("198.51.100.2"), "the answerer, from its own host");
    assert!(second.space.cannot_ping("198.51.100.2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_physical_interface_takes_its_addresses_to_the_bridge_and_back() {
    if !lab::allowed() {
        return;
    }
    let mut lab = lab(1);
    let host = &mut lab.hosts[0];
    host.space.run("ip address add 198.51.100.7/24 dev ext0");
    host.space.run("ip route add 203.0.113.0/24 via 198.51.100.1");
    lab.outside.run("ip address add 203.0.113.1/32 dev world");
    assert!(host.space.pings("203.0.113.1"));

    let own = lab::group(lab::all_out());
    let net = external();
    let one = lab::guarded(port(&net, &["198.51.100.5"]), &[&own]);
    host.order.networks.push(net);
    host.order.groups.push(own);
    let guest = host.add(one);
    host.apply().await;
    guest.configure(24, None);
    assert!(host.space.pings("203.0.113.1"), "the host goes on");
    assert!(lab.outside.pings("198.51.100.7"));
    assert!(guest.space.pings("198.51.100.1"));
    assert!(guest.space.pings("198.51.100.7"), "a guest reaches the host as any neighbour");
    assert_eq!(host.space.run("ip -o -4 address show dev ext0"), "");

    host.order.networks = vec![external()];
    host.order.ports.clear();
    host.apply().await;
    host.repair().await;
    assert!(host.space.pings("203.0.113.1"), "over the bridge of another network");

    host.order.networks.clear();
    host.apply().await;
    assert!(host.space.pings("203.0.113.1"));
    assert!(host.space.run("ip -o -4 address show dev ext0").contains("198.51.100.7/24"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_of_the_operator_is_used_as_it_is_and_left_in_place() {
    if !lab::allowed() {
        return;
    }
    let mut lab = lab(1);
    let host = &mut lab.hosts[0];
    host.space.run("ip link set ext0 name eth7");
    host.space.run("ip link add ext0 type bridge");
    host.space.run("ip link set eth7 master ext0 up");
    host.space.run("ip address add 198.51.100.7/24 dev ext0");
    host.space.run("ip link set ext0 up");
    let net = external();
    let guest = host.add(port(&net, &["198.51.100.5"]));
    host.order.networks.push(net);
    host.apply().await;
    guest.configure(24, None);
    assert!(guest.space.pings("198.51.100.1"));
    assert!(lab.outside.pings("198.51.100.7"));

    host.order.ports.clear();
    host.apply().await;
    assert!(guest.space.cannot_ping("198.51.100.1"), "its wire is out of the bridge");

    host.driver.purge().await.unwrap();
    assert!(lab.outside.pings("198.51.100.7"));
    assert!(host.space.run("ip -o link show").contains("master ext0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_is_said_by_id_and_the_rest_is_done() {
    if !lab::allowed() {
        return;
    }
    let mut lab = lab(1);
    let host = &mut lab.hosts[0];
    let (good, nowhere) = (network(Segment::Local), network(Segment::Flat { physical: "physnet9".into() }));
    let (one, two) = (port(&good, &["10.0.0.5"]), port(&nowhere, &["10.0.0.6"]));
    let broken = nowhere.id.clone();
    host.order.networks.extend([good, nowhere]);
    let _guests = [host.add(one.clone()), host.add(two.clone())];
    host.order.generation += 1;
    let report = host.driver.apply(&host.order, host_network::Look::Changes).await.unwrap();
    assert_eq!(report.wired, std::slice::from_ref(&one.id));
    let said: Vec<(&str, &str)> = report.errors.iter().map(|f| (f.id.as_str(), f.what.as_str())).collect();
    let why = "this host is not joined to the physical network \"physnet9\"";
    assert_eq!(said, [(broken.as_str(), why), (two.id.as_str(), "its network could not be made on this host")]);

    // The operator's own bridge is not taken apart.
    host.space.run("ip link add br-ex type bridge");
    host.space.run("ip link set ext0 master br-ex");
    host.order.networks[1] = external();
    host.order.ports.truncate(1);
    let report = host.driver.apply(&host.order, host_network::Look::Changes).await.unwrap();
    assert_eq!(report.errors[0].what, "the interface ext0 is part of br-ex: map \"physnet1\" to br-ex instead");
    assert!(host.space.run("ip -o link show ext0").contains("master br-ex"));

    let down = contract::network::Port { admin_state_up: false, ..one };
    host.order.networks.pop();
    host.order.ports = vec![down.clone()];
    let report = host.apply().await;
    assert_eq!((report.wired.len(), report.unwired), (0, vec![down.id]));
}
