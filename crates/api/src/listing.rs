//! Paging, sorting and filtering: what a listing allows, and what a request's query asks for.

use base::Json;
use db::{Filter, Order, Page, Test, Value};

use crate::fault::{Answer, Envelope, Refusal};
use crate::limits;
use crate::message::Query;
use crate::wire::rule::python;

/// What a client may sort and filter a collection by. Names are those of the API; `"wire=column"` where they differ.
#[derive(Debug, Clone, Copy)]
pub struct Listing {
    pub sort: &'static [&'static str],
    pub filter: &'static [Filterable],
    /// The key of an item that is its marker, and its column: `"id"`, or `"name=name"`.
    pub marker: &'static str,
    /// The order where the client names none, and the tail of every order.
    pub order: &'static [(&'static str, Order)],
}

impl Listing {
    /// Sorted by `id`, filtered by nothing.
    pub const PLAIN: Listing = Listing { sort: &["id"], filter: &[], marker: "id", order: &[] };

    pub fn marker_key(&self) -> &'static str {
        split(self.marker).0
    }
}

/// One filter of a listing.
#[derive(Debug, Clone, Copy)]
pub struct Filterable {
    pub name: &'static str,
    column: &'static str,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Flag,
    Integer,
}

/// A filter on text; `name` may be `"wire=column"`.
pub const fn text(name: &'static str) -> Filterable {
    Filterable { name, column: "", kind: Kind::Text }
}

/// A filter on a flag, in any of the spellings that upstream takes.
pub const fn flag(name: &'static str) -> Filterable {
    Filterable { name, column: "", kind: Kind::Flag }
}

pub const fn integer(name: &'static str) -> Filterable {
    Filterable { name, column: "", kind: Kind::Integer }
}

impl Filterable {
    /// The column that the filter looks at, when it has another name.
    pub const fn on(mut self, column: &'static str) -> Filterable {
        self.column = column;
        self
    }

    fn column(&self) -> &'static str {
        if self.column.is_empty() { self.name } else { self.column }
    }

    fn value(&self, text: &str) -> Option<Value> {
        match self.kind {
            Kind::Text => Some(Value::Text(text.to_string())),
            Kind::Integer => text.parse().ok().map(Value::Int),
            Kind::Flag => flag_value(text).map(|on| Value::Int(on.into())),
        }
    }
}

/// Reads a flag as upstream's `strutils` does; `None` when it is neither.
pub fn flag_value(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "1" | "true" | "t" | "yes" | "y" | "on" => Some(true),
        "0" | "false" | "f" | "no" | "n" | "off" => Some(false),
        _ => None,
    }
}

/// Reads `limit`, `marker`, the sort keys and the filters of a request in the manner of its service.
pub fn page(listing: &Listing, query: &Query, envelope: Envelope) -> Answer<Page> {
    let limit = limit(query, envelope)?;
    let mut sort = sorts(listing, query, envelope)?;
    for (column, order) in listing.order {
        if !sort.iter().any(|(sorted, _)| sorted == column) {
            sort.push((column.to_string(), *order));
        }
    }
    let reverse = query.get("page_reverse").and_then(flag_value).unwrap_or(false);
    let marker = query.get("marker").filter(|marker| !marker.is_empty()).map(String::from);
    let filters = filters(listing, query, envelope)?;
    Ok(Page { limit, marker, marker_column: split(listing.marker).1, sort, filters, reverse })
}

fn limit(query: &Query, envelope: Envelope) -> Answer<Option<u32>> {
    let Some(text) = query.get("limit") else {
        return Ok(match envelope {
            Envelope::Network | Envelope::Identity | Envelope::Placement => None,
            Envelope::Image => Some(25),
            Envelope::Compute => Some(limits::PAGE),
        });
    };
    let number: i64 = text.trim().parse().map_err(|_| bad_limit(envelope, text, "an integer"))?;
    match (number, envelope) {
        (..0, _) => Err(bad_limit(envelope, text, "positive")),
        (0, Envelope::Network) => Ok(None),
        (0, Envelope::Compute) => Ok(Some(limits::PAGE)),
        (number, _) => Ok(Some(u32::try_from(number).unwrap_or(u32::MAX).min(limits::PAGE))),
    }
}

fn bad_limit(envelope: Envelope, text: &str, wanted: &str) -> Refusal {
    match envelope {
        Envelope::Network => {
            let text = format!("Bad limit request: Limit must be an integer 0 or greater and not '{text}'.");
            Refusal::new(400, "BadRequest", text)
        }
        Envelope::Compute => {
            let words = format!("{} does not match '^[0-9]*$'", python(&Json::from(text)));
            Refusal::bad_request(format!("Invalid input for query parameters limit. Value: {text}. {words}"))
        }
        _ => Refusal::bad_request(format!("limit param must be {wanted}")),
    }
}

