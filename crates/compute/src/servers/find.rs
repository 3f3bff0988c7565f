//! Listing and showing servers.

use api::{Answer, Call, Json, Listed, Listing, NoInput, Path, Permitted, Refusal, Show, json, listing, v};
use base::Time;
use db::{Filter, Order, Page, Select, Test, Value, select};

use super::state;
use super::store::{Archived, Server, known};
use super::view::{Brief, Detailed};
use crate::{Compute, hosts, query};

pub const SERVERS: Listing = Listing {
    sort: &[
        "access_ip_v4",
        "access_ip_v6",
        "auto_disk_config=disk_config",
        "availability_zone",
        "config_drive",
        "created_at",
        "display_description=description",
        "display_name=name",
        "host",
        "hostname",
        "image_ref=image_id",
        "instance_type_id=flavor_id",
        "kernel_id=id",
        "key_name",
        "launch_index",
        "launched_at",
        "locked",
        "locked_by",
        "node=host",
        "power_state",
        "progress",
        "project_id",
        "ramdisk_id=id",
        "root_device_name",
        "task_state",
        "terminated_at",
        "updated_at",
        "user_id",
        "uuid=id",
        "vm_state",
        "name",
        "id",
    ],
    filter: &[
        listing::text("image").on("image_id"),
        listing::text("flavor").on("flavor_id"),
        listing::text("reservation_id"),
        listing::text("uuid").on("id"),
        listing::text("key_name"),
        listing::flag("config_drive"),
        listing::text("access_ip_v4"),
        listing::text("access_ip_v6"),
        listing::integer("power_state"),
        listing::text("availability_zone"),
        listing::text("vm_state"),
        listing::text("task_state"),
        listing::integer("launch_index"),
        listing::text("user_id"),
        listing::integer("progress"),
    ],
    order: &[("created_at", Order::Desc), ("id", Order::Desc)],
    ..Listing::PLAIN
};

/// What a listing's query may have, from the version on at which others are refused.
const QUERIES: &[&str] = &[
    "limit",
    "marker",
    "sort_key",
    "sort_dir",
    "all_tenants",
    "deleted",
    "soft_deleted",
    "changes-since",
    "changes-before",
    "project_id",
    "tenant_id",
    "user_id",
    "uuid",
    "name",
    "display_name",
    "description",
    "display_description",
    "hostname",
    "status",
    "vm_state",
    "task_state",
    "power_state",
    "image",
    "image_ref",
    "flavor",
    "instance_type_id",
    "kernel_id",
    "ramdisk_id",
    "key_name",
    "reservation_id",
    "launch_index",
    "config_drive",
    "availability_zone",
    "pinned_availability_zone",
    "ip",
    "ip6",
    "access_ip_v4",
    "access_ip_v6",
    "host",
    "node",
    "auto_disk_config",
    "progress",
    "root_device_name",
    "created_at",
    "launched_at",
    "terminated_at",
    "updated_at",
    "locked",
    "locked_by",
    "tags",
    "tags-any",
    "not-tags",
    "not-tags-any",
];

pub async fn list(call: Call<Compute>, _: NoInput) -> Answer<Listed<Brief>> {
    let rows = rows(&call, "os_compute_api:servers:index:get_all_tenants").await?;
    let rows: Vec<Permitted<Server>> = call.permit_listed(rows)?;
    Ok(Listed(rows.into_iter().map(|row| row.map(Brief)).collect()))
}

pub async fn detail(call: Call<Compute>, _: NoInput) -> Answer<Listed<Detailed>> {
    let rows = rows(&call, "os_compute_api:servers:detail:get_all_tenants").await?;
    let status = hosts::statuses(&call.db).await?;
    let detailed = rows.into_iter().map(|server| {
        let host_status = hosts::status_of(&status, server.host.as_deref());
        let group = server.group_id.clone();
        Detailed { server, host_status, group }
    });
    Ok(Listed(call.permit_listed(detailed.collect())?))
}

