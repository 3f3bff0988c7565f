//! Removing everything that a cloud has on this machine.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use api::Json;
use bytes::Bytes;
use contract::HostError;
use host_hypervisor::{Hypervisor, Images, Qemu, QemuConfig, VirtType, Work};
use tokio::sync::mpsc;

use crate::layout::Layout;

/// Guests first, then networks, then files. What is already gone is no error.
pub fn everything(layout: &Layout) -> Result<()> {
    let running: Json = std::fs::read_to_string(layout.running())
        .ok()
        .and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default();
    if running["fake"] == Json::Bool(false) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(host(layout, running["netns"].as_str()))?;
    }
    match std::fs::remove_dir_all(&layout.root) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", layout.root.display()))
        }
        _ => Ok(()),
    }
}

async fn host(layout: &Layout, netns: Option<&str>) -> Result<()> {
    let home = layout.hosts();
    let mut config = QemuConfig::new(&home);
    config.netns = netns.map(String::from);
    // Nothing is started, so nothing needs to be probed.
    config.virt_type = VirtType::Qemu;
    let qemu = Qemu::open(config, Arc::new(NoImages)).await.context("looking for guests")?;
    for guest in qemu.guests().await? {
        qemu.ensure_gone(&guest.id).await.with_context(|| format!("removing guest {}", guest.id))?;
    }
    let settings = host_network::Settings {
        netns: netns.map(String::from),
        physical_interface_mappings: BTreeMap::new(),
        tunnel_address: IpAddr::from([127, 0, 0, 1]),
        data_dir: home.join("network"),
        uuid: host_hypervisor::agent::host_uuid(&home)?,
        name: String::new(),
    };
    match host_network::Bridge::new(settings) {
        Ok(bridge) => bridge.purge().await.context("removing networks"),
        // The namespace is gone, and with it everything that was inside.
        Err(HostError::Missing { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Nothing is fetched while things are being removed.
struct NoImages;

impl Images for NoImages {
    fn fetch<'a>(&'a self, image: &'a str, _: mpsc::Sender<Bytes>) -> Work<'a, ()> {
        Box::pin(async move { Err(HostError::never(format!("image {image} is not fetched while things are removed"))) })
    }
}
