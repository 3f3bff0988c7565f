//! Security groups and anti-spoofing, on one host and between two.

use contract::network::{Direction, Ethertype, RemoteEnd, Rule, Segment};

use crate::lab::{self, Guest, TestHost, all_out, group, guarded, lab, network, port, rule};

/// Two guarded guests of one network on one host; the second has the rules.
async fn pair(host: &mut TestHost, rules: Vec<Rule>) -> (Guest, Guest) {
    let net = network(Segment::Local);
    let (open, own) = (group(all_out()), group(rules));
    let one = host.add(guarded(port(&net, &["10.0.0.5", "fd00::5"]), &[&open]));
    let two = host.add(guarded(port(&net, &["10.0.0.6", "fd00::6"]), &[&own]));
    host.order.networks.push(net);
    host.order.groups.extend([open, own]);
    let report = host.apply().await;
    assert_eq!(report.wired.len(), 2);
    one.configure(24, None);
    two.configure(24, None);
    (one, two)
}

fn ssh() -> Rule {
    let rule = rule(Direction::Ingress, Ethertype::IPv4);
    Rule { protocol: Some(6), port_min: Some(22), port_max: Some(22), ..rule }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_a_rule_allows_comes_in_and_a_new_rule_counts_at_once() {
    if !lab::allowed() {
        return;
    }
    let mut lab = lab(1);
    let host = &mut lab.hosts[0];
    let (one, two) = pair(host, vec![ssh()].into_iter().chain(all_out()).collect()).await;
    two.space.serve("0.0.0.0:22", |_, _| "hello".into());
    two.space.serve("0.0.0.0:23", |_, _| "hello".into());
    two.space.serve("[::]:24", |_, _| "hello".into());

    assert!(one.space.connects("10.0.0.6:22"));
    assert!(!one.space.connects("10.0.0.6:23"));
    assert!(one.space.cannot_ping("10.0.0.6"));
    assert!(two.space.cannot_ping("10.0.0.5"), "the first guest lets nothing in");

    let ping = Rule { protocol: Some(1), ..rule(Direction::Ingress, Ethertype::IPv4) };
    let six = Rule { protocol: Some(6), ..rule(Direction::Ingress, Ethertype::IPv6) };
    host.order.groups[1].rules.extend([ping, six]);
    host.apply().await;
    assert!(one.space.pings("10.0.0.6"));
    assert!(one.space.connects("[fd00::6]:24"));
    assert!(one.space.cannot_ping("fd00::6"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_whose_groups_allow_no_egress_sends_nothing() {
    if !lab::allowed() {
        return;
    }
    let mut lab = lab(1);
    let host = &mut lab.hosts[0];
    let (one, two) = pair(host, vec![rule(Direction::Ingress, Ethertype::IPv4)]).await;
    let open = rule(Direction::Ingress, Ethertype::IPv4);
    host.order.groups[0].rules.push(open);
    host.apply().await;

    assert!(one.space.pings("10.0.0.6"), "answers belong to what came in");
    assert!(two.space.cannot_ping("10.0.0.5"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remote_group_lets_its_members_in_and_forgets_those_that_left() {
    if !lab::allowed() {
        return;
    }
    let mut lab = lab(1);
    let host = &mut lab.hosts[0];
    let (one, _two) = pair(host, all_out()).await;
    let friends = host.order.groups[0].id.clone();
    let from_friends = |ethertype| {
        let remote = RemoteEnd::Group { group: friends.clone() };
        Rule { remote, ..rule(Direction::Ingress, ethertype) }
    };
    host.order.groups[1].rules.extend([from_friends(Ethertype::IPv4), from_friends(Ethertype::IPv6)]);
    host.apply().await;
    assert!(one.space.cannot_ping("10.0.0.6"), "the group has no members yet");

    host.order.groups[0].members = vec!["10.0.0.5/32".parse().unwrap(), "fd00::5/128".parse().unwrap()];
    host.apply().await;
    assert!(one.space.pings("10.0.0.6"));
    assert!(one.space.pings("fd00::6"));

    host.order.groups[0].members.clear();
    host.apply().await;
    assert!(one.space.cannot_ping("10.0.0.6"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_cannot_pretend_to_be_another() {
    if !lab::allowed() {
        return;
    }
    let mut lab = lab(1);
    let host = &mut lab.hosts[0];
    let open = [rule(Direction::Ingress, Ethertype::IPv4), rule(Direction::Ingress, Ethertype::IPv6)];
    let (one, two) = pair(host, all_out().into_iter().chain(open).collect()).await;
    assert!(one.space.pings("10.0.0.6"));

    one.space.run("ip address add 10.0.0.99/24 dev eth0");
    one.space.run("ip address add fd00::99/64 dev eth0 nodad");
    let from_other = |from: &str, to: &str| one.space.attempt(&format!("ping -n -c 1 -W 0.5 -I {from} {to}"));
    assert!(!from_other("10.0.0.99", "10.0.0.6").status.success());
    assert!(!from_other("fd00::99", "fd00::6").status.success());

    host.order.ports[0].security.as_mut().unwrap().allowed_pairs = ["10.0.0.96/28", "fd00::/64"]
        .map(|net| contract::network::AllowedPair { mac: None, address: net.parse().unwrap() })
        .into();
    host.apply().await;
    assert!(from_other("10.0.0.99", "10.0.0.6").status.success());
    assert!(from_other("fd00::99", "fd00::6").status.success());

    two.space.run("ip neigh flush dev eth0");
    one.space.run("ip link set eth0 address fa:00:00:00:00:99");
    assert!(one.space.cannot_ping("10.0.0.6"), "another MAC is another machine");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_ends_with_the_rule_that_allowed_it() {
    if !lab::allowed() {
        return;
    }
    let mut lab = lab(1);
    let host = &mut lab.hosts[0];
    let (one, two) = pair(host, vec![ssh()].into_iter().chain(all_out()).collect()).await;
    two.space.serve("0.0.0.0:22", |_, _| "hello".into());
    let mut kept = one.space.enter(|| std::net::TcpStream::connect("10.0.0.6:22").unwrap());
    let mut cut = one.space.enter(|| std::net::TcpStream::connect("10.0.0.6:22").unwrap());
    assert_eq!(ask(&mut kept).unwrap(), "hello");

    host.order.groups[1].rules.remove(0);
    host.apply().await;
    assert!(ask(&mut cut).is_err(), "nothing comes through any more");
}

fn ask(stream: &mut std::net::TcpStream) -> std::io::Result<String> {
    use std::io::{Read, Write};
    stream.set_read_timeout(Some(std::time::Duration::from_secs(1)))?;
    stream.write_all(b"hello?")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
