//! What one host should have: its ports, their networks, filters, DHCP, and the routers it carries.
//!
//! Some ten queries, whatever the host's size. The generation is read first: rows may be newer than it says, never older,
//! and a host that sees them early loses nothing.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use base::Json;
use contract::network::{
    AllowedPair, Desired, Dhcp, Direction, Ethertype, Floating, Gateway, Group, Interface, Lease, Metadata, Port,
    Remote, RemoteEnd, Route, Router, Rule, Security, Segment,
};
use db::{Db, select, sql};
use ipnet::IpNet;

use crate::addresses::{self, Address};
use crate::engine::gather;
use crate::floating_ips::FloatingIp;
use crate::hosts::HostRow;
use crate::networks::NetworkRow;
use crate::ports::{self, Membership, PortRow};
use crate::routers::RouterRow;
use crate::security_group_rules::{self as rules, RuleRow};
use crate::security_groups::SecurityGroup;
use crate::segments;
use crate::subnets::{Subnet, subnets_of};
use crate::{Network, dhcp, ip};

/// Rows that several parts of the answer need.
struct View {
    host: String,
    networks: Vec<NetworkRow>,
    segments: HashMap<String, segments::Segment>,
    subnets: HashMap<String, Vec<Subnet>>,
    subnet: HashMap<String, Subnet>,
    /// All ports of those networks, on any host.
    ports: HashMap<String, Vec<PortRow>>,
    addresses: HashMap<String, Vec<Address>>,
    hosts: HashMap<String, IpAddr>,
    domain: String,
}

pub async fn of(network: &Network, host: &str) -> Result<Desired, db::Error> {
    let db = &network.db;
    let generation = db.count(sql("SELECT value FROM generation WHERE id = 1")).await?;
    let own = db.all(select::<PortRow>("WHERE host = ? ORDER BY id").bind(host)).await?;
    let routers = db.all(select::<RouterRow>("WHERE host = ? ORDER BY id").bind(host)).await?;
    let view = View::read(network, host, &own).await?;

    let guests: Vec<&PortRow> = own.iter().filter(|port| !port.is_trusted() && port.vif_type == "bridge").collect();
    let members = ports::groups_of(db, &guests.iter().map(|port| port.id.clone()).collect::<Vec<_>>()).await?;
    let groups = groups(db, &members).await?;
    let floating = floating(db, &routers).await?;
    let metadata = network.settings.metadata.clone().map(|(url, shared_secret)| Metadata { url, shared_secret });
    Ok(Desired {
        generation: u64::try_from(generation).unwrap_or_default(),
        networks: view.networks.iter().filter_map(|row| view.network(row)).collect(),
        ports: guests.iter().map(|port| view.port(port, members.get(&port.id))).collect(),
        groups,
        routers: routers.iter().map(|router| view.router(router, &floating)).collect(),
        metadata,
    })
}

impl View {
    async fn read(network: &Network, host: &str, own: &[PortRow]) -> Result<View, db::Error> {
        let db = &network.db;
        let ids: BTreeSet<String> = own.iter().map(|port| port.network_id.clone()).collect();
        let ids: Vec<String> = ids.into_iter().collect();
        let mut ports: HashMap<String, Vec<PortRow>> = HashMap::new();
        let mut named = Vec::new();
        let mut carriers: BTreeSet<String> = BTreeSet::new();
        for port in gather::<PortRow>(db, "network_id", &ids).await? {
            named.push(port.id.clone());
            if !port.host.is_empty() {
                carriers.insert(port.host.clone());
            }
            ports.entry(port.network_id.clone()).or_default().push(port);
        }
        ports.values_mut().for_each(|ports| ports.sort_by(|a, b| a.id.cmp(&b.id)));
        let hosts = gather::<HostRow>(db, "name", &carriers.into_iter().collect::<Vec<_>>()).await?;
        let segments = gather::<segments::Segment>(db, "network_id", &ids).await?;
        let subnets = subnets_of(db, &ids).await?;
        let mut networks = gather::<NetworkRow>(db, "id", &ids).await?;
        networks.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(View {
            host: host.to_string(),
            networks,
            segments: segments.into_iter().map(|row| (row.network_id.clone(), row)).collect(),
            subnet: subnets.values().flatten().map(|row| (row.id.clone(), row.clone())).collect(),
            subnets,
            ports,
            addresses: addresses::of(db, &named).await?,
            hosts: hosts.into_iter().filter_map(|row| Some((row.name, row.tunnel_address.parse().ok()?))).collect(),
            domain: network.settings.dns_domain.clone(),
        })
    }

