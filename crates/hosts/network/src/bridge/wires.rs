//! Bridges, uplinks and the wires of guests: what should be in the host's own namespace, against what is there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use contract::network::{Desired, Failure, Network, Segment};
use ipnet::IpNet;

use super::links::{self, Addresses, Batch, Entry, Link, Links};
use super::space::{Error, Space};
use super::{Settings, names};
use crate::Look;

const VXLAN_PORT: u16 = 4789;
/// The forwarding entry for what has no entry: broadcast, multicast and the unknown.
const EVERYBODY: &str = "00:00:00:00:00:00";

/// Where a network is on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub network: String,
    pub bridge: String,
    /// The operator's own bridge is used as it is and never removed.
    pub bridge_is_ours: bool,
    pub uplink: Option<String>,
    pub mtu: u32,
}

/// Finds the place of every network; a network that cannot have one is a failure.
pub(crate) fn places(desired: &Desired, settings: &Settings, links: &Links) -> (BTreeMap<String, Place>, Vec<Failure>) {
    let (mut places, mut failures) = (BTreeMap::new(), Vec::new());
    for network in &desired.networks {
        match place(network, settings, links) {
            Ok(place) => drop(places.insert(network.id.clone(), place)),
            Err(what) => failures.push(Failure { id: network.id.clone(), what }),
        }
    }
    (places, failures)
}

fn place(network: &Network, settings: &Settings, links: &Links) -> Result<Place, String> {
    let mut place = Place {
        network: network.id.clone(),
        bridge: names::bridge(&network.id),
        bridge_is_ours: true,
        uplink: None,
        mtu: network.mtu,
    };
    match &network.segment {
        Segment::Local => {}
        Segment::Vxlan { vni } => place.uplink = Some(names::vxlan(*vni)),
        Segment::Flat { physical } => {
            let interface = physical_interface(physical, settings, links)?;
            match interface.kind() == "bridge" {
                true => (place.bridge, place.bridge_is_ours) = (interface.ifname.clone(), false),
                false => place.uplink = Some(interface.ifname.clone()),
            }
        }
        Segment::Vlan { physical, tag } => {
            let interface = physical_interface(physical, settings, links)?;
            place.uplink = Some(names::vlan(&interface.ifname, *tag));
        }
    }
    Ok(place)
}

fn physical_interface<'a>(physical: &str, settings: &Settings, links: &'a Links) -> Result<&'a Link, String> {
    let Some(interface) = settings.physical_interface_mappings.get(physical) else {
        return Err(format!("this host is not joined to the physical network {physical:?}"));
    };
    let missing = || format!("the interface {interface} of the physical network {physical:?} is not there");
    let link = links.get(interface).ok_or_else(missing)?;
    // An interface of the operator's bridge is not torn out of it.
    match link.master.as_ref().and_then(|master| links.get(master)) {
        Some(master) if !names::is_ours(&master.ifalias) && !master.ifname.starts_with("brq") => {
            let bridge = &master.ifname;
            Err(format!("the interface {interface} is part of {bridge}: map {physical:?} to {bridge} instead"))
        }
        _ => Ok(link),
    }
}

/// Makes the bridge and the uplink of a network what they should be.
pub(crate) fn connect(
    network: &Network,
    place: &Place,
    settings: &Settings,
    (links, look): (&Links, Look),
    batch: &mut Batch,
) -> Result<(), Error> {
    let (id, bridge) = (network.id.as_str(), place.bridge.as_str());
    if place.bridge_is_ours {
        let options = "type bridge stp_state 0 forward_delay 0 mcast_snooping 0";
        if !links.has(bridge) {
            batch.add(id, format!("link add dev {bridge} {options}"));
        }
        Wanted::of(place, None).adjust(id, bridge, links.get(bridge), batch);
    }
    match &network.segment {
        Segment::Local => {}
        Segment::Vxlan { vni } => vxlan(*vni, place, settings, links, batch),
        Segment::Flat { .. } => flat(place, settings, links, look, batch)?,
        Segment::Vlan { physical, tag } => {
            let (Some(uplink), Some(parent)) = (&place.uplink, settings.physical_interface_mappings.get(physical))
            else {
                return Ok(());
            };
            if !links.has(uplink) {
                batch.add(id, format!("link add link {parent} name {uplink} type vlan id {tag}"));
            }
            Wanted::of(place, Some(bridge)).adjust(id, uplink, links.get(uplink), batch);
        }
    }
    Ok(())
}

