//! What a field of a body must look like.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, LazyLock, RwLock};

use base::{Json, json};
use regex_lite::Regex;

use super::{At, Problem, Wire};
use crate::version::Version;

/// One field's rule. Optional unless [`required`](Rule::required) says otherwise; null is refused unless
/// [`nullable`](Rule::nullable).
#[derive(Clone)]
pub struct Rule {
    kind: Kind,
    required_since: Option<Version>,
    since: Version,
    until: Version,
    nullable: bool,
    /// Numbers and flags may also come as text, as upstream's older schemas allow.
    loose: bool,
}

#[derive(Clone)]
enum Kind {
    Any,
    Text { min: usize, max: usize, pattern: Option<&'static str> },
    Integer { min: i64, max: i64 },
    Number { min: f64, max: f64 },
    Flag,
    OneOf(&'static [&'static str]),
    Uuid,
    Ip,
    Cidr,
    Mac,
    Object,
    Nested(fn(Version) -> Json),
    List { items: Box<Rule>, min: usize, max: usize, unique: bool },
    Map { values: Box<Rule>, key_max: usize, max: usize },
}

const fn rule(kind: Kind) -> Rule {
    Rule { kind, required_since: None, since: Version(0, 0), until: Version::MAX, nullable: false, loose: false }
}

/// Anything at all; the handler looks at it.
pub const fn any() -> Rule {
    rule(Kind::Any)
}

/// Text of `min` to `max` characters.
pub const fn text(min: usize, max: usize) -> Rule {
    rule(Kind::Text { min, max, pattern: None })
}

/// A whole number from `min` to `max`, both included.
pub const fn integer(min: i64, max: i64) -> Rule {
    rule(Kind::Integer { min, max })
}

pub const fn number(min: f64, max: f64) -> Rule {
    rule(Kind::Number { min, max })
}

pub const fn flag() -> Rule {
    rule(Kind::Flag)
}

pub const fn one_of(words: &'static [&'static str]) -> Rule {
    rule(Kind::OneOf(words))
}

/// A UUID with or without dashes; it is kept as it was sent.
pub const fn uuid() -> Rule {
    rule(Kind::Uuid)
}

/// An IPv4 or IPv6 address.
pub const fn ip() -> Rule {
    rule(Kind::Ip)
}

pub const fn cidr() -> Rule {
    rule(Kind::Cidr)
}

pub const fn mac() -> Rule {
    rule(Kind::Mac)
}

/// An object whose keys nobody checks.
pub const fn object() -> Rule {
    rule(Kind::Object)
}

/// An object that is a `wire!` struct of its own.
pub const fn nested<T: Wire>() -> Rule {
    rule(Kind::Nested(T::schema))
}

/// A list whose items follow `items`.
pub fn list(items: Rule) -> Rule {
    rule(Kind::List { items: Box::new(items), min: 0, max: usize::MAX, unique: false })
}

/// An object with keys of the client's choosing, of 1 to 255 characters, whose values follow `values`.
pub fn map(values: Rule) -> Rule {
    rule(Kind::Map { values: Box::new(values), key_max: 255, max: usize::MAX })
}

impl Rule {
    pub const fn required(self) -> Rule {
        self.required_since(Version(0, 0))
    }

    /// Optional before `version`.
    pub const fn required_since(mut self, version: Version) -> Rule {
        self.required_since = Some(version);
        self
    }

    /// Unknown before `version`.
    pub const fn since(mut self, version: Version) -> Rule {
        self.since = version;
        self
    }

    /// Unknown after `version`.
    pub const fn until(mut self, version: Version) -> Rule {
        self.until = version;
        self
    }

    pub const fn nullable(mut self) -> Rule {
        self.nullable = true;
        self
    }

    /// Also takes `"1"` for 1 and `"true"` for true.
    pub const fn loose(mut self) -> Rule {
        self.loose = true;
        self
    }

    /// Text must match this regular expression, which is anchored only where it says so.
    pub fn matching(mut self, expression: &'static str) -> Rule {
        if let Kind::Text { min, max, .. } = self.kind {
            self.kind = Kind::Text { min, max, pattern: Some(expression) };
        }
        self
    }

