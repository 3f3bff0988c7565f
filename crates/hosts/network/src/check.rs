//! What a host refuses to read in an order: names become parts of command lines, files and filter rules.

use std::collections::BTreeSet;

use contract::network::{Desired, Dhcp, Failure, Interface, Lease, Network, Port, Router};

/// Limit: as long as an identifier may be in the database.
const LONGEST_ID: usize = 64;
/// Limit: the kernel's, with its terminating zero.
const LONGEST_DEVICE: usize = 15;
/// Limit: of a DNS name.
const LONGEST_NAME: usize = 253;

/// Splits an order into what can be done and the refusals of what cannot, by id.
pub(crate) fn accept(desired: &Desired) -> (Desired, Vec<Failure>) {
    let mut good = desired.clone();
    let mut refused = Vec::new();
    keep(&mut good.networks, &mut refused, |network| (&network.id, network_is_sound(network)));
    let networks: BTreeSet<String> = good.networks.iter().map(|network| network.id.clone()).collect();
    keep(&mut good.ports, &mut refused, |port| (&port.id, port_is_sound(port, &networks)));
    keep(&mut good.groups, &mut refused, |group| (&group.id, id(&group.id)));
    good.groups.iter_mut().for_each(|group| group.rules.retain(rule_is_sound));
    keep(&mut good.routers, &mut refused, |router| (&router.id, router_is_sound(router, &networks)));
    (good, refused)
}

fn keep<T>(all: &mut Vec<T>, refused: &mut Vec<Failure>, sound: impl Fn(&T) -> (&String, Result<(), String>)) {
    all.retain(|one| match sound(one) {
        (_, Ok(())) => true,
        (id, Err(what)) => {
            refused.push(Failure { id: id.chars().take(LONGEST_ID).collect(), what });
            false
        }
    });
}

fn network_is_sound(network: &Network) -> Result<(), String> {
    uuid(&network.id)?;
    network.remote.iter().try_for_each(|remote| mac(&remote.mac))?;
    match &network.dhcp {
        None => Ok(()),
        Some(dhcp) => dhcp_is_sound(dhcp),
    }
}

fn dhcp_is_sound(dhcp: &Dhcp) -> Result<(), String> {
    id(&dhcp.port)?;
    mac(&dhcp.mac)?;
    name(&dhcp.domain)?;
    dhcp.subnets.iter().try_for_each(|subnet| id(&subnet.id))?;
    dhcp.leases.iter().try_for_each(lease_is_sound)
}

fn lease_is_sound(lease: &Lease) -> Result<(), String> {
    mac(&lease.mac)?;
    name(&lease.hostname)?;
    // Both become header values of the metadata proxy.
    [&lease.device_id, &lease.project_id].into_iter().try_for_each(|text| match text.is_empty() {
        true => Ok(()),
        false => header(text),
    })
}

fn port_is_sound(port: &Port, networks: &BTreeSet<String>) -> Result<(), String> {
    id(&port.id)?;
    mac(&port.mac)?;
    device(&port.tap)?;
    known(&port.network, networks)?;
    let security = port.security.iter();
    security.clone().flat_map(|security| &security.groups).try_for_each(|group| id(group))?;
    security.flat_map(|security| &security.allowed_pairs).filter_map(|pair| pair.mac.as_deref()).try_for_each(mac)
}

fn rule_is_sound(rule: &contract::network::Rule) -> bool {
    match &rule.remote {
        contract::network::RemoteEnd::Group { group } => id(group).is_ok(),
        _ => true,
    }
}

fn router_is_sound(router: &Router, networks: &BTreeSet<String>) -> Result<(), String> {
    uuid(&router.id)?;
    for Interface { port, network, mac: address, .. } in &router.interfaces {
        id(port)?;
        mac(address)?;
        known(network, networks)?;
    }
    if let Some(gateway) = &router.gateway {
        id(&gateway.port)?;
        mac(&gateway.mac)?;
        known(&gateway.network, networks)?;
    }
    router.leases.iter().try_for_each(lease_is_sound)
}

fn id(text: &str) -> Result<(), String> {
    let sound = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    one_of(text, LONGEST_ID, sound, "an identifier")
}

fn uuid(text: &str) -> Result<(), String> {
    const UUID: usize = 36;
    match text.len() == UUID {
        true => one_of(text, UUID, |b| b.is_ascii_hexdigit() || b == b'-', "a UUID"),
        false => Err(format!("{:?} is not a UUID", clipped(text))),
    }
}

fn mac(text: &str) -> Result<(), String> {
    let parts: Vec<&str> = text.split(':').collect();
    let sound = |part: &&str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
    match parts.len() == 6 && parts.iter().all(sound) {
        true => Ok(()),
        false => Err(format!("{:?} is not a MAC address", clipped(text))),
    }
}

fn device(text: &str) -> Result<(), String> {
    let sound = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    one_of(text, LONGEST_DEVICE, sound, "a device name")
}

fn name(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Ok(());
    }
    one_of(text, LONGEST_NAME, |b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'), "a host name")
}

fn header(text: &str) -> Result<(), String> {
    one_of(text, LONGEST_NAME, |b| b.is_ascii_graphic(), "a header value")
}

fn known(network: &str, networks: &BTreeSet<String>) -> Result<(), String> {
    match networks.contains(network) {
        true => Ok(()),
        false => Err(format!("its network {:?} is not in the order", clipped(network))),
    }
}

fn one_of(text: &str, longest: usize, sound: impl Fn(u8) -> bool, what: &str) -> Result<(), String> {
    match !text.is_empty() && text.len() <= longest && !text.starts_with('-') && text.bytes().all(sound) {
        true => Ok(()),
        false => Err(format!("{:?} is not {what}", clipped(text))),
    }
}

fn clipped(text: &str) -> String {
    text.chars().take(LONGEST_ID).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::network::Segment;

    const NET: &str = "11111111-1111-4111-8111-111111111111";

    #[test]
    fn a_port_whose_device_is_a_command_is_refused_and_the_rest_is_done() {
        let network =
            Network { id: NET.into(), segment: Segment::Local, mtu: 1500, peers: vec![], remote: vec![], dhcp: None };
        let port = |tap: &str| Port {
            id: format!("port-of-{}", tap.len()),
            network: NET.into(),
            mac: "52:54:00:00:00:01".into(),
            tap: tap.into(),
            admin_state_up: true,
            addresses: vec![],
            security: None,
        };
        let ports = vec![port("tap1"), port("tap1 up\nlink del eth0")];
        let (good, refused) = accept(&Desired { networks: vec![network], ports, ..Desired::default() });
        assert_eq!(good.ports.len(), 1);
        assert_eq!(refused.len(), 1);
        assert!(refused[0].what.contains("is not a device name"), "{}", refused[0].what);
    }
}
