//! Security groups and anti-spoofing of all ports of a host, as two nft tables.
//!
//! The bridge family sees which port a frame came from and goes to, but tracks no connections; the inet family tracks
//! them, but sees only the bridge. The packet mark joins them, because br_netfilter runs the inet hooks in the middle of
//! the bridge's path:
//!
//! ```text
//! frame ─ bridge prerouting ──────────── inet prerouting ─ bridge forward ─────── inet forward ───── out
//!         mark = sender's number << 16   zone = network    mark |= receiver's     0:  sender's egress rules
//!         is the sender who it says?                       DHCP stays here        10: receiver's ingress rules
//! ```
//! A port without port security has no number: its half of the mark is 0 and nothing is checked.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use contract::network::{Desired, Direction, Ethertype, Group, Port, RemoteEnd, Rule, Security};
use ipnet::{IpNet, Ipv6Net};

use super::rules::{Set, Table};

pub(crate) const BRIDGE: &str = "bridge ferrostack";
pub(crate) const INET: &str = "inet ferrostack";

/// What the filter must know about a network's place on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ground {
    pub bridge: String,
    pub uplinks: Vec<String>,
    /// The conntrack zone, so that equal addresses in two networks are two things.
    pub zone: u16,
    /// Where the host itself has addresses on the bridge: its MAC. Its own connections stay out of the zone.
    pub host_mac: Option<String>,
    /// The bridge's port to the DHCP namespace and the addresses that answer there.
    pub answerer: Option<String>,
    pub answered: Vec<Ipv4Addr>,
}

/// The bridge and the inet table. `numbers` has a number for every guarded port.
pub(crate) fn tables(desired: &Desired, ground: &[Ground], numbers: &BTreeMap<String, u16>) -> (Table, Table) {
    let guarded: Vec<Guarded> = desired
        .ports
        .iter()
        .filter_map(|port| Some(Guarded { port, security: port.security.as_ref()?, number: *numbers.get(&port.id)? }))
        .collect();
    (bridge_table(&guarded, ground), inet_table(desired, &guarded, ground))
}

struct Guarded<'a> {
    port: &'a Port,
    security: &'a Security,
    number: u16,
}

fn bridge_table(guarded: &[Guarded], ground: &[Ground]) -> Table {
    let mut table = Table::new(BRIDGE);
    senders(&mut table, guarded);
    let mut out = Set::map("type ifname : verdict");
    for one in guarded {
        out.map_to(quoted(&one.port.tap), format!("jump to_{}", one.number));
        table.chain(format!("to_{}", one.number), "", vec![format!("meta mark set meta mark | {:#x}", one.number)]);
    }
    table.set("receivers", out);
    answerers(&mut table, ground);

    // A tunnelled frame must not bring a mark with it, nor take one along.
    let mark = ["iifname \"vxlan-*\" meta mark set 0x0", "meta mark set iifname map @sender_marks"];
    table.chain("marking", &hook("prerouting", -300), lines(&mark));
    table.chain("spoof", &hook("prerouting", -200), lines(&SPOOF));
    table.chain("away", &hook("forward", -300), lines(&FORWARD));
    table.chain("unmarking", &hook("postrouting", -300), lines(&["oifname \"vxlan-*\" meta mark set 0x0"]));
    table
}

/// What a guarded port may send, whatever its groups say. Everything that is not ARP, IPv4 or IPv6 is dropped.
const SPOOF: [&str; 16] = [
    "iifname != @guarded accept",
    "iifname . ether saddr != @macs drop",
    "ether type arp iifname . arp saddr ether != @macs drop",
    "ether type arp iifname . ether saddr . arp saddr ip @from4 accept",
    "ether type arp iifname . ether saddr . arp saddr ip @pairs4 accept",
    // A guest asks whether an address is free before it takes it.
    "ether type arp arp operation request arp saddr ip 0.0.0.0 accept",
    "ether type arp drop",
    "ether type ip udp sport 67 udp dport 68 drop",
    "ether type ip ip saddr 0.0.0.0 udp sport 68 udp dport 67 accept",
    "ether type ip iifname . ether saddr . ip saddr @from4 accept",
    "ether type ip iifname . ether saddr . ip saddr @pairs4 accept",
    "ether type ip6 udp sport 547 udp dport 546 drop",
    "ether type ip6 icmpv6 type nd-router-advert drop",
    "ether type ip6 icmpv6 type nd-neighbor-advert jump advert",
    "ether type ip6 jump from6",
    "drop",
];

/// DHCP is answered on the guest's own host, from the same address everywhere; none of it crosses the wire.
const FORWARD: [&str; 5] = [
    "iifname @answerers oifname @dhcp_uplinks drop",
    "iifname @dhcp_uplinks oifname @answerers drop",
    "oifname @dhcp_uplinks ether type ip udp sport 68 udp dport 67 drop",
    "ether type arp arp operation request oifname . arp daddr ip @answered drop",
    "oifname vmap @receivers",
];

