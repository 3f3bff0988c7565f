//! Two hosts and a tunnel between them.

use contract::network::{Direction, Ethertype, Remote, Rule, Segment};

use crate::dhcp_client;
use crate::lab::{self, Guest, Lab, all_out, dhcp, group, guarded, lab, network, port, rule};

/// A guest on each of two hosts, on one network, with the rules for what may come in to the second.
async fn tunnelled(lab: &mut Lab, rules: Vec<Rule>) -> (Guest, Guest) {
    let mut net = network(Segment::Vxlan { vni: 4242 });
    let mut groups = vec![group(all_out()), group(rules)];
    groups[0].rules.push(rule(Direction::Ingress, Ethertype::IPv4));
    let one = guarded(port(&net, &["10.0.0.5"]), &[&groups[0]]);
    let two = guarded(port(&net, &["10.0.0.6"]), &[&groups[1]]);
    net.dhcp = Some(dhcp("10.0.0.0/24", "10.0.0.2", &[&one, &two]));
    let addresses = [lab.hosts[0].address, lab.hosts[1].address];
    let mut guests = Vec::new();
    for (host, own, other) in [(0, &one, &two), (1, &two, &one)] {
        let remote = vec![Remote { mac: other.mac.clone(), host: addresses[1 - host] }];
        let net = contract::network::Network { peers: vec![addresses[1 - host]], remote, ..net.clone() };
        let host = &mut lab.hosts[host];
        host.order.networks.push(net);
        host.order.groups.clone_from(&groups);
        guests.push(host.add(own.clone()));
        host.apply().await;
    }
    let (two, one) = (guests.pop().unwrap(), guests.pop().unwrap());
    (one, two)
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_on_two_hosts_reach_each_other_as_far_as_their_groups_allow() {
    if !lab::allowed() {
        return;
    }
    let mut lab = lab(2);
    let (one, two) = tunnelled(&mut lab, all_out()).await;
    one.configure(24, None);
    two.configure(24, None);
    assert!(two.space.pings("10.0.0.5"));
    assert!(one.space.cannot_ping("10.0.0.6"));

    let open = rule(Direction::Ingress, Ethertype::IPv4);
    lab.hosts[1].order.groups[1].rules.push(open);
    lab.hosts[1].apply().await;
    assert!(one.space.pings("10.0.0.6"));

    // Without flooding, the programmed entries alone must find the way.
    for host in &mut lab.hosts {
        host.order.networks[0].peers.clear();
        host.apply().await;
    }
    for (guest, other) in [(&one, &two), (&two, &one)] {
        let (address, mac) = (other.port.addresses[0], &other.port.mac);
        guest.space.run(&format!("ip neigh replace {address} lladdr {mac} dev eth0 nud permanent"));
    }
    assert!(one.space.pings("10.0.0.6"));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_host_answers_dhcp_for_its_own_guests_from_the_same_address() {
    if !lab::allowed() {
        return;
    }
    let mut lab = lab(2);
    let (one, two) = tunnelled(&mut lab, all_out()).await;
    for guest in [&one, &two] {
        let leased = dhcp_client::lease(guest).expect("the guest gets a lease");
        assert_eq!(leased.address.to_string(), guest.port.addresses[0].to_string());
        guest.configure(24, None);
        assert!(guest.space.pings("10.0.0.2"));
    }
    // With its own answerer gone, nobody on the other host may answer in its place.
    let server = format!("qdhcp-{}-{}", lab.hosts[0].order.networks[0].id, lab.hosts[0].space.0);
    lab::run(&format!("ip -n {server} link set lo down"));
    let device = format!("ns-{}", &lab.hosts[0].order.networks[0].dhcp.as_ref().unwrap().port[..11]);
    lab::run(&format!("ip -n {server} link set {device} down"));
    assert!(dhcp_client::lease(&one).is_none());
    one.space.run("ip neigh flush dev eth0");
    assert!(one.space.cannot_ping("10.0.0.2"));
    assert!(two.space.pings("10.0.0.2"));
}