/// `sort_key`/`sort_dir` pairs, or `sort=key:dir,key`.
fn sorts(listing: &Listing, query: &Query, envelope: Envelope) -> Answer<Vec<(String, Order)>> {
    let mut asked: Vec<(String, String)> = Vec::new();
    for part in query.all("sort").flat_map(|text| text.split(',')).filter(|part| !part.trim().is_empty()) {
        let (key, dir) = part.split_once(':').unwrap_or((part, ""));
        asked.push((key.trim().to_string(), dir.trim().to_string()));
    }
    let dirs: Vec<&str> = query.all("sort_dir").flat_map(|text| text.split(',')).collect();
    for (index, key) in query.all("sort_key").flat_map(|text| text.split(',')).enumerate() {
        let dir = dirs.get(index).or(dirs.first()).copied().unwrap_or_default();
        asked.push((key.trim().to_string(), dir.trim().to_string()));
    }
    if let ([], [dir, ..]) = (asked.as_slice(), dirs.as_slice()) {
        let default = listing.order.first().map_or("created_at", |(key, _)| key);
        asked.push((default.to_string(), dir.to_string()));
    }

    let mut sort = Vec::new();
    for (key, dir) in asked {
        let allowed = listing.sort.iter().map(|entry| split(entry)).find(|(name, _)| *name == key);
        let Some((_, column)) = allowed else {
            return Err(bad_sort(envelope, &key));
        };
        sort.push((column.to_string(), order(&dir, listing, envelope)?));
    }
    Ok(sort)
}

/// A key without a direction goes in that of the listing's own order.
fn order(dir: &str, listing: &Listing, envelope: Envelope) -> Answer<Order> {
    match (dir, envelope, listing.order.first()) {
        ("asc", ..) => Ok(Order::Asc),
        ("desc", ..) => Ok(Order::Desc),
        ("", _, Some((_, own))) => Ok(*own),
        ("", Envelope::Network | Envelope::Identity | Envelope::Placement, None) => Ok(Order::Asc),
        ("", _, None) => Ok(Order::Desc),
        (other, ..) => Err(Refusal::bad_request(format!("Invalid sort direction: {other}"))),
    }
}

fn bad_sort(envelope: Envelope, key: &str) -> Refusal {
    match envelope {
        Envelope::Network => Refusal::bad_request(format!("['{key}'] is invalid attribute for sort_keys")),
        _ => Refusal::bad_request(format!("Sort key supplied is invalid: {key}")),
    }
}

fn filters(listing: &Listing, query: &Query, envelope: Envelope) -> Answer<Vec<Filter>> {
    let mut filters = Vec::new();
    for filterable in listing.filter {
        let column = filterable.column().to_string();
        let mut texts: Vec<&str> = query.all(filterable.name).collect();
        // Only network means «any of these» by a repeated filter; upstream's others take the last, identity the first.
        match envelope {
            Envelope::Network => {}
            Envelope::Identity => texts.truncate(1),
            _ => texts.drain(..texts.len().saturating_sub(1)).for_each(drop),
        }
        if !texts.is_empty() {
            let values: Option<Vec<Value>> = texts.iter().map(|text| filterable.value(text)).collect();
            let values = values.ok_or_else(|| {
                Refusal::bad_request(format!("Invalid value '{}' for the filter {}.", texts.join(","), filterable.name))
            })?;
            filters.push(Filter { column: column.clone(), test: Test::Equal(values) });
        }
        if envelope == Envelope::Identity && filterable.kind == Kind::Text {
            inexact(filterable.name, &column, query, &mut filters);
        }
    }
    Ok(filters)
}

/// Identity's `name__contains=` and its kin; the `i` forms ignore case.
fn inexact(name: &str, column: &str, query: &Query, filters: &mut Vec<Filter>) {
    for (key, value) in &query.0 {
        let Some(comparator) = key.strip_prefix(name).and_then(|rest| rest.strip_prefix("__")) else {
            continue;
        };
        let value = value.clone();
        let test = match comparator {
            "contains" | "icontains" => Test::Contains(value),
            "startswith" | "istartswith" => Test::StartsWith(value),
            "endswith" | "iendswith" => Test::EndsWith(value),
            _ => continue,
        };
        filters.push(Filter { column: column.to_string(), test });
    }
}

fn split(entry: &'static str) -> (&'static str, &'static str) {
    entry.split_once('=').unwrap_or((entry, entry))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVERS: Listing = Listing {
        sort: &["name", "memory=memory_mb"],
        filter: &[text("name"), flag("enabled")],
        order: &[("created_at", Order::Desc), ("id", Order::Desc)],
        ..Listing::PLAIN
    };

    #[test]
    fn a_query_becomes_a_page() {
        let query = Query::parse("limit=5&marker=m&sort_key=memory&sort_dir=asc&name=a&name=b&enabled=True");
        let read = page(&SERVERS, &query, Envelope::Network).unwrap();
        assert_eq!(read.limit, Some(5));
        assert_eq!(read.marker.as_deref(), Some("m"));
        assert_eq!(read.sort[0], ("memory_mb".to_string(), Order::Asc));
        assert_eq!(read.sort.len(), 3);
        assert_eq!(read.filters.len(), 2);
        let both = Test::Equal(vec![Value::Text("a".into()), Value::Text("b".into())]);
        assert_eq!(read.filters[0].test, both);
    }

    #[test]
    fn what_is_not_allowed_is_refused() {
        let refused = |text: &str| page(&SERVERS, &Query::parse(text), Envelope::Compute).unwrap_err().message;
        let words = "Invalid input for query parameters limit. Value: -1. '-1' does not match '^[0-9]*$'";
        assert_eq!(refused("limit=-1"), words);
        assert_eq!(refused("sort_key=password"), "Sort key supplied is invalid: password");
        assert_eq!(refused("sort_key=name&sort_dir=up"), "Invalid sort direction: up");
        assert!(refused("enabled=perhaps").contains("perhaps"));
    }
}