pub async fn show(call: Call<Compute>, Path(id): Path<String>) -> Answer<Show<Detailed>> {
    let server = call.permit(known(&call, &id).await?)?;
    detailed(&call, server).await.map(Show)
}

/// A server with what the other tables say about it.
pub async fn detailed(call: &Call<Compute>, server: Permitted<Server>) -> Answer<Permitted<Detailed>> {
    let status = hosts::statuses(&call.db).await?;
    Ok(server.map(|server| {
        let host_status = hosts::status_of(&status, server.host.as_deref());
        let group = server.group_id.clone();
        Detailed { server, host_status, group }
    }))
}

/// The page of servers that the query asks for and the caller may see.
async fn rows(call: &Call<Compute>, all_projects_rule: &str) -> Answer<Vec<Server>> {
    query::strict(call, v(2, 75), QUERIES)?;
    let everybody = wants_all_projects(call)?;
    let admin = call.may_own("context_is_admin");
    if everybody {
        call.must(all_projects_rule, &api::Own(&call.caller))?;
    }
    let asks_for_gone = call.query.all("status").any(|status| status.eq_ignore_ascii_case("deleted"));
    if asks_for_gone && !admin {
        return Err(Refusal::forbidden("Only administrators may list deleted instances"));
    }
    if asks_for_gone || admin && call.query.get("deleted").and_then(listing::flag_value).unwrap_or(false) {
        return gone(call, everybody, call.page.limit).await;
    }
    let mut found = live(call, everybody, admin).await?;
    // Upstream: what has changed since then includes what is gone since then.
    if call.query.has("changes-since") && !call.query.has("status") {
        let room = call.page.limit.map(|limit| limit.saturating_sub(found.len() as _));
        if room != Some(0) {
            found.extend(gone(call, everybody, room).await?);
        }
    }
    Ok(found)
}

async fn live(call: &Call<Compute>, everybody: bool, admin: bool) -> Answer<Vec<Server>> {
    let mut rows = select::<Server>("");
    if !everybody {
        rows = rows.and("project_id = ?").bind(call.caller.project());
    } else if let Some(project) = call.query.get("project_id").or(call.query.get("tenant_id")) {
        rows = rows.and("project_id = ?").bind(project);
    }
    let Some(rows) = narrowed(call, tagged(call, rows), admin)? else { return Ok(Vec::new()) };
    let page = Page { filters: filters(call, admin), ..call.page.clone() };
    let mut found = match call.db.page(rows, &page).await {
        // The marker may be a server that is gone.
        Err(db::Error::MarkerNotFound) if call.query.has("changes-since") => Vec::new(),
        found => found.map_err(|error| marker_fault(call, error))?,
    };
    if let Some(wanted) = address_filter(call)? {
        found.retain(|server| wanted(server));
    }
    Ok(found)
}

/// Conditions that are not plain columns. `None`: nothing can match.
fn narrowed(call: &Call<Compute>, mut rows: Select<Server>, admin: bool) -> Answer<Option<Select<Server>>> {
    if let Some(since) = time(call, "changes-since")? {
        rows = rows.and("updated_at >= ?").bind(since);
    }
    if let Some(before) = time(call, "changes-before")?.filter(|_| call.version >= v(2, 66)) {
        rows = rows.and("updated_at <= ?").bind(before);
    }
    for name in ["ip", "ip6"] {
        // A rough cut, so that pages are full; `address_filter` looks closely.
        if let Some(part) = call.query.get(name) {
            rows = rows.and("network_info LIKE ? ESCAPE '!'").bind(format!("%{}%", plain(part)));
        }
    }
    if let Some(host) = call.query.get("host").or(call.query.get("node")).filter(|_| admin) {
        rows = rows.and("host = ?").bind(host);
    }
    if call.query.has("status") {
        let wanted: Vec<&str> = call.query.all("status").collect();
        let states: Vec<_> = wanted.iter().flat_map(|text| state::states_of(&text.to_uppercase())).collect();
        if states.is_empty() {
            // Upstream: an unknown status matches nothing; from 2.38 it is refused.
            if call.version >= v(2, 38) {
                return Err(Refusal::bad_request("Invalid status value"));
            }
            return Ok(None);
        }
        let one = |(_, task): &(_, Option<_>)| match task {
            Some(_) => "(vm_state = ? AND task_state = ?)",
            None => "vm_state = ?",
        };
        let text = states.iter().map(one).collect::<Vec<_>>().join(" OR ");
        rows = rows.and(format!("({text})"));
        for (vm_state, task) in states {
            rows = rows.bind(vm_state.name());
            if let Some(task) = task {
                rows = rows.bind(task.name());
            }
        }
    }
    Ok(Some(rows))
}

