//! Listing and showing servers.

mod filters;

use api::{Answer, Call, Listed, Listing, NoInput, Path, Permitted, Refusal, Show, listing, v};
use db::{Order, Page, Select, select};

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

/// Limit: pages looked at for one answer when the query has conditions that the database cannot test.
const PAGES: usize = 100;

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
    // Upstream: no servers are asked for, and none are answered.
    if call.query.get("limit") == Some("0") {
        return Ok(Vec::new());
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

/// Servers that are there, page by page until enough of them pass what the database cannot test.
async fn live(call: &Call<Compute>, everybody: bool, admin: bool) -> Answer<Vec<Server>> {
    let tests = filters::tests(call, admin);
    let mut page = Page { filters: filters::columns(call, admin), ..call.page.clone() };
    let limit = page.limit.unwrap_or(u32::MAX) as usize;
    let mut found = Vec::new();
    for _ in 0..PAGES {
        let Some(rows) = filters::narrowed(call, everybody, admin)? else { return Ok(Vec::new()) };
        let next = match call.db.page(rows, &page).await {
            // The marker may be a server that is gone.
            Err(db::Error::MarkerNotFound) if call.query.has("changes-since") => Vec::new(),
            next => next.map_err(|error| marker_fault(call, error))?,
        };
        let full = next.len() >= limit;
        page.marker = next.last().map(|server| server.id.clone());
        found.extend(next.into_iter().filter(|server| tests.iter().all(|passes| passes(server))));
        if found.len() >= limit || !full {
            break;
        }
    }
    found.truncate(limit);
    Ok(found)
}

fn wants_all_projects(call: &Call<Compute>) -> Answer<bool> {
    match call.query.get("all_tenants").or(call.query.get("all_projects")) {
        None => Ok(false),
        Some("") => Ok(true),
        Some(text) => listing::flag_value(text)
            .ok_or_else(|| Refusal::bad_request(format!("Invalid value '{text}' for the filter all_tenants."))),
    }
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
    if let Some(since) = filters::time(call, "changes-since")? {
        rows = rows.and("deleted_at >= ?").bind(since);
    }
    if let Some(before) = filters::time(call, "changes-before")?.filter(|_| call.version >= v(2, 66)) {
        rows = rows.and("deleted_at <= ?").bind(before);
    }
    Ok(rows)
}
