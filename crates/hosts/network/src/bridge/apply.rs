//! One comparison of a host with its order, from reading the machine to the report.

use std::collections::{BTreeMap, BTreeSet};

use contract::HostError;
use contract::network::{Desired, Failure, Lease, Remote, Report, Segment};

use super::filter::{self, Ground};
use super::forget;
use super::kept::Kept;
use super::links::{Batch, Links};
use super::loaded::Loaded;
use super::metadata::Proxies;
use super::room::{self, Made, Room, Service};
use super::space::{Error, Space};
use super::watch::Interest;
use super::wires::{self, Place};
use super::{Settings, Shared, dhcp, failed_ids, names, probe};
use crate::{Look, check};

/// What is remembered between comparisons, only to skip work.
pub(crate) struct State {
    kept: Kept,
    /// The mark of each guarded port.
    numbers: BTreeMap<String, u16>,
    filter: Loaded,
    /// By namespace.
    rooms: BTreeMap<String, Made>,
    /// What forwarding tables were last given, by network.
    forwarded: BTreeMap<String, (Vec<std::net::IpAddr>, Vec<Remote>)>,
    proxies: Proxies,
    /// Nothing was compared yet since this process began.
    new: bool,
}

impl State {
    pub(crate) fn read(settings: &Settings) -> State {
        State {
            kept: Kept::read(&settings.data_dir),
            numbers: BTreeMap::new(),
            filter: Loaded::default(),
            rooms: BTreeMap::new(),
            forwarded: BTreeMap::new(),
            proxies: Proxies::new(settings.space()),
            new: true,
        }
    }

    /// Gives every guarded port a number and frees those of ports that are gone.
    fn assign_numbers(&mut self, order: &Desired) {
        let guarded: BTreeSet<&String> =
            order.ports.iter().filter(|port| port.security.is_some()).map(|port| &port.id).collect();
        self.numbers.retain(|id, _| guarded.contains(id));
        let taken: BTreeSet<u16> = self.numbers.values().copied().collect();
        let mut free = (1..=u16::MAX).filter(|number| !taken.contains(number));
        for id in guarded {
            if !self.numbers.contains_key(id) {
                // Limit: a mark has room for 65 535 ports of a host; one more has no number and is not wired.
                let Some(number) = free.next() else { return };
                self.numbers.insert(id.clone(), number);
            }
        }
    }
}

pub(crate) fn apply(shared: &Shared, state: &mut State, desired: &Desired, look: Look) -> Result<Report, HostError> {
    let (generation, applied) = (desired.generation, state.kept.generation);
    if generation < applied {
        return Err(HostError::never(format!("the order of generation {generation} is older than {applied}")));
    }
    let (order, refused) = check::accept(desired);
    let look = if state.new { Look::Everything } else { look };
    let mut pass = Pass { shared, host: shared.settings.space(), order: &order, look, failures: refused };
    let report = pass.run(state).map_err(|error| HostError::again("compare this host's network").because(error))?;
    state.new = false;
    Ok(report)
}

struct Pass<'a> {
    shared: &'a Shared,
    host: Space,
    order: &'a Desired,
    look: Look,
    failures: Vec<Failure>,
}

