//! What the query of a listing says about servers.

use api::{Answer, Call, Refusal, json, listing, v};
use base::Time;
use db::{Filter, Select, Test, Value, select};
use regex_lite::Regex;

use crate::Compute;
use crate::servers::state;
use crate::servers::store::Server;

/// The servers that may be seen, under conditions that are not plain columns. `None`: nothing can match.
pub(super) fn narrowed(call: &Call<Compute>, everybody: bool, admin: bool) -> Answer<Option<Select<Server>>> {
    let mut rows = select::<Server>("");
    if !everybody {
        rows = rows.and("project_id = ?").bind(call.caller.project());
    } else if let Some(project) = call.query.get("project_id").or(call.query.get("tenant_id")) {
        rows = rows.and("project_id = ?").bind(project);
    }
    rows = tagged(call, rows);
    if let Some(since) = time(call, "changes-since")? {
        rows = rows.and("updated_at >= ?").bind(since);
    }
    if let Some(before) = time(call, "changes-before")?.filter(|_| call.version >= v(2, 66)) {
        rows = rows.and("updated_at <= ?").bind(before);
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
pub(super) fn columns(call: &Call<Compute>, admin: bool) -> Vec<Filter> {
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
    for (column, pattern) in patterns(call, admin) {
        // What the database can test well enough, it does.
        if is_simple(pattern) {
            filters.push(Filter { column: column.into(), test: like(pattern) });
        }
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

/// Columns that are searched by a regular expression, as upstream's are.
fn patterns(call: &Call<Compute>, admin: bool) -> Vec<(&'static str, &str)> {
    let described = admin || call.version >= v(2, 83);
    let mut patterns = Vec::new();
    for (name, column) in [
        ("name", "name"),
        ("display_name", "name"),
        ("hostname", "hostname"),
        ("description", "description"),
        ("display_description", "description"),
    ] {
        let Some(pattern) = call.query.get(name) else { continue };
        if column != "description" || described {
            patterns.push((column, pattern));
        }
    }
    patterns
}

/// Whether a pattern is text, perhaps with anchors.
fn is_simple(pattern: &str) -> bool {
    !core(pattern).contains(['.', '[', ']', '*', '+', '?', '(', ')', '{', '}', '|', '\\', '^', '$'])
}

/// The pattern without its anchors.
fn core(pattern: &str) -> &str {
    let pattern = pattern.strip_prefix('^').unwrap_or(pattern);
    pattern.strip_suffix('$').unwrap_or(pattern)
}

fn like(pattern: &str) -> Test {
    let plain = core(pattern).to_string();
    match (pattern.starts_with('^'), pattern.ends_with('$')) {
        (true, true) => Test::Equal(vec![Value::Text(plain)]),
        (true, false) => Test::StartsWith(plain),
        (false, true) => Test::EndsWith(plain),
        (false, false) => Test::Contains(plain),
    }
}

/// A question about a row that the database cannot answer.
pub(super) type Wanted = Box<dyn Fn(&Server) -> bool + Send + Sync>;

pub(super) fn tests(call: &Call<Compute>, admin: bool) -> Vec<Wanted> {
    let mut tests: Vec<Wanted> = Vec::new();
    for (column, pattern) in patterns(call, admin).into_iter().filter(|(_, pattern)| !is_simple(pattern)) {
        let pattern = Pattern::new(pattern);
        tests.push(Box::new(move |server| match column {
            "name" => pattern.is_in(&server.name),
            "hostname" => pattern.is_in(&server.hostname),
            _ => pattern.is_in(server.description.as_deref().unwrap_or_default()),
        }));
    }
    for (name, family, allowed) in [("ip", 4, true), ("ip6", 6, admin || call.version >= v(2, 5))] {
        if let Some(pattern) = call.query.get(name).filter(|_| allowed) {
            let pattern = Pattern::new(pattern);
            tests.push(Box::new(move |server| addresses(server, family).any(|address| pattern.is_in(address))));
        }
    }
    tests
}

/// A regular expression; text that is none stands for itself.
enum Pattern {
    Regex(Regex),
    Text(String),
}

impl Pattern {
    fn new(pattern: &str) -> Pattern {
        Regex::new(pattern).map_or_else(|_| Pattern::Text(pattern.to_string()), Pattern::Regex)
    }

    fn is_in(&self, text: &str) -> bool {
        match self {
            Pattern::Regex(regex) => regex.is_match(text),
            Pattern::Text(plain) => text.contains(plain),
        }
    }
}

fn addresses(server: &Server, family: i64) -> impl Iterator<Item = &str> {
    let ports = server.network_info.as_array().into_iter().flatten();
    let addresses = ports.flat_map(|port| port["addresses"].as_array().into_iter().flatten());
    addresses.filter(move |address| address["version"] == family).filter_map(|address| address["addr"].as_str())
}

pub(super) fn time(call: &Call<Compute>, name: &str) -> Answer<Option<Time>> {
    let Some(text) = call.query.get(name) else { return Ok(None) };
    let time = Time::parse(text).ok_or_else(|| Refusal::bad_request(format!("Invalid {name} value")))?;
    Ok(Some(time))
}

#[cfg(test)]
mod checks {
    use super::*;

    #[test]
    fn simple_patterns_are_left_to_the_database() {
        assert!(is_simple("web-1") && is_simple("^web$"));
        assert!(!is_simple("^.*\\-instance\\-[0-9]+$") && !is_simple("a|b"));
        assert!(Pattern::new("^.*\\-instance\\-[0-9]+$").is_in("x-instance-12"));
        assert!(Pattern::new("[").is_in("a[b"));
    }
}
