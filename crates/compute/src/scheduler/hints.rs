//! Scheduler hints: what clients say about the host that they want.

use std::net::Ipv4Addr;

use api::{Answer, Json, Refusal, json};

/// Keys that only we write: an administrator's choice of a host. Nobody may smuggle them in.
pub const FORCED_HOST: &str = "forced_host";
pub const REQUESTED_HOST: &str = "requested_host";

/// Checks the hints that a client sends, and takes out what only we may say.
pub fn check(hints: &mut Json) -> Answer<()> {
    let Some(map) = hints.as_object_mut() else { return Ok(()) };
    map.remove(FORCED_HOST);
    map.remove(REQUESTED_HOST);
    for (key, value) in map.iter() {
        let fits = match key.as_str() {
            "group" => is_uuid(value),
            "different_host" | "same_host" => {
                is_uuid(value) || value.as_array().is_some_and(|list| list.iter().all(is_uuid))
            }
            "query" => query(value).is_some(),
            "build_near_host_ip" => value.as_str().is_some_and(|text| text.parse::<Ipv4Addr>().is_ok()),
            "cidr" => prefix(value).is_some(),
            _ => true,
        };
        if !fits {
            let words = format!("Invalid input for field/attribute {key}. Value: {value}. {value} is not valid here");
            return Err(Refusal::bad_request(words));
        }
    }
    Ok(())
}

fn is_uuid(value: &Json) -> bool {
    value.as_str().is_some_and(base::id::is_uuid)
}

/// The servers that a hint names: one, or a list.
pub(super) fn servers<'a>(hints: &'a Json, key: &str) -> Vec<&'a str> {
    match &hints[key] {
        Json::String(one) => vec![one.as_str()],
        Json::Array(list) => list.iter().filter_map(Json::as_str).collect(),
        _ => Vec::new(),
    }
}

/// The condition of the hint `query`, which is JSON, or text that is JSON.
pub(super) fn query(value: &Json) -> Option<Json> {
    let query = match value {
        Json::String(text) => serde_json::from_str(text).ok()?,
        Json::Null => json!([]),
        other => other.clone(),
    };
    (query.is_array() || query.is_object()).then_some(query)
}

/// `/24` → 24.
pub(super) fn prefix(value: &Json) -> Option<u8> {
    value.as_str()?.strip_prefix('/')?.parse().ok().filter(|bits| *bits <= 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_are_checked_and_our_own_taken_out() {
        let id = "05b1d049-1be3-4435-96e2-a6e8f4dfae50";
        let mut hints = json!({"forced_host": "h1", "same_host": [id], "colour": "red", "query": "[\"=\", 1, 1]"});
        check(&mut hints).unwrap();
        assert!(hints.get(FORCED_HOST).is_none() && hints["colour"] == "red");
        for bad in [json!({"group": "x"}), json!({"same_host": ["x"]}), json!({"query": "x"}), json!({"cidr": "24"})] {
            assert!(check(&mut bad.clone()).is_err(), "{bad}");
        }
    }
}
