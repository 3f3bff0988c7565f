//! Arithmetic on addresses and networks, the same for both families.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};

pub fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

/// The address with this number, in the family of `like`.
pub fn address(number: u128, like: &IpNet) -> IpAddr {
    match like {
        IpNet::V4(_) => Ipv4Addr::from(number as u32).into(),
        IpNet::V6(_) => Ipv6Addr::from(number).into(),
    }
}

/// The first and the last number of a network, whatever they stand for.
pub fn bounds(net: &IpNet) -> (u128, u128) {
    (number(net.network()), number(net.broadcast()))
}

pub fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(other) || other.contains(one)
}

pub fn version(net: &IpNet) -> i64 {
    if net.addr().is_ipv4() { 4 } else { 6 }
}

/// Whether a port may have this address: inside, and in IPv4 neither the network's nor the broadcast address.
pub fn usable(net: &IpNet, address: IpAddr) -> bool {
    let ends = net.addr().is_ipv4() && net.prefix_len() < 31;
    net.contains(&address) && !(ends && (address == net.network() || address == net.broadcast()))
}

/// The address that a host with this MAC gives itself (RFC 4291, modified EUI-64).
pub fn automatic(net: &Ipv6Net, mac: &str) -> Option<Ipv6Addr> {
    let bytes: Vec<u8> = mac.split(':').filter_map(|part| u8::from_str_radix(part, 16).ok()).collect();
    let [a, b, c, d, e, f] = bytes.try_into().ok()?;
    let interface = u64::from_be_bytes([a ^ 0x02, b, c, 0xff, 0xfe, d, e, f]);
    Some(Ipv6Addr::from(u128::from(net.network()) | u128::from(interface)))
}

/// The network that a text names, with the bits behind its length cleared.
pub fn net(text: &str) -> Option<IpNet> {
    text.parse::<IpNet>().ok().map(|net| net.trunc())
}

/// An address or a network; a lone address is a network of its own.
pub fn net_or_address(text: &str) -> Option<IpNet> {
    text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_gives_itself_its_address() {
        let prefix: Ipv6Net = "fd00:1::/64".parse().unwrap();
        assert_eq!(automatic(&prefix, "fa:16:3e:f0:42:9f").unwrap().to_string(), "fd00:1::f816:3eff:fef0:429f");
    }

    #[test]
    fn ends_of_a_network_are_nobodys() {
        let net: IpNet = "10.0.0.0/24".parse().unwrap();
        let usable = |text: &str| usable(&net, text.parse().unwrap());
        assert!(usable("10.0.0.1") && !usable("10.0.0.0") && !usable("10.0.0.255") && !usable("10.0.1.1"));
        assert_eq!(address(number("10.0.0.7".parse().unwrap()), &net).to_string(), "10.0.0.7");
    }
}
