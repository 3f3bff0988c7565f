//! What a server takes from a host, as a question to placement.

use std::collections::BTreeMap;

use api::Json;
use api::message::encode;

use crate::servers::store::Server;

/// One group of things that must come from one provider.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Group {
    pub resources: BTreeMap<String, i64>,
    /// Traits that the provider must have, or, with `!` before them, must not have.
    pub traits: Vec<String>,
}

/// Everything that a server takes. The group without a name may be spread over the tree of a host.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Demand {
    pub groups: BTreeMap<String, Group>,
    policy: Option<String>,
}

impl Demand {
    pub fn of(server: &Server) -> Demand {
        let mut demand = Demand::default();
        let plain = demand.groups.entry(String::new()).or_default();
        plain.resources.extend(amounts(server));
        let specs = server.flavor["extra_specs"].as_object().into_iter().flatten();
        let image = server.image["properties"].as_object().into_iter().flatten();
        let traits_of_image = image.filter(|(key, _)| key.starts_with("trait:"));
        for (key, value) in specs.chain(traits_of_image) {
            demand.read(key, value.as_str().unwrap_or_default());
        }
        demand
    }

    /// `resources1:VGPU=1`, `trait:HW_CPU_X86_AVX2=required`, `group_policy=isolate`.
    fn read(&mut self, key: &str, value: &str) {
        if key == "group_policy" {
            self.policy = Some(value.to_string());
        }
        let Some((namespace, name)) = key.split_once(':') else { return };
        if let Some(suffix) = namespace.strip_prefix("resources") {
            let group = self.groups.entry(suffix.to_string()).or_default();
            match value.parse::<i64>() {
                Ok(amount) if amount > 0 => drop(group.resources.insert(name.to_string(), amount)),
                // Upstream: nothing asked for takes out what the flavor itself asks for.
                _ => drop(group.resources.remove(name)),
            }
        } else if let Some(suffix) = namespace.strip_prefix("trait") {
            let group = self.groups.entry(suffix.to_string()).or_default();
            match value {
                "required" => group.traits.push(name.to_string()),
                "forbidden" => group.traits.push(format!("!{name}")),
                _ => {}
            }
        }
    }

    /// The query for candidates; none when nothing is asked for.
    pub fn query(&self, limit: usize) -> Option<String> {
        let mut parts = vec![format!("limit={limit}")];
        for (suffix, group) in &self.groups {
            if !group.resources.is_empty() {
                let amounts: Vec<String> =
                    group.resources.iter().map(|(class, amount)| format!("{}:{amount}", encode(class))).collect();
                parts.push(format!("resources{}={}", encode(suffix), amounts.join(",")));
            }
            if !group.traits.is_empty() {
                let traits: Vec<String> = group.traits.iter().map(|name| encode(name)).collect();
                parts.push(format!("required{}={}", encode(suffix), traits.join(",")));
            }
        }
        let named =
            self.groups.iter().filter(|(suffix, group)| !suffix.is_empty() && !group.resources.is_empty()).count();
        if named > 1 || self.policy.is_some() {
            parts.push(format!("group_policy={}", encode(self.policy.as_deref().unwrap_or("none"))));
        }
        let asks = self.groups.values().any(|group| !group.resources.is_empty());
        asks.then(|| parts.join("&"))
    }
}

fn amounts(server: &Server) -> Vec<(String, i64)> {
    let swap_gb = (server.flavor_number("swap_mb") + 1023) / 1024;
    let disk = server.flavor_number("root_gb") + server.flavor_number("ephemeral_gb") + swap_gb;
    let wanted =
        [("VCPU", server.flavor_number("vcpus")), ("MEMORY_MB", server.flavor_number("memory_mb")), ("DISK_GB", disk)];
    wanted.into_iter().filter(|(_, amount)| *amount > 0).map(|(class, amount)| (class.to_string(), amount)).collect()
}

/// What a server takes from a host, all groups together.
pub fn resources(server: &Server) -> Vec<(String, i64)> {
    let mut sums: BTreeMap<String, i64> = BTreeMap::new();
    for group in Demand::of(server).groups.values() {
        for (class, amount) in &group.resources {
            *sums.entry(class.clone()).or_default() += amount;
        }
    }
    sums.into_iter().collect()
}

/// A flavor's extra specs, or an image's properties, as text.
pub(super) fn texts(map: &Json) -> impl Iterator<Item = (&str, &str)> {
    map.as_object().into_iter().flatten().filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extra_specs_change_what_is_asked_for() {
        let mut demand = Demand::default();
        demand.groups.entry(String::new()).or_default().resources =
            BTreeMap::from([("VCPU".to_string(), 2), ("DISK_GB".to_string(), 1)]);
        let specs = [
            ("resources:DISK_GB", "0"),
            ("resources:CUSTOM_GOLD", "1"),
            ("trait:HW_CPU_X86_AVX2", "required"),
            ("trait:COMPUTE_X", "forbidden"),
            ("hw:cpu_policy", "shared"),
        ];
        specs.iter().for_each(|(key, value)| demand.read(key, value));
        let wanted = "limit=7&resources=CUSTOM_GOLD:1,VCPU:2&required=HW_CPU_X86_AVX2,%21COMPUTE_X";
        assert_eq!(demand.query(7).as_deref(), Some(wanted));
        demand.read("resources1:VGPU", "1");
        demand.read("resources2:VGPU", "1");
        assert!(demand.query(7).unwrap().ends_with("resources1=VGPU:1&resources2=VGPU:1&group_policy=none"));
        assert_eq!(Demand::default().query(1), None);
    }
}
