//! `GET /images`: which images, in which order, which page.
//!
//! Any query parameter that is no column filters by a property of that name, so the query is read here and not by the
//! kit's listing.

use api::message::encode;
use api::{Answer, Call, Document, NoInput, Query, Refusal, View};
use base::{Json, Time, json};
use db::{Order, Page, Select, select};

use super::{Image, ImageFault, Visibility, store};
use crate::Images;

const SORT_KEYS: &[&str] =
    &["name", "status", "container_format", "disk_format", "size", "id", "created_at", "updated_at"];
/// Parameters that are no filters.
const CONTROLS: &[&str] = &["limit", "marker", "sort", "sort_key", "sort_dir", "member_status", "tag", "deleted"];
const TEXT_WITH_OPERATOR: &[&str] = &["name", "id", "status", "container_format", "disk_format"];
const TEXT: &[&str] = &["owner", "checksum", "os_hash_algo", "os_hash_value"];
const NUMBERS: &[&str] = &["size", "virtual_size", "min_disk", "min_ram"];
const TIMES: &[&str] = &["created_at", "updated_at"];
/// Limit: filters of one request.
const FILTERS_MAX: usize = 100;

pub async fn list(call: Call<Images>, _: NoInput) -> Answer<Document> {
    let allowed = call.allow()?;
    let page = page(&call.query, call.options.limit_param_default, call.options.api_limit_max)?;
    let member_status = call.query.get("member_status").unwrap_or("accepted");
    if !["pending", "accepted", "rejected", "all"].contains(&member_status) {
        return Err(Refusal::bad_request(format!("Invalid status: {member_status}")));
    }
    let rows = seen_by(&call, member_status);
    let rows = filtered(rows, &call.query)?;
    let rows = match call.query.get("visibility") {
        Some("all") => rows,
        Some(word) => rows.and("visibility = ?").bind(known_visibility(word)?),
        // Community images are found by those who ask for them, and by their owner.
        None => rows.and("owner = ? OR visibility <> ?").bind(call.caller.project()).bind(Visibility::Community),
    };
    let images = match call.db.page(rows, &page).await {
        Err(db::Error::MarkerNotFound) => {
            let id = page.marker.clone().unwrap_or_default();
            return Err(Refusal::bad_request(Refusal::from(ImageFault::NotFound { id }).message));
        }
        images => images?,
    };
    let full = page.limit.is_some_and(|limit| limit > 0 && images.len() == limit as usize);
    let last = images.last().filter(|_| full).map(|image| image.id.clone());

    let images = store::complete(&call.db, &call.options.store, images, call.caller.project()).await?;
    let shown = images.iter().filter(|image| call.may("get_image", *image));
    let shown: Vec<Json> = shown.map(|image| image.view(&call.reader)).collect();
    Ok(Document::new(allowed, body(&call.query, shown, last)))
}

fn body(query: &Query, images: Vec<Json>, last: Option<String>) -> Json {
    let mut body = json!({
        "images": images,
        "first": page_link("/v2/images", query, None),
        "schema": "/v2/schemas/images",
    });
    if let Some(last) = last {
        body["next"] = json!(page_link("/v2/images", query, Some(&last)));
    }
    body
}

/// The request's own path and query, at another marker.
pub fn page_link(path: &str, query: &Query, marker: Option<&str>) -> String {
    let kept = query.0.iter().filter(|(name, _)| name != "marker");
    let mut pairs: Vec<String> = kept.map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
    pairs.extend(marker.map(|marker| format!("marker={}", encode(marker))));
    if pairs.is_empty() { path.to_string() } else { format!("{path}?{}", pairs.join("&")) }
}

