//! What a value must look like. Problems are worded as upstream words them, because people search for them.

use std::collections::HashSet;
use std::net::IpAddr;

use base::{Json, json};
use ipnet::IpNet;

use crate::python;

/// Limit: tags of one request, and of one resource.
pub const TAGS: usize = 50;
/// Limit: characters of a tag.
pub const TAG_CHARACTERS: usize = 255;

/// A check that may also turn the value into its usual form.
#[derive(Debug, Clone, Copy)]
pub enum Rule {
    Any,
    Text(usize),
    TextOrNull(usize),
    Flag,
    Integer(i64, i64),
    IntegerOrNull(i64, i64),
    Uuid,
    UuidOrNull,
    Uuids,
    Mac,
    IpOrNull,
    CidrOrNull,
    Cidrs,
    OneOf(&'static [&'static str]),
    Object,
    Tags,
    /// A list of distinct texts.
    Texts,
    With(fn(Json) -> Result<Json, String>),
}

impl Rule {
    pub fn check(&self, value: Json) -> Result<Json, String> {
        match (self, &value) {
            (
                Rule::TextOrNull(_) | Rule::IntegerOrNull(..) | Rule::UuidOrNull | Rule::IpOrNull | Rule::CidrOrNull,
                Json::Null,
            ) => Ok(value),
            (Rule::Any, _) => Ok(value),
            (Rule::Text(most) | Rule::TextOrNull(most), _) => text(value, *most),
            (Rule::Flag, _) => flag(&value),
            (Rule::Integer(min, max) | Rule::IntegerOrNull(min, max), _) => integer(&value, *min, *max),
            (Rule::Uuid | Rule::UuidOrNull, _) => uuid(&value),
            (Rule::Uuids, _) => each(&value, uuid),
            (Rule::Mac, _) => mac(&value),
            (Rule::IpOrNull, _) => ip(&value),
            (Rule::CidrOrNull, _) => cidr(&value),
            (Rule::Cidrs, _) => each(&value, cidr),
            (Rule::OneOf(known), _) => one_of(value, known),
            (Rule::Object, Json::Object(_)) => Ok(value),
            (Rule::Object, Json::Null) => Ok(json!({})),
            (Rule::Object, _) => Err(format!("'{}' is not a dictionary", python::plain(&value))),
            (Rule::Tags, _) => tags(&value),
            (Rule::Texts, _) => each(&value, |item| text(item.clone(), 255)),
            (Rule::With(check), _) => check(value),
        }
    }
}

pub fn text(value: Json, most: usize) -> Result<Json, String> {
    match value.as_str() {
        None => Err(format!("'{}' is not a valid string", python::plain(&value))),
        // No database keeps it.
        Some(text) if text.contains('\0') => Err(format!("'{}' is not a valid string", text.replace('\0', "\\x00"))),
        Some(text) if text.chars().count() > most => Err(format!("'{text}' exceeds maximum length of {most}")),
        Some(_) => Ok(value),
    }
}

/// Upstream: texts and numbers count as flags too.
pub fn flag(value: &Json) -> Result<Json, String> {
    let read = match value {
        Json::Bool(on) => Some(*on),
        Json::String(text) => match text.to_ascii_lowercase().as_str() {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        },
        Json::Number(number) => match number.as_i64() {
            Some(1) => Some(true),
            Some(0) => Some(false),
            _ => None,
        },
        _ => None,
    };
    read.map(Json::from).ok_or_else(|| format!("'{}' cannot be converted to boolean", python::plain(value)))
}

