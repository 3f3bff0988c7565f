//! Queries: filters on any attribute, fields, order and pages, with upstream's links.

use api::{Answer, Call, Caller, JsonMap, Refusal};
use base::{Json, Time, json};
use db::{Order, Page, Record, Select};

use super::attribute::{Condition, Filter, Kind};
use super::body::present;
use super::rule;
use crate::Network;
use crate::fault::{bad, plain};

/// Names in a query that are no filters.
const WORDS: [&str; 7] = ["fields", "sort_key", "sort_dir", "limit", "marker", "page_reverse", "changed_since"];
const TAG_FILTERS: [&str; 4] = ["tags", "tags-any", "not-tags", "not-tags-any"];

/// What a request's query asks for.
pub struct Asked {
    pub fields: Vec<String>,
    pub page: Page,
    pub conditions: Vec<Condition>,
}

pub fn read(call: &Call<Network>, kind: &Kind) -> Answer<Asked> {
    if let Some((name, _)) = call.query.0.iter().find(|(_, value)| value.contains('\0')) {
        return Err(plain(format!("Invalid input for {name}. Reason: it is not a valid string.")));
    }
    let on = |extension: &str| call.settings.has_extension(extension);
    let conditions = filters(call, kind, &on)?;
    let reverse = call.query.get("page_reverse").is_some_and(|text| text.eq_ignore_ascii_case("true"));
    let limit = limit(call)?;
    let page = Page {
        limit,
        marker: call.query.get("marker").filter(|marker| !marker.is_empty() && limit.is_some()).map(String::from),
        sort: sorts(call, kind)?,
        reverse,
        ..Page::default()
    };
    Ok(Asked { fields: fields(call), page, conditions })
}

pub fn fields(call: &Call<Network>) -> Vec<String> {
    call.query.all("fields").filter(|field| !field.is_empty()).map(String::from).collect()
}

/// Adds the filters to a select of the kind's rows.
pub fn narrow<T: Record>(mut select: Select<T>, conditions: Vec<Condition>) -> Select<T> {
    for condition in conditions {
        select = select.and(condition.text).bind_all(condition.values);
    }
    select
}

fn filters(call: &Call<Network>, kind: &Kind, on: &dyn Fn(&str) -> bool) -> Answer<Vec<Condition>> {
    let mut conditions = Vec::new();
    let mut invalid = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    for (name, _) in &call.query.0 {
        if WORDS.contains(&name.as_str()) || seen.contains(&name.as_str()) {
            continue;
        }
        seen.push(name);
        let values: Vec<&str> = call.query.all(name).collect();
        let attribute = present(kind, on).find(|attribute| attribute.name == name);
        let tagged = kind.attribute("tags").is_some() && TAG_FILTERS.contains(&name.as_str());
        match attribute.map(|attribute| attribute.filter) {
            _ if tagged => conditions.push(tags(name, &values)),
            None | Some(Filter::None) => invalid.push(format!("'{name}'")),
            Some(filter) => conditions.push(condition(name, filter, &values, &call.caller)?),
        }
    }
    if !invalid.is_empty() {
        return Err(plain(format!("[{}] is invalid attribute for filtering", invalid.join(", "))));
    }
    if let Some(since) = call.query.get("changed_since") {
        let since = Time::parse(since).ok_or_else(|| {
            let text = format!("Invalid input for operation: The input of changed_since must be in the following format: YYYY-MM-DDTHH:MM:SS; {since}.");
            Refusal::new(400, "InvalidInput", text)
        })?;
        conditions.push(Condition { text: "updated_at >= ?".into(), values: vec![db::Value::Int(since.0)] });
    }
    Ok(conditions)
}

fn condition(name: &str, filter: Filter, values: &[&str], caller: &Caller) -> Answer<Condition> {
    let wrong = |reason: String| plain(format!("Invalid input for {name}. Reason: {reason}."));
    Ok(match filter {
        Filter::None => Condition::plain("1 = 1"),
        Filter::Text(column) => Condition::any_of(&format!("{column} IN (?)"), values),
        Filter::By(make) => make(values, caller),
        Filter::Number(column) => {
            let numbers: Vec<String> =
                values.iter().filter_map(|text| text.parse::<i64>().ok()).map(|n| n.to_string()).collect();
            match numbers.is_empty() {
                true => Condition::plain("1 = 0"),
                // Digits only, so they may stand in the text.
                false => Condition::plain(format!("{column} IN ({})", numbers.join(","))),
            }
        }
        Filter::Flag(column) => {
            let flags =
                values.iter().map(|text| rule::flag(&json!(text))).collect::<Result<Vec<_>, _>>().map_err(wrong)?;
            let flags: Vec<&str> = flags.iter().map(|flag| if *flag == json!(true) { "1" } else { "0" }).collect();
            Condition::plain(format!("{column} IN ({})", flags.join(",")))
        }
    })
}

