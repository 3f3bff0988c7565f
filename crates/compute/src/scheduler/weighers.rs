//! Weighers: which of the hosts that suit is best. As upstream: each weigher's values are spread over 0 to 1, multiplied
//! and added up.

use rand::seq::SliceRandom;

use super::places::{Place, Wanted};

struct Weigher {
    /// The option that says how much it counts; an aggregate's metadata may say otherwise.
    multiplier: &'static str,
    value: fn(&Place, &Wanted<'_>) -> f64,
}

const ALL: &[Weigher] = &[
    Weigher { multiplier: "ram_weight_multiplier", value: |place, _| place.free("MEMORY_MB") as f64 },
    Weigher { multiplier: "cpu_weight_multiplier", value: |place, _| place.free("VCPU") as f64 },
    Weigher { multiplier: "disk_weight_multiplier", value: |place, _| place.free("DISK_GB") as f64 },
    Weigher {
        multiplier: "hypervisor_version_weight_multiplier",
        value: |place, _| place.facts.as_ref().map_or(0.0, |facts| facts.hypervisor_version as f64),
    },
    Weigher { multiplier: "num_instances_weight_multiplier", value: |place, _| place.servers as f64 },
    Weigher { multiplier: "io_ops_weight_multiplier", value: |place, _| place.building as f64 },
    Weigher {
        multiplier: "soft_affinity_weight_multiplier",
        value: |place, wanted| together(place, wanted, "soft-affinity"),
    },
    Weigher {
        multiplier: "soft_anti_affinity_weight_multiplier",
        value: |place, wanted| -together(place, wanted, "soft-anti-affinity"),
    },
];

/// How many servers of the group are there already, if the group has this policy.
fn together(place: &Place, wanted: &Wanted<'_>, policy: &str) -> f64 {
    match &wanted.group {
        Some(group) if group.policy == policy => {
            wanted.members.iter().filter(|member| **member == place.host.name).count() as f64
        }
        _ => 0.0,
    }
}

/// The places, the best first. Those of equal weight are in the order of their names, unless `host_subset_size` asks
/// for one of the best at random.
pub fn best_first(wanted: &Wanted<'_>, places: Vec<Place>) -> Vec<Place> {
    let mut weights = vec![0.0; places.len()];
    for weigher in ALL {
        let values: Vec<f64> = places.iter().map(|place| (weigher.value)(place, wanted)).collect();
        for ((weight, value), place) in weights.iter_mut().zip(spread(&values)).zip(&places) {
            *weight += value * multiplier(wanted, place, weigher.multiplier);
        }
    }
    let mut weighed: Vec<(f64, Place)> = weights.into_iter().zip(places).collect();
    weighed.sort_by(|(one, here), (two, there)| two.total_cmp(one).then_with(|| here.host.name.cmp(&there.host.name)));
    let mut best: Vec<Place> = weighed.into_iter().map(|(_, place)| place).collect();
    let subset = wanted.settings.host_subset_size.min(best.len());
    if subset > 1 {
        best[..subset].shuffle(&mut rand::rng());
    }
    best
}

/// Upstream: of several aggregates, the smallest number counts.
fn multiplier(wanted: &Wanted<'_>, place: &Place, name: &str) -> f64 {
    let values = place.metadata.get(name).into_iter().flatten();
    let smallest = values.filter_map(|value| value.parse::<f64>().ok()).min_by(f64::total_cmp);
    smallest.unwrap_or_else(|| wanted.settings.multiplier(name))
}

/// The values spread over 0 to 1; where all are the same, they say nothing.
fn spread(values: &[f64]) -> Vec<f64> {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let range = most - least;
    values.iter().map(|value| if range > 0.0 { (value - least) / range } else { 0.0 }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_spread_over_0_to_1() {
        assert_eq!(spread(&[2.0, 4.0, 3.0]), [0.0, 1.0, 0.5]);
        assert_eq!(spread(&[7.0, 7.0]), [0.0, 0.0]);
        assert_eq!(spread(&[]), [0.0; 0]);
    }
}