    fn addresses(&self, port: &str) -> &[Address] {
        self.addresses.get(port).map(Vec::as_slice).unwrap_or_default()
    }

    fn ips(&self, port: &str) -> Vec<IpAddr> {
        self.addresses(port).iter().filter_map(Address::ip).collect()
    }

    fn nets(&self, port: &str) -> Vec<IpNet> {
        addresses::with_lengths(self.addresses(port), &self.subnet)
    }

    fn network(&self, row: &NetworkRow) -> Option<contract::network::Network> {
        let segment = segment(self.segments.get(&row.id)?)?;
        let ports = self.ports.get(&row.id).map(Vec::as_slice).unwrap_or_default();
        let tunnelled = matches!(segment, Segment::Vxlan { .. });
        // A network's DHCP answers on every host, so no frames for it go elsewhere.
        let elsewhere =
            ports.iter().filter(|port| tunnelled && port.host != self.host && port.device_owner != dhcp::OWNER);
        let remote: Vec<Remote> = elsewhere
            .filter_map(|port| Some(Remote { mac: port.mac_address.clone(), host: *self.hosts.get(&port.host)? }))
            .collect();
        let peers: BTreeSet<IpAddr> = remote.iter().map(|remote| remote.host).collect();
        Some(contract::network::Network {
            id: row.id.clone(),
            segment,
            mtu: u32::try_from(row.mtu).unwrap_or(1500),
            peers: peers.into_iter().collect(),
            remote,
            dhcp: ports.iter().find(|port| port.device_owner == dhcp::OWNER).map(|port| self.dhcp(row, port)),
        })
    }

    fn dhcp(&self, row: &NetworkRow, port: &PortRow) -> Dhcp {
        let subnets = self.subnets.get(&row.id).map(Vec::as_slice).unwrap_or_default();
        Dhcp {
            port: port.id.clone(),
            mac: port.mac_address.clone(),
            addresses: self.nets(&port.id),
            subnets: subnets.iter().map(subnet).collect(),
            leases: self.leases(&row.id),
            domain: if row.dns_domain.is_empty() { self.domain.clone() } else { row.dns_domain.clone() },
        }
    }

    /// The guests of a network, on any host: their names are known everywhere.
    fn leases(&self, network: &str) -> Vec<Lease> {
        let ports = self.ports.get(network).map(Vec::as_slice).unwrap_or_default();
        let guests = ports.iter().filter(|port| !port.is_trusted());
        let lease = |port: &PortRow| {
            let addresses = self.ips(&port.id);
            let first = addresses.first()?.to_string();
            Some(Lease {
                port: port.id.clone(),
                mac: port.mac_address.clone(),
                addresses,
                hostname: ports::hostname(port, &first),
                device_id: port.device_id.clone(),
                project_id: port.project_id.clone(),
            })
        };
        guests.filter_map(lease).collect()
    }

    fn port(&self, row: &PortRow, groups: Option<&Vec<String>>) -> Port {
        let security = row.port_security_enabled.then(|| Security {
            groups: groups.cloned().unwrap_or_default(),
            allowed_pairs: pairs(&row.allowed_address_pairs, &row.mac_address),
        });
        Port {
            id: row.id.clone(),
            network: row.network_id.clone(),
            mac: row.mac_address.clone(),
            tap: tap(&row.id),
            admin_state_up: row.admin_state_up,
            addresses: self.ips(&row.id),
            security,
        }
    }

