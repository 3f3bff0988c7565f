//! What a subnet must look like: families, pools, gateways, IPv6 modes.

use std::collections::HashSet;
use std::net::IpAddr;

use base::{Json, json};
use ipnet::IpNet;

use super::Subnet;
use crate::engine::Attributes;
use crate::engine::rule;
use crate::fault::{Fault, bad, invalid};
use crate::settings::Settings;
use crate::work::Work;
use crate::{ip, python};

pub fn version(value: Json) -> Result<Json, String> {
    let number = rule::integer(&value, i64::MIN, i64::MAX)?;
    match number.as_i64() {
        Some(4 | 6) => Ok(number),
        _ => Err(format!("'{}' is not in [4, 6]", python::plain(&value))),
    }
}

pub fn pools(value: Json) -> Result<Json, String> {
    if value.is_null() {
        return Ok(value);
    }
    let wrong = || format!("Invalid data format for IP pool: '{}'", python::plain(&value));
    let items = value.as_array().ok_or_else(wrong)?;
    let mut pools = Vec::new();
    for item in items {
        let map = rule::keys(item, &["end", "start"])?;
        pools.push(json!({"start": rule::ip(&map["start"])?, "end": rule::ip(&map["end"])?}));
    }
    Ok(Json::Array(pools))
}

pub fn nameservers(value: Json) -> Result<Json, String> {
    if value.is_null() {
        return Ok(value);
    }
    let wrong = || format!("Invalid data format for nameserver: '{}'", python::plain(&value));
    let mut seen = HashSet::new();
    let mut servers = Vec::new();
    for item in value.as_array().ok_or_else(wrong)? {
        let shown = python::plain(item);
        let server = rule::ip(item).map_err(|msg| format!("'{shown}' is not a valid nameserver. {msg}"))?;
        if !seen.insert(server.to_string()) {
            return Err(format!("Duplicate nameserver '{shown}'"));
        }
        servers.push(server);
    }
    Ok(Json::Array(servers))
}

/// Routes: of subnets and of routers alike.
pub fn routes(value: Json) -> Result<Json, String> {
    if value.is_null() {
        return Ok(value);
    }
    let wrong = || format!("Invalid data format for hostroute: '{}'", python::plain(&value));
    let mut seen = HashSet::new();
    let mut routes = Vec::new();
    for item in value.as_array().ok_or_else(wrong)? {
        let map = rule::keys(item, &["destination", "nexthop"])?;
        let destination = map["destination"].as_str().and_then(ip::net);
        let destination =
            destination.ok_or_else(|| format!("'{}' is not a valid CIDR", python::plain(&map["destination"])))?;
        let route = json!({"destination": destination.to_string(), "nexthop": rule::ip(&map["nexthop"])?});
        if !seen.insert(route.to_string()) {
            return Err(format!("Duplicate hostroute '{}'", python::quoted(item)));
        }
        routes.push(route);
    }
    Ok(Json::Array(routes))
}

/// First and last numbers of pools as they are kept.
pub fn bounds(pools: &Json) -> Vec<(u128, u128)> {
    let number = |value: &Json| value.as_str()?.parse().ok().map(ip::number);
    let pool = |pool: &Json| Some((number(&pool["start"])?, number(&pool["end"])?));
    pools.as_array().into_iter().flatten().filter_map(pool).filter(|(first, last)| first <= last).collect()
}

/// The network asked for, if one is.
pub fn cidr(new: &Attributes, version: i64) -> Result<Option<IpNet>, Fault> {
    let Some(given) = new.get("cidr").filter(|value| !value.is_null()) else {
        return Ok(None);
    };
    if new.number("prefixlen").is_some() {
        return Err(bad("subnets", "cidr and prefixlen must not be supplied together"));
    }
    let shown = python::plain(given);
    let net = given.as_str().and_then(ip::net_or_address).map(|net| net.trunc());
    let net = net.ok_or_else(|| invalid(format!("{shown} is not in a CIDR format")))?;
    if ip::version(&net) != version {
        return Err(mismatch("cidr", &shown, version));
    }
    if net.prefix_len() == 0 {
        return Err(invalid("0 is not allowed as CIDR prefix length"));
    }
    Ok(Some(net))
}