/// What the caller may find at all.
fn seen_by(call: &Call<Images>, member_status: &str) -> Select<Image> {
    let rows = select::<Image>("");
    if super::is_admin(call) {
        return rows;
    }
    let project = call.caller.project();
    let mine = "visibility = ? OR visibility = ? OR owner = ? OR (visibility = ? AND EXISTS (\
                SELECT 1 FROM image_members WHERE image_members.image_id = images.id AND image_members.member = ?";
    let everybody = |condition: String| {
        let rows = select::<Image>("").and(condition).bind(Visibility::Public).bind(Visibility::Community);
        rows.bind(project).bind(Visibility::Shared).bind(project)
    };
    match member_status {
        "all" => everybody(format!("{mine}))")),
        status => everybody(format!("{mine} AND image_members.status = ?))")).bind(status),
    }
}

fn filtered(mut rows: Select<Image>, query: &Query) -> Answer<Select<Image>> {
    if query.has("changes-since") {
        return Err(Refusal::bad_request("The \"changes-since\" filter is no longer available on v2."));
    }
    if query.0.len() > FILTERS_MAX {
        return Err(Refusal::bad_request("The query has too many filters."));
    }
    for tag in query.all("tag") {
        rows = rows
            .and("EXISTS (SELECT 1 FROM image_tags WHERE image_tags.image_id = images.id AND image_tags.value = ?)")
            .bind(tag.trim());
    }
    let hidden =
        strict_flag(query.get("os_hidden").map(str::to_ascii_lowercase).as_deref().unwrap_or("false"), "os_hidden")?;
    rows = rows.and("os_hidden = ?").bind(hidden);
    let mut done: Vec<&str> = vec!["visibility", "os_hidden"];
    for (name, _) in &query.0 {
        if CONTROLS.contains(&name.as_str()) || done.contains(&name.as_str()) {
            continue;
        }
        done.push(name);
        rows = filter(rows, name, query.get(name).unwrap_or_default())?;
    }
    Ok(rows)
}

fn filter(rows: Select<Image>, name: &str, text: &str) -> Answer<Select<Image>> {
    if let Some(column) = one_of(TEXT_WITH_OPERATOR, name) {
        return match operator(text) {
            ("eq", value) => Ok(rows.and(format!("{column} = ?")).bind(value)),
            ("in", values) => Ok(rows.in_list(column, split_quoted(values)?)),
            (other, _) => Err(Refusal::bad_request(format!("Unable to filter by unknown operator '{other}'."))),
        };
    }
    if let Some(column) = one_of(TIMES, name) {
        return time_filter(rows, column, text);
    }
    if let Some(column) = one_of(TEXT, name) {
        return Ok(rows.and(format!("{column} = ?")).bind(text));
    }
    if let Some(column) = one_of(NUMBERS, name) {
        // A number that is none is the number of no image.
        return Ok(rows.and(format!("{column} = ?")).bind(text.trim().parse::<i64>().unwrap_or(-1)));
    }
    for (suffix, compare) in [("_min", ">="), ("_max", "<=")] {
        if let Some(column) = name.strip_suffix(suffix).and_then(|name| one_of(NUMBERS, name)) {
            let bound: i64 = text
                .trim()
                .parse()
                .map_err(|_| Refusal::bad_request("Unable to filter on a range with a non-numeric value."))?;
            return Ok(rows.and(format!("{column} {compare} ?")).bind(bound));
        }
    }
    if name == "protected" {
        return Ok(rows.and("protected = ?").bind(strict_flag(text, "protected")?));
    }
    let property = "EXISTS (SELECT 1 FROM image_properties WHERE image_properties.image_id = images.id \
                    AND image_properties.name = ? AND image_properties.value = ?)";
    Ok(rows.and(property).bind(name).bind(text))
}

