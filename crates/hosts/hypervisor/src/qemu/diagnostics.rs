//! Counters of a running guest, in the shape that compute shows from microversion 2.48 on.

use std::path::PathBuf;

use base::{Json, json};
use contract::HostError;
use contract::guest::Nic;

use super::qmp::Status;
use super::seat::{Live, Seat};
use super::{not_running, process};

pub(crate) async fn of(seat: &Seat) -> Result<Json, HostError> {
    let (Some(live), Some(record)) = (seat.live(), seat.record()) else { return Err(not_running(&seat.id)) };
    let order = record.order;
    let cpus = cpus(&live).await?;
    let disks = disks(&live).await?;
    let nics: Vec<Json> = nics(live.pid, &order.nics);
    let used_mb = process::usage(live.pid).map(|(memory, _)| memory >> 20);
    Ok(json!({
        "state": if live.qmp.status() == Status::Running { "running" } else { "paused" },
        "driver": "libvirt",
        "hypervisor": "qemu",
        "hypervisor_os": "linux",
        "uptime": process::uptime_seconds(live.pid),
        "config_drive": seat.dir.join(super::disks::CONFIG_DRIVE).exists(),
        "num_cpus": cpus.len(),
        "num_disks": disks.len(),
        "num_nics": nics.len(),
        "cpu_details": cpus,
        "disk_details": disks,
        "nic_details": nics,
        "memory_details": { "maximum": order.memory_mb, "used": used_mb },
    }))
}

async fn cpus(live: &Live) -> Result<Vec<Json>, HostError> {
    let cpus = live.order("query-cpus-fast", json!({})).await?;
    let cpus = cpus.as_array().map(Vec::as_slice).unwrap_or_default();
    let thread = |cpu: &Json| PathBuf::from(format!("/proc/{}/task/{}/stat", live.pid, cpu["thread-id"]));
    Ok(cpus
        .iter()
        .map(|cpu| json!({ "id": cpu["cpu-index"], "time": process::cpu_ns(&thread(cpu)), "utilisation": null }))
        .collect())
}

async fn disks(live: &Live) -> Result<Vec<Json>, HostError> {
    let blocks = live.order("query-blockstats", json!({})).await?;
    let blocks = blocks.as_array().map(Vec::as_slice).unwrap_or_default();
    let ours = blocks.iter().filter(|block| block["node-name"].as_str().is_some_and(|node| node.starts_with("disk")));
    Ok(ours.map(|block| disk(&block["stats"])).collect())
}

fn disk(stats: &Json) -> Json {
    let failed = ["failed_rd_operations", "failed_wr_operations", "failed_flush_operations"];
    json!({
        "read_bytes": stats["rd_bytes"],
        "read_requests": stats["rd_operations"],
        "write_bytes": stats["wr_bytes"],
        "write_requests": stats["wr_operations"],
        "errors_count": failed.iter().filter_map(|key| stats[key].as_u64()).sum::<u64>(),
    })
}

/// Counted at the tap, which receives what the guest sends. QEMU's own view of /proc shows its network namespace.
fn nics(pid: i32, nics: &[Nic]) -> Vec<Json> {
    let table = std::fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default();
    nics.iter().map(|nic| counters(&table, nic)).collect()
}

fn counters(table: &str, nic: &Nic) -> Json {
    let line = table.lines().find_map(|line| line.trim().strip_prefix(nic.tap.as_str())?.strip_prefix(':'));
    let numbers: Vec<u64> = line.unwrap_or_default().split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let number = |at: usize| numbers.get(at).copied();
    json!({
        "mac_address": nic.mac,
        "rx_octets": number(8), "rx_packets": number(9), "rx_errors": number(10), "rx_drop": number(11),
        "tx_octets": number(0), "tx_packets": number(1), "tx_errors": number(2), "tx_drop": number(3),
        "rx_rate": null, "tx_rate": null,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_tap_receives_is_what_the_guest_sends() {
        let table = "Inter-|   Receive  | Transmit\n\
                     tap0a: 100 1 0 2 0 0 0 0 700 7 0 0 0 0 0 0\n\
                     tap0ab: 9 9 9 9 0 0 0 0 9 9 9 9 0 0 0 0\n";
        let nic = Nic { port: "p".into(), mac: "m".into(), tap: "tap0a".into(), mtu: 1450 };
        let counters = counters(table, &nic);
        assert_eq!((&counters["tx_octets"], &counters["rx_octets"]), (&json!(100), &json!(700)));
        assert_eq!(counters["tx_drop"], 2);
    }
}
