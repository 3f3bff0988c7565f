//! `[scheduler]` and `[filter_scheduler]`, under upstream's names and with its defaults.

use base::config::{Config, ConfigError};

use super::filters::{self, Filter};

const SECTION: &str = "filter_scheduler";

/// Filters of upstream that look at what our hosts do not have; they are overlooked, and said to be.
const NEEDLESS: &[&str] = &[
    "AvailabilityZoneFilter",
    "MetricsFilter",
    "NUMATopologyFilter",
    "PciPassthroughFilter",
    "RamFilter",
    "CoreFilter",
    "DiskFilter",
    "RetryFilter",
];

/// Upstream's default, and the two that make hints mean something: a hint that nobody reads would be a lie.
const DEFAULT_FILTERS: &[&str] = &[
    "ComputeFilter",
    "ComputeCapabilitiesFilter",
    "ImagePropertiesFilter",
    "ServerGroupAntiAffinityFilter",
    "ServerGroupAffinityFilter",
    "SameHostFilter",
    "DifferentHostFilter",
];

/// How hosts are chosen.
#[derive(Debug, Clone)]
pub struct Settings {
    pub(super) filters: Vec<&'static Filter>,
    pub max_placement_results: usize,
    pub host_subset_size: usize,
    pub max_io_ops_per_host: i64,
    pub max_instances_per_host: i64,
    /// By the name of the option.
    pub(super) multipliers: Vec<(&'static str, f64)>,
    pub image_properties_default_architecture: Option<String>,
    pub isolated_hosts: Vec<String>,
    pub isolated_images: Vec<String>,
    pub restrict_isolated_hosts_to_isolated_images: bool,
    pub aggregate_image_properties_isolation_prefix: Option<String>,
}

/// Upstream's multipliers. Below zero turns a weigher around.
const MULTIPLIERS: &[(&str, f64)] = &[
    ("ram_weight_multiplier", 1.0),
    ("cpu_weight_multiplier", 1.0),
    ("disk_weight_multiplier", 1.0),
    ("hypervisor_version_weight_multiplier", 1.0),
    ("num_instances_weight_multiplier", 0.0),
    ("io_ops_weight_multiplier", -1.0),
    ("soft_affinity_weight_multiplier", 1.0),
    ("soft_anti_affinity_weight_multiplier", 1.0),
];

impl Settings {
    pub fn read(config: &Config) -> Result<Settings, ConfigError> {
        let number =
            |section: &str, name: &str, default: i64, least: i64| match config.integer(section, name, default)? {
                number if number >= least => Ok(number),
                number => Err(ConfigError::Value {
                    section: section.into(),
                    name: name.into(),
                    value: number.to_string(),
                    why: "is too small",
                }),
            };
        let text = |name: &str| config.text(SECTION, name).map(String::from).filter(|text| !text.is_empty());
        let mut multipliers = Vec::new();
        for (name, default) in MULTIPLIERS {
            multipliers.push((*name, multiplier(config, name, *default)?));
        }
        let prefix = text("aggregate_image_properties_isolation_namespace").map(|namespace| {
            let separator = config.text_or(SECTION, "aggregate_image_properties_isolation_separator", ".");
            format!("{namespace}{separator}")
        });
        Ok(Settings {
            filters: enabled(config)?,
            max_placement_results: number("scheduler", "max_placement_results", 1000, 1)? as usize,
            host_subset_size: number(SECTION, "host_subset_size", 1, 1)? as usize,
            max_io_ops_per_host: number(SECTION, "max_io_ops_per_host", 8, 0)?,
            max_instances_per_host: number(SECTION, "max_instances_per_host", 50, 1)?,
            multipliers,
            image_properties_default_architecture: text("image_properties_default_architecture"),
            isolated_hosts: config.list(SECTION, "isolated_hosts"),
            isolated_images: config.list(SECTION, "isolated_images"),
            restrict_isolated_hosts_to_isolated_images: config.flag(
                SECTION,
                "restrict_isolated_hosts_to_isolated_images",
                true,
            )?,
            aggregate_image_properties_isolation_prefix: prefix,
        })
    }

    pub(super) fn multiplier(&self, name: &str) -> f64 {
        self.multipliers.iter().find(|(known, _)| *known == name).map_or(0.0, |(_, multiplier)| *multiplier)
    }
}

impl Default for Settings {
    fn default() -> Settings {
        Settings::read(&Config::default()).expect("an empty configuration has nothing wrong in it")
    }
}

fn multiplier(config: &Config, name: &str, default: f64) -> Result<f64, ConfigError> {
    let Some(text) = config.text(SECTION, name) else { return Ok(default) };
    text.parse::<f64>().ok().filter(|number| number.is_finite()).ok_or_else(|| ConfigError::Value {
        section: SECTION.into(),
        name: name.into(),
        value: text.into(),
        why: "is not a number",
    })
}

fn enabled(config: &Config) -> Result<Vec<&'static Filter>, ConfigError> {
    let named = config.list(SECTION, "enabled_filters");
    let named = match config.text(SECTION, "enabled_filters") {
        None => DEFAULT_FILTERS.iter().map(|name| name.to_string()).collect(),
        Some(_) => named,
    };
    let mut enabled = Vec::new();
    for name in named {
        match filters::named(&name) {
            Some(filter) => enabled.push(filter),
            None if NEEDLESS.contains(&name.as_str()) => {
                tracing::warn!(filter = name, "this filter has nothing to look at on our hosts, and is overlooked");
            }
            None => {
                return Err(ConfigError::Value {
                    section: SECTION.into(),
                    name: "enabled_filters".into(),
                    value: name,
                    why: "is no filter that we know",
                });
            }
        }
    }
    Ok(enabled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_chosen_by_upstreams_names() {
        let read = |text: &str| Settings::read(&Config::parse(text).unwrap());
        let settings = read("[filter_scheduler]\nenabled_filters = ComputeFilter, NUMATopologyFilter\n").unwrap();
        assert_eq!(settings.filters.iter().map(|filter| filter.name).collect::<Vec<_>>(), ["ComputeFilter"]);
        assert!(read("[filter_scheduler]\nenabled_filters = ColourFilter\n").is_err());
        assert!(read("[filter_scheduler]\nram_weight_multiplier = much\n").is_err());
        assert!(read("[scheduler]\nmax_placement_results = 0\n").is_err());
        assert_eq!(Settings::default().filters.len(), DEFAULT_FILTERS.len());
    }
}
