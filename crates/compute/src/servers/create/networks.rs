//! Which networks and ports a new server gets.

use api::{Answer, Call, Json, Refusal, json, v};
use clients::{PeerError, Rights};

use crate::Compute;

/// The networks of the request, checked with the user's own rights: `[{network, port, fixed_ip, tag}]`.
pub async fn requests(call: &Call<Compute>, asked: Option<&Json>) -> Answer<Vec<Json>> {
    match asked {
        Some(Json::String(word)) if call.version >= v(2, 37) => match word.as_str() {
            "none" => Ok(Vec::new()),
            "auto" => automatic(call, true).await,
            _ => Err(bad(asked)),
        },
        Some(Json::Array(list)) if !list.is_empty() => {
            let mut requests: Vec<Json> = Vec::new();
            for entry in list {
                let request = one(call, entry).await?;
                let port = &request["port"];
                if port.is_string() && requests.iter().any(|known| known["port"] == *port) {
                    return Err(Refusal::bad_request("Invalid port, it is named twice."));
                }
                requests.push(request);
            }
            Ok(requests)
        }
        None | Some(Json::Null | Json::Array(_)) => automatic(call, false).await,
        _ => Err(bad(asked)),
    }
}

/// A port or an address can serve one server only.
pub fn fit(requests: &[Json], count: i64) -> Answer<()> {
    let single = |request: &Json| request["port"].is_string() || request["fixed_ip"].is_string();
    if count > 1 && requests.iter().any(single) {
        return Err(Refusal::bad_request(
            "Unable to launch multiple instances with a single configured port ID. Please launch your instance one by one with different ports.",
        ));
    }
    Ok(())
}

/// Upstream refuses names that no group of the project has.
pub async fn check_groups(call: &Call<Compute>, groups: &[String]) -> Answer<()> {
    if groups.is_empty() || groups == ["default"] {
        return Ok(());
    }
    let path = format!("/v2.0/security-groups?project_id={}&fields=id&fields=name", call.caller.project());
    let found = call.peers.network.get(Rights::User(&call.caller), &path).await.map_err(failed)?;
    let known: Vec<Json> = found["security_groups"].as_array().cloned().unwrap_or_default();
    for wanted in groups {
        let same = |group: &&Json| group["id"] == json!(wanted) || group["name"] == json!(wanted);
        match known.iter().filter(same).count() {
            0 => {
                let text = format!("Security group {wanted} not found for project {}.", call.caller.project());
                return Err(Refusal::bad_request(text));
            }
            1 => {}
            _ => {
                let text =
                    format!("Multiple security groups found matching '{wanted}'. Use an ID to be more specific.");
                return Err(Refusal::conflict(text));
            }
        }
    }
    Ok(())
}

async fn one(call: &Call<Compute>, entry: &Json) -> Answer<Json> {
    let text = |key: &str| entry[key].as_str().filter(|text| !text.is_empty());
    const KEYS: &[&str] = &["uuid", "port", "fixed_ip", "tag"];
    let object = entry.as_object().ok_or_else(|| bad(Some(entry)))?;
    if let Some(key) = object.keys().find(|key| !KEYS.contains(&key.as_str())) {
        let text = format!("Additional properties are not allowed ('{key}' was unexpected)");
        return Err(Refusal::bad_request(text));
    }
    if let Some(port) = text("port") {
        return port_request(call, port, text("tag")).await;
    }
    let Some(network) = text("uuid") else {
        return Err(Refusal::bad_request("Invalid input for field/attribute networks. A network or a port is needed."));
    };
    if !base::id::is_uuid(network) {
        return Err(Refusal::bad_request(format!(
            "Bad networks format: network uuid is not in proper format ({network})"
        )));
    }
    let found = call.peers.network.get(Rights::User(&call.caller), &format!("/v2.0/networks/{network}")).await;
    let found = found.map_err(|error| match error.status() {
        404 => Refusal::bad_request(format!("Network {network} could not be found.")),
        _ => failed(error),
    })?;
    let no_subnet = found["network"]["subnets"].as_array().is_none_or(Vec::is_empty);
    let external = found["network"]["router:external"] == json!(true) && found["network"]["shared"] != json!(true);
    if no_subnet {
        let text = format!("Network {network} requires a subnet in order to boot instances on.");
        return Err(Refusal::bad_request(text));
    }
    if external && !call.may_own("network:attach_external_network") {
        return Err(Refusal::forbidden(format!(
            "It is not allowed to create an interface on external network {network}"
        )));
    }
    Ok(json!({"network": network, "port": null, "fixed_ip": text("fixed_ip"), "tag": text("tag")}))
}

async fn port_request(call: &Call<Compute>, port: &str, tag: Option<&str>) -> Answer<Json> {
    let found = call.peers.network.get(Rights::User(&call.caller), &format!("/v2.0/ports/{port}")).await;
    let found = found.map_err(|error| match error.status() {
        404 => Refusal::bad_request(format!("Port id {port} could not be found.")),
        _ => failed(error),
    })?;
    let body = &found["port"];
    if body["device_id"].as_str().is_some_and(|device| !device.is_empty()) {
        return Err(Refusal::conflict(format!("Port {port} is still in use.")));
    }
    Ok(json!({"network": body["network_id"], "port": port, "fixed_ip": null, "tag": tag}))
}

/// The one network that the project can use; several are ambiguous.
async fn automatic(call: &Call<Compute>, allocate: bool) -> Answer<Vec<Json>> {
    let ask = async |query: &str| {
        let path = format!("/v2.0/networks?{query}&router:external=false&fields=id&fields=subnets");
        call.peers.network.get(Rights::User(&call.caller), &path).await.map_err(failed)
    };
    let mut found: Vec<Json> = Vec::new();
    for query in [format!("project_id={}", call.caller.project()), "shared=true".to_string()] {
        for network in ask(&query).await?["networks"].as_array().into_iter().flatten() {
            let usable = network["subnets"].as_array().is_some_and(|subnets| !subnets.is_empty());
            if usable && !found.iter().any(|known| known["id"] == network["id"]) {
                found.push(network.clone());
            }
        }
    }
    match found.as_slice() {
        [] if allocate => {
            let text = "Unable to automatically allocate a network for project: this cloud has no topology for it.";
            Err(Refusal::bad_request(format!("{text} Make a network with a subnet first.")))
        }
        [] => Ok(Vec::new()),
        [only] => Ok(vec![json!({"network": only["id"], "port": null, "fixed_ip": null, "tag": null})]),
        _ => Err(Refusal::conflict("Multiple possible networks found, use a Network ID to be more specific.")),
    }
}

fn bad(asked: Option<&Json>) -> Refusal {
    let shown = asked.map(ToString::to_string).unwrap_or_default();
    Refusal::bad_request(format!(
        "Invalid input for field/attribute networks. Value: {shown}. It is neither a list, 'auto' nor 'none'"
    ))
}

fn failed(error: PeerError) -> Refusal {
    match error.status() {
        403 => Refusal::forbidden(error.message().to_string()),
        _ => api::failed("asking network", &error),
    }
}