impl Pass<'_> {
    fn run(&mut self, state: &mut State) -> Result<Report, Error> {
        let settings = &self.shared.settings;
        let links = Links::read(&self.host)?;
        let (places, unplaced) = wires::places(self.order, settings, &links);
        self.failures.extend(unplaced);
        let (rooms, roomless) = room::rooms(self.order, &places, settings);
        self.failures.extend(roomless);
        let wanted = wanted_devices(&places, &rooms);
        let taps = self.order.ports.iter().map(|port| port.tap.clone()).collect();
        self.shared.watch.look_for(Interest { taps, devices: wanted.clone() });
        self.keep(state)?;

        // The filter stands before a wire is connected, so that nothing passes unchecked.
        let unguarded = self.filter(state, &places, &links);
        let mut batch = Batch::default();
        // What goes makes room for what comes: an interface may change its bridge.
        wires::remove(&wanted, settings, &links, &mut batch)?;
        self.remove_rooms(state, &rooms, &mut batch)?;
        for network in &self.order.networks {
            if let Some(place) = places.get(&network.id) {
                wires::connect(network, place, settings, (&links, self.look), &mut batch)?;
            }
        }
        let unsettled: Vec<&Room> = rooms
            .iter()
            .filter(|room| {
                self.look == Look::Everything || !room.is_settled(state.rooms.get(&room.space), &links, settings)
            })
            .collect();
        for room in &unsettled {
            room.plan(self.look, state.rooms.entry(room.space.clone()).or_default(), &links, &mut batch);
        }
        wires::wire(self.order, &places, |port| !unguarded.contains(port), &links, &mut batch);
        self.failures.extend(batch.run(&self.host, "ip")?);

        if self.look == Look::Everything || places.values().any(|place| !links.has(&place.bridge)) {
            wires::hide(&places, self.order, &self.host)?;
        }
        self.forward(state, &links)?;
        self.furnish(state, &unsettled);
        self.open_proxies(state, &rooms);
        Ok(self.report(&links, &places, &rooms))
    }

    /// Writes down what must survive this process before any of it is used.
    fn keep(&self, state: &mut State) -> Result<(), Error> {
        let mut kept = state.kept.clone();
        kept.generation = self.order.generation;
        kept.assign_zones(self.order.networks.iter().map(|network| network.id.as_str()));
        if kept != state.kept {
            kept.write(&self.shared.settings.data_dir)?;
            state.kept = kept;
        }
        state.assign_numbers(self.order);
        Ok(())
    }

    /// Loads the filter; returns the ports that it does not guard although it should.
    fn filter(&mut self, state: &mut State, places: &BTreeMap<String, Place>, links: &Links) -> BTreeSet<String> {
        let guarded = self.order.ports.iter().filter(|port| port.security.is_some()).map(|port| port.id.clone());
        let guarded: BTreeSet<String> = guarded.collect();
        match self.load_filter(state, places, links, guarded.is_empty()) {
            Ok(()) => {
                let without = guarded.into_iter().filter(|port| !state.numbers.contains_key(port)).collect();
                self.fail(&without, "there are too many ports on this host");
                without
            }
            Err(error) => {
                let networks = self.order.networks.iter().map(|network| network.id.clone());
                let all = networks.chain(guarded.iter().cloned()).collect();
                self.fail(&all, &format!("its filter could not be loaded: {error}"));
                guarded
            }
        }
    }

    fn load_filter(
        &self,
        state: &mut State,
        places: &BTreeMap<String, Place>,
        links: &Links,
        nothing_guarded: bool,
    ) -> Result<(), Error> {
        if self.order.networks.is_empty() {
            let ours = state.new || state.filter.table(filter::BRIDGE).is_some();
            return if ours { state.filter.clear(&self.host, &[filter::BRIDGE, filter::INET]) } else { Ok(()) };
        }
        if self.look == Look::Everything && !probe::filters_bridged_frames(&self.host) && !nothing_guarded {
            let what = std::io::Error::other("the kernel has no br_netfilter");
            return Err(Error::io("filter bridged frames", what));
        }
        let ground = self.ground(state, places, links);
        let (bridge, inet) = filter::tables(self.order, &ground, &state.numbers);
        let before = state.filter.table(filter::INET).cloned();
        if state.filter.ensure(&self.host, &[bridge, inet.clone()], self.look)? {
            let stale =
                before.map(|before| forget::stale(&before, &inet, self.order, &state.numbers, &state.kept.zones));
            forget::connections(&stale.unwrap_or_default(), &self.host);
        }
        Ok(())
    }

    fn ground(&self, state: &State, places: &BTreeMap<String, Place>, links: &Links) -> Vec<Ground> {
        let networks = self.order.networks.iter().filter_map(|network| Some((network, places.get(&network.id)?)));
        let mac = |device: &String| links.get(device).map(|link| link.address.clone());
        networks
            .map(|(network, place)| {
                let answers = dhcp::serves(network);
                let joined = !matches!(network.segment, Segment::Vxlan { .. } | Segment::Local);
                let host_mac = mac(&place.bridge).or_else(|| place.uplink.as_ref().and_then(mac));
                Ground {
                    bridge: place.bridge.clone(),
                    uplinks: self.uplinks(place, links),
                    zone: state.kept.zones.get(&network.id).copied().unwrap_or_default(),
                    host_mac: host_mac.filter(|_| joined),
                    answerer: answers.map(|dhcp| names::tap(&dhcp.port)),
                    answered: answers.map(dhcp::answered).unwrap_or_default(),
                }
            })
            .collect()
    }

    /// The ways out of a network's bridge; on the operator's own bridge, everything that is not ours.
    fn uplinks(&self, place: &Place, links: &Links) -> Vec<String> {
        if place.bridge_is_ours {
            return place.uplink.iter().cloned().collect();
        }
        let taps: BTreeSet<&str> = self.order.ports.iter().map(|port| port.tap.as_str()).collect();
        let others = links.ports_of(&place.bridge).filter(|link| !names::is_ours(&link.ifalias));
        others.map(|link| link.ifname.clone()).filter(|name| !taps.contains(name.as_str())).collect()
    }

    fn remove_rooms(&mut self, state: &mut State, rooms: &[Room], batch: &mut Batch) -> Result<(), Error> {
        let settings = &self.shared.settings;
        let wanted: BTreeSet<&str> = rooms.iter().map(|room| room.space.as_str()).collect();
        for space in room::found(settings).iter().filter(|space| !wanted.contains(space.as_str())) {
            state.proxies.close(space);
            room::remove(space, settings, batch)?;
        }
        state.rooms.retain(|space, _| wanted.contains(space.as_str()));
        for network in unwanted_folders(settings, rooms) {
            dhcp::remove(&settings.data_dir, &network)?;
        }
        Ok(())
    }

    /// Programs where frames of tunnelled networks go, where that changed.
    fn forward(&mut self, state: &mut State, links: &Links) -> Result<(), Error> {
        let order = self.order;
        let all = self.look == Look::Everything;
        let changed: BTreeSet<&str> = order
            .networks
            .iter()
            .filter(|network| {
                let Segment::Vxlan { vni } = network.segment else { return false };
                let known = state.forwarded.get(&network.id);
                let same = known.is_some_and(|(peers, remote)| *peers == network.peers && *remote == network.remote);
                all || !same || !links.has(&names::vxlan(vni))
            })
            .map(|network| network.id.as_str())
            .collect();
        if changed.is_empty() {
            return Ok(());
        }
        let failures = wires::forward(order, &changed, &self.host)?;
        let failed = failed_ids(&failures);
        for network in order.networks.iter().filter(|network| changed.contains(network.id.as_str())) {
            match failed.contains(&network.id) {
                true => drop(state.forwarded.remove(&network.id)),
                false => {
                    let known = (network.peers.clone(), network.remote.clone());
                    state.forwarded.insert(network.id.clone(), known);
                }
            }
        }
        self.failures.extend(failures);
        Ok(())
    }

    fn furnish(&mut self, state: &mut State, rooms: &[&Room]) {
        for room in rooms {
            let made = state.rooms.entry(room.space.clone()).or_default();
            match room.furnish(self.look, made, &self.shared.settings) {
                Ok(failures) => self.failures.extend(failures),
                Err(error) => self.failures.push(Failure { id: room.id.clone(), what: error.to_string() }),
            }
        }
    }

    /// Opens the metadata proxies of all rooms and tells them who their guests are.
    fn open_proxies(&mut self, state: &mut State, rooms: &[Room]) {
        let failed = failed_ids(&self.failures);
        let sound = rooms.iter().filter(|room| !failed.contains(&room.id));
        let with_leases = sound.map(|room| {
            let leases: &[Lease] = match &room.service {
                Service::Dhcp(network) => network.dhcp.as_ref().map_or(&[], |dhcp| &dhcp.leases),
                Service::Router(_) => {
                    let router = self.order.routers.iter().find(|router| router.id == room.id);
                    router.map_or(&[], |router| &router.leases)
                }
            };
            (room, leases)
        });
        let with_leases: Vec<(&Room, &[Lease])> = with_leases.collect();
        self.failures.extend(state.proxies.ensure(self.order.metadata.as_ref(), &with_leases));
    }

    /// The first failure of a thing says most.
    fn fail(&mut self, ids: &BTreeSet<String>, what: &str) {
        let known = failed_ids(&self.failures);
        let ids = ids.difference(&known);
        self.failures.extend(ids.map(|id| Failure { id: id.clone(), what: what.to_string() }));
    }

    fn report(&mut self, links: &Links, places: &BTreeMap<String, Place>, rooms: &[Room]) -> Report {
        let networks = failed_ids(&self.failures);
        let concerned = |network: &String| networks.contains(network) || !places.contains_key(network);
        let stranded = self.order.ports.iter().filter(|port| concerned(&port.network));
        let stranded: BTreeSet<String> = stranded.map(|port| port.id.clone()).collect();
        self.fail(&stranded, "its network could not be made on this host");
        let failed = failed_ids(&self.failures);
        let sound = self.order.ports.iter().filter(|port| !failed.contains(&port.id));
        let (wired, unwired): (Vec<_>, Vec<_>) = sound.partition(|port| port.admin_state_up && links.has(&port.tap));
        let routers = rooms.iter().filter(|room| matches!(room.service, Service::Router(_)));
        Report {
            generation: self.order.generation,
            wired: wired.into_iter().map(|port| port.id.clone()).collect(),
            unwired: unwired.into_iter().map(|port| port.id.clone()).collect(),
            routers: routers.filter(|room| !failed.contains(&room.id)).map(|room| room.id.clone()).collect(),
            errors: std::mem::take(&mut self.failures),
        }
    }
}

