//! The wires of a host: networks, ports, filters, routers, addresses.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Everything that one host should have; what is ours on the host and not in here is removed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Desired {
    /// A host refuses an order with an older one than it has applied.
    pub generation: u64,
    pub networks: Vec<Network>,
    pub ports: Vec<Port>,
    pub groups: Vec<Group>,
    pub routers: Vec<Router>,
    /// Where the metadata proxy sends requests, and the secret that signs them.
    pub metadata: Option<Metadata>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Network {
    pub id: String,
    pub segment: Segment,
    pub mtu: u32,
    /// The other hosts that have ports on this network, by their tunnel addresses.
    pub peers: Vec<IpAddr>,
    /// Ports that live on other hosts: where their frames must go.
    pub remote: Vec<Remote>,
    pub dhcp: Option<Dhcp>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum Segment {
    Flat {
        physical: String,
    },
    Vlan {
        physical: String,
        tag: u16,
    },
    Vxlan {
        vni: u32,
    },
    /// Only ports of one host reach each other.
    Local,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remote {
    pub mac: String,
    pub host: IpAddr,
}

/// DHCP of a network. Every host with a port of the network answers for its own ports from the same address.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Dhcp {
    /// The network's DHCP port.
    pub port: String,
    pub mac: String,
    pub addresses: Vec<IpNet>,
    pub subnets: Vec<Subnet>,
    pub leases: Vec<Lease>,
    /// For example `openstacklocal.`; names are `host-10-0-0-5` without a DNS name.
    pub domain: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Subnet {
    pub id: String,
    pub cidr: IpNet,
    pub dhcp: bool,
    pub gateway: Option<IpAddr>,
    pub dns: Vec<IpAddr>,
    pub routes: Vec<Route>,
    /// `slaac`, `dhcpv6-stateful`, `dhcpv6-stateless` or none.
    pub ipv6_address_mode: Option<String>,
    pub ipv6_ra_mode: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    pub destination: IpNet,
    pub nexthop: IpAddr,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub port: String,
    pub mac: String,
    pub addresses: Vec<IpAddr>,
    pub hostname: String,
    /// The server behind the port, for the metadata proxy.
    pub device_id: String,
    pub project_id: String,
}

/// A port of a guest on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    pub id: String,
    pub network: String,
    pub mac: String,
    /// The device that carries it; made by the hypervisor, wired by the network agent when it appears.
    pub tap: String,
    pub admin_state_up: bool,
    pub addresses: Vec<IpAddr>,
    /// None means port security is off: no filter and no anti-spoofing.
    pub security: Option<Security>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Security {
    /// Group ids, which stand in [`Desired::groups`].
    pub groups: Vec<String>,
    /// Addresses beside its own from which the port may send; a MAC of none means the port's own.
    pub allowed_pairs: Vec<AllowedPair>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllowedPair {
    pub mac: Option<String>,
    pub address: IpNet,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    pub id: String,
    pub rules: Vec<Rule>,
    /// Addresses of all ports that are in this group, on any host; only filled where a rule refers to the group.
    pub members: Vec<IpNet>,
    pub stateful: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    pub id: String,
    pub direction: Direction,
    pub ethertype: Ethertype,
    /// An IP protocol number; none means any.
    pub protocol: Option<u8>,
    /// For TCP, UDP, SCTP, DCCP, UDP-Lite: ports; for ICMP: type and code.
    pub port_min: Option<u16>,
    pub port_max: Option<u16>,
    pub remote: RemoteEnd,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    Ingress,
    Egress,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ethertype {
    IPv4,
    IPv6,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum RemoteEnd {
    Any,
    Prefix { prefix: IpNet },
    Group { group: String },
}

/// A router that this host carries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Router {
    pub id: String,
    pub admin_state_up: bool,
    pub interfaces: Vec<Interface>,
    pub gateway: Option<Gateway>,
    pub floating: Vec<Floating>,
    pub routes: Vec<Route>,
    /// The project and the guests behind the interfaces, for the metadata proxy of networks without DHCP.
    pub leases: Vec<Lease>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    pub port: String,
    pub network: String,
    pub mac: String,
    pub addresses: Vec<IpNet>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gateway {
    pub port: String,
    pub network: String,
    pub mac: String,
    pub addresses: Vec<IpNet>,
    pub next_hops: Vec<IpAddr>,
    pub snat: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Floating {
    pub id: String,
    pub floating: IpAddr,
    pub fixed: IpAddr,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// `http://host:8775`.
    pub url: String,
    pub shared_secret: String,
}

/// What a network agent says about its host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    pub uuid: String,
    pub name: String,
    /// Where other hosts send VXLAN frames.
    pub tunnel_address: IpAddr,
    /// The physical networks that this host is joined to, with their interfaces.
    pub physical: Vec<Physical>,
    /// What the kernel here cannot do, in words (`no 802.1Q devices`).
    pub lacks: Vec<String>,
    /// `bridge` or `fake`.
    pub driver: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Physical {
    pub network: String,
    pub interface: String,
}

/// What a host has applied.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub generation: u64,
    /// Ports whose tap is there, wired and filtered: the network service sends `network-vif-plugged` for new ones.
    pub wired: Vec<String>,
    /// Ports whose tap is gone.
    pub unwired: Vec<String>,
    /// Routers that forward.
    pub routers: Vec<String>,
    /// What could not be done, by the id of the port, network or router.
    pub errors: Vec<Failure>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub id: String,
    pub what: String,
}
