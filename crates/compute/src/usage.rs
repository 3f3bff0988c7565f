//! What projects have used: hours of servers, and of what they are made of, in a span of time.

use api::{Answer, Call, Document, Json, NoInput, OfProject, Operation, Path, Refusal, get, json, v};
use base::Time;
use db::{Db, record, select, sql};

use crate::servers::store::Archived;
use crate::{Compute, query};

pub fn operations() -> Vec<Operation<Compute>> {
    vec![
        get("/os-simple-tenant-usage", list).rule("os_compute_api:os-simple-tenant-usage:list"),
        get("/os-simple-tenant-usage/{project}", show).rule("os_compute_api:os-simple-tenant-usage:show"),
    ]
}

record! {
    /// A server as far as its usage goes.
    struct Live in "servers" {
        id: String,
        project_id: String,
        name: String,
        flavor: Json,
        vm_state: String,
        launched_at: Option<Time>,
    }
}

/// One server that ran within the span.
struct Ran {
    id: String,
    project_id: String,
    name: String,
    flavor: Json,
    state: String,
    from: Time,
    to: Option<Time>,
}

#[derive(Clone, Copy)]
struct Span {
    start: Time,
    stop: Time,
}

/// Which servers are asked for.
struct Wanted<'a> {
    span: Span,
    project: Option<&'a str>,
    after: Option<(String, String)>,
    limit: usize,
}

async fn list(call: Call<Compute>, _: NoInput) -> Answer<Document> {
    let permitted = call.allow()?;
    query::strict(&call, v(2, 75), &["start", "end", "detailed", "limit", "marker"])?;
    let span = span(&call)?;
    // Upstream: only the digit asks for details.
    let detailed = call.query.get("detailed") == Some("1");
    let (servers, links) = page(&call, span, None).await?;
    let mut body = json!({"tenant_usages": sums(&servers, span, detailed)});
    if let Some(links) = links {
        body["tenant_usages_links"] = links;
    }
    Ok(Document::new(permitted, body))
}

async fn show(call: Call<Compute>, Path(project): Path<String>) -> Answer<Document> {
    let permitted = call.allow_on(&OfProject(&project))?;
    query::strict(&call, v(2, 75), &["start", "end", "limit", "marker"])?;
    let span = span(&call)?;
    let (servers, links) = page(&call, span, Some(&project)).await?;
    let usage = sums(&servers, span, true).into_iter().next().unwrap_or_else(|| json!({}));
    let mut body = json!({"tenant_usage": usage});
    if let Some(links) = links {
        body["tenant_usage_links"] = links;
    }
    Ok(Document::new(permitted, body))
}

fn span(call: &Call<Compute>) -> Answer<Span> {
    let now = base::clock::now();
    let (start, stop) = (time(call, "start")?, time(call, "end")?);
    let asked = start.is_some() || stop.is_some();
    let (start, stop) = (start.unwrap_or(now), stop.unwrap_or(now));
    if asked && start >= stop {
        let words = "Invalid start time. The start time cannot occur after the end time.";
        return Err(Refusal::bad_request(words));
    }
    Ok(Span { start, stop: stop.min(now) })
}

/// Upstream: a date and a time without an offset.
fn time(call: &Call<Compute>, key: &str) -> Answer<Option<Time>> {
    let Some(text) = call.query.get(key).filter(|text| !text.is_empty()) else { return Ok(None) };
    let plain = text.get(11..).is_some_and(|clock| clock.len() >= 8 && !clock.contains(['Z', '+', '-']));
    match Time::parse(text).filter(|_| plain) {
        Some(time) => Ok(Some(time)),
        None => Err(Refusal::bad_request("Invalid datetime string: Datetime is in invalid format")),
    }
}

/// The page of servers that ran within the span, and the link to the next one: paging came with 2.40.
async fn page(call: &Call<Compute>, span: Span, project: Option<&str>) -> Answer<(Vec<Ran>, Option<Json>)> {
    let paged = call.version >= v(2, 40);
    let limit = if paged { query::limit(call)? } else { api::limits::PAGE as usize };
    let after = match call.query.get("marker").filter(|_| paged) {
        None => None,
        Some(marker) => Some(place_of(&call.db, marker).await?),
    };
    let wanted = Wanted { span, project, after, limit };
    let mut servers = live(&call.db, &wanted).await?;
    servers.extend(archived(&call.db, &wanted).await?);
    servers.sort_by(|one, other| (&one.project_id, &one.id).cmp(&(&other.project_id, &other.id)));
    servers.truncate(limit);
    let last = servers.last().filter(|_| paged && servers.len() >= limit);
    let links = last.map(|last| query::next_page(call, &last.id));
    Ok((servers, links))
}

/// Where in the order, which is by project and then by id, a marker stands.
async fn place_of(db: &Db, marker: &str) -> Answer<(String, String)> {
    for table in ["servers", "servers_deleted"] {
        let rows = db.rows(sql(format!("SELECT project_id FROM {table} WHERE id = ?")).bind(marker)).await?;
        if let Some(row) = rows.first() {
            return Ok((row.get(0)?, marker.to_string()));
        }
    }
    Err(Refusal::bad_request(format!("Marker {marker} could not be found.")))
}

async fn live(db: &Db, wanted: &Wanted<'_>) -> Result<Vec<Ran>, db::Error> {
    let mut rows = select::<Live>("WHERE launched_at < ?").bind(wanted.span.stop);
    if let Some(project) = wanted.project {
        rows = rows.and("project_id = ?").bind(project);
    }
    if let Some((project, id)) = &wanted.after {
        rows = rows.and("(project_id > ? OR (project_id = ? AND id > ?))").bind(project).bind(project).bind(id);
    }
    let rows = db.page(rows, &in_order(wanted.limit)).await?;
    let ran = |row: Live| {
        let Live { id, project_id, name, flavor, vm_state: state, launched_at } = row;
        Some(Ran { id, project_id, name, flavor, state, from: launched_at?, to: None })
    };
    Ok(rows.into_iter().filter_map(ran).collect())
}

