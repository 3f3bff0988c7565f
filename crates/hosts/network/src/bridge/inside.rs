//! Addresses and routes inside a namespace that is all ours: what is there and not wanted is taken away.

use std::collections::BTreeSet;
use std::net::IpAddr;

use contract::network::Failure;
use ipnet::IpNet;

use super::links::{Addresses, Batch};
use super::space::{Error, Space};

/// What a namespace of a network or router should hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Inside {
    /// Devices with their addresses; `lo` keeps its own beside these.
    pub devices: Vec<(String, u32, Vec<IpNet>)>,
    pub routes: Vec<Wanted>,
    /// Kernel settings, set before any address is.
    pub settings: Vec<(String, &'static str)>,
    /// The device that tells its neighbours after an address was added, with its MAC.
    pub announce: Option<(String, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Wanted {
    pub destination: IpNet,
    pub via: IpAddr,
    /// The device to use where the next hop is in no subnet of ours.
    pub on_link: Option<String>,
}

impl Inside {
    fn has_ipv6(&self) -> bool {
        let addresses = self.devices.iter().flat_map(|(_, _, addresses)| addresses);
        addresses.map(IpNet::addr).any(|address| address.is_ipv6())
            || self.routes.iter().any(|route| route.via.is_ipv6())
    }

    /// Compares and repairs with as few processes as differences ask for.
    pub(crate) fn arrange(&self, id: &str, space: &Space, strays: &[String]) -> Result<Vec<Failure>, Error> {
        space.set(&self.settings)?;
        let found = Addresses::read(space, self.has_ipv6())?;
        let mut batch = Batch::default();
        if found.link("lo").is_none_or(|lo| !lo.is_up()) {
            batch.add(id, "link set dev lo up");
        }
        strays.iter().for_each(|device| batch.add(id, format!("link del dev {device}")));
        let mut announce = false;
        for (device, mtu, wanted) in &self.devices {
            announce |= address(id, device, *mtu, wanted, &found, &mut batch)
                && self.announce.as_ref().is_some_and(|(name, _)| name == device);
        }
        self.route(id, &found, &mut batch);
        if let (true, Some((device, mac))) = (announce, &self.announce) {
            // With `arp_notify`, the kernel tells the neighbours of all addresses when the MAC is set, even to the same.
            batch.add(id, format!("link set dev {device} address {mac}"));
        }
        batch.run(space, "ip")
    }

    fn route(&self, id: &str, found: &Addresses, batch: &mut Batch) {
        let there = found.routes.iter().filter(|route| route.protocol != "kernel");
        let there = there.filter(|route| self.devices.iter().any(|(device, ..)| *device == route.device));
        let there: BTreeSet<(IpNet, Option<IpAddr>)> = there.map(|route| (route.destination, route.via)).collect();
        let wanted: BTreeSet<(IpNet, Option<IpAddr>)> =
            self.routes.iter().map(|route| (route.destination.trunc(), Some(route.via))).collect();
        for (destination, via) in there.difference(&wanted) {
            let via = via.map(|via| format!(" via {via}")).unwrap_or_default();
            batch.add(id, format!("route del {destination}{via}"));
        }
        for route in self.routes.iter().filter(|r| !there.contains(&(r.destination.trunc(), Some(r.via)))) {
            let on_link = route.on_link.as_ref().map(|device| format!(" dev {device} onlink")).unwrap_or_default();
            let (destination, via) = (route.destination.trunc(), route.via);
            batch.add(id, format!("route append {destination} via {via}{on_link} proto static"));
        }
    }
}

/// Whether an address was added.
fn address(id: &str, device: &str, mtu: u32, wanted: &[IpNet], found: &Addresses, batch: &mut Batch) -> bool {
    if device != "lo" {
        let link = found.link(device);
        if link.is_none_or(|link| !link.is_up() || link.mtu != mtu) {
            batch.add(id, format!("link set dev {device} mtu {mtu} up"));
        }
    }
    let there: BTreeSet<IpNet> = found.of(device).filter(|address| !address.addr().is_loopback()).collect();
    let wanted: BTreeSet<IpNet> = wanted.iter().copied().collect();
    for address in there.difference(&wanted) {
        batch.add(id, format!("address del {address} dev {device}"));
    }
    for address in wanted.difference(&there) {
        // Nobody else has the address: the controller gave it to us alone.
        let unchecked = if address.addr().is_ipv6() { " nodad" } else { "" };
        batch.add(id, format!("address add {address} dev {device}{unchecked}"));
    }
    wanted.difference(&there).next().is_some()
}