/// `tags` means all of them, `tags-any` one of them; the `not-` forms the opposite.
fn tags(name: &str, values: &[&str]) -> Condition {
    let wanted: Vec<&str> = values.iter().flat_map(|value| value.split(',')).collect();
    let any = Condition::any_of("id IN (SELECT resource_id FROM tags WHERE tag IN (?))", &wanted);
    let all = || {
        let each = vec!["id IN (SELECT resource_id FROM tags WHERE tag = ?)"; wanted.len()];
        Condition { text: each.join(" AND "), values: any.values.clone() }
    };
    match name {
        "tags" => all(),
        "tags-any" => any,
        "not-tags" => all().negated(),
        _ => any.negated(),
    }
}

fn limit(call: &Call<Network>) -> Answer<Option<u32>> {
    let Some(text) = call.query.get("limit") else {
        return Ok(None);
    };
    match text.trim().parse::<i64>() {
        Ok(0) => Ok(None),
        Ok(number @ 1..) => Ok(Some(u32::try_from(number).unwrap_or(u32::MAX))),
        _ => {
            let text = format!("Limit must be an integer 0 or greater and not '{text}'");
            Err(bad("limit", text).into())
        }
    }
}

fn sorts(call: &Call<Network>, kind: &Kind) -> Answer<Vec<(String, Order)>> {
    let keys: Vec<&str> = call.query.all("sort_key").filter(|key| !key.is_empty()).collect();
    let dirs: Vec<&str> = call.query.all("sort_dir").filter(|dir| !dir.is_empty()).collect();
    if keys.len() != dirs.len() {
        return Err(plain("The number of sort_keys and sort_dirs must be same"));
    }
    let listed =
        |names: &[&str]| format!("[{}]", names.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", "));
    let column = |key: &str| kind.attribute(key).and_then(|attribute| attribute.sort);
    let absent: Vec<&str> = keys.iter().copied().filter(|key| column(key).is_none()).collect();
    if !absent.is_empty() {
        return Err(plain(format!("{} is invalid attribute for sort_keys", listed(&absent))));
    }
    let wrong: Vec<&str> = dirs.iter().copied().filter(|dir| !["asc", "desc"].contains(dir)).collect();
    if !wrong.is_empty() {
        let text = format!("{} is invalid value for sort_dirs, valid value is 'asc' and 'desc'", listed(&wrong));
        return Err(plain(text));
    }
    let sort = keys.iter().zip(dirs).filter_map(|(key, dir)| {
        let order = if dir == "asc" { Order::Asc } else { Order::Desc };
        Some((column(key)?.to_string(), order))
    });
    Ok(sort.collect())
}

/// Adds the links to the pages before and after. Upstream: the first page has a link to one before it, too.
pub fn links(
    call: &Call<Network>,
    kind: &Kind,
    page: &Page,
    first_last: Option<(&str, &str)>,
    full: bool,
    body: &mut JsonMap,
) {
    if page.limit.is_none() {
        return;
    }
    let mut links = Vec::new();
    let link = |marker: Option<&str>, reverse: bool| {
        let kept = call.query.0.iter().filter(|(name, _)| name != "marker" && name != "page_reverse");
        let mut pairs: Vec<(&str, &str)> = kept.map(|(name, value)| (name.as_str(), value.as_str())).collect();
        pairs.extend(marker.map(|marker| ("marker", marker)));
        if reverse {
            pairs.push(("page_reverse", "True"));
        }
        let text: Vec<String> = pairs
            .iter()
            .map(|(name, value)| format!("{}={}", api::message::encode(name), api::message::encode(value)))
            .collect();
        format!("{}?{}", call.reader.link(&call.reader.path), text.join("&"))
    };
    if full || page.reverse {
        links.push(json!({"rel": "next", "href": link(first_last.map(|(_, last)| last), false)}));
    }
    if full || !page.reverse {
        links.push(json!({"rel": "previous", "href": link(first_last.map(|(first, _)| first), true)}));
    }
    body.insert(format!("{}_links", kind.many), Json::Array(links));
}
