//! Hypervisors: what each host has, and what is used of it.

use api::{Answer, Call, Document, Json, NoInput, Operation, Path, Refusal, get, json, v};
use clients::Rights;
use db::sql;

use crate::hosts::{self, Host, RESERVED_MB};
use crate::{Compute, query, services};

pub fn operations() -> Vec<Operation<Compute>> {
    vec![
        get("/os-hypervisors", list).rule("os_compute_api:os-hypervisors:list"),
        get("/os-hypervisors/detail", detail).rule("os_compute_api:os-hypervisors:list-detail"),
        get("/os-hypervisors/statistics", statistics).rule("os_compute_api:os-hypervisors:statistics").until(v(2, 87)),
        get("/os-hypervisors/{id}", show).rule("os_compute_api:os-hypervisors:show"),
        get("/os-hypervisors/{id}/uptime", uptime).rule("os_compute_api:os-hypervisors:uptime").until(v(2, 87)),
        get("/os-hypervisors/{id}/search", search).rule("os_compute_api:os-hypervisors:search").until(v(2, 52)),
        get("/os-hypervisors/{id}/servers", servers).rule("os_compute_api:os-hypervisors:servers").until(v(2, 52)),
    ]
}

/// Usage of one host, as placement has it.
pub struct Usage {
    pub vcpus: i64,
    pub memory_mb: i64,
    pub disk_gb: i64,
    pub servers: i64,
}

async fn list(call: Call<Compute>, _: NoInput) -> Answer<Document> {
    let permitted = call.allow()?;
    let (rows, links) = page(&call).await?;
    let mut views = Vec::new();
    for host in &rows {
        let mut view = brief(host, &call);
        with_servers(&call, host, &mut view).await?;
        views.push(view);
    }
    Ok(Document::new(permitted, listed(views, links)))
}

async fn detail(call: Call<Compute>, _: NoInput) -> Answer<Document> {
    let permitted = call.allow()?;
    let (rows, links) = page(&call).await?;
    let mut views = Vec::new();
    for host in &rows {
        let mut view = full(&call, host).await?;
        with_servers(&call, host, &mut view).await?;
        views.push(view);
    }
    Ok(Document::new(permitted, listed(views, links)))
}

async fn show(call: Call<Compute>, Path(id): Path<String>) -> Answer<Document> {
    let permitted = call.allow()?;
    query::strict(&call, v(2, 53), &["with_servers"])?;
    let host = find(&call, &id).await?;
    let mut view = full(&call, &host).await?;
    with_servers(&call, &host, &mut view).await?;
    Ok(Document::new(permitted, json!({"hypervisor": view})))
}

async fn uptime(call: Call<Compute>, Path(id): Path<String>) -> Answer<Document> {
    let permitted = call.allow()?;
    let host = find(&call, &id).await?;
    if !host.is_up() {
        return Err(Refusal::bad_request(format!("Compute service of {} is unavailable at this time.", host.name)));
    }
    let mut view = brief(&host, &call);
    view["uptime"] = json!(uptime_words(&host));
    Ok(Document::new(permitted, json!({"hypervisor": view})))
}

async fn search(call: Call<Compute>, Path(pattern): Path<String>) -> Answer<Document> {
    let permitted = call.allow()?;
    let found = matching(&call, &pattern).await?;
    let views: Vec<Json> = found.iter().map(|host| brief(host, &call)).collect();
    Ok(Document::new(permitted, json!({"hypervisors": views})))
}

async fn servers(call: Call<Compute>, Path(pattern): Path<String>) -> Answer<Document> {
    let permitted = call.allow()?;
    let mut views = Vec::new();
    for host in matching(&call, &pattern).await? {
        let mut view = brief(&host, &call);
        let on_it = on_host(&call, &host).await?;
        if !on_it.is_empty() {
            view["servers"] = json!(on_it);
        }
        views.push(view);
    }
    Ok(Document::new(permitted, json!({"hypervisors": views})))
}

