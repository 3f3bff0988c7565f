//! Servers on a host: what should run there and what does.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What one host should have. Absence means nothing: a guest leaves only through [`Power::Gone`] or
/// [`Received::remove`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Desired {
    pub guests: Vec<Guest>,
}

/// One guest as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guest {
    /// The server's UUID.
    pub id: String,
    /// Raised in every transaction that changes this guest; a host refuses an order with an older one.
    pub generation: u64,
    /// The server's name, for people who look at the host. Untrusted text.
    pub name: String,
    pub project_id: String,
    pub power: Power,
    /// How often this guest has been restarted on request. When it is higher than what the host has applied, the host
    /// restarts the guest in the manner of [`Guest::restart`].
    pub restarts: u64,
    pub restart: Restart,
    /// How often the root disk has been made anew (rebuild). When higher than applied, the disk is made again.
    pub disk_generation: u64,
    pub vcpus: u32,
    pub memory_mb: u64,
    pub disks: Vec<Disk>,
    pub nics: Vec<Nic>,
    /// The files of the config drive by path (`openstack/latest/meta_data.json`); none means no drive.
    pub config_drive: Option<BTreeMap<String, Vec<u8>>>,
    pub console: Console,
    /// Image properties and extra specs that the driver understands (`hw_machine_type`, `hw_disk_bus`, …).
    pub hints: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Power {
    /// Made ready and started, but its processors stand still until the order becomes `Running`: taps exist, so that
    /// the network can wire them before the first packet.
    Held,
    Running,
    Paused,
    /// Memory is kept on disk and no process runs.
    Suspended,
    Stopped,
    /// Nothing of it may remain: process, disks, taps, directory.
    Gone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Restart {
    /// Press the power button, wait the guest's shutdown timeout, then pull the plug; then start.
    Soft,
    Hard,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// `root`, `ephemeral0`, `swap`, or a volume's UUID.
    pub id: String,
    pub size_bytes: u64,
    pub source: DiskSource,
    /// The guest boots from the lowest; none is never booted from.
    pub boot_index: Option<u32>,
    /// What the guest reads as the disk's serial; cut to 20 bytes by virtio.
    pub serial: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum DiskSource {
    /// A copy-on-write overlay on an image, fetched once per host into the cache and verified.
    Image { image: String, format: String, size_bytes: u64, os_hash_algo: String, os_hash_value: String },
    /// An empty disk of this host.
    Blank,
    /// A disk served over the network block device protocol.
    Nbd { address: String, export: String, format: String },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nic {
    /// The port's UUID.
    pub port: String,
    pub mac: String,
    /// The tap device that the hypervisor makes and the network agent wires: `tap` and 11 characters of the port id.
    pub tap: String,
    pub mtu: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Console {
    pub vnc: bool,
    /// Bytes of serial console log to keep.
    pub log_bytes: u64,
}

/// What a host says about itself when it appears and periodically.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Host {
    /// Written once in the agent's data directory.
    pub uuid: String,
    pub name: String,
    /// The address at which other hosts and consoles reach this one.
    pub address: String,
    /// `QEMU` (TCG), `KVM` or `fake`, as `hypervisor_type` shows it.
    pub hypervisor_type: String,
    /// As an integer: 10.0.2 is 10000002.
    pub hypervisor_version: u64,
    pub vcpus: u32,
    pub memory_mb: u64,
    pub disk_gb: u64,
    /// The document shown as `cpu_info`: arch, model, vendor, features, topology.
    pub cpu: serde_json::Value,
    /// `COMPUTE_*`/`HW_*` traits that this host has.
    pub traits: Vec<String>,
    pub uptime_seconds: u64,
}

/// One guest as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub id: String,
    /// The generation of the order that the host last applied, or refused with `error`.
    pub generation: u64,
    pub restarts: u64,
    pub disk_generation: u64,
    pub state: State,
    /// Why the order of this generation cannot be carried out, in words for the user; the host has given up on it.
    pub error: Option<String>,
    /// Resident bytes and processor time of the guest's process, when it has one.
    pub memory_bytes: Option<u64>,
    pub cpu_ns: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The host is working on it.
    Preparing,
    Held,
    Running,
    Paused,
    Suspended,
    Stopped,
    /// The process ended although it should run.
    Crashed,
    Gone,
}

/// The controller's answer to reports.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Received {
    /// Guests that the cloud knows to be deleted or to live on another host: remove them here.
    pub remove: Vec<String>,
}
