//! Connections that were allowed once and are not any more: the kernel would go on letting them through.
//!
//! What is forgotten is judged anew by its next packet, so forgetting too much only costs a lookup.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use contract::network::{Desired, Ethertype, Group, Port, RemoteEnd};

use super::filter;
use super::rules::Table;
use super::space::Space;

/// Limit: where more addresses of a zone are concerned, the zone is forgotten as a whole.
const MOST_OF_A_ZONE: usize = 16;

/// Addresses whose connections must be judged anew, by conntrack zone.
pub(crate) type Stale = BTreeMap<u16, BTreeSet<IpAddr>>;

/// What the step from one filter to the next has made stale.
pub(crate) fn stale(
    before: &Table,
    now: &Table,
    order: &Desired,
    numbers: &BTreeMap<String, u16>,
    zones: &BTreeMap<String, u16>,
) -> Stale {
    let stricter: BTreeSet<&str> = before.stricter(now).collect();
    let mut stale = Stale::new();
    for port in &order.ports {
        let (Some(security), Some(number)) = (&port.security, numbers.get(&port.id)) else { continue };
        let own = [format!("from_{number}"), format!("to_{number}")];
        let shared = security.groups.iter().flat_map(|id| [format!("ingress-{id}"), format!("egress-{id}")]);
        if own.into_iter().chain(shared).any(|chain| stricter.contains(chain.as_str())) {
            add(&mut stale, port, zones, &port.addresses);
        }
    }
    for group in &order.groups {
        let lost = lost_members(before, now, &group.id);
        if lost.is_empty() {
            continue;
        }
        for port in order.ports.iter().filter(|port| trusts(port, &group.id, &order.groups)) {
            add(&mut stale, port, zones, &lost);
        }
    }
    stale
}

fn add(stale: &mut Stale, port: &Port, zones: &BTreeMap<String, u16>, addresses: &[IpAddr]) {
    if let Some(zone) = zones.get(&port.network) {
        stale.entry(*zone).or_default().extend(addresses);
    }
}

fn lost_members(before: &Table, now: &Table, group: &str) -> Vec<IpAddr> {
    let sets = [Ethertype::IPv4, Ethertype::IPv6].map(|family| filter::members(family, group));
    // A member that is a prefix is judged by the timeout of its connections.
    let lost = sets.iter().flat_map(|set| before.lost(now, set).filter_map(|member| member.parse().ok()));
    lost.collect()
}

/// Whether a rule of one of the port's groups lets members of `group` through.
fn trusts(port: &Port, group: &str, groups: &[Group]) -> bool {
    let own = port.security.iter().flat_map(|security| &security.groups);
    let own = own.filter_map(|id| groups.iter().find(|group| group.id == *id));
    own.flat_map(|own| &own.rules).any(|rule| rule.remote == RemoteEnd::Group { group: group.into() })
}

/// Forgets them. Where the `conntrack` program is not installed, they end by themselves.
pub(crate) fn connections(stale: &Stale, host: &Space) {
    for (zone, addresses) in stale {
        let zone = zone.to_string();
        let delete = |more: &[&str]| {
            let arguments = [&["-D", "-w", &zone], more].concat();
            if let Err(error) = host.run_to_end("conntrack", &arguments, "") {
                tracing::warn!(%error, "connections that are not allowed any more live on");
            }
        };
        if addresses.len() > MOST_OF_A_ZONE {
            delete(&["-f", "ipv4"]);
            delete(&["-f", "ipv6"]);
            continue;
        }
        for address in addresses {
            let family = if address.is_ipv4() { "ipv4" } else { "ipv6" };
            let address = address.to_string();
            delete(&["-f", family, "-s", &address]);
            delete(&["-f", family, "-d", &address]);
        }
    }
}
