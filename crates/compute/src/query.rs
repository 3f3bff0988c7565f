//! Queries: what an operation does with the keys and values after the question mark.

use api::message::encode;
use api::{Answer, Call, Json, Refusal, Version, json, listing};

use crate::Compute;

/// Refuses keys that are not among `known`, from `since` on. Upstream: earlier versions overlook them.
pub fn strict(call: &Call<Compute>, since: Version, known: &[&str]) -> Answer<()> {
    if call.version < since {
        return Ok(());
    }
    let mut unknown: Vec<String> = Vec::new();
    for (key, _) in &call.query.0 {
        let shown = format!("'{key}'");
        if !known.contains(&key.as_str()) && !unknown.contains(&shown) {
            unknown.push(shown);
        }
    }
    match unknown.as_slice() {
        [] => Ok(()),
        [one] => Err(unexpected(&format!("{one} was"))),
        several => Err(unexpected(&format!("{} were", several.join(", ")))),
    }
}

fn unexpected(which: &str) -> Refusal {
    Refusal::bad_request(format!("Additional properties are not allowed ({which} unexpected)"))
}

/// A flag that must be one; absent means false.
pub fn flag(call: &Call<Compute>, key: &str) -> Answer<bool> {
    let Some(text) = call.query.get(key) else { return Ok(false) };
    listing::flag_value(text).ok_or_else(|| {
        Refusal::bad_request(format!(
            "Invalid input for query parameters {key}. Value: {text}. '{text}' is not a boolean"
        ))
    })
}

/// A whole number that is not negative; absent means none.
pub fn number(call: &Call<Compute>, key: &str) -> Answer<Option<usize>> {
    let Some(text) = call.query.get(key) else { return Ok(None) };
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse().ok().filter(|_| digits) {
        Some(number) => Ok(Some(number)),
        None => Err(Refusal::bad_request(format!(
            "Invalid input for query parameters {key}. Value: {text}. '{text}' does not match '^[0-9]*$'"
        ))),
    }
}

/// How many rows a page may have: what the client asks for, but never more than the usual page. Upstream: 0 asks for
/// nothing in particular.
pub fn limit(call: &Call<Compute>) -> Answer<usize> {
    let most = api::limits::PAGE as usize;
    Ok(number(call, "limit")?.filter(|limit| *limit > 0).unwrap_or(most).min(most))
}

/// The link to the page after `marker`: the request's own, with another marker.
pub fn next_page(call: &Call<Compute>, marker: &str) -> Json {
    let kept =
        call.query.0.iter().filter(|(key, _)| key != "marker").map(|(key, value)| (key.as_str(), value.as_str()));
    let pairs: Vec<String> =
        kept.chain([("marker", marker)]).map(|(key, value)| format!("{}={}", encode(key), encode(value))).collect();
    json!([{"rel": "next", "href": format!("{}?{}", call.reader.link(&call.reader.path), pairs.join("&"))}])
}