fn vxlan(vni: u32, place: &Place, settings: &Settings, links: &Links, batch: &mut Batch) {
    let (id, device, local) = (place.network.as_str(), names::vxlan(vni), settings.tunnel_address);
    let found = links.get(&device);
    let right = found.is_some_and(|link| link.vxlan() == Some((u64::from(vni), local.to_string().as_str())));
    let before = if right { found } else { None };
    if found.is_some() && !right {
        batch.add(id, format!("link del dev {device}"));
    }
    if before.is_none() {
        let options = format!("id {vni} local {local} dstport {VXLAN_PORT} nolearning");
        batch.add(id, format!("link add dev {device} mtu {} type vxlan {options}", place.mtu));
    }
    Wanted::of(place, Some(&place.bridge)).adjust(id, &device, before, batch);
    if before.is_none_or(|link| link.master.as_deref() != Some(&place.bridge)) {
        batch.add(id, format!("link set dev {device} type bridge_slave learning off"));
    }
}

/// Puts the physical interface into the bridge. Upstream: what addresses it has move to the bridge.
fn flat(place: &Place, settings: &Settings, links: &Links, look: Look, batch: &mut Batch) -> Result<(), Error> {
    let Some(uplink) = &place.uplink else { return Ok(()) };
    let Some(link) = links.get(uplink) else { return Ok(()) };
    let joined = link.master.as_deref() == Some(&place.bridge);
    if !joined {
        // Neighbours keep the MAC that they know the addresses by, and ports that join later do not change it.
        batch.add(&place.network, format!("link set dev {} address {}", place.bridge, link.address));
        batch.add(&place.network, format!("link set dev {uplink} master {} up", place.bridge));
    } else if !link.is_up() {
        batch.add(&place.network, format!("link set dev {uplink} up"));
    }
    if !joined || look == Look::Everything {
        let has = Addresses::read(&settings.space(), true)?;
        move_addresses(&has, uplink, &place.bridge, &place.network, batch);
    }
    Ok(())
}

/// Moves addresses, and the routes through them, from one device to another.
fn move_addresses(has: &Addresses, from: &str, to: &str, id: &str, batch: &mut Batch) {
    let addresses: Vec<IpNet> = has.of(from).collect();
    for address in &addresses {
        batch.add(id, format!("address add {address} dev {to}"));
        batch.add(id, format!("address del {address} dev {from}"));
    }
    let routes = has.routes.iter().filter(|route| route.device == from && route.protocol != "kernel");
    for route in routes.filter(|_| !addresses.is_empty()) {
        let via = route.via.map(|via| format!(" via {via}")).unwrap_or_default();
        batch.add(id, format!("route replace {}{via} dev {to} proto {}", route.destination, route.protocol));
    }
}

/// Bridges of networks that live only here must not make the host a neighbour of its guests.
pub(crate) fn hide(places: &BTreeMap<String, Place>, desired: &Desired, space: &Space) -> Result<(), Error> {
    let hidden = desired.networks.iter().filter(|network| !matches!(network.segment, Segment::Flat { .. }));
    let bridges = hidden.filter_map(|network| places.get(&network.id));
    let settings: Vec<(String, &str)> =
        bridges.map(|place| (format!("net/ipv6/conf/{}/disable_ipv6", place.bridge), "1")).collect();
    space.set(&settings)
}

