//! Filters: what must be so of a host beside having room. Each says in words what a host lacks.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use super::hints;
use super::matching::{self, matches};
use super::places::{Place, Wanted};
use crate::hosts::Host;
use crate::server_groups::Group;

/// One filter by upstream's name.
#[derive(Debug)]
pub struct Filter {
    pub name: &'static str,
    /// Why a host does not pass.
    objection: fn(&Place, &Wanted<'_>) -> Option<String>,
}

const ALL: &[Filter] = &[
    Filter { name: "AllHostsFilter", objection: |_, _| None },
    Filter { name: "ComputeFilter", objection: compute },
    Filter { name: "ComputeCapabilitiesFilter", objection: capabilities },
    Filter { name: "ImagePropertiesFilter", objection: image_properties },
    Filter { name: "ServerGroupAntiAffinityFilter", objection: group },
    Filter { name: "ServerGroupAffinityFilter", objection: group },
    Filter { name: "SameHostFilter", objection: same_host },
    Filter { name: "DifferentHostFilter", objection: different_host },
    Filter { name: "SimpleCIDRAffinityFilter", objection: near_address },
    Filter { name: "JsonFilter", objection: query },
    Filter { name: "AggregateInstanceExtraSpecsFilter", objection: aggregate_specs },
    Filter { name: "AggregateImagePropertiesIsolation", objection: aggregate_image },
    Filter { name: "AggregateMultiTenancyIsolation", objection: aggregate_projects },
    Filter { name: "AggregateTypeAffinityFilter", objection: aggregate_flavors },
    Filter { name: "NumInstancesFilter", objection: |place, wanted| crowded(place, wanted, false) },
    Filter { name: "AggregateNumInstancesFilter", objection: |place, wanted| crowded(place, wanted, true) },
    Filter { name: "IoOpsFilter", objection: |place, wanted| busy(place, wanted, false) },
    Filter { name: "AggregateIoOpsFilter", objection: |place, wanted| busy(place, wanted, true) },
    Filter { name: "IsolatedHostsFilter", objection: isolated },
];

pub fn named(name: &str) -> Option<&'static Filter> {
    ALL.iter().find(|filter| filter.name == name)
}

/// Parts the hosts that suit from the others. A host without an objection in words lacks room.
pub fn sift(wanted: &Wanted<'_>, places: Vec<Place>) -> (Vec<Place>, Vec<(Host, Option<String>)>) {
    let (mut fitting, mut objections) = (Vec::new(), Vec::new());
    for place in places {
        match objection(wanted, &place) {
            Some(why) => objections.push((place.host, Some(why))),
            None if place.offer.is_none() => objections.push((place.host, None)),
            None => fitting.push(place),
        }
    }
    (fitting, objections)
}

fn objection(wanted: &Wanted<'_>, place: &Place) -> Option<String> {
    let named = wanted.forced_host().or(wanted.requested_host());
    if named.is_some_and(|name| name != place.host.name) {
        return Some("another host was asked for".into());
    }
    if let Some(zone) = wanted.server.pinned_zone.as_deref().filter(|zone| *zone != place.zone) {
        return Some(format!("in the availability zone {}, not {zone}", place.zone));
    }
    // Upstream: who forces a host answers for it; only the room is asked for.
    if wanted.forced_host().is_some() {
        return None;
    }
    wanted.settings.filters.iter().find_map(|filter| (filter.objection)(place, wanted))
}

fn compute(place: &Place, _: &Wanted<'_>) -> Option<String> {
    let host = &place.host;
    match (host.disabled, host.is_up()) {
        (true, _) => Some(format!("disabled ({})", host.disabled_reason.as_deref().unwrap_or("no reason given"))),
        (_, false) => Some("down".into()),
        _ => None,
    }
}

