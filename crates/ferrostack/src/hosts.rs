//! The hosts of an all-in-one cloud: this machine, or simulated ones.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use bus::Bus;
use contract::network as wires;
use host_hypervisor::{Fake, FakeBehaviour, FakeSize, Identity, Images, Qemu, QemuConfig, VirtType};

use crate::agents::{Door, Host};
use crate::configuration;
use crate::layout::Layout;

/// Which host to run, and how.
pub struct Settings {
    pub layout: Layout,
    pub config_dir: PathBuf,
    pub netns: Option<String>,
    pub name: Option<String>,
    /// `network:interface`, as on the command line; upstream's option otherwise.
    pub physical: Vec<String>,
}

/// The programs that a real host needs, and the packages that have them.
const PROGRAMS: &[(&str, &str)] = &[
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("qemu-img", "qemu-utils"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("dnsmasq", "dnsmasq-base"),
];

/// Says what is missing before anything is begun.
pub fn must_be_possible(netns: Option<&str>) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("guests, bridges and routers need root. Run this as root, or simulate the hosts with --fake");
    }
    let missing: Vec<_> = PROGRAMS.iter().filter(|(program, _)| !is_installed(program)).collect();
    if !missing.is_empty() {
        let packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
        let programs: Vec<&str> = missing.iter().map(|(program, _)| *program).collect();
        bail!("{} not found. Install: apt-get install {}", programs.join(", "), packages.join(" "));
    }
    if let Some(name) = netns.filter(|name| !std::path::Path::new("/run/netns").join(name).exists()) {
        bail!("there is no network namespace {name}. Make it: ip netns add {name}");
    }
    Ok(())
}

pub fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")]);
    folders.any(|folder| folder.join(program).is_file())
}

/// Who takes the flows of this data directory over after a restart.
pub fn owner(layout: &Layout) -> Result<String> {
    Ok(host_hypervisor::agent::host_uuid(&layout.hosts())?)
}

fn this_machine() -> String {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    name.filter(|name| !name.is_empty()).unwrap_or_else(|| "localhost".to_string())
}

/// This machine, or the namespace of it that was named.
pub async fn real(
    settings: &Settings,
    images: Arc<dyn Images>,
    bus: &Bus,
    compute: Door,
    network: Door,
) -> Result<Host> {
    let home = settings.layout.hosts();
    let uuid = host_hypervisor::agent::host_uuid(&home)?;
    let name = settings.name.clone().unwrap_or_else(this_machine);
    let nova = configuration::read(&settings.config_dir, "compute")?;
    let neutron = configuration::read(&settings.config_dir, "network")?;
    let address = nova.text_or("DEFAULT", "my_ip", "127.0.0.1").to_string();

    let mut config = QemuConfig::new(&home);
    config.netns.clone_from(&settings.netns);
    config.virt_type = match nova.text("libvirt", "virt_type") {
        Some("kvm") => VirtType::Kvm,
        Some("qemu") => VirtType::Qemu,
        _ => VirtType::Auto,
    };
    let who = Identity { uuid: uuid.clone(), name: name.clone(), address };
    let qemu = Qemu::open(config, images).await.context("opening the hypervisor")?;
    let guests = host_hypervisor::Agent::new(who, Arc::new(qemu), Arc::new(compute));

    let tunnel: IpAddr = neutron.text_or("vxlan", "local_ip", "127.0.0.1").parse().context("[vxlan] local_ip")?;
    let bridge = host_network::Bridge::new(host_network::Settings {
        netns: settings.netns.clone(),
        physical_interface_mappings: mappings(settings, &neutron)?,
        tunnel_address: tunnel,
        data_dir: home.join("network"),
        uuid,
        name: name.clone(),
    })?;
    let driver = Arc::new(host_network::Driver::Bridge(bridge));
    let wires = host_network::Agent::new(driver, Arc::new(network), host_network::agent::INTERVAL);
    Ok(Host::start(bus, &name, guests, wires))
}

/// Simulated hosts: `fake-1`, or several.
pub async fn fake(settings: &Settings, count: u32, bus: &Bus, compute: Door, network: Door) -> Result<Vec<Host>> {
    let base = settings.name.clone().unwrap_or_else(this_machine);
    let mut hosts = Vec::new();
    for index in 0..count.max(1) {
        let name = if index == 0 { base.clone() } else { format!("{base}-{}", index + 1) };
        let home = settings.layout.hosts().join(&name);
        let uuid = host_hypervisor::agent::host_uuid(&home)?;
        let who = Identity { uuid: uuid.clone(), name: name.clone(), address: "127.0.0.1".into() };
        let fake = Fake::new(FakeSize::default(), FakeBehaviour::default());
        let guests = host_hypervisor::Agent::new(who, Arc::new(fake), Arc::new(compute.clone()));
        let facts = wires::Host {
            uuid,
            name: name.clone(),
            tunnel_address: IpAddr::from([127, 0, 0, 1]),
            physical: vec![wires::Physical { network: "physnet1".into(), interface: "fake0".into() }],
            lacks: Vec::new(),
            driver: "fake".into(),
        };
        let driver = Arc::new(host_network::Driver::Fake(host_network::Fake::new(facts)));
        let wires = host_network::Agent::new(driver, Arc::new(network.clone()), host_network::agent::INTERVAL);
        hosts.push(Host::start(bus, &name, guests, wires));
    }
    Ok(hosts)
}

/// `[linux_bridge] physical_interface_mappings`, and what the command line adds.
fn mappings(settings: &Settings, config: &base::config::Config) -> Result<BTreeMap<String, String>> {
    let listed = config.list("linux_bridge", "physical_interface_mappings");
    let pair = |text: &String| {
        let (network, interface) =
            text.split_once(':').with_context(|| format!("«{text}» is not NETWORK:INTERFACE"))?;
        Ok((network.trim().to_string(), interface.trim().to_string()))
    };
    listed.iter().chain(&settings.physical).map(pair).collect()
}