/// Who may send with which addresses.
fn senders(table: &mut Table, guarded: &[Guarded]) {
    let (mut names, mut macs, mut marks) =
        (Set::of("type ifname"), Set::of("type ifname . ether_addr"), Set::map("type ifname : mark"));
    let mut from4 = Set::of("type ifname . ether_addr . ipv4_addr");
    let mut from6 = Set::of("type ifname . ether_addr . ipv6_addr");
    let mut pairs4 = Set::intervals("type ifname . ether_addr . ipv4_addr");
    let mut pairs6 = Set::intervals("type ifname . ether_addr . ipv6_addr");
    let mut adverts = Set::map("type ifname : verdict");
    for one in guarded {
        let tap = quoted(&one.port.tap);
        names.insert(tap.clone());
        marks.map_to(tap.clone(), format!("{:#x}", u32::from(one.number) << 16));
        for (mac, source) in sources(one) {
            macs.insert(format!("{tap} . {mac}"));
            let element = format!("{tap} . {mac} . {}", bare(source));
            match (source, source.prefix_len() == source.max_prefix_len()) {
                (IpNet::V4(_), true) => from4.insert(element),
                (IpNet::V6(_), true) => from6.insert(element),
                (IpNet::V4(_), false) => pairs4.insert(element),
                (IpNet::V6(_), false) => pairs6.insert(element),
            }
        }
        macs.insert(format!("{tap} . {}", one.port.mac));
        adverts.map_to(tap, format!("jump advert_{}", one.number));
        table.chain(format!("advert_{}", one.number), "", advertised(one));
    }
    for (name, set) in [("guarded", names), ("macs", macs), ("sender_marks", marks), ("adverts", adverts)] {
        table.set(name, set);
    }
    for (name, set) in [("from4", from4), ("from6", from6), ("pairs4", pairs4), ("pairs6", pairs6)] {
        table.set(name, set);
    }
    table.chain("advert", "", lines(&["iifname vmap @adverts"]));
    table.chain("from6", "", lines(&FROM6));
}

const FROM6: [&str; 4] = [
    "iifname . ether saddr . ip6 saddr @from6 accept",
    "iifname . ether saddr . ip6 saddr @pairs6 accept",
    // Duplicate address detection, router discovery and group reports come from no address.
    "ip6 saddr :: icmpv6 type { 131, 132, 133, 135, 143 } accept",
    "drop",
];

/// A neighbour advertisement may only name addresses that the port has: the target stands 64 bits into the message.
fn advertised(one: &Guarded) -> Vec<String> {
    let mut rules = Vec::new();
    let targets: BTreeSet<Ipv6Net> = sources(one).into_iter().filter_map(|(_, net)| v6(net)).collect();
    for target in targets {
        rules.push(match target.prefix_len() {
            0 => "return".to_string(),
            128 => format!("@th,64,128 {:#034x} return", u128::from(target.addr())),
            _ => {
                let mask = u128::from(target.netmask());
                format!("@th,64,128 & {mask:#034x} == {:#034x} return", u128::from(target.network()))
            }
        });
    }
    rules.push("drop".into());
    rules
}

/// All pairs of MAC and address that a port may send from: its own, its link-local ones and the allowed pairs.
fn sources(one: &Guarded) -> BTreeSet<(String, IpNet)> {
    let own = one.port.mac.to_lowercase();
    let mut by_mac: BTreeMap<String, Vec<IpNet>> = BTreeMap::new();
    by_mac.entry(own.clone()).or_default().extend(one.port.addresses.iter().map(|address| IpNet::from(*address)));
    for pair in &one.security.allowed_pairs {
        let mac = pair.mac.as_deref().map_or(own.clone(), str::to_lowercase);
        by_mac.entry(mac).or_default().push(pair.address.trunc());
    }
    let mut all = BTreeSet::new();
    for (mac, mut nets) in by_mac {
        nets.extend(link_local(&mac).map(|address| IpNet::from(IpAddr::V6(address))));
        all.extend(disjoint(&nets).into_iter().map(|net| (mac.clone(), net)));
    }
    all
}

fn link_local(mac: &str) -> Option<Ipv6Addr> {
    let bytes: Vec<u8> = mac.split(':').filter_map(|part| u8::from_str_radix(part, 16).ok()).collect();
    let [a, b, c, d, e, f] = bytes[..] else { return None };
    Some(Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f]))
}

