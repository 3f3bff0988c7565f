//! The language of conditions: extra specs (`>= 5`, `<in> aes`), versions (`>=1.0,<2`) and the hint `query`.

use api::Json;

use super::places::Place;

/// Whether a host's `value` meets the `demand` of an extra spec. Without an operator, the two must be the same.
pub fn matches(value: &str, demand: &str) -> bool {
    let mut words = demand.split_whitespace();
    let Some(operator) = words.next() else { return value == demand };
    let rest: Vec<&str> = words.collect();
    let first = rest.first().copied();
    let numbers = || Some((value.trim().parse::<f64>().ok()?, first?.parse::<f64>().ok()?));
    let compared = |test: fn(f64, f64) -> bool| numbers().is_some_and(|(own, wanted)| test(own, wanted));
    let texts = |test: fn(&str, &str) -> bool| first.is_some_and(|wanted| test(value, wanted));
    match operator {
        "=" | ">=" => compared(|own, wanted| own >= wanted),
        "==" => compared(|own, wanted| own == wanted),
        "!=" => compared(|own, wanted| own != wanted),
        "<=" => compared(|own, wanted| own <= wanted),
        "s==" => texts(|own, wanted| own == wanted),
        "s!=" => texts(|own, wanted| own != wanted),
        "s<" => texts(|own, wanted| own < wanted),
        "s<=" => texts(|own, wanted| own <= wanted),
        "s>" => texts(|own, wanted| own > wanted),
        "s>=" => texts(|own, wanted| own >= wanted),
        "<in>" => texts(|own, wanted| own.contains(wanted)),
        "<all-in>" => !rest.is_empty() && rest.iter().all(|wanted| value.contains(wanted)),
        "<or>" => rest.split(|word| *word == "<or>").any(|choice| choice.first() == Some(&value)),
        _ => value == demand,
    }
}

/// 10000002 → `10.0.2`.
pub fn dotted(version: u64) -> String {
    format!("{}.{}.{}", version / 1_000_000, version / 1000 % 1000, version % 1000)
}

/// Whether a version meets every part of `>=1.0,<2`.
pub fn version_satisfies(version: u64, demand: &str) -> bool {
    demand.split(',').map(str::trim).filter(|part| !part.is_empty()).all(|part| {
        let digits = part.find(|c: char| c.is_ascii_digit()).unwrap_or(part.len());
        let (operator, wanted) = part.split_at(digits);
        let wanted = wanted.split('.').chain(["0", "0"]).take(3);
        let wanted = wanted.fold(0, |sum, number| sum * 1000 + number.trim().parse::<u64>().unwrap_or(0));
        match operator.trim() {
            "<" => version < wanted,
            "<=" => version <= wanted,
            "=" | "==" => version == wanted,
            "!=" => version != wanted,
            ">" => version > wanted,
            ">=" => version >= wanted,
            _ => false,
        }
    })
}

/// Limit: how deep a query may be nested.
const DEPTH: usize = 32;

/// Whether the hint `query` holds of a host: `["and", [">=", "$free_ram_mb", 1024], ["=", "$host", "h1"]]`.
pub fn holds(query: &Json, place: &Place) -> bool {
    let lookup = |path: &str| {
        let mut words = path.split('.');
        let start = place.attribute(words.next().unwrap_or_default())?;
        words.try_fold(start, |value, key| value.get(key).cloned())
    };
    truth(&evaluate(query, &lookup, 0))
}

fn truth(value: &Json) -> bool {
    match value {
        Json::Bool(flag) => *flag,
        Json::Array(list) => list.iter().any(truth),
        Json::Null => false,
        Json::Number(number) => number.as_f64() != Some(0.0),
        Json::String(text) => !text.is_empty(),
        Json::Object(map) => !map.is_empty(),
    }
}

fn evaluate(value: &Json, lookup: &dyn Fn(&str) -> Option<Json>, depth: usize) -> Json {
    let Json::Array(list) = value else {
        return match value.as_str().and_then(|text| text.strip_prefix('$')) {
            Some(path) => lookup(path).unwrap_or(Json::Null),
            None => value.clone(),
        };
    };
    let Some((operator, terms)) = list.split_first() else { return Json::Bool(true) };
    if depth >= DEPTH {
        return Json::Bool(false);
    }
    let terms = terms.iter().map(|term| evaluate(term, lookup, depth + 1));
    let terms: Vec<Json> = terms.filter(|term| !term.is_null()).collect();
    match operator.as_str().unwrap_or_default() {
        "and" => Json::Bool(terms.iter().all(truth)),
        "or" => Json::Bool(terms.iter().any(truth)),
        "not" => Json::Array(terms.iter().map(|term| Json::Bool(!truth(term))).collect()),
        "in" => Json::Bool(terms.split_first().is_some_and(|(first, rest)| rest.contains(first))),
        operator => Json::Bool(compare(operator, &terms)),
    }
}

/// Whether the first term compares so with all the others.
fn compare(operator: &str, terms: &[Json]) -> bool {
    let Some((first, rest)) = terms.split_first().filter(|(_, rest)| !rest.is_empty()) else { return false };
    rest.iter().all(|other| {
        let order = match (first.as_f64(), other.as_f64()) {
            (Some(one), Some(two)) => one.partial_cmp(&two),
            _ => first.as_str().zip(other.as_str()).map(|(one, two)| one.cmp(two)),
        };
        match operator {
            "=" => first == other || order.is_some_and(|order| order.is_eq()),
            "<" => order.is_some_and(|order| order.is_lt()),
            "<=" => order.is_some_and(|order| order.is_le()),
            ">" => order.is_some_and(|order| order.is_gt()),
            ">=" => order.is_some_and(|order| order.is_ge()),
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use api::json;

    use super::*;

    #[test]
    fn demands_are_compared_as_upstream_compares_them() {
        let cases = [
            ("12311321", ">= 4 x", true),
            ("4", "== 4.0", true),
            ("3", "= 4", false),
            ("a", "s== a", true),
            ("11", "s> 2", false),
            ("gcc aes", "<in> aes", true),
            ("aes mmx", "<all-in> aes mmx", true),
            ("aes", "<all-in> aes mmx", false),
            ("b", "<or> a <or> b", true),
            ("c", "<or> a <or> b", false),
            ("true", "true", true),
            ("x", ">= 1", false),
        ];
        for (value, demand, wanted) in cases {
            assert_eq!(matches(value, demand), wanted, "{value} {demand}");
        }
    }

    #[test]
    fn versions_have_numbers_between_dots() {
        assert!(version_satisfies(7_002_000, ">=7.0,<8"));
        assert!(!version_satisfies(7_002_000, ">=8"));
        assert!(version_satisfies(1000, "==0.1.0"));
        assert_eq!(dotted(10_000_002), "10.0.2");
    }

    #[test]
    fn queries_are_evaluated() {
        let lookup = |path: &str| (path == "free_ram_mb").then(|| json!(1024));
        let holds = |query: Json| truth(&evaluate(&query, &lookup, 0));
        assert!(holds(json!([">=", "$free_ram_mb", 1024])));
        assert!(!holds(json!(["and", [">=", "$free_ram_mb", 1024], ["<", "$free_ram_mb", 10]])));
        assert!(holds(json!(["or", ["=", "a", "b"], ["in", 2, 1, 2]])));
        assert!(holds(json!(["not", ["=", "a", "b"]])));
        assert!(!holds(json!([">=", "$colour", 1])));
        assert!(holds(json!([])));
    }
}