fn time_filter(rows: Select<Image>, column: &str, text: &str) -> Answer<Select<Image>> {
    // Invariant: shown times have no fraction, so a time stands for its whole second.
    let (word, time) = operator(text);
    let Some(time) = Time::parse(time) else {
        let words = format!("Bad \"{column}\" query filter format. Use ISO 8601 DateTime notation.");
        return Err(Refusal::bad_request(words));
    };
    let (this, next) = (Time::from_seconds(time.seconds()), Time::from_seconds(time.seconds() + 1));
    Ok(match word {
        "gt" => rows.and(format!("{column} >= ?")).bind(next),
        "gte" => rows.and(format!("{column} >= ?")).bind(this),
        "lt" => rows.and(format!("{column} < ?")).bind(this),
        "lte" => rows.and(format!("{column} < ?")).bind(next),
        "eq" => rows.and(format!("{column} >= ? AND {column} < ?")).bind(this).bind(next),
        "neq" => rows.and(format!("{column} < ? OR {column} >= ?")).bind(this).bind(next),
        _ => return Err(Refusal::bad_request("Unable to filter on a unknown operator.")),
    })
}

/// The word before the colon; none means equality, and so does a time, which has colons of its own.
fn operator(text: &str) -> (&str, &str) {
    match text.split_once(':') {
        Some((word, rest)) if Time::parse(text).is_none() => (word, rest),
        _ => ("eq", text),
    }
}

/// `a,"b,c",d` as three values.
fn split_quoted(text: &str) -> Answer<Vec<String>> {
    let bad = |why: &str| Refusal::bad_request(format!("Invalid filter value {text}. {why}"));
    let mut values = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let Some(quoted) = rest.strip_prefix('"') else {
            let end = rest.find(',').unwrap_or(rest.len());
            if rest[..end].replace("\\\"", "").contains('"') {
                return Err(bad("There is no comma before opening quotation mark."));
            }
            values.push(rest[..end].to_string());
            rest = rest[end..].strip_prefix(',').unwrap_or_default();
            continue;
        };
        let end = closing_quote(quoted).ok_or_else(|| bad("The quote is not closed."))?;
        values.push(quoted[..end].to_string());
        rest = &quoted[end + 1..];
        if !rest.is_empty() {
            rest = rest.strip_prefix(',').ok_or_else(|| bad("There is no comma after closing quotation mark."))?;
        }
    }
    values.truncate(db::MAX_LIST);
    Ok(values)
}

fn closing_quote(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    (0..bytes.len()).find(|at| bytes[*at] == b'"' && (*at == 0 || bytes[*at - 1] != b'\\'))
}

fn strict_flag(text: &str, name: &str) -> Answer<bool> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        other => Err(Refusal::bad_request(format!(
            "Invalid value '{other}' for '{name}' filter. Valid values are 'true' or 'false'."
        ))),
    }
}

fn known_visibility(word: &str) -> Answer<Visibility> {
    Visibility::named(word).ok_or_else(|| Refusal::bad_request(format!("Invalid visibility value: {word}")))
}

