//! How long a host takes. The bounds are far above what an idle machine needs; the figures are printed.

use std::time::{Duration, Instant};

use contract::network::{Direction, Ethertype, RemoteEnd, Rule, Segment};
use host_network::Look;

use crate::lab::{self, TestHost, all_out, dhcp, group, guarded, lab, lease, network, port, rule};

async fn timed(host: &mut TestHost, what: &str) -> Duration {
    let begin = Instant::now();
    host.apply().await;
    let took = begin.elapsed();
    eprintln!("{what}: {:.1} ms", took.as_secs_f64() * 1000.0);
    took
}

/// Adds a guarded port with a lease; its guest is a device without anybody behind it.
fn add(host: &mut TestHost, at: usize) {
    let group = host.order.groups[0].clone();
    let address = format!("10.0.{}.{}", at / 200, at % 200 + 10);
    let port = guarded(port(&host.order.networks[0], &[&address]), &[&group]);
    lab::run(&format!("ip -n {} tuntap add {} mode tap", host.space.0, port.tap));
    let dhcp = host.order.networks[0].dhcp.as_mut().unwrap();
    dhcp.leases.push(lease(&port));
    host.order.groups[0].members.push(port.addresses[0].into());
    host.order.ports.push(port);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_is_wired_in_milliseconds_and_a_hundred_in_less_than_seconds() {
    if !lab::allowed() {
        return;
    }
    let mut lab = lab(1);
    let host = &mut lab.hosts[0];
    let mut own = group(all_out());
    let remote = RemoteEnd::Group { group: own.id.clone() };
    own.rules.push(Rule { remote, ..rule(Direction::Ingress, Ethertype::IPv4) });
    host.order.groups.push(own);
    let mut net = network(Segment::Vxlan { vni: 100 });
    net.dhcp = Some(dhcp("10.0.0.0/16", "10.0.0.2", &[]));
    host.order.networks.push(net);
    timed(host, "a network with DHCP, nothing before").await;

    add(host, 0);
    timed(host, "the first port").await;
    add(host, 1);
    assert!(timed(host, "one more port").await < Duration::from_secs(2));
    timed(host, "nothing new").await;

    (2..102).for_each(|at| add(host, at));
    assert!(timed(host, "a hundred ports more").await < Duration::from_secs(10));
    add(host, 102);
    assert!(timed(host, "one more port beside a hundred").await < Duration::from_secs(2));
    let begin = Instant::now();
    host.driver.apply(&host.order, Look::Everything).await.unwrap();
    eprintln!("everything compared, with a hundred ports: {:.1} ms", begin.elapsed().as_secs_f64() * 1000.0);
    let first = host.order.ports[0].tap.clone();
    lab::run(&format!("ip -n {} link del {first}", host.space.0));
    timed(host, "a device gone").await;
    lab::run(&format!("ip -n {} tuntap add {first} mode tap", host.space.0));
    timed(host, "a device of a known port appeared").await;
}