    fn router(&self, row: &RouterRow, floating: &HashMap<String, Vec<FloatingIp>>) -> Router {
        let own = || self.ports.values().flatten().filter(|port| port.device_id == row.id && port.host == self.host);
        let mut inside: Vec<&PortRow> = own().filter(|port| port.device_owner == "network:router_interface").collect();
        inside.sort_by(|a, b| a.id.cmp(&b.id));
        let interface = |port: &&PortRow| Interface {
            port: port.id.clone(),
            network: port.network_id.clone(),
            mac: port.mac_address.clone(),
            addresses: self.nets(&port.id),
        };
        let behind: BTreeSet<&str> = inside.iter().map(|port| port.network_id.as_str()).collect();
        Router {
            id: row.id.clone(),
            admin_state_up: row.admin_state_up,
            interfaces: inside.iter().map(interface).collect(),
            gateway: own()
                .find(|port| port.device_owner == "network:router_gateway")
                .map(|port| self.gateway(row, port)),
            floating: floating.get(&row.id).into_iter().flatten().filter_map(translation).collect(),
            routes: routes(&row.routes),
            leases: behind.into_iter().flat_map(|network| self.leases(network)).collect(),
        }
    }

    fn gateway(&self, row: &RouterRow, port: &PortRow) -> Gateway {
        let subnets = self.addresses(&port.id).iter().filter_map(|address| self.subnet.get(&address.subnet_id));
        Gateway {
            port: port.id.clone(),
            network: port.network_id.clone(),
            mac: port.mac_address.clone(),
            addresses: self.nets(&port.id),
            next_hops: subnets.filter_map(Subnet::gateway).collect(),
            snat: row.enable_snat,
        }
    }
}

/// The name of a guest's device, as the hypervisor makes it.
pub fn tap(port: &str) -> String {
    format!("tap{}", port.chars().take(11).collect::<String>())
}

fn segment(row: &segments::Segment) -> Option<Segment> {
    let physical = || row.physical_network.clone();
    match row.network_type.as_str() {
        "flat" => Some(Segment::Flat { physical: physical()? }),
        "vlan" => Some(Segment::Vlan { physical: physical()?, tag: u16::try_from(row.segmentation_id?).ok()? }),
        "vxlan" => Some(Segment::Vxlan { vni: u32::try_from(row.segmentation_id?).ok()? }),
        _ => Some(Segment::Local),
    }
}

fn subnet(row: &Subnet) -> contract::network::Subnet {
    contract::network::Subnet {
        id: row.id.clone(),
        cidr: row.net(),
        dhcp: row.enable_dhcp,
        gateway: row.gateway(),
        dns: row.dns_nameservers.iter().filter_map(|text| text.parse().ok()).collect(),
        routes: routes(&row.host_routes),
        ipv6_address_mode: row.ipv6_address_mode.clone(),
        ipv6_ra_mode: row.ipv6_ra_mode.clone(),
    }
}

fn routes(list: &Json) -> Vec<Route> {
    let text = |route: &Json, key: &str| route[key].as_str().map(String::from);
    let route = |route: &Json| {
        let destination = ip::net(&text(route, "destination")?)?;
        Some(Route { destination, nexthop: text(route, "nexthop")?.parse().ok()? })
    };
    list.as_array().into_iter().flatten().filter_map(route).collect()
}

fn pairs(list: &Json, own: &str) -> Vec<AllowedPair> {
    let pair = |pair: &Json| {
        let address = ip::net_or_address(pair["ip_address"].as_str()?)?;
        let mac = pair["mac_address"].as_str().filter(|mac| *mac != own).map(String::from);
        Some(AllowedPair { mac, address })
    };
    list.as_array().into_iter().flatten().filter_map(pair).collect()
}

fn translation(row: &FloatingIp) -> Option<Floating> {
    let fixed = row.fixed_ip_address.as_ref()?.parse().ok()?;
    Some(Floating { id: row.id.clone(), floating: row.floating_ip_address.parse().ok()?, fixed })
}