fn mismatch(name: &str, value: &str, version: i64) -> Fault {
    invalid(format!("{name} '{value}' does not match the ip_version '{version}'"))
}

/// The gateway: as asked, none, or the usual one.
pub fn gateway(new: &Attributes, net: &IpNet) -> Result<Option<IpAddr>, Fault> {
    match new.get("gateway_ip") {
        Some(Json::Null) => Ok(None),
        Some(_) => {
            let given = new.text("gateway_ip");
            let address: IpAddr = given.parse().map_err(|_| invalid("Gateway is not valid on subnet"))?;
            good_gateway(address, net).map(Some)
        }
        None => {
            let (first, _) = ip::bounds(net);
            // Upstream: in IPv6 it is the network's own address, the routers' anycast.
            let alone = net.prefix_len() == net.max_prefix_len();
            let step = u128::from(net.addr().is_ipv4() && !alone);
            Ok(Some(ip::address(first + step, net)))
        }
    }
}

fn good_gateway(address: IpAddr, net: &IpNet) -> Result<IpAddr, Fault> {
    if address.is_ipv4() != net.addr().is_ipv4() {
        return Err(mismatch("gateway_ip", &address.to_string(), ip::version(net)));
    }
    let ends = net.addr().is_ipv4() && (address == net.network() || address == net.broadcast());
    match ends && net.contains(&address) && net.prefix_len() < 31 {
        true => Err(invalid("Gateway is not valid on subnet")),
        false => Ok(address),
    }
}

/// All usable addresses around the gateway.
pub fn default_pools(net: &IpNet, gateway: Option<IpAddr>) -> Json {
    let (mut first, mut last) = ip::bounds(net);
    let v4 = net.addr().is_ipv4();
    if first != last && (!v4 || net.prefix_len() < 31) {
        first += 1;
        last -= u128::from(v4);
    }
    let pool =
        |first, last| json!({"start": ip::address(first, net).to_string(), "end": ip::address(last, net).to_string()});
    let gateway = gateway.filter(|address| net.contains(address)).map(ip::number);
    match gateway.filter(|number| (first..=last).contains(number) && first != last) {
        None => json!([pool(first, last)]),
        Some(number) => {
            let mut pools = Vec::new();
            if number > first {
                pools.push(pool(first, number - 1));
            }
            if number < last {
                pools.push(pool(number + 1, last));
            }
            Json::Array(pools)
        }
    }
}

/// Pools that a client gives: inside, apart, and without the gateway.
pub fn given_pools(pools: &Json, net: &IpNet, gateway: Option<IpAddr>) -> Result<Json, Fault> {
    let (low, high) = ip::bounds(net);
    let v4 = net.addr().is_ipv4();
    let wide = net.prefix_len() < if v4 { 31 } else { 128 };
    let (low, high) = (low + u128::from(wide), high - u128::from(wide && v4));
    let mut read: Vec<(u128, u128, String)> = Vec::new();
    for pool in pools.as_array().into_iter().flatten() {
        let (start, end) = (python::plain(&pool["start"]), python::plain(&pool["end"]));
        let shown = format!("{start}-{end}");
        let parse =
            |text: &str| text.parse::<IpAddr>().ok().filter(|address| address.is_ipv4() == net.addr().is_ipv4());
        let ends = parse(&start).zip(parse(&end));
        let Some((first, last)) =
            ends.map(|(first, last)| (ip::number(first), ip::number(last))).filter(|(a, b)| a <= b)
        else {
            return Err(Fault::InvalidAllocationPool { pool: shown });
        };
        if first < low || last > high {
            return Err(Fault::OutOfBoundsAllocationPool { pool: shown, subnet_cidr: net.to_string() });
        }
        if gateway.map(ip::number).is_some_and(|number| (first..=last).contains(&number)) {
            let ip_address = gateway.map(|address| address.to_string()).unwrap_or_default();
            return Err(Fault::GatewayConflictWithAllocationPools { ip_address, pool: shown });
        }
        if let Some((.., other)) = read.iter().find(|(a, b, _)| first <= *b && *a <= last) {
            let subnet_cidr = net.to_string();
            return Err(Fault::OverlappingAllocationPools { pool_1: other.clone(), pool_2: shown, subnet_cidr });
        }
        read.push((first, last, shown));
    }
    Ok(pools.clone())
}