/// All devices of ours that should be in the host's namespace.
fn wanted_devices(places: &BTreeMap<String, Place>, rooms: &[Room]) -> BTreeSet<String> {
    let bridges = places.values().map(|place| place.bridge.clone());
    let uplinks = places.values().filter_map(|place| place.uplink.clone());
    let wires = rooms.iter().flat_map(|room| &room.wires).map(|wire| wire.outside.clone());
    bridges.chain(uplinks).chain(wires).collect()
}

/// Networks that have DHCP files here and should not.
fn unwanted_folders(settings: &Settings, rooms: &[Room]) -> Vec<String> {
    let served = rooms.iter().filter(|room| matches!(room.service, Service::Dhcp(_)));
    let served: BTreeSet<&str> = served.map(|room| room.id.as_str()).collect();
    let folders = dhcp::folders(&settings.data_dir);
    folders.into_iter().filter(|network| !served.contains(network.as_str())).collect()
}

/// What is ours and has no owner in `desired`.
pub(crate) fn leaks(settings: &Settings, desired: &Desired) -> Result<Vec<String>, Error> {
    let host = settings.space();
    let (order, _) = check::accept(desired);
    let links = Links::read(&host)?;
    let (places, _) = wires::places(&order, settings, &links);
    let (rooms, _) = room::rooms(&order, &places, settings);
    let wanted = wanted_devices(&places, &rooms);
    let ours = links.all().filter(|link| names::is_ours(&link.ifalias) && !wanted.contains(&link.ifname));
    let mut leaks: Vec<String> = ours.map(|link| format!("device {} ({})", link.ifname, link.ifalias)).collect();
    let spaces: BTreeSet<&str> = rooms.iter().map(|room| room.space.as_str()).collect();
    let found = room::found(settings);
    leaks.extend(found.iter().filter(|s| !spaces.contains(s.as_str())).map(|space| format!("namespace {space}")));
    leaks.extend(unwanted_folders(settings, &rooms).iter().map(|network| format!("DHCP files of network {network}")));
    if order.networks.is_empty() {
        let tables = host.run("nft", &["list", "tables"], "")?;
        let ours =
            [filter::BRIDGE, filter::INET].into_iter().filter(|name| tables.contains(&format!("table {name}\n")));
        leaks.extend(ours.map(|name| format!("filter table {name}")));
    }
    Ok(leaks)
}

/// Removes everything of ours, as if nothing were wanted.
pub(crate) fn purge(shared: &Shared, state: &mut State) -> Result<Vec<Failure>, Error> {
    let nothing = Desired { generation: state.kept.generation, ..Desired::default() };
    state.new = true;
    let mut pass =
        Pass { shared, host: shared.settings.space(), order: &nothing, look: Look::Everything, failures: Vec::new() };
    let report = pass.run(state)?;
    let folder = &shared.settings.data_dir;
    Kept::forget(folder)?;
    // Only empty when every server's folder is gone.
    std::fs::remove_dir(folder.join("dhcp")).ok();
    *state = State::read(&shared.settings);
    Ok(report.errors)
}
