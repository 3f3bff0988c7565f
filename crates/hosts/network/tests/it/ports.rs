//! Guests of one and of two hosts: addresses, neighbours, wires that come and go.

use std::net::Ipv4Addr;

use contract::network::Segment;

use crate::dhcp_client;
use crate::lab::{self, dhcp, lab, network, port};

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