pub fn service_types(types: &[String]) -> Result<Vec<String>, Fault> {
    let known = ["network:", "compute:", "baremetal:", "manila:", "trunk:", "neutron:"];
    match types.iter().find(|kind| !known.iter().any(|prefix| kind.starts_with(prefix))) {
        Some(kind) => Err(invalid(format!("Subnet service type {kind} does not correspond to a valid device owner"))),
        None => Ok(types.to_vec()),
    }
}

/// Checks that look at several attributes together. `dhcp_comes` means that DHCP was not on before.
pub fn whole(subnet: &Subnet, settings: &Settings, named: &str, dhcp_comes: bool) -> Result<(), Fault> {
    let net = subnet.net();
    if net.addr().is_ipv6() && net.addr().is_unspecified() {
        return Err(invalid("IPv6 subnet '::' is not supported"));
    }
    if subnet.enable_dhcp && dhcp_comes {
        fit_for_dhcp(&net)?;
    }
    if subnet.dns_nameservers.len() > settings.max_dns_nameservers {
        return Err(Fault::DnsNameServersExhausted { subnet_id: named.into(), quota: settings.max_dns_nameservers });
    }
    for server in &subnet.dns_nameservers {
        if server.contains(':') == net.addr().is_ipv4() {
            return Err(mismatch("dns_nameserver", server, subnet.ip_version));
        }
    }
    let routes = subnet.host_routes.as_array().map(Vec::as_slice).unwrap_or_default();
    if routes.len() > settings.max_host_routes {
        return Err(Fault::HostRoutesExhausted { subnet_id: named.into(), quota: settings.max_host_routes });
    }
    for route in routes {
        for key in ["destination", "nexthop"] {
            let text = python::plain(&route[key]);
            if text.contains(':') == net.addr().is_ipv4() {
                return Err(invalid(format!("{key} '{text}' does not match the ip_version '{}'", subnet.ip_version)));
            }
        }
    }
    modes(subnet)
}

fn fit_for_dhcp(net: &IpNet) -> Result<(), Fault> {
    let most = if net.addr().is_ipv4() { 30 } else { 126 };
    if net.prefix_len() > most {
        return Err(invalid("Subnet has a prefix length that is incompatible with DHCP service enabled"));
    }
    if net.addr().is_multicast() {
        return Err(invalid("Multicast IP subnet is not supported if enable_dhcp is True"));
    }
    if net.addr().is_loopback() {
        return Err(invalid("Loopback IP subnet is not supported if enable_dhcp is True"));
    }
    match net.addr().is_ipv4() && net.network().is_unspecified() {
        true => Err(invalid("First IP '0.0.0.0' of network is not supported if enable_dhcp is True.")),
        false => Ok(()),
    }
}

fn modes(subnet: &Subnet) -> Result<(), Fault> {
    let (ra, address) = (&subnet.ipv6_ra_mode, &subnet.ipv6_address_mode);
    if subnet.ip_version == 4 {
        return match (ra, address) {
            (Some(_), _) => Err(invalid("ipv6_ra_mode is not valid when ip_version is 4")),
            (_, Some(_)) => Err(invalid("ipv6_address_mode is not valid when ip_version is 4")),
            _ => Ok(()),
        };
    }
    if (ra.is_some() || address.is_some()) && !subnet.enable_dhcp {
        return Err(invalid("ipv6_ra_mode or ipv6_address_mode cannot be set when enable_dhcp is set to False"));
    }
    if let (Some(ra), Some(address)) = (ra, address)
        && ra != address
    {
        return Err(invalid(format!(
            "ipv6_ra_mode set to '{ra}' with ipv6_address_mode set to '{address}' is not valid. If both attributes are \
             set, they must be the same value"
        )));
    }
    match subnet.is_automatic() && subnet.net().prefix_len() != 64 {
        true => Err(invalid(format!(
            "Invalid CIDR {} for IPv6 address mode. OpenStack uses the EUI-64 address format, which requires the \
             prefix to be /64",
            subnet.cidr
        ))),
        false => Ok(()),
    }
}