/// Deleted servers. When they were launched stands in their document, so pages are read until enough have been.
async fn archived(db: &Db, wanted: &Wanted<'_>) -> Result<Vec<Ran>, db::Error> {
    let (mut found, mut after) = (Vec::new(), wanted.after.clone());
    loop {
        let mut rows = select::<Archived>("WHERE deleted_at > ?").bind(wanted.span.start);
        if let Some(project) = wanted.project {
            rows = rows.and("project_id = ?").bind(project);
        }
        if let Some((project, id)) = &after {
            rows = rows.and("(project_id > ? OR (project_id = ? AND id > ?))").bind(project).bind(project).bind(id);
        }
        let rows = db.page(rows, &in_order(wanted.limit)).await?;
        let last = rows.len() < wanted.limit;
        after = rows.last().map(|row| (row.project_id.clone(), row.id.clone()));
        found.extend(rows.into_iter().filter_map(ran).filter(|ran| ran.from < wanted.span.stop));
        if last || found.len() >= wanted.limit {
            return Ok(found);
        }
    }
}

fn ran(row: Archived) -> Option<Ran> {
    let was = &row.row_document;
    Some(Ran {
        name: was["name"].as_str().unwrap_or_default().to_string(),
        flavor: was["flavor"].clone(),
        state: "terminated".into(),
        from: Time(was["launched_at"].as_i64()?),
        to: Some(row.deleted_at),
        project_id: row.project_id,
        id: row.id,
    })
}

fn in_order(limit: usize) -> db::Page {
    db::Page {
        limit: Some(u32::try_from(limit).unwrap_or(u32::MAX)),
        sort: vec![("project_id".into(), db::Order::Asc), ("id".into(), db::Order::Asc)],
        ..db::Page::default()
    }
}

/// One document for each project, in the order of the servers.
fn sums(servers: &[Ran], span: Span, detailed: bool) -> Vec<Json> {
    let mut projects: Vec<Json> = Vec::new();
    for of_project in servers.chunk_by(|one, other| one.project_id == other.project_id) {
        let sum = |each: &dyn Fn(&Ran) -> i64| -> f64 {
            of_project.iter().map(|ran| each(ran) as f64 * hours(ran, span)).sum()
        };
        let mut project = json!({
            "tenant_id": of_project[0].project_id,
            "total_local_gb_usage": sum(&disk),
            "total_vcpus_usage": sum(&|ran| number(ran, "vcpus")),
            "total_memory_mb_usage": sum(&|ran| number(ran, "memory_mb")),
            "total_hours": sum(&|_| 1),
            "start": span.start.iso_micros(),
            "stop": span.stop.iso_micros(),
        });
        if detailed {
            project["server_usages"] = of_project.iter().map(|ran| view(ran, span)).collect();
        }
        projects.push(project);
    }
    projects
}

fn view(ran: &Ran, span: Span) -> Json {
    let until = ran.to.unwrap_or_else(base::clock::now);
    json!({
        "hours": hours(ran, span),
        "flavor": ran.flavor["name"].as_str().unwrap_or_default(),
        "instance_id": ran.id,
        "name": ran.name,
        "tenant_id": ran.project_id,
        "memory_mb": number(ran, "memory_mb"),
        "local_gb": disk(ran),
        "vcpus": number(ran, "vcpus"),
        "started_at": ran.from.iso_micros(),
        "ended_at": ran.to.map(Time::iso_micros),
        "state": ran.state,
        "uptime": (until.0 - ran.from.0).max(0) / 1_000_000,
    })
}

fn number(ran: &Ran, key: &str) -> i64 {
    ran.flavor[key].as_i64().unwrap_or(0)
}

fn disk(ran: &Ran) -> i64 {
    number(ran, "root_gb") + number(ran, "ephemeral_gb")
}

/// The part of the span in which the server ran.
fn hours(ran: &Ran, span: Span) -> f64 {
    let from = ran.from.max(span.start);
    let to = ran.to.map_or(span.stop, |to| to.min(span.stop));
    (to.0 - from.0).max(0) as f64 / 3_600_000_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(from: i64, to: Option<i64>) -> Ran {
        let flavor = json!({"vcpus": 2, "memory_mb": 512, "root_gb": 1, "ephemeral_gb": 3, "name": "small"});
        let hour = |hours: i64| Time::from_seconds(hours * 3600);
        Ran {
            id: "s".into(),
            project_id: "p".into(),
            name: "web".into(),
            flavor,
            state: "active".into(),
            from: hour(from),
            to: to.map(hour),
        }
    }

    #[test]
    fn only_the_hours_within_the_span_count() {
        let span = Span { start: Time::from_seconds(10 * 3600), stop: Time::from_seconds(20 * 3600) };
        let counted = [(5, None, 10.0), (12, None, 8.0), (12, Some(15), 3.0), (5, Some(9), 0.0), (21, None, 0.0)];
        for (from, to, wanted) in counted {
            assert_eq!(hours(&ran(from, to), span), wanted, "{from} {to:?}");
        }
        let sums = sums(&[ran(12, Some(15)), ran(18, None)], span, false);
        assert_eq!(sums[0]["total_hours"], 5.0);
        assert_eq!(sums[0]["total_vcpus_usage"], 10.0);
        assert_eq!(sums[0]["total_local_gb_usage"], 20.0);
    }
}