async fn floating(db: &Db, routers: &[RouterRow]) -> Result<HashMap<String, Vec<FloatingIp>>, db::Error> {
    let ids: Vec<String> = routers.iter().map(|router| router.id.clone()).collect();
    let mut by_router: HashMap<String, Vec<FloatingIp>> = HashMap::new();
    for row in gather::<FloatingIp>(db, "router_id", &ids).await? {
        if let Some(router) = row.router_id.clone().filter(|_| row.port_id.is_some()) {
            by_router.entry(router).or_default().push(row);
        }
    }
    by_router.values_mut().for_each(|rows| rows.sort_by(|a, b| a.id.cmp(&b.id)));
    Ok(by_router)
}

/// The groups of a host's ports, and the members of those that rules refer to.
async fn groups(db: &Db, members: &HashMap<String, Vec<String>>) -> Result<Vec<Group>, db::Error> {
    let own: BTreeSet<String> = members.values().flatten().cloned().collect();
    let own: Vec<String> = own.into_iter().collect();
    let mut by_group: HashMap<String, Vec<RuleRow>> = HashMap::new();
    let mut referred: BTreeSet<String> = BTreeSet::new();
    for rule in gather::<RuleRow>(db, "security_group_id", &own).await? {
        referred.extend(rule.remote_group_id.clone());
        by_group.entry(rule.security_group_id.clone()).or_default().push(rule);
    }
    let referred: Vec<String> = referred.into_iter().collect();
    let mut addresses = remote_members(db, &referred).await?;
    let all: BTreeSet<String> = own.iter().chain(&referred).cloned().collect();
    let rows = gather::<SecurityGroup>(db, "id", &all.iter().cloned().collect::<Vec<_>>()).await?;
    let stateful: HashMap<String, bool> = rows.into_iter().map(|row| (row.id, row.stateful)).collect();
    let group = |id: String| {
        let mut rules: Vec<Rule> = by_group.get(&id).into_iter().flatten().filter_map(rule).collect();
        rules.sort_by(|a, b| a.id.cmp(&b.id));
        let members = addresses.remove(&id).unwrap_or_default();
        Group { stateful: stateful.get(&id).copied().unwrap_or(true), members, rules, id }
    };
    Ok(all.into_iter().map(group).collect())
}

/// Addresses of all ports in these groups, and of their allowed pairs.
async fn remote_members(db: &Db, groups: &[String]) -> Result<HashMap<String, Vec<IpNet>>, db::Error> {
    let members = gather::<Membership>(db, "group_id", groups).await?;
    let ports: HashSet<String> = members.iter().map(|row| row.port_id.clone()).collect();
    let ports: Vec<String> = ports.into_iter().collect();
    let addresses = addresses::of(db, &ports).await?;
    let rows = gather::<PortRow>(db, "id", &ports).await?;
    let pairs: HashMap<&str, Vec<AllowedPair>> =
        rows.iter().map(|row| (row.id.as_str(), pairs(&row.allowed_address_pairs, &row.mac_address))).collect();
    let mut by_group: HashMap<String, BTreeSet<IpNet>> = HashMap::new();
    for row in members {
        let set = by_group.entry(row.group_id).or_default();
        set.extend(addresses.get(&row.port_id).into_iter().flatten().filter_map(Address::ip).map(IpNet::from));
        set.extend(pairs.get(row.port_id.as_str()).into_iter().flatten().map(|pair| pair.address));
    }
    Ok(by_group.into_iter().map(|(group, set)| (group, set.into_iter().collect())).collect())
}

fn rule(row: &RuleRow) -> Option<Rule> {
    let port = |number: Option<i64>| number.and_then(|number| u16::try_from(number).ok());
    let remote = match (&row.remote_group_id, &row.remote_ip_prefix) {
        (Some(group), _) => RemoteEnd::Group { group: group.clone() },
        (None, Some(prefix)) => RemoteEnd::Prefix { prefix: ip::net_or_address(prefix)?.trunc() },
        (None, None) => RemoteEnd::Any,
    };
    Some(Rule {
        id: row.id.clone(),
        direction: if row.direction == "egress" { Direction::Egress } else { Direction::Ingress },
        ethertype: if row.ethertype == "IPv6" { Ethertype::IPv6 } else { Ethertype::IPv4 },
        protocol: row.protocol.as_deref().and_then(rules::number),
        port_min: port(row.port_range_min),
        port_max: port(row.port_range_max),
        remote,
    })
}
