//! Interfaces of a server that is there already: `os-interface`.
//!
//! The row is changed first, so that a crash leaves no port whose owner is unknown: a port that the user brought is
//! named there before network is told, and one that we make carries the server's id.

use api::wire::{ip, list as list_of, nested, text, uuid};
use api::{Answer, Body, Call, Document, Done, Json, Operation, Path, Permitted, Refusal, failed, get, json, post, v};
use clients::{PeerError, Rights};

use super::{bind, create as create_port, info, keep, ports_of, refused, remove as remove_port, requests_of};
use crate::servers::ServerFault;
use crate::servers::create::networks;
use crate::servers::power::refuse_locked;
use crate::servers::state::VmState;
use crate::servers::store::{self, Server, known};
use crate::{Compute, actions};

pub fn operations() -> Vec<Operation<Compute>> {
    const ALL: &str = "/servers/{server_id}/os-interface";
    const ONE: &str = "/servers/{server_id}/os-interface/{id}";
    vec![
        get(ALL, list).rule("os_compute_api:os-attach-interfaces:list"),
        get(ONE, show).rule("os_compute_api:os-attach-interfaces:show"),
        post(ALL, attach).rule("os_compute_api:os-attach-interfaces:create"),
        api::delete(ONE, detach).rule("os_compute_api:os-attach-interfaces:delete").status(202),
    ]
}

api::wire! {
    /// What to attach: a port, a network, or nothing, which means the project's only network.
    pub struct NewInterface in "interfaceAttachment" {
        network as "net_id": Option<String> = uuid(),
        port as "port_id": Option<String> = uuid(),
        addresses as "fixed_ips": Option<Vec<FixedIp>> = list_of(nested::<FixedIp>()).items(1, 1),
        tag: Option<String> = text(1, 60).matching("^[^,/]*$").since(v(2, 49)),
    }
}

api::wire! {
    /// An address that the new port should have.
    pub struct FixedIp {
        address as "ip_address": String = ip().required(),
    }
}

async fn list(call: Call<Compute>, Path(id): Path<String>) -> Answer<Document> {
    let server = call.permit(known(&call, &id).await?)?;
    let ports = ports_of(&call, &id).await.map_err(unasked)?;
    let shown: Vec<Json> = ports.iter().map(|port| view(&call, &server, port)).collect();
    Ok(Document::of(server, |_| json!({"interfaceAttachments": shown})))
}

async fn show(call: Call<Compute>, Path((id, port)): Path<(String, String)>) -> Answer<Document> {
    let server = call.permit(known(&call, &id).await?)?;
    let found = call.peers.network.get(Rights::Service, &format!("/v2.0/ports/{port}")).await;
    let found = found.map_err(|error| no_port(&port, error))?["port"].clone();
    if found["device_id"] != json!(id) {
        let text = format!("Instance {id} does not have a port with id {port}");
        return Err(Refusal::not_found(text));
    }
    let shown = view(&call, &server, &found);
    Ok(Document::of(server, |_| json!({"interfaceAttachment": shown})))
}

fn view(call: &Call<Compute>, server: &Server, port: &Json) -> Json {
    let fixed = port["fixed_ips"].as_array().into_iter().flatten();
    let fixed = fixed.map(|fixed| json!({"subnet_id": fixed["subnet_id"], "ip_address": fixed["ip_address"]}));
    let mut view = json!({
        "net_id": port["network_id"],
        "port_id": port["id"],
        "mac_addr": port["mac_address"],
        "port_state": port["status"],
        "fixed_ips": fixed.collect::<Vec<_>>(),
    });
    if call.version >= v(2, 70) {
        let requests = requests_of(server);
        let asked = requests.iter().find(|asked| asked["port"] == port["id"] || asked["made"] == port["id"]);
        view["tag"] = asked.map(|asked| asked["tag"].clone()).unwrap_or_default();
    }
    view
}

async fn attach(call: Call<Compute>, (Path(id), Body(new)): (Path<String>, Body<NewInterface>)) -> Answer<Document> {
    let server = changeable(&call, &id, "attach_interface").await?;
    let mut request = request(&call, &new).await?;
    let host = server.host.clone().unwrap_or_default();
    let mut requests = requests_of(&server);
    if request["port"].is_string() {
        requests.push(request.clone());
        keep_requests(&call, &server, &requests).await?;
        requests.pop();
    }
    let port = match request["port"].as_str() {
        Some(port) => bind(&call, &server, &host, port).await.map(|()| port.to_string()),
        None => create_port(&call, &server, (!host.is_empty()).then_some(&host), &request, &[]).await,
    };
    let port = match port {
        Ok(port) => port,
        Err(error) => {
            forget(&call, &id, &request["port"]).await?;
            return Err(refusal(error));
        }
    };
    if request["port"].is_null() {
        request["made"] = json!(port);
    }
    requests.push(request);
    settle(&call, &id, &requests).await?;
    noted(&call, &id, "attach_interface").await?;

    let now = store::find(&call.db, &id).await?.unwrap_or_else(|| Server::clone(&server));
    let found = call.peers.network.get(Rights::Service, &format!("/v2.0/ports/{port}")).await;
    let found = found.map_err(|error| no_port(&port, error))?;
    let shown = view(&call, &now, &found["port"]);
    Ok(Document::of(server, |_| json!({"interfaceAttachment": shown})))
}

