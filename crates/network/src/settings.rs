//! What an operator may set, under upstream's names.

use std::collections::{BTreeMap, BTreeSet};

use base::config::{Config, ConfigError};

/// The options of the service, read once.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `[ml2] type_drivers`.
    pub types: Vec<String>,
    /// `[ml2] tenant_network_types`: tried in this order for networks without provider attributes.
    pub project_types: Vec<String>,
    /// `[ml2] external_network_type`.
    pub external_type: Option<String>,
    pub vni_ranges: Vec<(i64, i64)>,
    /// By physical network; a network with no range takes any tag from an administrator.
    pub vlan_ranges: BTreeMap<String, Vec<(i64, i64)>>,
    /// `*` is in here when any name will do.
    pub flat_networks: BTreeSet<String>,
    /// What the physical networks carry.
    pub physical_mtu: i64,
    /// `[ml2] path_mtu`; none means that tunnels are held to `physical_mtu` alone.
    pub path_mtu: i64,
    pub dns_domain: String,
    pub agent_down_seconds: i64,
    pub max_routes: usize,
    pub max_dns_nameservers: usize,
    pub max_host_routes: usize,
    pub max_address_pairs: usize,
    pub zone: String,
    pub metadata: Option<(String, String)>,
    extensions: BTreeSet<String>,
}

/// Bytes that VXLAN puts around a frame, over IPv4.
const VXLAN_BYTES: i64 = 50;

impl Settings {
    pub fn read(config: &Config) -> Result<Settings, ConfigError> {
        let list = |section, name, default: &str| match config.list(section, name) {
            given if given.is_empty() => default.split(',').map(String::from).collect(),
            given => given,
        };
        let number = |section: &str, name: &str, default: i64| {
            config.text(section, name).and_then(|text| text.trim().parse().ok()).unwrap_or(default)
        };
        let flat = list("ml2_type_flat", "flat_networks", "*");
        Ok(Settings {
            types: list("ml2", "type_drivers", "local,flat,vlan,vxlan"),
            project_types: list("ml2", "tenant_network_types", "vxlan"),
            external_type: config
                .text("ml2", "external_network_type")
                .map(String::from)
                .filter(|text| !text.is_empty()),
            vni_ranges: list("ml2_type_vxlan", "vni_ranges", "1:16777215")
                .iter()
                .filter_map(|text| range(text))
                .collect(),
            vlan_ranges: vlans(&config.list("ml2_type_vlan", "network_vlan_ranges")),
            flat_networks: flat.into_iter().collect(),
            physical_mtu: number("DEFAULT", "global_physnet_mtu", 1500),
            path_mtu: number("ml2", "path_mtu", 0),
            dns_domain: config.text_or("DEFAULT", "dns_domain", "openstacklocal").trim_end_matches('.').to_string()
                + ".",
            agent_down_seconds: number("DEFAULT", "agent_down_time", 75),
            max_routes: number("DEFAULT", "max_routes", 30).max(0) as usize,
            max_dns_nameservers: number("DEFAULT", "max_dns_nameservers", 5).max(0) as usize,
            max_host_routes: number("DEFAULT", "max_subnet_host_routes", 20).max(0) as usize,
            max_address_pairs: number("DEFAULT", "max_allowed_address_pair", 10).max(0) as usize,
            zone: config.text_or("AGENT", "availability_zone", "nova").to_string(),
            metadata: metadata(config),
            extensions: list("ml2", "extension_drivers", "port_security").into_iter().collect(),
        })
    }

    /// Whether attributes that belong to a driver of `[ml2] extension_drivers` are there. Upstream: `dns` brings the
    /// names of ports and networks.
    pub fn has_extension(&self, name: &str) -> bool {
        match name {
            "dns" => ["dns", "dns_domain_ports", "dns_domain_keywords", "subnet_dns_publish_fixed_ip"]
                .iter()
                .any(|driver| self.extensions.contains(*driver)),
            other => self.extensions.contains(other),
        }
    }

    /// The largest MTU of a network of this type.
    pub fn mtu(&self, network_type: &str) -> i64 {
        let path = if self.path_mtu > 0 { self.path_mtu.min(self.physical_mtu) } else { self.physical_mtu };
        match network_type {
            "vxlan" => path - VXLAN_BYTES,
            _ => self.physical_mtu,
        }
    }
}

/// `1:1000` → (1, 1000).
fn range(text: &str) -> Option<(i64, i64)> {
    let (first, last) = text.split_once(':')?;
    Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
}

/// `physnet1:100:199`, `physnet2`.
fn vlans(entries: &[String]) -> BTreeMap<String, Vec<(i64, i64)>> {
    let mut ranges: BTreeMap<String, Vec<(i64, i64)>> = BTreeMap::new();
    for entry in entries {
        let (name, rest) = entry.split_once(':').unwrap_or((entry, ""));
        ranges.entry(name.trim().to_string()).or_default().extend(range(rest));
    }
    ranges
}

/// Where hosts' metadata proxies send requests, and the secret that signs them.
fn metadata(config: &Config) -> Option<(String, String)> {
    let secret = config.text("DEFAULT", "metadata_proxy_shared_secret").unwrap_or_default();
    let host = config.text("DEFAULT", "nova_metadata_host");
    if secret.is_empty() && host.is_none() {
        return None;
    }
    let port = config.text_or("DEFAULT", "nova_metadata_port", "8775");
    let protocol = config.text_or("DEFAULT", "nova_metadata_protocol", "http");
    Some((format!("{protocol}://{}:{port}", host.unwrap_or("127.0.0.1")), secret.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams_options_are_read() {
        let text = "[ml2]\npath_mtu = 9000\n[ml2_type_vlan]\nnetwork_vlan_ranges = a:1:9,b\n[ml2_type_vxlan]\nvni_ranges = 5:6\n";
        let settings = Settings::read(&Config::parse(text).unwrap()).unwrap();
        assert_eq!(settings.vni_ranges, [(5, 6)]);
        assert_eq!(settings.vlan_ranges["a"], [(1, 9)]);
        assert!(settings.vlan_ranges["b"].is_empty());
        assert_eq!(settings.mtu("vxlan"), 1450);
        assert_eq!(settings.mtu("flat"), 1500);
    }
}
