//! What somebody deletes by hand comes back; what nobody wants goes; a restarted agent changes nothing.

use std::time::Duration;

use contract::network::{Desired, Metadata, Segment};
use host_network::Look;

use crate::dhcp_client;
use crate::lab::{
    self, Guest, TestHost, all_out, dhcp, external, group, guarded, interface, lab, network, port, router,
};

/// A bit of everything, with two guests on one network: the first may be pinged by nobody.
async fn everything(host: &mut TestHost) -> (Guest, Guest) {
    let (mut net, outside) = (network(Segment::Vxlan { vni: 100 }), external());
    let own = group(all_out());
    let one = guarded(port(&net, &["10.0.0.5"]), &[&own]);
    let two = port(&net, &["10.0.0.6"]);
    net.dhcp = Some(dhcp("10.0.0.0/24", "10.0.0.2", &[&one, &two]));
    host.order.routers.push(router(vec![interface(&net, "10.0.0.1/24")], &outside));
    host.order.groups.push(own);
    host.order.networks.extend([net, outside]);
    host.order.metadata = Some(Metadata { url: "http://127.0.0.1:8775".into(), shared_secret: "s".into() });
    let (one, two) = (host.add(one), host.add(two));
    host.apply().await;
    one.configure(24, Some("10.0.0.1"));
    two.configure(24, Some("10.0.0.1"));
    (one, two)
}

fn works(one: &Guest, two: &Guest) {
    assert!(one.space.pings("10.0.0.6"), "the neighbour");
    assert!(one.space.pings("198.51.100.1"), "the outside");
    assert!(two.space.cannot_ping("10.0.0.5"), "the filter");
    assert!(dhcp_client::lease(one).is_some(), "DHCP");
}

fn dnsmasq(host: &TestHost) -> String {
    let folder = host.folder.path().join("dhcp").join(&host.order.networks[0].id);
    std::fs::read_to_string(folder.join("pid")).unwrap().trim().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_was_deleted_by_hand_is_made_again() {
    if !lab::allowed() {
        return;
    }
    let mut lab = lab(1);
    let host = &mut lab.hosts[0];
    let (one, two) = everything(host).await;
    host.repair().await;
    works(&one, &two);
    let (net, name) = (host.order.networks[0].id.clone(), host.space.0.clone());
    let router = host.order.routers[0].id.clone();
    let breakages = [
        format!("kill -9 {}", dnsmasq(host)),
        format!("ip -n {name} link del brq{}", &net[..11]),
        format!("ip -n {name} link del vxlan-100"),
        format!("ip netns del qdhcp-{net}-{name}"),
        format!("ip netns del qrouter-{router}-{name}"),
        format!("ip netns exec {name} nft flush ruleset"),
        format!(
            "ip netns exec {name} nft delete element bridge ferrostack macs {{ \"{}\" . {} }}",
            one.port.tap, one.port.mac
        ),
        format!("ip netns exec qrouter-{router}-{name} nft flush ruleset"),
        format!("ip -n qrouter-{router}-{name} route del default"),
        format!("ip -n {name} link set {} nomaster", one.port.tap),
    ];
    for breakage in breakages {
        lab::run(&breakage);
        host.repair().await;
        eprintln!("after {breakage}");
        works(&one, &two);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_agent_finds_everything_and_refuses_an_old_order() {
    if !lab::allowed() {
        return;
    }
    let mut lab = lab(1);
    let host = &mut lab.hosts[0];
    let (one, two) = everything(host).await;
    let process = dnsmasq(host);
    let devices = host.space.run("ip -o link show");
    host.restart();

    let old = Desired { generation: 1, ..Desired::default() };
    let refusal = host.driver.apply(&old, Look::Changes).await.unwrap_err();
    assert_eq!(refusal.to_string(), "the order of generation 1 is older than 2");

    let report = host.apply().await;
    assert_eq!(report.wired.len(), 2);
    assert_eq!(dnsmasq(host), process, "the DHCP server has lived on");
    assert_eq!(host.space.run("ip -o link show"), devices);
    works(&one, &two);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_wanted_any_more_goes_and_purge_leaves_nothing() {
    if !lab::allowed() {
        return;
    }
    let mut lab = lab(1);
    let host = &mut lab.hosts[0];
    let (one, _two) = everything(host).await;
    assert_eq!(host.driver.leaks(&host.order).await, Vec::<String>::new());
    assert!(host.driver.leaks(&Desired::default()).await.len() >= 8);

    host.order.ports.remove(0);
    host.apply().await;
    assert!(one.space.cannot_ping("10.0.0.6"), "its wire is out of the bridge");

    let all = std::mem::take(&mut host.order);
    host.order.generation = all.generation;
    host.apply().await;
    assert_eq!(host.driver.leaks(&host.order).await, Vec::<String>::new());

    host.order = Desired { generation: host.order.generation, ..all };
    host.apply().await;
    host.driver.purge().await.unwrap();
    assert_eq!(host.driver.leaks(&Desired::default()).await, Vec::<String>::new());
    let left = host.space.run("ip -o link show");
    assert!(!left.contains("brq") && !left.contains("vxlan"), "{left}");
    assert_eq!(host.space.run("nft list tables"), "");
    assert_eq!(std::fs::read_dir(host.folder.path()).unwrap().count(), 0);
    assert!(!lab::run("ip netns list").contains(&format!("-{}", host.space.0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wire_that_appears_late_is_noticed_and_connected() {
    if !lab::allowed() {
        return;
    }
    let mut lab = lab(1);
    let host = &mut lab.hosts[0];
    let (one, _two) = everything(host).await;
    let late = port(&host.order.networks[0], &["10.0.0.7"]);
    host.order.ports.push(late.clone());
    let report = host.apply().await;
    assert_eq!(report.unwired, std::slice::from_ref(&late.id));

    let guest = host.plug(&late);
    tokio::time::timeout(Duration::from_secs(5), host.driver.changed()).await.expect("the device is noticed");
    let report = host.apply().await;
    assert!(report.wired.contains(&late.id));
    guest.configure(24, None);
    assert!(one.space.pings("10.0.0.7"));

    drop(guest);
    lab::attempt(&format!("ip -n {} link del {}", host.space.0, late.tap));
    tokio::time::timeout(Duration::from_secs(5), host.driver.changed()).await.expect("that it is gone, too");
    assert_eq!(host.apply().await.unwired, [late.id]);
}