async fn detach(call: Call<Compute>, Path((id, port)): Path<(String, String)>) -> Answer<Done> {
    let server = changeable(&call, &id, "detach_interface").await?;
    let held = ports_of(&call, &id).await.map_err(unasked)?;
    if !held.iter().any(|held| held["id"] == port.as_str()) {
        return Err(Refusal::not_found(format!("Port id {port} could not be found.")));
    }
    let mut requests = requests_of(&server);
    let brought = requests.iter().any(|request| request["port"] == port.as_str());
    remove_port(&call, &port, brought).await.map_err(unasked)?;
    requests.retain(|request| request["port"] != port.as_str() && request["made"] != port.as_str());
    settle(&call, &id, &requests).await?;
    noted(&call, &id, "detach_interface").await?;
    Ok(Done::with(server))
}

/// A server whose interfaces may be changed now.
async fn changeable(call: &Call<Compute>, id: &str, verb: &str) -> Answer<Permitted<Server>> {
    let server = call.permit(known(call, id).await?)?;
    refuse_locked(call, &server)?;
    use VmState::{Active, Paused, Stopped};
    let (id, verb) = (id.to_string(), verb.to_string());
    if ![Active, Paused, Stopped].contains(&server.vm()) {
        return Err(ServerFault::WrongState { id, verb, state: server.vm_state.clone() }.into());
    }
    match server.task_state.clone() {
        Some(task) => Err(ServerFault::Busy { id, verb, task }.into()),
        None => Ok(server),
    }
}

/// The request in the form of `network_requests`, checked with the user's own rights.
async fn request(call: &Call<Compute>, new: &NewInterface) -> Answer<Json> {
    if new.network.is_some() && new.port.is_some() {
        return Err(Refusal::bad_request("Must not input both network_id and port_id"));
    }
    let address = new.addresses.as_ref().and_then(|list| list.first()).map(|fixed| fixed.address.clone());
    if address.is_some() && new.network.is_none() {
        return Err(Refusal::bad_request("Must input network_id when request IP address"));
    }
    let asked = match (&new.network, &new.port) {
        (None, None) => None,
        (Some(network), _) => Some(json!([{"uuid": network, "fixed_ip": address}])),
        (None, Some(port)) => Some(json!([{"port": port}])),
    };
    let found = networks::requests(call, asked.as_ref()).await.map_err(|refusal| match refusal.status {
        // Upstream: what is not there is not there, instead of a bad request.
        400 if refusal.message.contains("could not be found") => Refusal::not_found(refusal.message),
        409 if asked.is_none() => Refusal::bad_request(refusal.message),
        _ => refusal,
    })?;
    let mut request = found.into_iter().next().ok_or_else(|| Refusal::bad_request("No network was found."))?;
    request["tag"] = json!(new.tag);
    Ok(request)
}

/// Writes the requests without looking at network.
async fn keep_requests(call: &Call<Compute>, server: &Server, requests: &[Json]) -> Answer<()> {
    match keep(call, server, requests, &server.network_info).await? {
        true => Ok(()),
        false => Err(Refusal::conflict("The interfaces are being changed by somebody else. Please try again.")),
    }
}

/// Takes a request back whose port could not be bound.
async fn forget(call: &Call<Compute>, id: &str, port: &Json) -> Answer<()> {
    let Some(server) = store::find(&call.db, id).await? else { return Ok(()) };
    let mut requests = requests_of(&server);
    requests.retain(|request| port.is_null() || request["port"] != *port);
    keep(call, &server, &requests, &server.network_info).await?;
    Ok(())
}

/// Writes the requests with what network says now.
async fn settle(call: &Call<Compute>, id: &str, requests: &[Json]) -> Answer<()> {
    let now = info(call, id, requests).await.map_err(unasked)?;
    let server = store::find(&call.db, id).await?.ok_or_else(|| ServerFault::NotFound { id: id.to_string() })?;
    match keep(call, &server, requests, &now).await? {
        true => Ok(()),
        false => Err(Refusal::conflict("The interfaces are being changed by somebody else. Please try again.")),
    }
}

async fn noted(call: &Call<Compute>, id: &str, action: &str) -> Answer<()> {
    let mut tx = call.db.begin().await?;
    actions::note(&mut tx, call, id, action).await?;
    tx.commit().await?;
    Ok(())
}

/// What network said no to, in its own words.
fn refusal(error: flow::StepError) -> Refusal {
    match error {
        flow::StepError::Refused { message, .. } if message.contains("in use") => Refusal::conflict(message),
        flow::StepError::Refused { message, .. } => Refusal::bad_request(message),
        failure => unasked(failure),
    }
}

fn unasked(error: flow::StepError) -> Refusal {
    failed("asking network", &error)
}

fn no_port(port: &str, error: PeerError) -> Refusal {
    match error.status() {
        404 => Refusal::not_found(format!("Port id {port} could not be found.")),
        _ => unasked(refused(error)),
    }
}