/// The filters of the listing, less those that only an administrator may use, plus those on parts of a text.
fn filters(call: &Call<Compute>, admin: bool) -> Vec<Filter> {
    // Upstream: for others these are ignored; 2.83 opened some of them.
    const OPEN: &[&str] = &["image_id", "flavor_id", "reservation_id", "name", "id"];
    const OPEN_2_83: &[&str] = &[
        "key_name",
        "config_drive",
        "power_state",
        "availability_zone",
        "vm_state",
        "task_state",
        "launch_index",
        "user_id",
    ];
    let open =
        |column: &str| admin || OPEN.contains(&column) || (call.version >= v(2, 83) && OPEN_2_83.contains(&column));
    let mut filters: Vec<Filter> = call.page.filters.iter().filter(|filter| open(&filter.column)).cloned().collect();
    if let Some(name) = call.query.get("name") {
        filters.push(Filter { column: "name".into(), test: like(name) });
    }
    if let Some(hostname) = call.query.get("hostname") {
        filters.push(Filter { column: "hostname".into(), test: like(hostname) });
    }
    if let Some(text) = call.query.get("description").filter(|_| admin || call.version >= v(2, 83)) {
        filters.push(Filter { column: "description".into(), test: like(text) });
    }
    if let Some(locked) = call.query.get("locked").filter(|_| call.version >= v(2, 73)).and_then(listing::flag_value) {
        filters.push(Filter { column: "locked".into(), test: Test::Equal(vec![Value::Int(locked.into())]) });
    }
    filters
}

/// What the query says about tags, which are kept as a JSON list; each stands in quotes there.
fn tagged(call: &Call<Compute>, mut rows: Select<Server>) -> Select<Server> {
    if call.version < v(2, 26) {
        return rows;
    }
    for (name, between, negated) in [
        ("tags", " AND ", false),
        ("tags-any", " OR ", false),
        ("not-tags", " AND ", true),
        ("not-tags-any", " OR ", true),
    ] {
        let Some(text) = call.query.get(name) else { continue };
        let tags: Vec<&str> = text.split(',').map(str::trim).collect();
        let each = vec!["tags LIKE ? ESCAPE '!'"; tags.len()].join(between);
        rows = rows.and(&if negated { format!("NOT ({each})") } else { format!("({each})") });
        for tag in tags {
            let escaped = tag.replace('!', "!!").replace('%', "!%").replace('_', "!_");
            rows = rows.bind(format!("%{}%", json!(escaped)));
        }
    }
    rows
}

/// Upstream: these filters are regular expressions; what people send is a part of the name, or anchored.
fn like(pattern: &str) -> Test {
    let start = pattern.starts_with('^');
    let end = pattern.ends_with('$');
    let plain = pattern.trim_start_matches('^').trim_end_matches('$').replace(".*", "").replace('\\', "");
    match (start, end) {
        (true, true) => Test::Equal(vec![Value::Text(plain)]),
        (true, false) => Test::StartsWith(plain),
        (false, true) => Test::EndsWith(plain),
        (false, false) => Test::Contains(plain),
    }
}

