//! Metadata: found at 169.254.169.254 through the DHCP namespace or through a router.

use contract::network::{Metadata, Segment};

use crate::dhcp_client;
use crate::lab::{self, Space, TestHost, dhcp, external, interface, lab, lease, network, port, router};

const REQUEST: &str = "GET /openstack/latest/meta_data.json HTTP/1.1\r\nHost: 169.254.169.254\r\n\
    X-Instance-ID: somebody-else\r\nAccept: */*\r\n\r\n";

/// A metadata service on the host's own loopback that repeats what it was asked.
fn service(host: &TestHost) -> Metadata {
    host.space.serve("127.0.0.1:8775", |heard, _| {
        format!("HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: {}\r\n\r\n{heard}", heard.len())
    });
    Metadata { url: "http://127.0.0.1:8775".into(), shared_secret: "secret".into() }
}

fn assert_known(answer: &str, port: &str) {
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("GET /openstack/latest/meta_data.json HTTP/1.1\r\nHost: 127.0.0.1:8775\r\n"), "{answer}");
    assert!(answer.contains(&format!("\r\nX-Instance-ID: server-of-{port}\r\n")), "{answer}");
    assert!(answer.contains("\r\nX-Tenant-ID: project\r\n"), "{answer}");
    assert!(answer.contains("\r\nX-Forwarded-For: 10.0.0.5\r\n"), "{answer}");
    let signature = answer.split("X-Instance-ID-Signature: ").nth(1).unwrap().split('\r').next().unwrap();
    assert_eq!(signature.len(), 64);
    assert!(!answer.contains("somebody-else"), "{answer}");
}

fn ask(space: &Space) -> std::io::Result<String> {
    space.http("169.254.169.254:80", REQUEST)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_on_a_network_with_dhcp_is_known_by_its_address() {
    if !lab::allowed() {
        return;
    }
    let mut lab = lab(1);
    let host = &mut lab.hosts[0];
    host.order.metadata = Some(service(host));
    let mut net = network(Segment::Vxlan { vni: 100 });
    let (one, stranger) = (port(&net, &["10.0.0.5"]), port(&net, &["10.0.0.6"]));
    net.dhcp = Some(dhcp("10.0.0.0/24", "10.0.0.2", &[&one]));
    host.order.networks.push(net);
    let (known, unknown) = (host.add(one), host.add(stranger));
    host.apply().await;
    dhcp_client::lease(&known).expect("the guest gets a lease");
    for guest in [&known, &unknown] {
        guest.configure(24, None);
        guest.space.run("ip route add 169.254.169.254 via 10.0.0.2");
    }

    assert_known(&ask(&known.space).unwrap(), &known.port.id);
    assert!(ask(&unknown.space).unwrap().starts_with("HTTP/1.1 404 "), "it has no lease");

    host.order.metadata.as_mut().unwrap().url = "http://127.0.0.1:1".into();
    host.apply().await;
    assert!(ask(&known.space).unwrap().starts_with("HTTP/1.1 503 "), "nobody listens there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_on_a_network_without_dhcp_asks_through_its_router() {
    if !lab::allowed() {
        return;
    }
    let mut lab = lab(1);
    let host = &mut lab.hosts[0];
    host.order.metadata = Some(service(host));
    let (net, outside) = (network(Segment::Vxlan { vni: 100 }), external());
    let one = port(&net, &["10.0.0.5"]);
    let mut router = router(vec![interface(&net, "10.0.0.1/24")], &outside);
    router.leases = vec![lease(&one)];
    host.order.routers.push(router);
    host.order.networks.extend([net, outside]);
    let guest = host.add(one);
    host.apply().await;
    guest.configure(24, Some("10.0.0.1"));

    assert_known(&ask(&guest.space).unwrap(), &guest.port.id);
    assert!(!lab.outside.connects("198.51.100.10:9697"), "not from outside");
}