    /// How many items a list, or keys a map, may have.
    pub fn items(mut self, from: usize, to: usize) -> Rule {
        match &mut self.kind {
            Kind::List { min, max, .. } => (*min, *max) = (from, to),
            Kind::Map { max, .. } => *max = to,
            _ => {}
        }
        self
    }

    pub fn unique(mut self) -> Rule {
        if let Kind::List { unique, .. } = &mut self.kind {
            *unique = true;
        }
        self
    }

    pub(super) fn serves(&self, version: Version) -> bool {
        self.since <= version && version <= self.until
    }

    pub(super) fn wanted(&self, version: Version) -> bool {
        self.required_since.is_some_and(|since| since <= version)
    }

    /// Checks `value` and returns it in its strict form.
    pub fn check(&self, value: Json, at: &mut At) -> Result<Json, Problem> {
        if value.is_null() && (self.nullable || matches!(self.kind, Kind::Any)) {
            return Ok(value);
        }
        let value = if self.loose { self.tighten(value) } else { value };
        match self.complaint(&value) {
            Some(message) => Err(at.problem(&value, message)),
            None => self.check_inside(value, at),
        }
    }

    fn check_inside(&self, value: Json, at: &mut At) -> Result<Json, Problem> {
        match (&self.kind, value) {
            (Kind::List { items, .. }, Json::Array(list)) => {
                let numbered = list.into_iter().enumerate();
                let checked = numbered.map(|(index, item)| at.inside(&index.to_string(), |at| items.check(item, at)));
                checked.collect::<Result<Vec<_>, _>>().map(Json::Array)
            }
            (Kind::Map { values, .. }, Json::Object(map)) => {
                let checked = map.into_iter().map(|(key, item)| {
                    let item = at.inside(&key, |at| values.check(item, at))?;
                    Ok((key, item))
                });
                checked.collect::<Result<serde_json::Map<_, _>, _>>().map(Json::Object)
            }
            (_, value) => Ok(value),
        }
    }

    fn tighten(&self, value: Json) -> Json {
        match (&self.kind, &value) {
            (Kind::Integer { .. }, Json::String(text)) => text.trim().parse::<i64>().map_or(value, Json::from),
            (Kind::Number { .. }, Json::String(text)) => text.trim().parse::<f64>().map_or(value, Json::from),
            (Kind::Flag, Json::String(text)) => match text.to_ascii_lowercase().as_str() {
                "true" | "1" | "yes" | "on" | "t" | "y" => Json::Bool(true),
                "false" | "0" | "no" | "off" | "f" | "n" => Json::Bool(false),
                _ => value,
            },
            (Kind::Flag, Json::Number(number)) => match number.as_i64() {
                Some(1) => Json::Bool(true),
                Some(0) => Json::Bool(false),
                _ => value,
            },
            (Kind::Text { .. }, Json::Number(number)) => Json::String(number.to_string()),
            _ => value,
        }
    }

    /// What is wrong with `value` itself, in the words of the JSON-schema library.
    fn complaint(&self, value: &Json) -> Option<String> {
        let shown = || python(value);
        let text = value.as_str();
        let fails = |name: &str| Some(format!("{} is not a '{name}'", shown()));
        match &self.kind {
            Kind::Any => None,
            _ if !self.fits(value) => Some(format!("{} is not of type {}", shown(), self.type_words())),
            Kind::Text { min, max, pattern } => text_complaint(text.unwrap_or_default(), *min, *max, *pattern),
            Kind::Integer { min, max } => {
                let number = value.as_i64().unwrap_or(i64::MAX);
                bounds(number < *min, number > *max, &shown(), &min.to_string(), &max.to_string())
            }
            Kind::Number { min, max } => {
                let number = value.as_f64().unwrap_or(f64::MAX);
                bounds(number < *min, number > *max, &shown(), &min.to_string(), &max.to_string())
            }
            Kind::OneOf(words) if !words.contains(&text.unwrap_or_default()) => {
                Some(format!("{} is not one of {}", shown(), python(&json!(words))))
            }
            Kind::Uuid if !base::id::is_uuid(text.unwrap_or_default()) => fails("uuid"),
            Kind::Ip if text.unwrap_or_default().parse::<IpAddr>().is_err() => fails("ip"),
            Kind::Cidr if text.unwrap_or_default().parse::<ipnet::IpNet>().is_err() => fails("cidr"),
            Kind::Mac if !is_mac(text.unwrap_or_default()) => fails("mac-address"),
            Kind::List { min, max, unique, .. } => list_complaint(value, *min, *max, *unique),
            Kind::Map { key_max, max, .. } => map_complaint(value, *key_max, *max),
            _ => None,
        }
    }

