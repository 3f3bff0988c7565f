//! The security groups of a server, which are those of its ports.

use api::wire::text;
use api::{Action, Answer, Call, Document, Done, Json, Operation, Path, Permitted, Refusal, action, failed, get, json};
use clients::{PeerError, Rights};

use super::interfaces::{network_changed, ports_of};
use super::power::refuse_locked;
use super::store::{Server, known};
use crate::Compute;

pub fn operations() -> Vec<Operation<Compute>> {
    const PATH: &str = "/servers/{id}/action";
    vec![
        get("/servers/{server_id}/os-security-groups", list).rule("os_compute_api:os-security-groups:list"),
        action(PATH, "addSecurityGroup", add).rule("os_compute_api:os-security-groups:add").status(202),
        action(PATH, "removeSecurityGroup", remove).rule("os_compute_api:os-security-groups:remove").status(202),
    ]
}

api::wire! {
    /// A group by name or id.
    pub struct Named {
        name: String = text(1, 255).required(),
    }
}

async fn list(call: Call<Compute>, Path(id): Path<String>) -> Answer<Document> {
    let server = call.permit(known(&call, &id).await?)?;
    let ports = ports_of(&call, &id).await.map_err(|error| failed("asking network", &error))?;
    let mut ids: Vec<&str> = ports.iter().flat_map(groups_of).collect();
    ids.sort_unstable();
    ids.dedup();
    let mut shown = Vec::new();
    if !ids.is_empty() {
        let query: Vec<String> = ids.iter().map(|id| format!("id={id}")).collect();
        let path = format!("/v2.0/security-groups?{}", query.join("&"));
        let found = call.peers.network.get(Rights::Service, &path).await.map_err(unasked)?;
        shown = found["security_groups"].as_array().into_iter().flatten().map(view).collect();
    }
    Ok(Document::of(server, |_| json!({"security_groups": shown})))
}

fn groups_of(port: &Json) -> impl Iterator<Item = &str> {
    port["security_groups"].as_array().into_iter().flatten().filter_map(Json::as_str)
}

/// A group as compute used to show its own; only incoming rules existed then.
fn view(group: &Json) -> Json {
    let rules = group["security_group_rules"].as_array().into_iter().flatten();
    let rules = rules.filter(|rule| rule["direction"] == "ingress").map(|rule| rule_view(group, rule));
    json!({
        "id": group["id"],
        "name": group["name"],
        "description": group["description"],
        "tenant_id": group["project_id"],
        "rules": rules.collect::<Vec<_>>(),
    })
}

fn rule_view(group: &Json, rule: &Json) -> Json {
    let (from, to) = match (&rule["port_range_min"], &rule["port_range_max"], rule["protocol"].as_str()) {
        (Json::Null, Json::Null, Some("tcp" | "udp" | "TCP" | "UDP")) => (json!(1), json!(65535)),
        (Json::Null, Json::Null, Some(_)) => (json!(-1), json!(-1)),
        (from, to, _) => (from.clone(), to.clone()),
    };
    let mut view = json!({
        "id": rule["id"], "parent_group_id": group["id"], "ip_protocol": rule["protocol"], "from_port": from,
        "to_port": to, "group": {}, "ip_range": {},
    });
    if rule["remote_group_id"].is_string() {
        view["group"] = json!({"name": group["name"], "tenant_id": group["project_id"]});
    } else {
        let everywhere = if rule["ethertype"] == "IPv6" { "::/0" } else { "0.0.0.0/0" };
        view["ip_range"] = json!({"cidr": rule["remote_ip_prefix"].as_str().unwrap_or(everywhere)});
    }
    view
}

async fn add(call: Call<Compute>, (Path(id), Action(named)): (Path<String>, Action<Named>)) -> Answer<Done> {
    change(&call, &id, &named.name, |groups, wanted| {
        if !groups.contains(&wanted.to_string()) {
            groups.push(wanted.to_string());
        }
    })
    .await
    .map(Done::with)
}

async fn remove(call: Call<Compute>, (Path(id), Action(named)): (Path<String>, Action<Named>)) -> Answer<Done> {
    change(&call, &id, &named.name, |groups, wanted| groups.retain(|held| held != wanted)).await.map(Done::with)
}

/// Changes the groups of every port of the server that can have any.
async fn change(
    call: &Call<Compute>,
    id: &str,
    name: &str,
    make: impl Fn(&mut Vec<String>, &str),
) -> Answer<Permitted<Server>> {
    let server = call.permit(known(call, id).await?)?;
    refuse_locked(call, &server)?;
    let group = find(call, &server, name).await?;
    let ports = ports_of(call, id).await.map_err(|error| failed("asking network", &error))?;
    let removing = {
        let mut probe = Vec::new();
        make(&mut probe, &group);
        probe.is_empty()
    };
    if removing && !ports.iter().any(|port| groups_of(port).any(|held| held == group)) {
        let text = format!("Security group {name} is not associated with the instance {id}");
        return Err(Refusal::not_found(text));
    }
    for port in &ports {
        let held: Vec<String> = groups_of(port).map(String::from).collect();
        let mut wanted = held.clone();
        make(&mut wanted, &group);
        if wanted == held || port["port_security_enabled"] == json!(false) {
            continue;
        }
        let path = format!("/v2.0/ports/{}", port["id"].as_str().unwrap_or_default());
        let body = json!({"port": {"security_groups": wanted}});
        call.peers.network.put(Rights::Service, &path, &body).await.map_err(unasked)?;
    }
    network_changed(&call.service, id).await.map_err(|error| failed("asking network", &error))?;
    Ok(server)
}

/// The id of a group of the server's project, as far as the caller may see it.
async fn find(call: &Call<Compute>, server: &Server, name: &str) -> Answer<String> {
    let project = &server.project_id;
    let path = format!("/v2.0/security-groups?project_id={project}&fields=id&fields=name");
    let found = call.peers.network.get(Rights::User(&call.caller), &path).await.map_err(unasked)?;
    let groups = found["security_groups"].as_array().cloned().unwrap_or_default();
    let mut same: Vec<&Json> = groups.iter().filter(|group| group["id"] == name).collect();
    if same.is_empty() {
        same = groups.iter().filter(|group| group["name"] == name).collect();
    }
    match same.as_slice() {
        [one] => Ok(one["id"].as_str().unwrap_or_default().to_string()),
        [] => Err(Refusal::not_found(format!("Security group {name} not found for project {project}."))),
        _ => Err(Refusal::conflict(format!(
            "Multiple security groups found matching '{name}'. Use an ID to be more specific."
        ))),
    }
}

fn unasked(error: PeerError) -> Refusal {
    match error.status() {
        400 => Refusal::bad_request(error.message().to_string()),
        403 => Refusal::forbidden(error.message().to_string()),
        404 => Refusal::not_found(error.message().to_string()),
        _ => failed("asking network", &error),
    }
}
