//! A server's ports at network, and what the server's row remembers of them.
//!
//! - `network_requests` says what the server should have: `[{network, port, fixed_ip, tag, made}]`. `port` is one that
//!   the user brought, `made` is one that we made.
//! - `network_info` says what it has, as network said it last: `[{port_id, network_id, network_name, mac, mtu, created,
//!   addresses: [{addr, version, type, subnet_id}], security_groups: [name], status, vif_type, tag, subnets: […]}]`.
//!
//! A port that we made is found again by its `device_id` and its network, so that asking twice makes one.

mod attach;

use std::sync::Arc;

use api::{Json, Operation, json};
use clients::{PeerError, Rights};
use db::sql;
use flow::StepError;

use super::store::{self, Server};
use crate::{Compute, hosts};

pub fn operations() -> Vec<Operation<Compute>> {
    attach::operations()
}

/// The requests of a server.
pub fn requests_of(server: &Server) -> Vec<Json> {
    server.network_requests.as_array().cloned().unwrap_or_default()
}

/// Ensures that every requested port is there and bound to `host`, and keeps in the row what came of it.
pub async fn ensure_all(c: &Compute, server: &Server, host: &str) -> Result<(), StepError> {
    let held = ports_of(c, &server.id).await?;
    let groups = group_ids(c, server).await?;
    let mut requests = requests_of(server);
    let brought: Vec<Json> = requests.iter().map(|request| request["port"].clone()).collect();
    let mut used: Vec<Json> = requests.iter().map(|request| request["made"].clone()).collect();
    for request in &mut requests {
        if let Some(port) = request["port"].as_str().or(request["made"].as_str()) {
            bind(c, server, host, port).await?;
            continue;
        }
        let free = |port: &&Json| !brought.contains(&port["id"]) && !used.contains(&port["id"]);
        let made = match held.iter().filter(free).find(|port| answers(port, request)) {
            Some(port) => {
                let id = port["id"].as_str().unwrap_or_default().to_string();
                bind(c, server, host, &id).await?;
                id
            }
            None => create(c, server, Some(host), request, &groups).await?,
        };
        request["made"] = json!(made);
        used.push(json!(made));
    }
    let info = info(c, &server.id, &requests).await?;
    let change = sql("UPDATE servers SET network_requests = ?, network_info = ? WHERE id = ?");
    c.db.run(change.bind(json!(requests)).bind(&info).bind(&server.id)).await?;
    Ok(())
}

/// Whether `port` is one that we would have made for `request`.
fn answers(port: &Json, request: &Json) -> bool {
    let has = |ip: &str| port["fixed_ips"].as_array().into_iter().flatten().any(|held| held["ip_address"] == ip);
    port["network_id"] == request["network"] && request["fixed_ip"].as_str().is_none_or(has)
}

pub async fn ports_of(c: &Compute, server: &str) -> Result<Vec<Json>, StepError> {
    let path = format!("/v2.0/ports?device_id={server}");
    let found = c.peers.network.get(Rights::Service, &path).await.map_err(refused)?;
    let mut ports = found["ports"].as_array().cloned().unwrap_or_default();
    ports.sort_by_key(|port| port["created_at"].as_str().unwrap_or_default().to_string());
    Ok(ports)
}

/// Makes a port for `request`; returns its id.
async fn create(
    c: &Compute,
    server: &Server,
    host: Option<&str>,
    request: &Json,
    groups: &[String],
) -> Result<String, StepError> {
    let mut port = json!({
        "network_id": request["network"],
        "project_id": server.project_id,
        "device_id": server.id,
        "device_owner": owner(server),
        "admin_state_up": true,
    });
    if let Some(host) = host {
        port["binding:host_id"] = json!(host);
    }
    if let Some(ip) = request["fixed_ip"].as_str() {
        port["fixed_ips"] = json!([{"ip_address": ip}]);
    }
    if !groups.is_empty() {
        port["security_groups"] = json!(groups);
    }
    let made = c.peers.network.post(Rights::Service, "/v2.0/ports", &json!({"port": port})).await.map_err(refused)?;
    let id = made["port"]["id"].as_str().map(String::from);
    id.ok_or_else(|| StepError::again("network made a port without an id"))
}

