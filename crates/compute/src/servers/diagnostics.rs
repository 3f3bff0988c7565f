//! A look into a running server: counters, topology, a crash dump.

use std::time::Duration;

use api::{Answer, Call, Document, Done, Json, Operation, Path, Refusal, action, get, json, v};
use contract::message;

use super::ServerFault;
use super::power::refuse_locked;
use super::state::VmState;
use super::store::{Server, known};
use crate::{Compute, actions};

/// Limit: how long a host may take to answer.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub fn operations() -> Vec<Operation<Compute>> {
    vec![
        get("/servers/{server_id}/diagnostics", diagnostics).rule("os_compute_api:os-server-diagnostics"),
        get("/servers/{server_id}/topology", topology).rule("compute:server:topology:index").since(v(2, 78)),
        action("/servers/{id}/action", "trigger_crash_dump", crash_dump)
            .rule("os_compute_api:servers:trigger_crash_dump")
            .since(v(2, 17))
            .status(202),
    ]
}

async fn diagnostics(call: Call<Compute>, Path(id): Path<String>) -> Answer<Document> {
    let server = call.permit(known(&call, &id).await?)?;
    if server.vm() != VmState::Active {
        let (verb, state) = ("get_diagnostics".to_string(), server.vm_state.clone());
        return Err(ServerFault::WrongState { id, verb, state }.into());
    }
    let found = ask_host(&call, &server, message::DIAGNOSTICS, json!({"guest": id})).await?;
    let body = match call.version >= v(2, 48) {
        true => uniform(&server, found),
        false => older(&found),
    };
    Ok(Document::of(server, |_| body))
}

/// The document of 2.48, whose keys are all there.
fn uniform(server: &Server, found: Json) -> Json {
    const KEYS: &[&str] = &[
        "state",
        "driver",
        "hypervisor",
        "hypervisor_os",
        "uptime",
        "num_cpus",
        "num_disks",
        "num_nics",
        "cpu_details",
        "disk_details",
        "nic_details",
        "memory_details",
    ];
    let mut document = json!({"config_drive": server.config_drive});
    for key in KEYS {
        document[*key] = found[*key].clone();
    }
    for (count, list) in [("num_cpus", "cpu_details"), ("num_disks", "disk_details"), ("num_nics", "nic_details")] {
        let list = found[list].as_array().cloned().unwrap_or_default();
        if document[count].is_null() {
            document[count] = json!(list.len());
        }
    }
    for list in ["cpu_details", "disk_details", "nic_details"] {
        if document[list].is_null() {
            document[list] = json!([]);
        }
    }
    if document["memory_details"].is_null() {
        document["memory_details"] = json!({"maximum": null, "used": null});
    }
    document
}

/// Upstream: before 2.48 each driver had keys of its own; these are libvirt's.
fn older(found: &Json) -> Json {
    let mut document = json!({});
    for (index, cpu) in found["cpu_details"].as_array().into_iter().flatten().enumerate() {
        document[format!("cpu{index}_time")] = cpu["time"].clone();
    }
    const DISK: &[(&str, &str)] = &[
        ("read_req", "read_requests"),
        ("read", "read_bytes"),
        ("write_req", "write_requests"),
        ("write", "write_bytes"),
        ("errors", "errors_count"),
    ];
    for (disk, letter) in found["disk_details"].as_array().into_iter().flatten().zip('a'..='z') {
        for (key, from) in DISK {
            document[format!("vd{letter}_{key}")] = disk[*from].clone();
        }
    }
    const NIC: &[(&str, &str)] = &[
        ("rx", "rx_octets"),
        ("rx_packets", "rx_packets"),
        ("rx_drop", "rx_drop"),
        ("rx_errors", "rx_errors"),
        ("tx", "tx_octets"),
        ("tx_packets", "tx_packets"),
        ("tx_drop", "tx_drop"),
        ("tx_errors", "tx_errors"),
    ];
    for (index, nic) in found["nic_details"].as_array().into_iter().flatten().enumerate() {
        for (key, from) in NIC {
            document[format!("vnet{index}_{key}")] = nic[*from].clone();
        }
    }
    // Upstream's older unit was kilobytes.
    let kilobytes = |key: &str| found["memory_details"][key].as_u64().map(|megabytes| megabytes << 10);
    document["memory"] = json!(kilobytes("maximum"));
    document["memory-actual"] = json!(kilobytes("maximum"));
    document["memory-rss"] = json!(kilobytes("used"));
    document
}

/// Our servers have no NUMA cells of their own, so there is nothing to list.
async fn topology(call: Call<Compute>, Path(id): Path<String>) -> Answer<Document> {
    let server = call.permit(known(&call, &id).await?)?;
    Ok(Document::of(server, |_| json!({"nodes": [], "pagesize_kb": null})))
}

async fn crash_dump(call: Call<Compute>, Path(id): Path<String>) -> Answer<Done> {
    let server = call.permit(known(&call, &id).await?)?;
    refuse_locked(&call, &server)?;
    use VmState::{Active, Error, Paused, Rescued, Resized};
    if ![Active, Paused, Rescued, Resized, Error].contains(&server.vm()) {
        let (verb, state) = ("trigger_crash_dump".to_string(), server.vm_state.clone());
        return Err(ServerFault::WrongState { id, verb, state }.into());
    }
    let mut tx = call.db.begin().await?;
    actions::record(&mut tx, &call, &id, "trigger_crash_dump").await?;
    tx.commit().await?;
    let asked = ask_host(&call, &server, message::CRASH_DUMP, json!({"guest": id})).await;
    let (result, details) = match &asked {
        Ok(_) => ("Success", String::new()),
        Err(refusal) => ("Error", refusal.message.clone()),
    };
    actions::finish(&call.db, &id, &call.request_id, result, &details).await?;
    // Upstream: only a missing host is the client's business; the rest is in the server's actions.
    match asked {
        Err(refusal) if refusal.status == 409 => Err(refusal),
        _ => Ok(Done::with(server)),
    }
}

/// Asks the agent of a server's host.
pub async fn ask_host(call: &Call<Compute>, server: &Server, kind: &str, body: Json) -> Answer<Json> {
    let Some(host) = &server.host else {
        return Err(ServerFault::NotReady { id: server.id.clone() }.into());
    };
    let bus = call.bus.on_behalf_of(&call.request_id);
    let answer = bus.request(&message::host("compute", host), kind, body, PATIENCE).await;
    answer.map_err(|error| match error {
        bus::Error::Refused { code, message } if code == "missing" => Refusal::not_found(message),
        bus::Error::Refused { message, .. } => Refusal::conflict(message),
        bus::Error::Unreachable { .. } => ServerFault::Silent { host: host.clone() }.into(),
        error => api::failed("asking a host", &error),
    })
}