/// `capabilities:…` extra specs; plain ones count as long as the host has such an attribute.
fn capabilities(place: &Place, wanted: &Wanted<'_>) -> Option<String> {
    for (key, demand) in wanted.extra_specs() {
        let path = match key.strip_prefix("capabilities:") {
            Some(path) => path,
            None if !key.contains(':') && place.attribute(key).is_some() => key,
            None => continue,
        };
        let mut words = path.split(':');
        let start = words.next().and_then(|name| place.attribute(name));
        let found = words.try_fold(start?, |value, name| value.get(name).cloned());
        let text = found.map(|value| value.as_str().map_or_else(|| value.to_string(), String::from));
        if !text.as_deref().is_some_and(|text| matches(text, demand)) {
            let has = text.unwrap_or_else(|| "nothing".into());
            return Some(format!("capability {path}: {demand} wanted, {has} there"));
        }
    }
    None
}

fn image_properties(place: &Place, wanted: &Wanted<'_>) -> Option<String> {
    let property = |names: [&str; 2]| names.into_iter().find_map(|name| wanted.image_property(name));
    let default = wanted.settings.image_properties_default_architecture.as_deref();
    let arch = property(["hw_architecture", "architecture"]).or(default);
    if let (Some(arch), Some(own)) = (arch, place.arch())
        && !runs(own, arch)
    {
        return Some(format!("architecture {own}, not {arch}"));
    }
    let kind = place.facts.as_ref().map(|facts| facts.hypervisor_type.to_lowercase()).unwrap_or_default();
    if let Some(wanted) = property(["img_hv_type", "hypervisor_type"]).map(str::to_lowercase)
        && wanted != kind
        && (wanted.as_str(), kind.as_str()) != ("qemu", "kvm")
    {
        return Some(format!("hypervisor {kind}, not {wanted}"));
    }
    if let Some(mode) = property(["hw_vm_mode", "vm_mode"]).filter(|mode| !mode.eq_ignore_ascii_case("hvm")) {
        return Some(format!("runs no guests in the mode {mode}"));
    }
    let version = place.facts.as_ref().map_or(0, |facts| facts.hypervisor_version);
    match property(["img_hv_requested_version", "hypervisor_version_requires"]) {
        Some(demand) if !matching::version_satisfies(version, demand) => {
            Some(format!("hypervisor version {}, not {demand}", matching::dotted(version)))
        }
        _ => None,
    }
}

/// Whether processors of one architecture run programs of another; upstream's other spellings are the same.
fn runs(own: &str, wanted: &str) -> bool {
    let plain = |name: &str| match name.to_lowercase().as_str() {
        "amd64" => "x86_64".to_string(),
        "i386" | "i486" | "i586" | "x86" => "i686".to_string(),
        "arm64" => "aarch64".to_string(),
        other => other.to_string(),
    };
    let (own, wanted) = (plain(own), plain(wanted));
    own == wanted || (own == "x86_64" && wanted == "i686")
}

fn group(place: &Place, wanted: &Wanted<'_>) -> Option<String> {
    group_objection(wanted.group.as_ref()?, &wanted.members, &place.host.name)
}

/// Why a group whose servers are on `members` does not allow another one on `host`.
pub fn group_objection(group: &Group, members: &[String], host: &str) -> Option<String> {
    let there = members.iter().filter(|member| *member == host).count();
    match group.policy.as_str() {
        "anti-affinity" if there >= group.most_on_a_host() => {
            Some(format!("has {there} of the servers that the server group {} keeps apart", group.name))
        }
        "affinity" if there == 0 && !members.is_empty() => {
            Some(format!("has none of the servers that the server group {} keeps together", group.name))
        }
        _ => None,
    }
}

fn same_host(place: &Place, wanted: &Wanted<'_>) -> Option<String> {
    let hosts = wanted.same_host.as_ref()?;
    (!hosts.contains(&place.host.name)).then(|| "has none of the servers that the hint same_host names".into())
}

fn different_host(place: &Place, wanted: &Wanted<'_>) -> Option<String> {
    let there = wanted.different_host.contains(&place.host.name);
    there.then(|| "has a server that the hint different_host names".into())
}

fn near_address(place: &Place, wanted: &Wanted<'_>) -> Option<String> {
    let given = &wanted.server.scheduler_hints;
    let near: Ipv4Addr = given["build_near_host_ip"].as_str()?.parse().ok()?;
    let bits = hints::prefix(&given["cidr"]).unwrap_or(24);
    let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
    let own: Option<Ipv4Addr> = place.facts.as_ref().and_then(|facts| facts.address.parse().ok());
    let inside = own.is_some_and(|own| own.to_bits() & mask == near.to_bits() & mask);
    (!inside).then(|| format!("its address is not in {near}/{bits}"))
}