/// The subnet after a change, checked.
pub fn changed(work: &Work<'_>, row: &Subnet, change: &Attributes) -> Result<Subnet, Fault> {
    let mut next = row.clone();
    let net = row.net();
    next.name = change.maybe("name").unwrap_or(next.name);
    next.description = change.maybe("description").unwrap_or(next.description);
    next.enable_dhcp = change.flag("enable_dhcp").unwrap_or(next.enable_dhcp);
    if !next.enable_dhcp && change.has("enable_dhcp") && (row.ipv6_ra_mode.is_some() || row.ipv6_address_mode.is_some())
    {
        return Err(invalid("Cannot disable enable_dhcp with ipv6 attributes set"));
    }
    if change.has("gateway_ip") {
        let gateway = change.maybe("gateway_ip").and_then(|text| text.parse().ok());
        next.gateway_ip =
            gateway.map(|address| good_gateway(address, &net)).transpose()?.map(|address| address.to_string());
    }
    if let Some(pools) = change.get("allocation_pools").filter(|pools| pools.is_array()) {
        next.allocation_pools = given_pools(pools, &net, next.gateway())?;
    } else if next.gateway_ip != row.gateway_ip {
        given_pools(&next.allocation_pools, &net, next.gateway())?;
    }
    if change.has("dns_nameservers") {
        next.dns_nameservers = change.texts("dns_nameservers");
    }
    if change.has("host_routes") {
        next.host_routes = change.get("host_routes").filter(|routes| routes.is_array()).cloned().unwrap_or(json!([]));
    }
    if change.has("service_types") {
        next.service_types = service_types(&change.texts("service_types"))?;
    }
    next.dns_publish_fixed_ip = change.flag("dns_publish_fixed_ip").unwrap_or(next.dns_publish_fixed_ip);
    if change.has("segment_id") {
        next.segment_id = change.maybe("segment_id");
    }
    whole(&next, &work.service.settings, &row.id, !row.enable_dhcp)?;
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn pools_lie_around_the_gateway() {
        let pools = |cidr: &str, gateway: &str| default_pools(&net(cidr), gateway.parse().ok());
        assert_eq!(pools("10.77.0.0/24", "10.77.0.1"), json!([{"start": "10.77.0.2", "end": "10.77.0.254"}]));
        let around = json!([{"start": "10.0.0.1", "end": "10.0.0.9"}, {"start": "10.0.0.11", "end": "10.0.0.14"}]);
        assert_eq!(pools("10.0.0.0/28", "10.0.0.10"), around);
        let wide = json!([{"start": "fd00:1::1", "end": "fd00:1::ffff:ffff:ffff:ffff"}]);
        assert_eq!(pools("fd00:1::/64", "fd00:1::"), wide);
        assert_eq!(pools("10.0.0.4/32", "-"), json!([{"start": "10.0.0.4", "end": "10.0.0.4"}]));
    }

    #[test]
    fn pools_of_clients_stay_inside_and_apart() {
        let check = |start: &str, end: &str| {
            let pools = json!([{"start": start, "end": end}, {"start": "10.0.0.20", "end": "10.0.0.30"}]);
            let given = given_pools(&pools, &net("10.0.0.0/24"), "10.0.0.1".parse().ok());
            given.map_err(|fault| api::Refusal::from(fault).kind)
        };
        assert!(check("10.0.0.2", "10.0.0.9").is_ok());
        assert_eq!(check("10.0.0.9", "10.0.0.2").unwrap_err(), "InvalidAllocationPool");
        assert_eq!(check("10.0.0.2", "10.0.1.9").unwrap_err(), "OutOfBoundsAllocationPool");
        assert_eq!(check("10.0.0.1", "10.0.0.9").unwrap_err(), "GatewayConflictWithAllocationPools");
        assert_eq!(check("10.0.0.2", "10.0.0.25").unwrap_err(), "OverlappingAllocationPools");
    }

    #[test]
    fn problems_are_found_in_lists() {
        assert_eq!(nameservers(json!(["8.8.8.8", "8.8.8.8"])).unwrap_err(), "Duplicate nameserver '8.8.8.8'");
        assert!(routes(json!([{"destination": "10.0.0.0/8"}])).is_err());
        let route = json!([{"destination": "10.9.1.0/16", "nexthop": "172.16.1.254"}]);
        assert_eq!(routes(route).unwrap()[0]["destination"], "10.9.0.0/16");
        assert!(version(json!(5)).is_err());
    }
}
