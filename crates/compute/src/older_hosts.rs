//! Hosts in the older words: `openstack host list`, gone from 2.43 on.

use std::collections::BTreeMap;

use api::wire::one_of;
use api::{Answer, Body, Call, Document, Json, NoInput, Operation, Path, Refusal, get, json, put, v};
use db::{select, sql};

use crate::hosts::{self, Host, RESERVED_MB};
use crate::servers::store::Server;
use crate::{Compute, hypervisors, services};

pub fn operations() -> Vec<Operation<Compute>> {
    let operations = vec![
        get("/os-hosts", list).rule("os_compute_api:os-hosts:list"),
        get("/os-hosts/{name}", show).rule("os_compute_api:os-hosts:show"),
        put("/os-hosts/{name}", update).rule("os_compute_api:os-hosts:update"),
        get("/os-hosts/{name}/startup", power).rule("os_compute_api:os-hosts:start"),
        get("/os-hosts/{name}/shutdown", power).rule("os_compute_api:os-hosts:shutdown"),
        get("/os-hosts/{name}/reboot", power).rule("os_compute_api:os-hosts:reboot"),
    ];
    operations.into_iter().map(|operation| operation.until(v(2, 42)).deprecated()).collect()
}

const WORDS: &[&str] = &["enable", "disable", "Enable", "Disable", "ENABLE", "DISABLE"];

api::wire! {
    /// Whether a host takes new servers.
    pub struct HostChange {
        status: Option<String> = one_of(WORDS),
        maintenance_mode: Option<String> = one_of(WORDS),
    }
}

async fn list(call: Call<Compute>, _: NoInput) -> Answer<Document> {
    let permitted = call.allow()?;
    let zone = call.query.get("zone").filter(|zone| !zone.is_empty());
    let entries = services::entries(&call.service).await?;
    let shown = entries.iter().filter(|entry| !entry.disabled && zone.is_none_or(|zone| zone == entry.zone));
    let view = |entry: &services::Entry| json!({"host_name": entry.host, "service": entry.binary.trim_start_matches("nova-"), "zone": entry.zone});
    let views: Vec<Json> = shown.map(view).collect();
    Ok(Document::new(permitted, json!({"hosts": views})))
}

/// What a server, a project or a host has of a host.
#[derive(Default, Clone, Copy)]
struct Share {
    vcpus: i64,
    memory_mb: i64,
    disk_gb: i64,
}

impl Share {
    fn add(&mut self, server: &Server) {
        self.vcpus += server.vcpus;
        self.memory_mb += server.memory_mb;
        self.disk_gb += server.flavor_number("root_gb") + server.flavor_number("ephemeral_gb");
    }

    fn view(self, host: &str, of: &str) -> Json {
        let Share { vcpus, memory_mb, disk_gb } = self;
        json!({"resource": {"host": host, "project": of, "cpu": vcpus, "memory_mb": memory_mb, "disk_gb": disk_gb}})
    }
}

async fn show(call: Call<Compute>, Path(name): Path<String>) -> Answer<Document> {
    let permitted = call.allow()?;
    let host = find(&call, &name).await?;
    let used = hypervisors::usage(&call, &host).await?;
    let total = host.facts().map_or(Share::default(), |facts| Share {
        vcpus: facts.vcpus.into(),
        memory_mb: facts.memory_mb as i64,
        disk_gb: facts.disk_gb as i64,
    });
    let reserved = (RESERVED_MB as i64).min(total.memory_mb);
    let now = Share { vcpus: used.vcpus, memory_mb: used.memory_mb + reserved, disk_gb: used.disk_gb };
    let (mut most, mut projects) = (Share::default(), BTreeMap::<String, Share>::new());
    for server in call.db.all(select::<Server>("WHERE host = ? ORDER BY number").bind(&name)).await? {
        most.add(&server);
        projects.entry(server.project_id.clone()).or_default().add(&server);
    }
    let mut views = vec![total.view(&name, "(total)"), now.view(&name, "(used_now)"), most.view(&name, "(used_max)")];
    views.extend(projects.iter().map(|(project, share)| share.view(&name, project)));
    Ok(Document::new(permitted, json!({"host": views})))
}

async fn update(call: Call<Compute>, (Path(name), Body(change)): (Path<String>, Body<HostChange>)) -> Answer<Document> {
    let permitted = call.allow()?;
    if change.status.is_none() && change.maintenance_mode.is_none() {
        return Err(Refusal::bad_request("Invalid input for field/attribute . 'status' is a required property"));
    }
    find(&call, &name).await?;
    if change.maintenance_mode.is_some() {
        return Err(unsupported());
    }
    let disabled = change.status.is_some_and(|status| status.eq_ignore_ascii_case("disable"));
    let query = sql("UPDATE hosts SET disabled = ?, disabled_reason = NULL, updated_at = ? WHERE name = ?");
    call.db.run(query.bind(disabled).bind(base::clock::now()).bind(&name)).await?;
    let status = if disabled { "disabled" } else { "enabled" };
    Ok(Document::new(permitted, json!({"host": name, "status": status})))
}

/// Upstream: its QEMU driver does not switch hosts on and off either.
async fn power(call: Call<Compute>, Path(name): Path<String>) -> Answer<Document> {
    call.allow()?;
    find(&call, &name).await?;
    Err(unsupported())
}

fn unsupported() -> Refusal {
    Refusal::new(501, "notImplemented", "The requested functionality is not supported.")
}

async fn find(call: &Call<Compute>, name: &str) -> Answer<Host> {
    let missing = || Refusal::not_found(format!("Compute host {name} could not be found."));
    hosts::find(&call.db, name).await?.ok_or_else(missing)
}
