//! From a server's row to what its host is told.

use std::collections::BTreeMap;

use api::Json;
use contract::guest::{Console, Disk, DiskSource, Guest, Nic, Power, Restart};

use crate::servers::state::power_of;
use crate::servers::store::Server;
use crate::{Compute, metadata};

/// Limit: bytes of a console log that a host keeps.
const CONSOLE_BYTES: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

/// The order for one server.
pub async fn guest(compute: &Compute, server: &Server) -> Result<Guest, db::Error> {
    let config_drive = match server.config_drive {
        true => Some(metadata::config_drive(compute, server).await?),
        false => None,
    };
    Ok(Guest {
        id: server.id.clone(),
        generation: server.generation as u64,
        name: server.name.clone(),
        project_id: server.project_id.clone(),
        power: power_of(&server.desired).unwrap_or(Power::Stopped),
        restarts: server.restarts as u64,
        restart: if server.restart_kind == "soft" { Restart::Soft } else { Restart::Hard },
        disk_generation: server.disk_generation as u64,
        vcpus: server.flavor_number("vcpus") as u32,
        memory_mb: server.flavor_number("memory_mb") as u64,
        disks: disks(server),
        nics: nics(server),
        config_drive,
        console: Console { vnc: true, log_bytes: CONSOLE_BYTES },
        hints: hints(server),
    })
}

fn disks(server: &Server) -> Vec<Disk> {
    let mut disks = Vec::new();
    let root = server.flavor_number("root_gb") as u64 * GIB;
    let number = |key: &str| server.image[key].as_u64().unwrap_or(0);
    if let Some(image) = &server.image_id {
        let text = |key: &str| server.image[key].as_str().unwrap_or_default().to_string();
        // Upstream: a flavor without a disk takes the image's own size.
        let size_bytes = if root == 0 { number("virtual_size").max(number("size")) } else { root };
        disks.push(Disk {
            id: "root".into(),
            size_bytes,
            source: DiskSource::Image {
                image: image.clone(),
                format: text("disk_format"),
                size_bytes: number("size"),
                os_hash_algo: text("os_hash_algo"),
                os_hash_value: text("os_hash_value"),
            },
            boot_index: Some(0),
            serial: server.id.clone(),
        });
    }
    let mut blank = |id: &str, size_bytes: u64| {
        if size_bytes > 0 {
            let serial = format!("{id}-{}", server.id);
            disks.push(Disk { id: id.into(), size_bytes, source: DiskSource::Blank, boot_index: None, serial });
        }
    };
    blank("ephemeral0", server.flavor_number("ephemeral_gb") as u64 * GIB);
    blank("swap", server.flavor_number("swap_mb") as u64 * MIB);
    disks
}

fn nics(server: &Server) -> Vec<Nic> {
    let ports = server.network_info.as_array().into_iter().flatten();
    ports
        .filter_map(|port| {
            let id = port["port_id"].as_str()?;
            Some(Nic {
                port: id.to_string(),
                mac: port["mac"].as_str()?.to_string(),
                tap: tap(id),
                mtu: port["mtu"].as_u64().unwrap_or(1500) as u32,
            })
        })
        .collect()
}

/// The device that carries a port, as the network agent knows it: `tap` and 11 characters of the port's id.
pub fn tap(port: &str) -> String {
    format!("tap{}", port.chars().take(11).collect::<String>())
}

/// Image properties and extra specs, which win.
fn hints(server: &Server) -> BTreeMap<String, String> {
    let texts = |map: &Json| -> Vec<(String, String)> {
        let pairs = map.as_object().into_iter().flatten();
        pairs.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_string()))).collect()
    };
    let mut hints: BTreeMap<String, String> = texts(&server.image["properties"]).into_iter().collect();
    hints.extend(texts(&server.flavor["extra_specs"]));
    hints
}
