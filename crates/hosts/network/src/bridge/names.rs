//! What devices and namespaces are called. Names follow upstream's Linux-bridge agent, so that an operator knows them.
//!
//! A device name has at most 15 characters: a prefix and the first 11 of an id.

/// Marks a device as ours, together with what it is for.
const ALIAS: &str = "ferrostack";
const ID_PART: usize = 11;
const LONGEST_DEVICE: usize = 15;

pub(crate) fn bridge(network: &str) -> String {
    short("brq", network)
}

/// The end of a port's wire that is in a bridge.
pub(crate) fn tap(port: &str) -> String {
    short("tap", port)
}

/// The end of a router interface's wire inside the router.
pub(crate) fn router_interface(port: &str) -> String {
    short("qr-", port)
}

pub(crate) fn router_gateway(port: &str) -> String {
    short("qg-", port)
}

pub(crate) fn dhcp_interface(port: &str) -> String {
    short("ns-", port)
}

pub(crate) fn vxlan(vni: u32) -> String {
    format!("vxlan-{vni}")
}

/// `eth1.100`, or something short where that does not fit.
pub(crate) fn vlan(interface: &str, tag: u16) -> String {
    let full = format!("{interface}.{tag}");
    if full.len() <= LONGEST_DEVICE {
        return full;
    }
    let folded = interface.bytes().fold(0x811c_9dc5_u32, |sum, byte| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("v{folded:08x}.{tag}")
}

/// The name of a network's bridge, where the bridge is ours.
pub(crate) fn alias(network: &str) -> String {
    format!("{ALIAS}:{network}")
}

/// The MAC of the bridge's end of a port's wire: so high that the bridge never takes it for its own, since a bridge
/// that changes its MAC is lost to its neighbours for a while.
pub(crate) fn outer_mac(mac: &str) -> String {
    const HIGH: &str = "fe";
    const OTHER: &str = "ee";
    let first = if mac.to_lowercase().starts_with(HIGH) { OTHER } else { HIGH };
    format!("{first}{}", mac.get(HIGH.len()..).unwrap_or_default()).to_lowercase()
}

/// Marks the wire of a guest, which is the hypervisor's, as one that we have connected.
pub(crate) fn port_alias(port: &str) -> String {
    format!("{ALIAS}-port:{port}")
}

pub(crate) fn is_connected_by_us(alias: &str) -> bool {
    alias.strip_prefix(ALIAS).is_some_and(|rest| rest.starts_with("-port:"))
}

/// What an alias says the device is for, if the device is ours.
pub(crate) fn is_ours(alias: &str) -> bool {
    alias.split(':').next() == Some(ALIAS)
}

pub(crate) fn dhcp_space(network: &str, host: Option<&str>) -> String {
    within("qdhcp-", network, host)
}

pub(crate) fn router_space(router: &str, host: Option<&str>) -> String {
    within("qrouter-", router, host)
}

/// The network or router that a namespace of this host belongs to.
///
/// Several hosts share one machine in tests and demos: the namespaces of a host that is itself in a namespace end in
/// that one's name.
pub(crate) fn owner<'a>(space: &'a str, prefix: &str, host: Option<&str>) -> Option<&'a str> {
    const UUID: usize = 36;
    let rest = space.strip_prefix(prefix)?;
    let (id, suffix) = (rest.get(..UUID)?, rest.get(UUID..)?);
    let mine = match host {
        None => suffix.is_empty(),
        Some(name) => suffix.strip_prefix('-') == Some(name),
    };
    (mine && id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')).then_some(id)
}

fn short(prefix: &str, id: &str) -> String {
    let part: String = id.chars().take(ID_PART).collect();
    format!("{prefix}{part}")
}

fn within(prefix: &str, id: &str, host: Option<&str>) -> String {
    match host {
        None => format!("{prefix}{id}"),
        Some(name) => format!("{prefix}{id}-{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0a1b2c3d-4e5f-6789-abcd-ef0123456789";

    #[test]
    fn device_names_fit_the_kernel() {
        for name in [bridge(ID), tap(ID), router_gateway(ID), vxlan(16_777_215), vlan("enp0s31f6.long", 4094)] {
            assert!(name.len() <= LONGEST_DEVICE, "{name}");
        }
        assert_eq!(bridge(ID), "brq0a1b2c3d-4e");
        assert_eq!(vlan("eth1", 100), "eth1.100");
    }

    #[test]
    fn a_host_knows_its_own_namespaces_only() {
        let of_one = dhcp_space(ID, Some("cn1"));
        assert_eq!(owner(&of_one, "qdhcp-", Some("cn1")), Some(ID));
        assert_eq!(owner(&of_one, "qdhcp-", Some("cn11")), None);
        assert_eq!(owner(&of_one, "qdhcp-", None), None);
        assert_eq!(owner(&of_one, "qrouter-", Some("cn1")), None);
        assert_eq!(owner(&dhcp_space(ID, None), "qdhcp-", None), Some(ID));
    }
}