fn query(place: &Place, wanted: &Wanted<'_>) -> Option<String> {
    let query = hints::query(&wanted.server.scheduler_hints["query"])?;
    (!matching::holds(&query, place)).then(|| "the hint query does not hold".into())
}

fn aggregate_specs(place: &Place, wanted: &Wanted<'_>) -> Option<String> {
    for (key, demand) in wanted.extra_specs() {
        let key = match key.split_once(':') {
            Some(("aggregate_instance_extra_specs", key)) => key,
            Some(_) => continue,
            None => key,
        };
        let values = place.metadata.get(key);
        if !values.into_iter().flatten().any(|value| matches(value, demand)) {
            return Some(format!("no aggregate with {key}: {demand}{}", shown(values)));
        }
    }
    None
}

fn shown(values: Option<&BTreeSet<String>>) -> String {
    let values = values.map(|values| values.iter().cloned().collect::<Vec<_>>().join(", "));
    values.map(|values| format!(", but {values}")).unwrap_or_default()
}

fn aggregate_image(place: &Place, wanted: &Wanted<'_>) -> Option<String> {
    let prefix = wanted.settings.aggregate_image_properties_isolation_prefix.as_deref();
    for (key, values) in &place.metadata {
        if prefix.is_some_and(|prefix| !key.starts_with(prefix)) {
            continue;
        }
        if let Some(property) = wanted.image_property(key).filter(|property| !values.contains(*property)) {
            return Some(format!("its aggregates take images with {key}: {}, not {property}", join(values)));
        }
    }
    None
}

fn join(values: &BTreeSet<String>) -> String {
    values.iter().cloned().collect::<Vec<_>>().join(", ")
}

fn aggregate_projects(place: &Place, wanted: &Wanted<'_>) -> Option<String> {
    let kept = place.metadata.iter().filter(|(key, _)| key.starts_with("filter_tenant_id"));
    let projects: BTreeSet<&String> = kept.flat_map(|(_, projects)| projects).collect();
    let allowed = projects.is_empty() || projects.contains(&wanted.server.project_id);
    (!allowed).then(|| "its aggregates are kept for other projects".into())
}

fn aggregate_flavors(place: &Place, wanted: &Wanted<'_>) -> Option<String> {
    let flavors = place.metadata.get("instance_type")?;
    let name = wanted.server.flavor["name"].as_str().unwrap_or_default();
    (!flavors.contains(name)).then(|| format!("its aggregates take the flavors {}", join(flavors)))
}

fn crowded(place: &Place, wanted: &Wanted<'_>, by_aggregate: bool) -> Option<String> {
    let most = most(place, by_aggregate, "max_instances_per_host", wanted.settings.max_instances_per_host);
    (place.servers >= most).then(|| format!("has {} servers, {most} are allowed", place.servers))
}

fn busy(place: &Place, wanted: &Wanted<'_>, by_aggregate: bool) -> Option<String> {
    let most = most(place, by_aggregate, "max_io_ops_per_host", wanted.settings.max_io_ops_per_host);
    (place.building >= most).then(|| format!("makes {} servers, {most} at once are allowed", place.building))
}

/// Upstream: of several aggregates, the smallest number counts.
fn most(place: &Place, by_aggregate: bool, key: &str, usual: i64) -> i64 {
    let values = place.metadata.get(key).filter(|_| by_aggregate);
    values.into_iter().flatten().filter_map(|value| value.parse().ok()).min().unwrap_or(usual)
}

fn isolated(place: &Place, wanted: &Wanted<'_>) -> Option<String> {
    let settings = wanted.settings;
    let host = settings.isolated_hosts.contains(&place.host.name);
    let image = wanted.server.image_id.as_ref().is_some_and(|image| settings.isolated_images.contains(image));
    match (image, host, settings.restrict_isolated_hosts_to_isolated_images) {
        (true, false, _) => Some("the image is kept for isolated hosts".into()),
        (false, true, true) => Some("kept for isolated images".into()),
        _ => None,
    }
}