    fn fits(&self, value: &Json) -> bool {
        match self.kind {
            Kind::Any => true,
            Kind::Integer { .. } => value.is_i64() || value.is_u64(),
            Kind::Number { .. } => value.is_number(),
            Kind::Flag => value.is_boolean(),
            Kind::OneOf(_) => true,
            Kind::Text { .. } | Kind::Uuid | Kind::Ip | Kind::Cidr | Kind::Mac => value.is_string(),
            Kind::Object | Kind::Nested(_) | Kind::Map { .. } => value.is_object(),
            Kind::List { .. } => value.is_array(),
        }
    }

    fn type_words(&self) -> String {
        let mut words = vec![self.type_word()];
        if self.loose && !matches!(self.kind, Kind::Text { .. }) {
            words.push("string");
        }
        if self.nullable {
            words.push("null");
        }
        words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(", ")
    }

    fn type_word(&self) -> &'static str {
        match self.kind {
            Kind::Integer { .. } => "integer",
            Kind::Number { .. } => "number",
            Kind::Flag => "boolean",
            Kind::Object | Kind::Nested(_) | Kind::Map { .. } => "object",
            Kind::List { .. } => "array",
            _ => "string",
        }
    }

    /// This rule as a JSON schema.
    pub(super) fn schema(&self, version: Version) -> Json {
        let mut schema = match &self.kind {
            Kind::Any => json!({}),
            Kind::Text { min, max, pattern: None } => json!({"type": "string", "minLength": min, "maxLength": max}),
            Kind::Text { min, max, pattern: Some(pattern) } => {
                json!({"type": "string", "minLength": min, "maxLength": max, "pattern": pattern})
            }
            Kind::Integer { min, max } => json!({"type": "integer", "minimum": min, "maximum": max}),
            Kind::Number { .. } => json!({"type": "number"}),
            Kind::Flag => json!({"type": "boolean"}),
            Kind::OneOf(words) => json!({"type": "string", "enum": words}),
            Kind::Uuid => json!({"type": "string", "format": "uuid"}),
            Kind::Ip => json!({"type": "string", "format": "ip"}),
            Kind::Cidr => json!({"type": "string", "format": "cidr"}),
            Kind::Mac => json!({"type": "string", "format": "mac-address"}),
            Kind::Object => json!({"type": "object"}),
            Kind::Nested(inner) => inner(version),
            Kind::List { items, .. } => json!({"type": "array", "items": items.schema(version)}),
            Kind::Map { values, .. } => json!({"type": "object", "additionalProperties": values.schema(version)}),
        };
        if self.nullable {
            schema["nullable"] = json!(true);
        }
        schema
    }
}

fn text_complaint(text: &str, min: usize, max: usize, pattern: Option<&'static str>) -> Option<String> {
    let shown = || python(&json!(text));
    let length = text.chars().count();
    // Limit: NUL cannot be kept in every database.
    if text.contains('\0') {
        return Some(format!("{} does not match '^[^\\\\x00]*$'", shown()));
    }
    match pattern {
        _ if length < min && min == 1 => Some(format!("{} is too short", shown())),
        _ if length < min => Some(format!("{} is too short", shown())),
        _ if length > max => Some(format!("{} is too long", shown())),
        Some(pattern) if !compiled(pattern).is_match(text) => Some(format!("{} does not match '{pattern}'", shown())),
        _ => None,
    }
}

