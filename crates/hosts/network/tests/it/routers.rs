//! Routers: between networks, to the outside, floating IPs.

use contract::network::{Floating, Route};

use crate::lab::{self, Guest, Lab, TestHost, external, interface, lab, network, port, router};

/// A router with two networks, a guest in each, and the way outside.
async fn routed(lab: &mut Lab) -> (Guest, Guest) {
    let host = &mut lab.hosts[0];
    let [red, blue] = [100, 101].map(|vni| network(contract::network::Segment::Vxlan { vni }));
    let outside = external();
    let legs = vec![interface(&red, "10.0.0.1/24"), interface(&blue, "10.0.1.1/24")];
    host.order.routers.push(router(legs, &outside));
    let one = host.add(port(&red, &["10.0.0.5"]));
    let two = host.add(port(&blue, &["10.0.1.6"]));
    host.order.networks.extend([red, blue, outside]);
    let report = host.apply().await;
    assert_eq!(report.routers, [host.order.routers[0].id.clone()]);
    one.configure(24, Some("10.0.0.1"));
    two.configure(24, Some("10.0.1.1"));
    (one, two)
}

fn floating(fixed: &str) -> Floating {
    Floating { id: lab::uuid(), floating: "198.51.100.50".parse().unwrap(), fixed: fixed.parse().unwrap() }
}

fn echo(from: std::net::SocketAddr) -> String {
    from.ip().to_string()
}

fn set_floating(host: &mut TestHost, all: Vec<Floating>) {
    host.order.routers[0].floating = all;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_joins_networks_and_hides_them_behind_its_gateway_address() {
    if !lab::allowed() {
        return;
    }
    let mut lab = lab(1);
    let (one, two) = routed(&mut lab).await;
    lab.outside.serve("198.51.100.1:80", |_, from| echo(from));
    two.space.serve("0.0.0.0:80", |_, from| echo(from));

    assert!(one.space.pings("10.0.1.6"));
    assert_eq!(one.space.http("10.0.1.6:80", "hello").unwrap(), "10.0.0.5", "no translation between networks");
    assert_eq!(one.space.http("198.51.100.1:80", "hello").unwrap(), "198.51.100.10");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_floating_ip_leads_in_and_out_and_ends_when_it_is_taken_away() {
    if !lab::allowed() {
        return;
    }
    let mut lab = lab(1);
    let (one, two) = routed(&mut lab).await;
    lab.outside.serve("198.51.100.1:80", |_, from| echo(from));
    one.space.serve("0.0.0.0:80", |_, from| echo(from));
    two.space.serve("0.0.0.0:80", |_, from| echo(from));
    assert!(lab.outside.cannot_ping("198.51.100.50"));

    set_floating(&mut lab.hosts[0], vec![floating("10.0.0.5")]);
    lab.hosts[0].apply().await;
    assert!(lab.outside.pings("198.51.100.50"));
    assert_eq!(lab.outside.http("198.51.100.50:80", "hello").unwrap(), "198.51.100.1", "the guest sees who asks");
    assert_eq!(one.space.http("198.51.100.1:80", "hello").unwrap(), "198.51.100.50");
    assert!(two.space.http("198.51.100.50:80", "hello").is_ok(), "from another network of the router");
    assert!(one.space.http("198.51.100.50:80", "hello").is_ok(), "from the guest itself");
    assert_eq!(two.space.http("198.51.100.1:80", "hello").unwrap(), "198.51.100.10", "the other has none");

    let neighbours = lab.outside.run("ip neigh show 198.51.100.50");
    set_floating(&mut lab.hosts[0], vec![floating("10.0.1.6")]);
    lab.hosts[0].apply().await;
    assert_eq!(two.space.http("198.51.100.1:80", "hello").unwrap(), "198.51.100.50", "it has moved; {neighbours}");

    set_floating(&mut lab.hosts[0], vec![]);
    lab.hosts[0].apply().await;
    assert!(lab.outside.cannot_ping("198.51.100.50"));
}

#[tokio::test(flavor = "multi_thread")]
async fn neighbours_learn_at_once_that_a_floating_ip_has_moved_to_another_router() {
    if !lab::allowed() {
        return;
    }
    let mut lab = lab(2);
    let (_one, _two) = routed(&mut lab).await;
    set_floating(&mut lab.hosts[0], vec![floating("10.0.0.5")]);
    lab.hosts[0].apply().await;
    assert!(lab.outside.pings("198.51.100.50"));
    let mac = |lab: &Lab| lab.outside.run("ip neigh show 198.51.100.50").split_whitespace().nth(4).unwrap().to_string();
    let before = mac(&lab);

    set_floating(&mut lab.hosts[0], vec![]);
    lab.hosts[0].apply().await;
    let outside = external();
    let mut second = router(vec![], &outside);
    let gateway = second.gateway.as_mut().unwrap();
    gateway.addresses = vec!["198.51.100.11/24".parse().unwrap()];
    let now = gateway.mac.clone();
    second.floating = vec![floating("10.0.0.5")];
    lab.hosts[1].order.routers.push(second);
    lab.hosts[1].order.networks.push(outside);
    lab.hosts[1].apply().await;
    assert_ne!(before, now);
    assert_eq!(mac(&lab), now);
}

#[tokio::test(flavor = "multi_thread")]
async fn extra_routes_and_interfaces_come_and_go_without_a_new_router() {
    if !lab::allowed() {
        return;
    }
    let mut lab = lab(1);
    let (one, two) = routed(&mut lab).await;
    let host = &mut lab.hosts[0];
    two.space.run("ip address add 10.7.0.1/32 dev lo");
    assert!(one.space.cannot_ping("10.7.0.1"));
    let route = Route { destination: "10.7.0.0/24".parse().unwrap(), nexthop: "10.0.1.6".parse().unwrap() };
    host.order.routers[0].routes.push(route);
    host.apply().await;
    assert!(one.space.pings("10.7.0.1"));

    host.order.routers[0].routes.clear();
    let leg = host.order.routers[0].interfaces.pop().unwrap();
    host.apply().await;
    assert!(one.space.cannot_ping("10.0.1.6"));
    assert!(one.space.pings("198.51.100.1"));

    host.order.routers[0].interfaces.push(leg);
    host.apply().await;
    assert!(one.space.pings("10.0.1.6"));

    host.order.routers[0].admin_state_up = false;
    let report = host.apply().await;
    assert_eq!(report.routers, Vec::<String>::new());
    assert!(one.space.cannot_ping("10.0.1.6"));
}
