//! A server's ports at network, and what the server's row remembers of them.
//!
//! `network_info` is a list of `{port_id, network_id, network_name, mac, mtu, created, addresses: [{addr, version,
//! type, subnet_id}], security_groups: [name], status, tag}`. A port that we made is found again by its `device_id`
//! and by the index of the request in its name tag, so that asking twice makes one.

use std::sync::Arc;

use api::{Json, Operation, json};
use clients::{PeerError, Rights};
use db::sql;
use flow::StepError;

use super::store::{self, Server};
use crate::Compute;

pub fn operations() -> Vec<Operation<Compute>> {
    Vec::new()
}

/// Ensures that every requested port is there and bound to `host`; returns the network info.
pub async fn ensure_all(c: &Compute, server: &Server, host: &str) -> Result<Json, StepError> {
    let held = ports_of(c, &server.id).await?;
    let groups = group_ids(c, server).await?;
    let mut used: Vec<String> = Vec::new();
    let requests = server.network_requests.as_array().cloned().unwrap_or_default();
    for request in &requests {
        let found = match request["port"].as_str() {
            Some(port) => Some(port.to_string()),
            None => held.iter().filter_map(|port| made_for(port, request, &used)).next(),
        };
        let port = match found {
            Some(port) => bind(c, server, host, &port).await?,
            None => create(c, server, host, request, &groups).await?,
        };
        used.push(port);
    }
    info(c, server).await
}

/// Whether `port` is one that we made for `request` and that no earlier request has.
fn made_for(port: &Json, request: &Json, used: &[String]) -> Option<String> {
    let id = port["id"].as_str()?;
    let same = port["network_id"] == request["network"] && !used.iter().any(|other| other == id);
    let fixed = request["fixed_ip"].as_str();
    let has = |ip: &str| port["fixed_ips"].as_array().into_iter().flatten().any(|held| held["ip_address"] == ip);
    (same && fixed.is_none_or(has)).then(|| id.to_string())
}

async fn ports_of(c: &Compute, server: &str) -> Result<Vec<Json>, StepError> {
    let path = format!("/v2.0/ports?device_id={server}");
    let found = c.peers.network.get(Rights::Service, &path).await.map_err(refused)?;
    let mut ports = found["ports"].as_array().cloned().unwrap_or_default();
    ports.sort_by_key(|port| port["created_at"].as_str().unwrap_or_default().to_string());
    Ok(ports)
}

async fn create(
    c: &Compute,
    server: &Server,
    host: &str,
    request: &Json,
    groups: &[String],
) -> Result<String, StepError> {
    let mut port = json!({
        "network_id": request["network"],
        "project_id": server.project_id,
        "device_id": server.id,
        "device_owner": owner(server),
        "binding:host_id": host,
        "admin_state_up": true,
    });
    if let Some(ip) = request["fixed_ip"].as_str() {
        port["fixed_ips"] = json!([{"ip_address": ip}]);
    }
    if !groups.is_empty() {
        port["security_groups"] = json!(groups);
    }
    let made = c.peers.network.post(Rights::Service, "/v2.0/ports", &json!({"port": port})).await.map_err(refused)?;
    Ok(made["port"]["id"].as_str().unwrap_or_default().to_string())
}

async fn bind(c: &Compute, server: &Server, host: &str, port: &str) -> Result<String, StepError> {
    let body = json!({"port": {
        "device_id": server.id, "device_owner": owner(server), "binding:host_id": host,
    }});
    let path = format!("/v2.0/ports/{port}");
    c.peers.network.put(Rights::Service, &path, &body).await.map_err(refused)?;
    Ok(port.to_string())
}

/// Upstream: the owner of a server's port is `compute:` and the zone.
fn owner(server: &Server) -> String {
    format!("compute:{}", server.pinned_zone.as_deref().unwrap_or(crate::zones::DEFAULT_ZONE))
}

/// The ids of the groups that the client named. None for the default group, which network gives by itself.
async fn group_ids(c: &Compute, server: &Server) -> Result<Vec<String>, StepError> {
    if server.security_groups == ["default"] {
        return Ok(Vec::new());
    }
    let path = format!("/v2.0/security-groups?project_id={}", server.project_id);
    let found = c.peers.network.get(Rights::Service, &path).await.map_err(refused)?;
    let known = found["security_groups"].as_array().cloned().unwrap_or_default();
    let id = |wanted: &String| {
        let same = known.iter().find(|group| group["id"] == json!(wanted) || group["name"] == json!(wanted));
        let id = same.and_then(|group| group["id"].as_str()).map(String::from);
        id.ok_or_else(|| StepError::refused("network", format!("Security group {wanted} not found.")))
    };
    server.security_groups.iter().map(id).collect()
}

