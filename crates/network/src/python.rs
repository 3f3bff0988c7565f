//! Values as Python prints them, for messages that clients compare.

use base::Json;

/// As `str()`: text without quotes.
pub fn plain(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        other => quoted(other),
    }
}

/// As `repr()`.
pub fn quoted(value: &Json) -> String {
    match value {
        Json::Null => "None".into(),
        Json::Bool(true) => "True".into(),
        Json::Bool(false) => "False".into(),
        Json::Number(number) => number.to_string(),
        Json::String(text) => format!("'{text}'"),
        Json::Array(items) => format!("[{}]", items.iter().map(quoted).collect::<Vec<_>>().join(", ")),
        Json::Object(map) => {
            let pairs: Vec<String> = map.iter().map(|(key, value)| format!("'{key}': {}", quoted(value))).collect();
            format!("{{{}}}", pairs.join(", "))
        }
    }
}