/// Gives a port that exists to the server.
async fn bind(c: &Compute, server: &Server, host: &str, port: &str) -> Result<(), StepError> {
    let mut body = json!({"device_id": server.id, "device_owner": owner(server)});
    if !host.is_empty() {
        body["binding:host_id"] = json!(host);
    }
    let path = format!("/v2.0/ports/{port}");
    c.peers.network.put(Rights::Service, &path, &json!({"port": body})).await.map_err(refused)?;
    Ok(())
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
pub async fn info(c: &Compute, id: &str, requests: &[Json]) -> Result<Json, StepError> {
    let ports = ports_of(c, id).await?;
    let floating = floating_of(c, &ports).await?;
    let subnets = subnets_of(c, &ports).await?;
    let request = |port: &Json| {
        requests.iter().position(|request| request["port"] == port["id"] || request["made"] == port["id"])
    };
    let mut entries = Vec::new();
    for port in &ports {
        let network_id = port["network_id"].as_str().unwrap_or_default();
        let network = c.peers.network.get(Rights::Service, &format!("/v2.0/networks/{network_id}")).await;
        let network = network.map_err(refused)?["network"].clone();
        let asked = request(port).map(|at| &requests[at]);
        let entry = json!({
            "port_id": port["id"],
            "network_id": network_id,
            "network_name": network["name"],
            "mac": port["mac_address"],
            "mtu": network["mtu"],
            "created": asked.is_none_or(|request| request["port"].is_null()),
            "addresses": addresses(port, &floating),
            "security_groups": group_names(c, port).await?,
            "status": port["status"],
            "vif_type": port["binding:vif_type"],
            "tag": asked.map(|request| request["tag"].clone()).unwrap_or_default(),
            "subnets": subnet_facts(port, &subnets),
        });
        entries.push((request(port).unwrap_or(usize::MAX), entry));
    }
    entries.sort_by_key(|(position, _)| *position);
    Ok(entries.into_iter().map(|(_, entry)| entry).collect())
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

async fn subnets_of(c: &Compute, ports: &[Json]) -> Result<Vec<Json>, StepError> {
    let fixed = ports.iter().flat_map(|port| port["fixed_ips"].as_array().into_iter().flatten());
    let mut ids: Vec<&str> = fixed.filter_map(|fixed| fixed["subnet_id"].as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let query: Vec<String> = ids.iter().map(|id| format!("id={id}")).collect();
    let found = c.peers.network.get(Rights::Service, &format!("/v2.0/subnets?{}", query.join("&"))).await;
    Ok(found.map_err(refused)?["subnets"].as_array().cloned().unwrap_or_default())
}

/// What a guest is told about the subnets of a port.
fn subnet_facts(port: &Json, subnets: &[Json]) -> Vec<Json> {
    let used = |subnet: &&Json| {
        port["fixed_ips"].as_array().into_iter().flatten().any(|fixed| fixed["subnet_id"] == subnet["id"])
    };
    let facts = |subnet: &Json| {
        json!({
            "id": subnet["id"],
            "version": subnet["ip_version"],
            "cidr": subnet["cidr"],
            "gateway": subnet["gateway_ip"],
            "dns": subnet["dns_nameservers"],
            "routes": subnet["host_routes"],
            "dhcp": subnet["enable_dhcp"],
            "address_mode": subnet["ipv6_address_mode"],
        })
    };
    subnets.iter().filter(used).map(facts).collect()
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
    let mut requests = requests_of(&server);
    for port in ports_of(c, id).await? {
        let brought = requests.iter().any(|request| request["port"] == port["id"]);
        remove(c, port["id"].as_str().unwrap_or_default(), brought).await?;
    }
    for request in &mut requests {
        request["made"] = Json::Null;
    }
    let change = sql("UPDATE servers SET network_info = '[]', network_requests = ? WHERE id = ?");
    c.db.run(change.bind(json!(requests)).bind(id)).await?;
    Ok(())
}

/// Deletes a port, or only takes it from the server. One that is gone already is no failure.
async fn remove(c: &Compute, port: &str, brought: bool) -> Result<(), StepError> {
    let path = format!("/v2.0/ports/{port}");
    let gone = match brought {
        true => {
            let body = json!({"port": {"device_id": "", "device_owner": "", "binding:host_id": ""}});
            c.peers.network.put(Rights::Service, &path, &body).await
        }
        false => c.peers.network.delete(Rights::Service, &path).await,
    };
    match gone {
        Err(error) if error.is_missing() => Ok(()),
        Err(error) => Err(StepError::again(error)),
        Ok(_) => Ok(()),
    }
}

/// Whether network says that every port of the server is wired. A port that is switched off never will be.
pub async fn wired(c: &Compute, id: &str) -> Result<Option<()>, StepError> {
    let ports = ports_of(c, id).await?;
    if let Some(port) = ports.iter().find(|port| port["binding:vif_type"] == "binding_failed") {
        let text = format!("Binding failed for port {}.", port["id"].as_str().unwrap_or_default());
        return Err(StepError::refused("network", text));
    }
    let done = |port: &Json| port["status"] == "ACTIVE" || port["admin_state_up"] == json!(false);
    Ok(ports.iter().all(done).then_some(()))
}

/// Network says that something about a server's ports has changed: the row is brought up to date.
pub async fn network_changed(c: &Arc<Compute>, id: &str) -> Result<(), StepError> {
    let Some(server) = store::find(&c.db, id).await? else { return Ok(()) };
    // While a server is being made or deleted, its flow says what it has.
    if server.host.is_none() || server.deleting {
        return Ok(());
    }
    let info = info(c, id, &requests_of(&server)).await?;
    keep(c, &server, &requests_of(&server), &info).await?;
    Ok(())
}

/// Network says that a port is gone: the server is no longer meant to have it.
pub async fn port_deleted(c: &Arc<Compute>, id: &str, port: &str) -> Result<(), StepError> {
    let Some(server) = store::find(&c.db, id).await? else { return Ok(()) };
    let mut requests = requests_of(&server);
    requests.retain(|request| request["port"] != port && request["made"] != port);
    let mut info = server.network_info.clone();
    if let Some(entries) = info.as_array_mut() {
        entries.retain(|entry| entry["port_id"] != port);
    }
    keep(c, &server, &requests, &info).await?;
    Ok(())
}

/// Keeps what the server should have and has. The host is told when its NICs changed. Returns false when somebody else
/// changed the requests meanwhile.
async fn keep(c: &Compute, server: &Server, requests: &[Json], info: &Json) -> Result<bool, db::Error> {
    if *info == server.network_info && requests == requests_of(server) {
        return Ok(true);
    }
    let rewired = nics(info) != nics(&server.network_info);
    let change = sql("UPDATE servers SET network_requests = ?, network_info = ?, generation = generation + ? \
         WHERE id = ? AND network_requests = ? AND deleting = 0");
    let change = change.bind(json!(requests)).bind(info).bind(i64::from(rewired)).bind(&server.id);
    let kept = c.db.run(change.bind(&server.network_requests)).await? > 0;
    if let (true, true, Some(host)) = (kept, rewired, &server.host) {
        hosts::poke(c, host);
    }
    Ok(kept)
}

/// What a host must know of the ports.
fn nics(info: &Json) -> Vec<[&Json; 3]> {
    let ports = info.as_array().into_iter().flatten();
    ports.map(|port| [&port["port_id"], &port["mac"], &port["mtu"]]).collect()
}

/// What network refuses will not get better by asking again; what it did not carry out may.
pub fn refused(error: PeerError) -> StepError {
    match error {
        PeerError::Refused { message, .. } => StepError::refused("network", message),
        failed => StepError::again(failed),
    }
}