/// The name as our table has it, so that no text of a client gets into SQL.
fn one_of(names: &[&'static str], name: &str) -> Option<&'static str> {
    names.iter().copied().find(|known| *known == name)
}

fn page(query: &Query, default: u32, most: u32) -> Answer<Page> {
    let limit = match query.get("limit") {
        None => default,
        Some(text) => {
            let number: i64 =
                text.trim().parse().map_err(|_| Refusal::bad_request("limit param must be an integer"))?;
            u32::try_from(number.min(i64::from(most)))
                .map_err(|_| Refusal::bad_request("limit param must be positive"))?
        }
    };
    Ok(Page {
        limit: Some(limit.min(most)),
        marker: query.get("marker").map(String::from),
        marker_column: "id",
        sort: sort(query)?,
        ..Page::default()
    })
}

/// `sort=name:asc,size`, or as many `sort_dir` as `sort_key`, or one for all of them.
fn sort(query: &Query) -> Answer<Vec<(String, Order)>> {
    let (mut keys, mut dirs) = (Vec::new(), Vec::new());
    if let Some(text) = query.get("sort") {
        if query.has("sort_key") || query.has("sort_dir") {
            return Err(Refusal::bad_request("Old and new sorting syntax cannot be combined"));
        }
        for part in text.trim().split(',') {
            let (key, dir) = part.split_once(':').unwrap_or((part, ""));
            keys.push(sort_key(key.trim())?);
            dirs.push(sort_dir(if dir.is_empty() { "desc" } else { dir.trim() })?);
        }
    } else {
        keys = query.all("sort_key").map(|key| sort_key(key.trim())).collect::<Answer<_>>()?;
        dirs = query.all("sort_dir").map(|dir| sort_dir(dir.trim())).collect::<Answer<_>>()?;
        // Upstream counts the keys that were named: two directions and no key do not match either.
        if dirs.len() > 1 && dirs.len() != keys.len() {
            return Err(Refusal::bad_request("Number of sort dirs does not match the number of sort keys"));
        }
    }
    if keys.is_empty() {
        keys.push("created_at");
    }
    let rest = if dirs.len() == 1 { dirs[0] } else { Order::Desc };
    let mut sort: Vec<(String, Order)> = Vec::new();
    for (place, key) in keys.iter().enumerate() {
        sort.push((key.to_string(), dirs.get(place).copied().unwrap_or(rest)));
    }
    for key in ["created_at", "id"] {
        if !keys.contains(&key) {
            sort.push((key.to_string(), rest));
        }
    }
    Ok(sort)
}

fn sort_key(key: &str) -> Answer<&'static str> {
    one_of(SORT_KEYS, key).ok_or_else(|| {
        let known = SORT_KEYS.join(", ");
        Refusal::bad_request(format!("Invalid sort key: {key}. It must be one of the following: {known}."))
    })
}

fn sort_dir(dir: &str) -> Answer<Order> {
    match dir {
        "asc" => Ok(Order::Asc),
        "desc" => Ok(Order::Desc),
        other => Err(Refusal::bad_request(format!("Invalid sort direction: {other}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_may_be_quoted() {
        assert_eq!(split_quoted("a,\"b,c\",d").unwrap(), ["a", "b,c", "d"]);
        assert_eq!(split_quoted("a").unwrap(), ["a"]);
        let refused = |text: &str| split_quoted(text).unwrap_err().message;
        assert!(refused("\"a").ends_with("The quote is not closed."));
        assert!(refused("\"a\"b").ends_with("There is no comma after closing quotation mark."));
        assert!(refused("a\"b\"").ends_with("There is no comma before opening quotation mark."));
    }

    #[test]
    fn an_operator_is_told_from_a_time() {
        assert_eq!(operator("gt:2026-01-01T00:00:00Z"), ("gt", "2026-01-01T00:00:00Z"));
        assert_eq!(operator("2026-01-01T00:00:00Z"), ("eq", "2026-01-01T00:00:00Z"));
        assert_eq!(operator("plain"), ("eq", "plain"));
    }

    #[test]
    fn keys_and_directions_pair_up() {
        let sorted = |text: &str| sort(&Query::parse(text));
        let names = |text: &str| {
            sorted(text).unwrap().into_iter().map(|(key, order)| format!("{key} {order:?}")).collect::<Vec<_>>()
        };
        assert_eq!(names(""), ["created_at Desc", "id Desc"]);
        assert_eq!(names("sort=name:asc,size"), ["name Asc", "size Desc", "created_at Desc", "id Desc"]);
        assert_eq!(names("sort_key=name&sort_dir=asc"), ["name Asc", "created_at Asc", "id Asc"]);
        assert_eq!(names("sort_key=name&sort_key=size&sort_dir=asc&sort_dir=desc")[..2], ["name Asc", "size Desc"]);
        assert!(sorted("sort=name&sort_key=size").is_err());
        assert!(sorted("sort_key=name&sort_dir=asc&sort_dir=desc").is_err());
        assert!(sorted("sort_key=zz").unwrap_err().message.starts_with("Invalid sort key: zz."));
    }
}