/// Wires the devices of ports and takes those of others out of our bridges. Only `allowed` ports are connected.
pub(crate) fn wire(
    desired: &Desired,
    places: &BTreeMap<String, Place>,
    allowed: impl Fn(&str) -> bool,
    links: &Links,
    batch: &mut Batch,
) {
    let mut adjusted = Batch::default();
    for port in &desired.ports {
        let (Some(place), Some(link)) = (places.get(&port.network), links.get(&port.tap)) else { continue };
        if !allowed(&port.id) {
            continue;
        }
        if port.admin_state_up {
            let (alias, mac) = (names::port_alias(&port.id), Some(names::outer_mac(&port.mac)));
            let wanted = Wanted { alias, mac, ..Wanted::of(place, Some(&place.bridge)) };
            wanted.adjust(&port.id, &port.tap, Some(link), &mut adjusted);
        } else if link.is_up() {
            adjusted.add(&port.id, format!("link set dev {} down", port.tap));
        }
    }
    let taps: BTreeSet<&str> = desired.ports.iter().map(|port| port.tap.as_str()).collect();
    let connected = links.all().filter(|link| link.master.is_some() && names::is_connected_by_us(&link.ifalias));
    for link in connected.filter(|link| !taps.contains(link.ifname.as_str())) {
        adjusted.add(&link.ifname, format!("link set dev {} nomaster", link.ifname));
    }
    // A guest's device may go at any moment; that it went is heard of, and is no failure.
    batch.add_fleeting(adjusted);
}

/// Removes our devices that nobody wants, giving a physical interface back what its bridge had of it.
pub(crate) fn remove(
    wanted: &BTreeSet<String>,
    settings: &Settings,
    links: &Links,
    batch: &mut Batch,
) -> Result<(), Error> {
    let ours = links.all().filter(|link| names::is_ours(&link.ifalias) && !wanted.contains(&link.ifname));
    for link in ours {
        let physical = settings.physical_interface_mappings.values();
        let uplink =
            physical.filter_map(|name| links.get(name)).find(|port| port.master.as_deref() == Some(&link.ifname));
        if let (Some(uplink), "bridge") = (uplink, link.kind()) {
            let has = Addresses::read(&settings.space(), true)?;
            batch.add(&link.ifname, format!("link set dev {} nomaster", uplink.ifname));
            move_addresses(&has, &link.ifname, &uplink.ifname, &link.ifname, batch);
        }
        // The other end may just have gone, and this one with it.
        let mut gone = Batch::default();
        gone.add(&link.ifname, format!("link del dev {}", link.ifname));
        batch.add_fleeting(gone);
    }
    Ok(())
}

/// A wire into a namespace: `outside` in the bridge, `inside` in `space`.
pub(crate) struct Wire<'a> {
    pub id: &'a str,
    pub outside: &'a str,
    pub inside: &'a str,
    pub mac: &'a str,
    pub space: &'a str,
    pub place: &'a Place,
}

/// Makes a wire, or repairs its outer end. `whole` says that the inner end is where it should be.
pub(crate) fn lay(wire: &Wire, whole: bool, links: &Links, batch: &mut Batch) {
    let Wire { id, outside, inside, mac, space, place } = wire;
    let found = links.get(outside);
    if found.is_some() && !whole {
        batch.add(id, format!("link del dev {outside}"));
    }
    let before = if whole { found } else { None };
    if before.is_none() {
        let mtu = place.mtu;
        let peer = format!("peer name {inside} mtu {mtu} address {mac} netns {space}");
        batch.add(id, format!("link add dev {outside} mtu {mtu} type veth {peer}"));
    }
    let (alias, mac) = (names::alias(id), Some(names::outer_mac(mac)));
    Wanted { alias, mac, ..Wanted::of(place, Some(&place.bridge)) }.adjust(id, outside, before, batch);
}

/// What a device of the host should be.
struct Wanted<'a> {
    bridge: Option<&'a str>,
    mtu: u32,
    alias: String,
    mac: Option<String>,
}