/// What the server has, as network says it now.
pub async fn info(c: &Compute, server: &Server) -> Result<Json, StepError> {
    let ports = ports_of(c, &server.id).await?;
    let floating = floating_of(c, &ports).await?;
    let requests = server.network_requests.as_array().cloned().unwrap_or_default();
    let given = |id: &Json| requests.iter().any(|request| request["port"] == *id);
    let mut entries = Vec::new();
    for port in &ports {
        let network_id = port["network_id"].as_str().unwrap_or_default();
        let network = c.peers.network.get(Rights::Service, &format!("/v2.0/networks/{network_id}")).await;
        let network = network.map_err(refused)?["network"].clone();
        entries.push(json!({
            "port_id": port["id"],
            "network_id": network_id,
            "network_name": network["name"],
            "mac": port["mac_address"],
            "mtu": network["mtu"],
            "created": !given(&port["id"]),
            "addresses": addresses(port, &floating),
            "security_groups": group_names(c, port).await?,
            "status": port["status"],
            "vif_type": port["binding:vif_type"],
        }));
    }
    let order = |entry: &Json| requests.iter().position(|request| request["port"] == entry["port_id"]);
    entries.sort_by_key(|entry| order(entry).unwrap_or(usize::MAX));
    Ok(Json::Array(entries))
}

fn addresses(port: &Json, floating: &[Json]) -> Vec<Json> {
    let mut list = Vec::new();
    for fixed in port["fixed_ips"].as_array().into_iter().flatten() {
        let addr = fixed["ip_address"].as_str().unwrap_or_default();
        let version = if addr.contains(':') { 6 } else { 4 };
        list.push(json!({"addr": addr, "version": version, "type": "fixed", "subnet_id": fixed["subnet_id"]}));
        let ours = |ip: &&Json| ip["port_id"] == port["id"] && ip["fixed_ip_address"] == addr;
        for ip in floating.iter().filter(ours) {
            list.push(json!({"addr": ip["floating_ip_address"], "version": 4, "type": "floating"}));
        }
    }
    list
}

async fn floating_of(c: &Compute, ports: &[Json]) -> Result<Vec<Json>, StepError> {
    let ids: Vec<String> = ports.iter().filter_map(|port| Some(format!("port_id={}", port["id"].as_str()?))).collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let path = format!("/v2.0/floatingips?{}", ids.join("&"));
    match c.peers.network.get(Rights::Service, &path).await {
        Ok(found) => Ok(found["floatingips"].as_array().cloned().unwrap_or_default()),
        // A network service without routers has no floating addresses either.
        Err(error) if matches!(error.status(), 404 | 501) => Ok(Vec::new()),
        Err(error) => Err(refused(error)),
    }
}

async fn group_names(c: &Compute, port: &Json) -> Result<Vec<String>, StepError> {
    let ids: Vec<&str> = port["security_groups"].as_array().into_iter().flatten().filter_map(Json::as_str).collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let query: Vec<String> = ids.iter().map(|id| format!("id={id}")).collect();
    let path = format!("/v2.0/security-groups?{}&fields=name", query.join("&"));
    let found = c.peers.network.get(Rights::Service, &path).await.map_err(refused)?;
    let groups = found["security_groups"].as_array().cloned().unwrap_or_default();
    Ok(groups.iter().filter_map(|group| group["name"].as_str().map(String::from)).collect())
}

/// Deletes the ports that we made and unbinds those that the user brought.
pub async fn remove_all(c: &Compute, id: &str) -> Result<(), StepError> {
    let Some(server) = store::find(&c.db, id).await? else { return Ok(()) };
    let requests = server.network_requests.as_array().cloned().unwrap_or_default();
    let brought = |port: &Json| {
        let named = requests.iter().any(|request| request["port"] == port["id"]);
        let kept = server.network_info.as_array().into_iter().flatten();
        named || kept.into_iter().any(|entry| entry["port_id"] == port["id"] && entry["created"] == json!(false))
    };
    for port in ports_of(c, id).await? {
        let path = format!("/v2.0/ports/{}", port["id"].as_str().unwrap_or_default());
        let gone = match brought(&port) {
            true => {
                let body = json!({"port": {"device_id": "", "device_owner": "", "binding:host_id": ""}});
                c.peers.network.put(Rights::Service, &path, &body).await
            }
            false => c.peers.network.delete(Rights::Service, &path).await,
        };
        match gone {
            Err(error) if error.is_missing() => {}
            Err(error) => return Err(StepError::again(error)),
            Ok(_) => {}
        }
    }
    let change = sql("UPDATE servers SET network_info = '[]' WHERE id = ?");
    c.db.run(change.bind(id)).await?;
    Ok(())
}

/// Whether network says that every port of the server is wired.
pub async fn wired(c: &Compute, id: &str) -> Result<Option<()>, StepError> {
    let ports = ports_of(c, id).await?;
    Ok(ports.iter().all(|port| port["status"] == "ACTIVE").then_some(()))
}

/// Network says that something about a server's ports has changed: the row is brought up to date.
pub async fn network_changed(c: &Arc<Compute>, id: &str) -> Result<(), StepError> {
    let Some(server) = store::find(&c.db, id).await? else { return Ok(()) };
    // While a server is being made or deleted, its flow says what it has.
    if server.host.is_none() || server.deleting {
        return Ok(());
    }
    let info = info(c, &server).await?;
    if info != server.network_info {
        let change = sql("UPDATE servers SET network_info = ?, generation = generation + 1 WHERE id = ?");
        c.db.run(change.bind(&info).bind(id)).await?;
    }
    Ok(())
}

/// What network refuses will not get better by asking again; what it did not carry out may.
fn refused(error: PeerError) -> StepError {
    match error {
        PeerError::Refused { message, .. } => StepError::refused("network", message),
        failed => StepError::again(failed),
    }
}