async fn statistics(call: Call<Compute>, _: NoInput) -> Answer<Document> {
    let permitted = call.allow()?;
    let mut sums = json!({
        "count": 0, "current_workload": 0, "disk_available_least": 0, "free_disk_gb": 0, "free_ram_mb": 0,
        "local_gb": 0, "local_gb_used": 0, "memory_mb": 0, "memory_mb_used": 0, "running_vms": 0, "vcpus": 0,
        "vcpus_used": 0,
    });
    for host in hosts::all(&call.db).await?.iter().filter(|host| !host.disabled) {
        let view = statistics_of(&call, host).await?;
        for (key, sum) in sums.as_object_mut().into_iter().flatten() {
            let more = if key == "count" { 1 } else { view[key].as_i64().unwrap_or(0) };
            *sum = json!(sum.as_i64().unwrap_or(0) + more);
        }
    }
    Ok(Document::new(permitted, json!({"hypervisor_statistics": sums})))
}

fn brief(host: &Host, call: &Call<Compute>) -> Json {
    json!({
        "id": if call.version >= v(2, 53) { json!(host.uuid) } else { json!(host.number) },
        "hypervisor_hostname": host.name,
        "state": if host.is_up() { "up" } else { "down" },
        "status": if host.disabled { "disabled" } else { "enabled" },
    })
}

async fn full(call: &Call<Compute>, host: &Host) -> Answer<Json> {
    let mut view = brief(host, call);
    let facts = host.facts();
    view["hypervisor_type"] = json!(facts.as_ref().map(|facts| facts.hypervisor_type.clone()));
    view["hypervisor_version"] = json!(facts.as_ref().map(|facts| facts.hypervisor_version));
    view["host_ip"] = json!(facts.as_ref().map(|facts| facts.address.clone()));
    let service = if call.version >= v(2, 53) { json!(services::service_uuid(host)) } else { json!(host.number) };
    view["service"] = json!({"id": service, "host": host.name, "disabled_reason": host.disabled_reason});
    if call.version >= v(2, 88) {
        view["uptime"] = json!(facts.as_ref().filter(|_| host.is_up()).map(|_| uptime_words(host)));
        return Ok(view);
    }
    for (key, value) in statistics_of(call, host).await?.as_object().into_iter().flatten() {
        view[key] = value.clone();
    }
    // Upstream: text before 2.28, a document from then on.
    let cpu = facts.map(|facts| facts.cpu).unwrap_or_default();
    view["cpu_info"] = if call.version >= v(2, 28) { cpu } else { json!(cpu.to_string()) };
    Ok(view)
}

async fn statistics_of(call: &Call<Compute>, host: &Host) -> Answer<Json> {
    let facts = host.facts();
    let (vcpus, memory, disk) =
        facts.map_or((0, 0, 0), |facts| (i64::from(facts.vcpus), facts.memory_mb as i64, facts.disk_gb as i64));
    let used = usage(call, host).await?;
    // Upstream: what the host keeps for itself counts as used.
    let memory_used = used.memory_mb + (RESERVED_MB as i64).min(memory);
    Ok(json!({
        "vcpus": vcpus,
        "vcpus_used": used.vcpus,
        "memory_mb": memory,
        "memory_mb_used": memory_used,
        "local_gb": disk,
        "local_gb_used": used.disk_gb,
        "free_ram_mb": memory - memory_used,
        "free_disk_gb": disk - used.disk_gb,
        "current_workload": 0,
        "running_vms": used.servers,
        "disk_available_least": disk - used.disk_gb,
    }))
}

pub async fn usage(call: &Call<Compute>, host: &Host) -> Answer<Usage> {
    let path = format!("/resource_providers/{}/usages", host.uuid);
    let held = match call.peers.placement.get(Rights::Service, &path).await {
        Err(error) if !error.is_missing() => return Err(api::failed("asking placement for a host's usage", &error)),
        held => held.unwrap_or_default(),
    };
    let number = |class: &str| held["usages"][class].as_i64().unwrap_or(0);
    let servers = call.db.count(sql("SELECT COUNT(*) FROM servers WHERE host = ?").bind(&host.name)).await?;
    Ok(Usage { vcpus: number("VCPU"), memory_mb: number("MEMORY_MB"), disk_gb: number("DISK_GB"), servers })
}

