//! Upstream's configuration files, below one directory.

use std::path::Path;

use anyhow::{Context, Result};
use base::config::Config;

/// The files of each service, in the order in which they are read.
const FILES: &[(&str, &[&str])] = &[
    ("identity", &["keystone/keystone.conf"]),
    ("image", &["glance/glance-api.conf"]),
    ("placement", &["placement/placement.conf"]),
    ("compute", &["nova/nova.conf"]),
    (
        "network",
        &["neutron/neutron.conf", "neutron/plugins/ml2/ml2_conf.ini", "neutron/plugins/ml2/linuxbridge_agent.ini"],
    ),
];

/// The options of a service.
pub fn read(directory: &Path, service: &str) -> Result<Config> {
    let mut config = Config::default();
    for file in files(service) {
        config.load(&directory.join(file)).with_context(|| format!("the configuration of {service}"))?;
    }
    Ok(config)
}

/// An operator's policy for a service, where `[oslo_policy] policy_file` says it is.
pub fn policy(directory: &Path, service: &str, config: &Config) -> Result<Option<String>> {
    let home = files(service).first().and_then(|file| Path::new(file).parent()).unwrap_or(Path::new(""));
    let path = directory.join(home).join(config.text_or("oslo_policy", "policy_file", "policy.yaml"));
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text)),
        Err(missing) if missing.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

/// Says once which options nobody has read.
pub fn report_unknown(service: &str, config: &Config) {
    for option in config.unknown() {
        tracing::warn!(service, option, "this option is not known here and has no effect");
    }
}

fn files(service: &str) -> &'static [&'static str] {
    FILES.iter().find(|(name, _)| *name == service).map(|(_, files)| *files).unwrap_or_default()
}
