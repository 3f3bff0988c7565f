//! A namespace of a network's DHCP or of a router: its wires, its addresses, and what runs in it.

use std::collections::BTreeMap;

use contract::network::{Desired, Failure, Network};
use ipnet::IpNet;

use super::inside::Inside;
use super::links::{Addresses, Batch, Links};
use super::loaded::Loaded;
use super::rules::Table;
use super::space::{Error, Space};
use super::wires::{self, Place, Wire};
use super::{Settings, dhcp, names, router};
use crate::Look;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Room {
    /// Of the network or the router.
    pub id: String,
    pub space: String,
    pub wires: Vec<RoomWire>,
    pub inside: Inside,
    pub service: Service,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RoomWire {
    pub outside: String,
    pub inside: String,
    pub mac: String,
    pub place: Place,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Service {
    Dhcp(Box<Network>),
    Router(Table),
}

/// All rooms that the order asks for, where the networks they join have a place.
pub(crate) fn rooms(
    order: &Desired,
    places: &BTreeMap<String, Place>,
    settings: &Settings,
) -> (Vec<Room>, Vec<Failure>) {
    let answering = order.networks.iter().filter_map(|network| dhcp_room(network, places.get(&network.id)?, settings));
    let (mut rooms, mut failures) = (answering.collect::<Vec<Room>>(), Vec::new());
    for carried in order.routers.iter().filter(|router| router.admin_state_up) {
        let (room, failed) = router::room(carried, places, settings);
        rooms.push(room);
        failures.extend(failed);
    }
    (rooms, failures)
}

fn dhcp_room(network: &Network, place: &Place, settings: &Settings) -> Option<Room> {
    let dhcp = dhcp::serves(network)?;
    let device = names::dhcp_interface(&dhcp.port);
    let wire = RoomWire {
        outside: names::tap(&dhcp.port),
        inside: device.clone(),
        mac: dhcp.mac.to_lowercase(),
        place: place.clone(),
    };
    let metadata = IpNet::from(std::net::IpAddr::V4(dhcp::METADATA));
    let devices = vec![("lo".to_string(), 0, vec![metadata]), (device, network.mtu, dhcp.addresses.clone())];
    let settings_inside = ["default", "all"].map(|device| (format!("net/ipv6/conf/{device}/accept_ra"), "0"));
    // Where the other ports are changes often and is nothing to DHCP.
    let service = Network { peers: Vec::new(), remote: Vec::new(), ..network.clone() };
    Some(Room {
        id: network.id.clone(),
        space: names::dhcp_space(&network.id, settings.netns.as_deref()),
        wires: vec![wire],
        inside: Inside { devices, settings: settings_inside.to_vec(), ..Inside::default() },
        service: Service::Dhcp(Box::new(service)),
    })
}

/// What is remembered of a room that was made.
#[derive(Default)]
pub(crate) struct Made {
    /// The order it was made after; none while something is amiss.
    room: Option<Room>,
    loaded: Loaded,
    identity: Option<(u64, u64)>,
    /// Whether the plan left namespace and wires as they were.
    stands: bool,
    strays: Vec<String>,
}

impl Room {
    pub(crate) fn space(&self) -> Space {
        Space::named(&self.space)
    }

    /// Whether the room is as ordered, as far as can be seen without asking a program.
    pub(crate) fn is_settled(&self, made: Option<&Made>, links: &Links, settings: &Settings) -> bool {
        let Some(made) = made.filter(|made| made.room.as_ref() == Some(self)) else { return false };
        let alive = match &self.service {
            Service::Dhcp(network) => dhcp::is_alive(&settings.data_dir, &network.id, &self.space()),
            Service::Router(_) => true,
        };
        alive && self.stands(made, links)
    }

    /// Whether namespace, wires and addresses are as ordered, so that only what runs inside may differ.
    fn stands(&self, made: &Made, links: &Links) -> bool {
        let same = made.room.as_ref().is_some_and(|room| room.wires == self.wires && room.inside == self.inside);
        let identity = self.space().identity();
        let there = identity.is_some() && identity == made.identity;
        same && there && self.wires.iter().all(|wire| links.has(&wire.outside))
    }

    /// Plans what must happen in the host's namespace: the room's own namespace and its wires.
    pub(crate) fn plan(&self, look: Look, made: &mut Made, links: &Links, batch: &mut Batch) {
        made.stands = look == Look::Changes && self.stands(made, links);
        let space = self.space();
        if space.identity() != made.identity {
            made.loaded = Loaded::default();
        }
        let there = match space.exists() && !made.stands {
            true => Addresses::read(&space, false).ok(),
            false => None,
        };
        if !space.exists() {
            batch.add(&self.id, format!("netns add {}", self.space));
        }
        for wire in &self.wires {
            let inner = there.as_ref().and_then(|there| there.link(&wire.inside));
            let joined = links.has(&wire.outside) && inner.is_some_and(|link| link.address == wire.mac);
            let outer = Wire {
                id: &self.id,
                outside: &wire.outside,
                inside: &wire.inside,
                mac: &wire.mac,
                space: &self.space,
                place: &wire.place,
            };
            wires::lay(&outer, made.stands || joined, links, batch);
        }
        // An end that somebody left behind would keep the name.
        let strays = there.iter().flat_map(Addresses::links).filter(|link| {
            let wired = ["qr-", "qg-", "ns-"].iter().any(|kind| link.ifname.starts_with(kind));
            // Where the outer end is there too, it is removed with this one.
            let outer = link.ifname.get(3..).is_some_and(|part| links.has(&names::tap(part)));
            wired && !outer && !self.wires.iter().any(|wire| wire.inside == link.ifname)
        });
        made.strays = strays.map(|link| link.ifname.clone()).collect();
    }

    /// Furnishes the room once it and its wires are there.
    pub(crate) fn furnish(&self, look: Look, made: &mut Made, settings: &Settings) -> Result<Vec<Failure>, Error> {
        made.room = None;
        let space = self.space();
        let failures = if made.stands { Vec::new() } else { self.inside.arrange(&self.id, &space, &made.strays)? };
        match &self.service {
            Service::Dhcp(network) => {
                let dhcp = network.dhcp.as_ref().expect("a DHCP room is made for networks with DHCP only");
                dhcp::Server::of(network, dhcp, &settings.data_dir, space.clone()).ensure()?;
            }
            Service::Router(table) => {
                let before = made.loaded.table(router::TABLE).cloned();
                if made.loaded.ensure(&space, std::slice::from_ref(table), look)? {
                    router::forget_connections(before.as_ref(), table, &space);
                }
            }
        }
        made.identity = space.identity();
        if failures.is_empty() {
            made.room = Some(self.clone());
        }
        Ok(failures)
    }
}

/// Ends what runs in a namespace of ours and plans its removal.
pub(crate) fn remove(space: &str, settings: &Settings, batch: &mut Batch) -> Result<(), Error> {
    if let Some(network) = names::owner(space, "qdhcp-", settings.netns.as_deref()) {
        dhcp::remove(&settings.data_dir, network)?;
    }
    batch.add(space, format!("netns del {space}"));
    Ok(())
}

/// The namespaces of this host's networks and routers that are there.
pub(crate) fn found(settings: &Settings) -> Vec<String> {
    let host = settings.netns.as_deref();
    let ours = |space: &String| ["qdhcp-", "qrouter-"].iter().any(|kind| names::owner(space, kind, host).is_some());
    super::space::all().into_iter().filter(ours).collect()
}