fn uptime_words(host: &Host) -> String {
    let seconds = host.facts().map_or(0, |facts| facts.uptime_seconds);
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    format!("up {days} days, {:02}:{:02}", rest / 3600, rest % 3600 / 60)
}

/// From 2.53 servers are shown on request; from 2.75 also when there are none.
async fn with_servers(call: &Call<Compute>, host: &Host, view: &mut Json) -> Answer<()> {
    if call.version < v(2, 53) || !query::flag(call, "with_servers")? {
        return Ok(());
    }
    let on_it = on_host(call, host).await?;
    if !on_it.is_empty() || call.version >= v(2, 75) {
        view["servers"] = json!(on_it);
    }
    Ok(())
}

async fn on_host(call: &Call<Compute>, host: &Host) -> Answer<Vec<Json>> {
    let rows =
        call.db.rows(sql("SELECT id, number FROM servers WHERE host = ? ORDER BY number").bind(&host.name)).await?;
    let view = |row: &db::Row| -> Result<Json, db::Error> {
        Ok(json!({"uuid": row.get::<String>(0)?, "name": format!("instance-{:08x}", row.get::<i64>(1)?)}))
    };
    Ok(rows.iter().map(view).collect::<Result<Vec<_>, _>>()?)
}

async fn matching(call: &Call<Compute>, pattern: &str) -> Answer<Vec<Host>> {
    let found: Vec<Host> = hosts::all(&call.db).await?.into_iter().filter(|host| host.name.contains(pattern)).collect();
    if found.is_empty() {
        return Err(Refusal::not_found(format!("No hypervisor matching '{pattern}' could be found.")));
    }
    Ok(found)
}

async fn find(call: &Call<Compute>, id: &str) -> Answer<Host> {
    if call.version >= v(2, 53) && !base::id::is_uuid(id) {
        return Err(Refusal::bad_request(format!("Invalid uuid {id}")));
    }
    let same = |host: &Host| match call.version >= v(2, 53) {
        true => host.uuid == id,
        false => host.number.to_string() == id,
    };
    let found = hosts::all(&call.db).await?.into_iter().find(same);
    found.ok_or_else(|| Refusal::not_found(format!("Hypervisor with ID '{id}' could not be found.")))
}

/// The hosts of one page: paging came with 2.33, the pattern in the query with 2.53.
async fn page(call: &Call<Compute>) -> Answer<(Vec<Host>, Option<Json>)> {
    const PATTERN: &str = "hypervisor_hostname_pattern";
    query::strict(call, v(2, 53), &["limit", "marker", PATTERN, "with_servers"])?;
    let mut rows = hosts::all(&call.db).await?;
    if let Some(pattern) = call.query.get(PATTERN).filter(|_| call.version >= v(2, 53)) {
        if call.query.has("limit") || call.query.has("marker") {
            let words = format!("Paging over hypervisors with the {PATTERN} query parameter is not supported.");
            return Err(Refusal::bad_request(words));
        }
        return Ok((matching(call, pattern).await?, None));
    }
    if call.version < v(2, 33) {
        return Ok((rows, None));
    }
    let limit = query::limit(call)?;
    if let Some(marker) = call.query.get("marker") {
        let last =
            find(call, marker).await.map_err(|_| Refusal::bad_request(format!("marker [{marker}] not found")))?;
        rows.retain(|host| host.number > last.number);
    }
    let full = rows.len() >= limit;
    rows.truncate(limit);
    let next = rows.last().filter(|_| full).map(|last| {
        let marker = if call.version >= v(2, 53) { last.uuid.clone() } else { last.number.to_string() };
        query::next_page(call, &marker)
    });
    Ok((rows, next))
}

fn listed(views: Vec<Json>, links: Option<Json>) -> Json {
    let mut body = json!({"hypervisors": views});
    if let Some(links) = links {
        body["hypervisors_links"] = links;
    }
    body
}