fn answerers(table: &mut Table, ground: &[Ground]) {
    let (mut answerers, mut uplinks) = (Set::of("type ifname"), Set::of("type ifname"));
    let mut answered = Set::of("type ifname . ipv4_addr");
    for network in ground {
        let Some(answerer) = &network.answerer else { continue };
        answerers.insert(quoted(answerer));
        for uplink in network.uplinks.iter().map(|uplink| quoted(uplink)) {
            uplinks.insert(uplink.clone());
            network.answered.iter().for_each(|address| answered.insert(format!("{uplink} . {address}")));
        }
    }
    table.set("answerers", answerers);
    table.set("dhcp_uplinks", uplinks);
    table.set("answered", answered);
}

fn inet_table(desired: &Desired, guarded: &[Guarded], ground: &[Ground]) -> Table {
    let mut table = Table::new(INET);
    for group in &desired.groups {
        group_rules(&mut table, group);
    }
    let known: BTreeSet<&str> = desired.groups.iter().map(|group| group.id.as_str()).collect();
    let (mut from, mut to) = (Set::map("type mark : verdict"), Set::map("type mark : verdict"));
    for one in guarded {
        let number = one.number;
        from.map_to(format!("{:#x}", u32::from(number) << 16), format!("jump from_{number}"));
        to.map_to(format!("{number:#x}"), format!("jump to_{number}"));
        let groups: Vec<&String> = one.security.groups.iter().filter(|id| known.contains(id.as_str())).collect();
        let jumps = |to: &str| groups.iter().map(|id| format!("jump {to}-{id}")).chain(["drop".into()]).collect();
        table.chain(format!("from_{number}"), "", jumps("egress"));
        table.chain(format!("to_{number}"), "", jumps("ingress"));
    }
    table.set("from", from);
    table.set("to", to);
    missing_members(&mut table, desired);
    table.chain("zones", &hook("prerouting", -300), zones(ground));
    table.chain("sent", &hook("forward", 0), lines(&SENT));
    table.chain("sent_here", &hook("input", 0), lines(&SENT));
    table.chain("received", &hook("forward", 10), lines(&RECEIVED));
    table
}

/// Upstream: what a guest needs to get its address and find its neighbours is allowed whatever its groups say.
const SENT: [&str; 8] = [
    "meta mark & 0xffff0000 == 0x0 accept",
    "ct state established,related accept",
    "udp sport 68 udp dport 67 accept",
    "udp sport 546 udp dport 547 accept",
    "icmpv6 type { 131, 132, 133, 135, 136, 143 } accept",
    "ct state invalid drop",
    "meta mark & 0xffff0000 vmap @from",
    "drop",
];

const RECEIVED: [&str; 8] = [
    "meta mark & 0x0000ffff == 0x0 accept",
    "ct state established,related accept",
    "udp sport 67 udp dport 68 accept",
    "udp sport 547 udp dport 546 accept",
    "icmpv6 type { 130, 134, 135, 136 } accept",
    "ct state invalid drop",
    "meta mark & 0x0000ffff vmap @to",
    "drop",
];

fn zones(ground: &[Ground]) -> Vec<String> {
    let own = ground.iter().filter_map(|network| {
        let mac = network.host_mac.as_ref()?;
        Some(format!("iifname {} ether daddr {mac} return", quoted(&network.bridge)))
    });
    let mut rules: Vec<String> = own.collect();
    let zones: BTreeMap<String, u16> = ground.iter().map(|network| (quoted(&network.bridge), network.zone)).collect();
    if !zones.is_empty() {
        let zones: Vec<String> = zones.iter().map(|(bridge, zone)| format!("{bridge} : {zone}")).collect();
        rules.push(format!("ct zone set iifname map {{ {} }}", zones.join(", ")));
    }
    rules
}

/// Later: the rules of a stateless group are checked like those of a stateful one.
fn group_rules(table: &mut Table, group: &Group) {
    let of = |direction: Direction| -> Vec<String> {
        let wanted = group.rules.iter().filter(|rule| rule.direction == direction);
        let rules: BTreeSet<String> = wanted.filter_map(accepted).collect();
        rules.into_iter().collect()
    };
    table.chain(format!("ingress-{}", group.id), "", of(Direction::Ingress));
    table.chain(format!("egress-{}", group.id), "", of(Direction::Egress));
    let (four, six) = split(&group.members);
    table.set(members(Ethertype::IPv4, &group.id), prefixes("type ipv4_addr", &four));
    table.set(members(Ethertype::IPv6, &group.id), prefixes("type ipv6_addr", &six));
}

/// A group that a rule names and nobody described has no members.
fn missing_members(table: &mut Table, desired: &Desired) {
    for rule in desired.groups.iter().flat_map(|group| &group.rules) {
        let RemoteEnd::Group { group } = &rule.remote else { continue };
        for (family, kind) in [(Ethertype::IPv4, "type ipv4_addr"), (Ethertype::IPv6, "type ipv6_addr")] {
            table.sets.entry(members(family, group)).or_insert_with(|| Set::of(kind));
        }
    }
}

