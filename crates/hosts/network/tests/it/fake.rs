//! The host that has nothing but memory.

use contract::network::{Desired, Host, Segment};
use host_network::fake::Trouble;
use host_network::{Driver, Fake, Look};

use crate::lab::{network, port};

fn fake() -> Driver {
    let (uuid, name) = ("u".into(), "h".into());
    let (physical, lacks, driver) = (vec![], vec![], String::new());
    Driver::Fake(Fake::new(Host { uuid, name, tunnel_address: [127, 0, 0, 1].into(), physical, lacks, driver }))
}

fn order(generation: u64) -> Desired {
    let net = network(Segment::Local);
    let ports = vec![port(&net, &["10.0.0.5"]), port(&net, &["10.0.0.6"])];
    Desired { generation, ports, networks: vec![net], ..Desired::default() }
}

#[tokio::test]
async fn every_port_of_a_fake_host_is_wired_at_once_and_an_old_order_is_refused() {
    let (driver, order) = (fake(), order(7));
    let report = driver.apply(&order, Look::Changes).await.unwrap();
    assert_eq!(report.wired, order.ports.iter().map(|port| port.id.clone()).collect::<Vec<_>>());
    assert!(driver.leaks(&order).await.is_empty());
    assert_eq!(driver.leaks(&Desired::default()).await.len(), 3);

    let old = Desired { generation: 6, ..Desired::default() };
    let refusal = driver.apply(&old, Look::Changes).await.unwrap_err();
    assert_eq!(refusal.to_string(), "the order of generation 6 is older than 7");

    driver.purge().await.unwrap();
    assert!(driver.leaks(&Desired::default()).await.is_empty());
}

#[tokio::test]
async fn a_fake_host_refuses_what_it_is_told_to() {
    let (driver, order) = (fake(), order(1));
    let Driver::Fake(host) = &driver else { unreachable!() };
    let refused = [(order.ports[0].id.clone(), "no".to_string())].into();
    host.trouble(Trouble { refused, missing: vec![order.ports[1].id.clone()], ..Trouble::default() });
    let report = driver.apply(&order, Look::Changes).await.unwrap();
    assert_eq!((report.wired.len(), report.unwired.len(), report.errors.len()), (0, 1, 1));
}