pub fn integer(value: &Json, min: i64, max: i64) -> Result<Json, String> {
    let read = match value {
        Json::Number(number) => number.as_i64(),
        Json::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    match read {
        None => Err(format!("'{}' is not an integer", python::plain(value))),
        Some(number) if number < min => Err(format!("'{number}' is too small - must be at least '{min}'")),
        Some(number) if number > max => Err(format!("'{number}' is too large - must be no larger than '{max}'")),
        Some(number) => Ok(json!(number)),
    }
}

pub fn uuid(value: &Json) -> Result<Json, String> {
    match value.as_str() {
        Some(text) if base::id::is_uuid(text) => Ok(value.clone()),
        _ => Err(format!("'{}' is not a valid UUID", python::plain(value))),
    }
}

/// The usual form is lower case with colons.
pub fn mac(value: &Json) -> Result<Json, String> {
    let text = value.as_str().unwrap_or_default().to_ascii_lowercase().replace('-', ":");
    let parts: Vec<&str> = text.split(':').collect();
    let shaped = parts.len() == 6 && parts.iter().all(|part| part.len() == 2 && u8::from_str_radix(part, 16).is_ok());
    match shaped && text != "00:00:00:00:00:00" {
        true => Ok(json!(text)),
        false => Err(format!("'{}' is not a valid MAC address", python::plain(value))),
    }
}

/// The usual form is the shortest.
pub fn ip(value: &Json) -> Result<Json, String> {
    let address: Option<IpAddr> = value.as_str().and_then(|text| text.parse().ok());
    address
        .map(|address| json!(address.to_string()))
        .ok_or_else(|| format!("'{}' is not a valid IP address", python::plain(value)))
}

/// A network with its length; bits behind it are left as they are.
pub fn cidr(value: &Json) -> Result<Json, String> {
    let net: Option<IpNet> = value.as_str().and_then(|text| text.parse().ok());
    match net {
        Some(_) => Ok(value.clone()),
        None => Err(format!("'{}' is not a valid IP subnet", python::plain(value))),
    }
}

pub fn one_of(value: Json, known: &[&str]) -> Result<Json, String> {
    match value.as_str() {
        Some(text) if known.contains(&text) => Ok(value),
        _ => {
            let known: Vec<String> = known.iter().map(|word| format!("'{word}'")).collect();
            Err(format!("'{}' is not in [{}]", python::plain(&value), known.join(", ")))
        }
    }
}

/// A list without duplicates, each item checked.
pub fn each(value: &Json, check: impl Fn(&Json) -> Result<Json, String>) -> Result<Json, String> {
    let Some(items) = value.as_array() else {
        return Err(format!("'{}' is not a list", python::plain(value)));
    };
    let mut seen = HashSet::new();
    for item in items {
        if !seen.insert(item.to_string()) {
            return Err(format!("Duplicate items in the list: '{}'", python::plain(item)));
        }
    }
    items.iter().map(check).collect::<Result<Vec<Json>, String>>().map(Json::Array)
}

pub fn tags(value: &Json) -> Result<Json, String> {
    let tags = each(value, |item| text(item.clone(), TAG_CHARACTERS))?;
    match tags.as_array().is_some_and(|tags| tags.len() > TAGS) {
        true => Err(format!("The number of tags exceed the per-resource limit of {TAGS}")),
        false => Ok(tags),
    }
}

/// An object with just these keys.
pub fn keys<'a>(value: &'a Json, wanted: &[&str]) -> Result<&'a serde_json::Map<String, Json>, String> {
    let listed = || wanted.iter().map(|key| format!("'{key}'")).collect::<Vec<_>>().join(", ");
    let Some(map) = value.as_object() else {
        return Err(format!(
            "Invalid input. '{}' must be a dictionary with keys: [{}]",
            python::plain(value),
            listed()
        ));
    };
    let given: HashSet<&str> = map.keys().map(String::as_str).collect();
    if given == wanted.iter().copied().collect() {
        return Ok(map);
    }
    let got: Vec<String> = map.keys().map(|key| format!("'{key}'")).collect();
    Err(format!(
        "Validation of dictionary's keys failed. Expected keys: {{{}}} Provided keys: {{{}}}",
        listed(),
        got.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_get_their_usual_form() {
        assert_eq!(Rule::Flag.check(json!("True")), Ok(json!(true)));
        assert_eq!(Rule::Integer(68, 9000).check(json!("1400")), Ok(json!(1400)));
        assert_eq!(Rule::Mac.check(json!("FA-16-3E-00-00-01")), Ok(json!("fa:16:3e:00:00:01")));
        assert_eq!(Rule::IpOrNull.check(json!("fd00:0::1")), Ok(json!("fd00::1")));
        assert_eq!(Rule::UuidOrNull.check(Json::Null), Ok(Json::Null));
    }

    #[test]
    fn problems_are_worded_as_upstream_words_them() {
        let said = |rule: Rule, value: Json| rule.check(value).unwrap_err();
        assert_eq!(said(Rule::Text(3), json!("four")), "'four' exceeds maximum length of 3");
        assert_eq!(said(Rule::Uuid, json!("x")), "'x' is not a valid UUID");
        assert_eq!(said(Rule::Flag, json!(7)), "'7' cannot be converted to boolean");
        assert_eq!(said(Rule::Integer(1, 2), json!(3)), "'3' is too large - must be no larger than '2'");
        assert_eq!(said(Rule::OneOf(&["a", "b"]), json!("c")), "'c' is not in ['a', 'b']");
        assert_eq!(said(Rule::Tags, json!(["a", "a"])), "Duplicate items in the list: 'a'");
    }
}