pub(crate) fn members(family: Ethertype, group: &str) -> String {
    match family {
        Ethertype::IPv4 => format!("members4-{group}"),
        Ethertype::IPv6 => format!("members6-{group}"),
    }
}

fn prefixes(kind: &str, nets: &[IpNet]) -> Set {
    let nets = disjoint(nets);
    // Hosts are looked up by hash; the costlier intervals only where a member is a prefix.
    let hosts_only = nets.iter().all(|net| net.prefix_len() == net.max_prefix_len());
    let mut set = if hosts_only { Set::of(kind) } else { Set::intervals(kind) };
    nets.iter().for_each(|net| set.insert(bare(*net)));
    set
}

/// The nft rule that accepts what a security group rule allows; none where it can match nothing.
fn accepted(rule: &Rule) -> Option<String> {
    let (family, ip) = match rule.ethertype {
        Ethertype::IPv4 => ("meta nfproto ipv4", "ip"),
        Ethertype::IPv6 => ("meta nfproto ipv6", "ip6"),
    };
    let end = if rule.direction == Direction::Ingress { "saddr" } else { "daddr" };
    let mut words = vec![family.to_string()];
    match &rule.remote {
        RemoteEnd::Any => {}
        RemoteEnd::Prefix { prefix } if !is_of(prefix, rule.ethertype) => return None,
        RemoteEnd::Prefix { prefix } if prefix.prefix_len() == 0 => {}
        RemoteEnd::Prefix { prefix } => words.push(format!("{ip} {end} {}", prefix.trunc())),
        RemoteEnd::Group { group } => words.push(format!("{ip} {end} @{}", members(rule.ethertype, group))),
    }
    words.extend(protocol(rule));
    words.push("accept".into());
    Some(words.join(" "))
}

fn protocol(rule: &Rule) -> Option<String> {
    const WITH_PORTS: [u8; 5] = [6, 17, 33, 132, 136];
    let number = rule.protocol.filter(|number| *number != 0)?;
    Some(match (number, rule.ethertype) {
        (1, Ethertype::IPv4) => icmp("icmp", "icmp", rule),
        (1 | 58, Ethertype::IPv6) => icmp("ipv6-icmp", "icmpv6", rule),
        (number, _) if WITH_PORTS.contains(&number) => match (rule.port_min, rule.port_max) {
            (None, None) => format!("meta l4proto {number}"),
            (min, max) => {
                let (min, max) = (min.unwrap_or(0), max.unwrap_or(u16::MAX));
                let ports = if min == max { min.to_string() } else { format!("{min}-{max}") };
                format!("meta l4proto {number} th dport {ports}")
            }
        },
        (number, _) => format!("meta l4proto {number}"),
    })
}

fn icmp(protocol: &str, header: &str, rule: &Rule) -> String {
    let kind = rule.port_min.map(|kind| format!(" {header} type {kind}"));
    let code = rule.port_max.map(|code| format!(" {header} code {code}"));
    format!("meta l4proto {protocol}{}{}", kind.unwrap_or_default(), code.unwrap_or_default())
}

/// The same addresses without overlaps, which intervals of one set must not have. Hosts stay hosts, so that a set of
/// hosts does not change its kind with each member.
fn disjoint(nets: &[IpNet]) -> BTreeSet<IpNet> {
    let (hosts, wide): (Vec<IpNet>, Vec<IpNet>) = nets.iter().partition(|net| net.prefix_len() == net.max_prefix_len());
    let wide = IpNet::aggregate(&wide);
    let lone = hosts.into_iter().filter(|host| !wide.iter().any(|net| net.contains(host)));
    lone.chain(wide.iter().copied()).collect()
}

fn is_of(net: &IpNet, ethertype: Ethertype) -> bool {
    matches!((net, ethertype), (IpNet::V4(_), Ethertype::IPv4) | (IpNet::V6(_), Ethertype::IPv6))
}

fn v6(net: IpNet) -> Option<Ipv6Net> {
    if let IpNet::V6(net) = net { Some(net) } else { None }
}

fn split(nets: &[IpNet]) -> (Vec<IpNet>, Vec<IpNet>) {
    nets.iter().copied().partition(|net| net.addr().is_ipv4())
}

/// A host without its `/32` or `/128`, as nft prints it.
fn bare(net: IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() { net.addr().to_string() } else { net.trunc().to_string() }
}

fn quoted(name: &str) -> String {
    format!("\"{name}\"")
}

fn hook(hook: &str, priority: i32) -> String {
    format!("type filter hook {hook} priority {priority}; policy accept;")
}

fn lines(rules: &[&str]) -> Vec<String> {
    rules.iter().map(|rule| rule.to_string()).collect()
}