fn bounds(low: bool, high: bool, shown: &str, min: &str, max: &str) -> Option<String> {
    match (low, high) {
        (true, _) => Some(format!("{shown} is less than the minimum of {min}")),
        (_, true) => Some(format!("{shown} is greater than the maximum of {max}")),
        _ => None,
    }
}

fn list_complaint(value: &Json, min: usize, max: usize, unique: bool) -> Option<String> {
    let items = value.as_array()?;
    let twice = || {
        let mut seen = HashSet::with_capacity(items.len());
        !items.iter().all(|item| seen.insert(item.to_string()))
    };
    match items.len() {
        count if count < min => Some(format!("{} is too short", python(value))),
        count if count > max => Some(format!("{} is too long", python(value))),
        _ if unique && twice() => Some(format!("{} has non-unique elements", python(value))),
        _ => None,
    }
}

fn map_complaint(value: &Json, key_max: usize, max: usize) -> Option<String> {
    let object = value.as_object()?;
    if object.len() > max {
        return Some(format!("{} has too many properties", python(value)));
    }
    let bad = object.keys().find(|key| key.is_empty() || key.chars().count() > key_max || key.contains('\0'))?;
    Some(format!("Additional properties are not allowed ('{bad}' was unexpected)"))
}

/// Whether `text` is a unicast MAC address of six octets, in the colon form.
pub fn is_mac(text: &str) -> bool {
    let octets: Vec<&str> = text.split(':').collect();
    octets.len() == 6 && octets.iter().all(|octet| octet.len() == 2 && octet.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Regular expressions are compiled once; they come from code, so their number is bounded.
fn compiled(pattern: &'static str) -> Arc<Regex> {
    static KNOWN: LazyLock<RwLock<HashMap<&'static str, Arc<Regex>>>> = LazyLock::new(RwLock::default);
    if let Some(regex) = KNOWN.read().unwrap_or_else(|poisoned| poisoned.into_inner()).get(pattern) {
        return regex.clone();
    }
    let regex = Arc::new(Regex::new(pattern).expect("patterns in code are valid"));
    KNOWN.write().unwrap_or_else(|poisoned| poisoned.into_inner()).insert(pattern, regex.clone());
    regex
}

/// A value as Python prints it, because upstream's messages do.
pub fn python(value: &Json) -> String {
    match value {
        Json::Null => "None".to_string(),
        Json::Bool(true) => "True".to_string(),
        Json::Bool(false) => "False".to_string(),
        Json::Number(number) => number.to_string(),
        Json::String(text) if text.contains('\'') && !text.contains('"') => format!("\"{text}\""),
        Json::String(text) => format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'")),
        Json::Array(items) => format!("[{}]", items.iter().map(python).collect::<Vec<_>>().join(", ")),
        Json::Object(map) => {
            let pairs = map.iter().map(|(key, value)| format!("{}: {}", python(&json!(key)), python(value)));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(rule: &Rule, value: Json) -> String {
        rule.check(value, &mut At::top(Version(2, 1))).map_or_else(|problem| problem.message, |json| json.to_string())
    }

    #[test]
    fn problems_are_worded_as_upstream_words_them() {
        assert_eq!(says(&text(1, 3), json!("")), "'' is too short");
        assert_eq!(says(&text(1, 3), json!("abcd")), "'abcd' is too long");
        assert_eq!(says(&text(1, 3), json!(5)), "5 is not of type 'string'");
        assert_eq!(says(&integer(0, 9), json!(-1)), "-1 is less than the minimum of 0");
        assert_eq!(says(&integer(0, 9).loose(), json!("7")), "7");
        assert_eq!(says(&one_of(&["ssh", "x509"]), json!("x")), "'x' is not one of ['ssh', 'x509']");
        assert_eq!(says(&flag().loose(), json!("True")), "true");
        assert_eq!(says(&list(uuid()), json!(["x"])), "'x' is not a 'uuid'");
        assert_eq!(says(&text(0, 9), json!("a\u{0}")), "'a\u{0}' does not match '^[^\\\\x00]*$'");
        assert_eq!(says(&text(0, 9).nullable(), Json::Null), "null");
    }
}