impl<'a> Wanted<'a> {
    /// A device of a network's own, such as its bridge; its place says where it belongs.
    fn of(place: &'a Place, bridge: Option<&'a str>) -> Wanted<'a> {
        Wanted { bridge, mtu: place.mtu, alias: names::alias(&place.network), mac: None }
    }

    /// Adds one line that sets what differs on a device; `found` is none for one that was just made.
    fn adjust(&self, id: &str, device: &str, found: Option<&Link>, batch: &mut Batch) {
        let mut words = Vec::new();
        if let Some(mac) = self.mac.as_ref().filter(|mac| found.is_none_or(|link| link.address != **mac)) {
            words.push(format!("address {mac}"));
        }
        if let Some(bridge) = self.bridge.filter(|one| found.is_none_or(|link| link.master.as_deref() != Some(*one))) {
            words.push(format!("master {bridge}"));
        }
        if found.is_none_or(|link| link.mtu != self.mtu) {
            words.push(format!("mtu {}", self.mtu));
        }
        if found.is_none_or(|link| link.ifalias != self.alias) {
            words.push(format!("alias {}", self.alias));
        }
        if found.is_none_or(|link| !link.is_up()) {
            words.push("addrgenmode none up".into());
        }
        if !words.is_empty() {
            batch.add(id, format!("link set dev {device} {}", words.join(" ")));
        }
    }
}

/// What the forwarding tables of VXLAN devices must have: where frames to everybody and to known guests go.
pub(crate) fn forward(desired: &Desired, networks: &BTreeSet<&str>, space: &Space) -> Result<Vec<Failure>, Error> {
    let found = links::forwarding(space)?;
    let mut batch = Batch::default();
    for network in desired.networks.iter().filter(|network| networks.contains(network.id.as_str())) {
        let Segment::Vxlan { vni } = network.segment else { continue };
        let device = names::vxlan(vni);
        let here: Vec<&Entry> = found.iter().filter(|entry| entry.ifname == device).collect();
        forward_network(network, &device, &here, &local_macs(desired, network), &mut batch);
    }
    batch.run(space, "bridge")
}

fn forward_network(network: &Network, device: &str, here: &[&Entry], local: &BTreeSet<String>, batch: &mut Batch) {
    let id = network.id.as_str();
    let known: BTreeMap<String, IpAddr> = network
        .remote
        .iter()
        .map(|remote| (remote.mac.to_lowercase(), remote.host))
        .filter(|(mac, _)| !local.contains(mac))
        .collect();
    let mut wanted: BTreeSet<(String, IpAddr)> = known.iter().map(|(mac, host)| (mac.clone(), *host)).collect();
    wanted.extend(network.peers.iter().map(|peer| (EVERYBODY.to_string(), *peer)));

    let outer: BTreeSet<(String, IpAddr)> = here.iter().filter_map(|e| Some((e.mac.clone(), e.dst?))).collect();
    for (mac, host) in outer.difference(&wanted) {
        batch.add(id, format!("fdb del {mac} dev {device} dst {host} self"));
    }
    for (mac, host) in wanted.difference(&outer) {
        // Only the entry for everybody may have several destinations.
        let verb = if mac == EVERYBODY { "append" } else { "replace" };
        batch.add(id, format!("fdb {verb} {mac} dev {device} dst {host} self permanent"));
    }
    let inner = here.iter().filter(|e| e.dst.is_none() && e.master.is_some() && e.state == "static");
    let inner: BTreeSet<&str> = inner.map(|e| e.mac.as_str()).collect();
    for mac in inner.iter().filter(|mac| !known.contains_key(**mac)) {
        batch.add(id, format!("fdb del {mac} dev {device} master"));
    }
    for mac in known.keys().filter(|mac| !inner.contains(mac.as_str())) {
        batch.add(id, format!("fdb replace {mac} dev {device} master static"));
    }
}

/// An address that lives here must not be sent away, even while a controller still believes it elsewhere.
fn local_macs(desired: &Desired, network: &Network) -> BTreeSet<String> {
    let id = &network.id;
    let ports = desired.ports.iter().filter(|port| port.network == *id).map(|port| &port.mac);
    let interfaces = desired.routers.iter().flat_map(|router| &router.interfaces);
    let interfaces = interfaces.filter(|interface| interface.network == *id).map(|interface| &interface.mac);
    let gateways = desired.routers.iter().filter_map(|router| router.gateway.as_ref());
    let gateways = gateways.filter(|gateway| gateway.network == *id).map(|gateway| &gateway.mac);
    let answerer = network.dhcp.iter().map(|dhcp| &dhcp.mac);
    ports.chain(interfaces).chain(gateways).chain(answerer).map(|mac| mac.to_lowercase()).collect()
}
