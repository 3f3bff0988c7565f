//! Bridges, uplinks and the wires of guests: what should be in the host's own namespace, against what is there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use contract::network::{Desired, Failure, Network, Segment};
use ipnet::IpNet;

use super::links::{self, Addresses, Batch, Entry, Link, Links};
use super::space::{Error, Space};
use super::{Settings, names};

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
    links.get(interface).ok_or_else(missing)
}

/// Makes the bridge and the uplink of a network what they should be.
pub(crate) fn connect(
    network: &Network,
    place: &Place,
    settings: &Settings,
    links: &Links,
    batch: &mut Batch,
) -> Result<(), Error> {
    let (id, bridge) = (network.id.as_str(), place.bridge.as_str());
    if place.bridge_is_ours {
        let options = "type bridge stp_state 0 forward_delay 0 mcast_snooping 0";
        if !links.has(bridge) {
            batch.add(id, format!("link add dev {bridge} {options}"));
        }
        adjust(bridge, None, place.mtu, Some(&names::alias(id)), links, batch, id);
    }
    match &network.segment {
        Segment::Local => {}
        Segment::Vxlan { vni } => vxlan(*vni, place, settings, links, batch),
        Segment::Flat { .. } => flat(place, settings, links, batch)?,
        Segment::Vlan { physical, tag } => {
            let (Some(uplink), Some(parent)) = (&place.uplink, settings.physical_interface_mappings.get(physical))
            else {
                return Ok(());
            };
            if !links.has(uplink) {
                batch.add(id, format!("link add link {parent} name {uplink} type vlan id {tag}"));
            }
            adjust(uplink, Some(bridge), place.mtu, Some(&names::alias(id)), links, batch, id);
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
    adjust_from(before, &device, Some(&place.bridge), place.mtu, Some(&names::alias(id)), batch, id);
    if before.is_none_or(|link| link.master.as_deref() != Some(&place.bridge)) {
        batch.add(id, format!("link set dev {device} type bridge_slave learning off"));
    }
}

/// Puts the physical interface into the bridge. Upstream: what addresses it has move to the bridge.
fn flat(place: &Place, settings: &Settings, links: &Links, batch: &mut Batch) -> Result<(), Error> {
    let Some(uplink) = &place.uplink else { return Ok(()) };
    let Some(link) = links.get(uplink) else { return Ok(()) };
    let joined = link.master.as_deref() == Some(&place.bridge);
    if !joined {
        let has = Addresses::read(&settings.space(), true)?;
        // Neighbours keep the MAC that they know the addresses by, and ports that join later do not change it.
        batch.add(&place.network, format!("link set dev {} address {}", place.bridge, link.address));
        batch.add(&place.network, format!("link set dev {uplink} master {} up", place.bridge));
        move_addresses(&has, uplink, &place.bridge, &place.network, batch);
    } else if !link.is_up() {
        batch.add(&place.network, format!("link set dev {uplink} up"));
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
    for port in &desired.ports {
        let (Some(place), Some(link)) = (places.get(&port.network), links.get(&port.tap)) else { continue };
        if !allowed(&port.id) {
            continue;
        }
        if port.admin_state_up {
            adjust(&port.tap, Some(&place.bridge), place.mtu, None, links, batch, &port.id);
        } else if link.is_up() {
            batch.add(&port.id, format!("link set dev {} down", port.tap));
        }
    }
    let taps: BTreeSet<&str> = desired.ports.iter().map(|port| port.tap.as_str()).collect();
    for place in places.values() {
        for link in links.ports_of(&place.bridge) {
            let stranger = link.ifname.starts_with("tap") && !names::is_ours(&link.ifalias);
            if stranger && !taps.contains(link.ifname.as_str()) && place.bridge_is_ours {
                batch.add(&place.network, format!("link set dev {} nomaster", link.ifname));
            }
        }
    }
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
        batch.add(&link.ifname, format!("link del dev {}", link.ifname));
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
    adjust_from(before, outside, Some(&place.bridge), place.mtu, Some(&names::alias(id)), batch, id);
}

fn adjust(
    device: &str,
    bridge: Option<&str>,
    mtu: u32,
    alias: Option<&str>,
    links: &Links,
    batch: &mut Batch,
    id: &str,
) {
    adjust_from(links.get(device), device, bridge, mtu, alias, batch, id);
}

/// One line that sets what differs on a device.
fn adjust_from(
    found: Option<&Link>,
    device: &str,
    bridge: Option<&str>,
    mtu: u32,
    alias: Option<&str>,
    batch: &mut Batch,
    id: &str,
) {
    let mut words = Vec::new();
    if let Some(bridge) = bridge.filter(|bridge| found.is_none_or(|link| link.master.as_deref() != Some(*bridge))) {
        words.push(format!("master {bridge}"));
    }
    if found.is_none_or(|link| link.mtu != mtu) {
        words.push(format!("mtu {mtu}"));
    }
    if let Some(alias) = alias.filter(|alias| found.is_none_or(|link| link.ifalias != *alias)) {
        words.push(format!("alias {alias}"));
    }
    if found.is_none_or(|link| !link.is_up()) {
        words.push("addrgenmode none up".into());
    }
    if !words.is_empty() {
        batch.add(id, format!("link set dev {device} {}", words.join(" ")));
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