/// Upstream: addresses are regular expressions, too; people send the beginning of one.
fn plain(pattern: &str) -> String {
    let text = pattern.trim_start_matches('^').trim_end_matches('$');
    text.chars().filter(|c| c.is_ascii_hexdigit() || matches!(c, '.' | ':')).collect()
}

type AddressTest = Box<dyn Fn(&Server) -> bool + Send>;

fn address_filter(call: &Call<Compute>) -> Answer<Option<AddressTest>> {
    let wanted: Vec<(i64, String)> = [("ip", 4), ("ip6", 6)]
        .into_iter()
        .filter(|(name, _)| *name == "ip" || call.version >= v(2, 5) || call.may_own("context_is_admin"))
        .filter_map(|(name, version)| Some((version, call.query.get(name)?.to_string())))
        .collect();
    if wanted.is_empty() {
        return Ok(None);
    }
    Ok(Some(Box::new(move |server| {
        let ports = server.network_info.as_array().into_iter().flatten();
        let addresses: Vec<&Json> = ports.flat_map(|port| port["addresses"].as_array().into_iter().flatten()).collect();
        wanted.iter().all(|(version, part)| {
            let plain = plain(part);
            addresses.iter().any(|address| {
                address["version"].as_i64() == Some(*version)
                    && address["addr"].as_str().is_some_and(|text| text.contains(&plain))
            })
        })
    })))
}

fn wants_all_projects(call: &Call<Compute>) -> Answer<bool> {
    match call.query.get("all_tenants").or(call.query.get("all_projects")) {
        None => Ok(false),
        Some("") => Ok(true),
        Some(text) => listing::flag_value(text)
            .ok_or_else(|| Refusal::bad_request(format!("Invalid value '{text}' for the filter all_tenants."))),
    }
}

fn time(call: &Call<Compute>, name: &str) -> Answer<Option<Time>> {
    let Some(text) = call.query.get(name) else { return Ok(None) };
    let time = Time::parse(text).ok_or_else(|| Refusal::bad_request(format!("Invalid {name} value")))?;
    Ok(Some(time))
}

fn marker_fault(call: &Call<Compute>, error: db::Error) -> Refusal {
    match error {
        db::Error::MarkerNotFound => {
            Refusal::bad_request(format!("marker [{}] not found", call.page.marker.clone().unwrap_or_default()))
        }
        error => error.into(),
    }
}

/// Servers that are gone, newest first.
async fn gone(call: &Call<Compute>, everybody: bool, limit: Option<u32>) -> Answer<Vec<Server>> {
    let sort = vec![("deleted_at".into(), Order::Desc), ("id".into(), Order::Desc)];
    let page = Page { limit, marker: call.page.marker.clone(), sort, ..Page::default() };
    let rows = match call.db.page(archive(call, everybody)?, &page).await {
        // The marker may be a server that is there.
        Err(db::Error::MarkerNotFound) if call.query.has("changes-since") => {
            call.db.page(archive(call, everybody)?, &Page { marker: None, ..page }).await?
        }
        rows => rows.map_err(|error| marker_fault(call, error))?,
    };
    Ok(rows.into_iter().filter_map(|row| serde_json::from_value(row.row_document).ok()).collect())
}

fn archive(call: &Call<Compute>, everybody: bool) -> Answer<Select<Archived>> {
    let mut rows = select::<Archived>("");
    if !everybody {
        rows = rows.and("project_id = ?").bind(call.caller.project());
    }
    if let Some(since) = time(call, "changes-since")? {
        rows = rows.and("deleted_at >= ?").bind(since);
    }
    if let Some(before) = time(call, "changes-before")?.filter(|_| call.version >= v(2, 66)) {
        rows = rows.and("deleted_at <= ?").bind(before);
    }
    Ok(rows)
}
