//! Holds a body against one of our schemas, as far as their words go, and says the first thing that is wrong.

use base::Json;

use crate::images::python;

/// Limit: nesting of a body; the deepest schema has six levels.
const DEPTH_MAX: usize = 32;

/// `root` is the whole schema, where its definitions are; the answer is in upstream's words.
pub fn problem(root: &Json, body: &Json) -> Option<String> {
    check(root, root, body, DEPTH_MAX)
}

fn check(root: &Json, schema: &Json, body: &Json, depth: usize) -> Option<String> {
    if depth == 0 {
        return Some("The body is nested too deeply".to_string());
    }
    if let Some(name) = schema["$ref"].as_str().and_then(|name| name.strip_prefix("#/definitions/")) {
        return check(root, &root["definitions"][name], body, depth - 1);
    }
    let wrong_type = type_problem(schema, body).or_else(|| text_problem(schema, body));
    let parts = schema["allOf"].as_array().into_iter().flatten();
    wrong_type
        .or_else(|| parts.into_iter().find_map(|part| check(root, part, body, depth - 1)))
        .or_else(|| list_problem(root, schema, body, depth))
        .or_else(|| object_problem(root, schema, body, depth))
}

fn type_problem(schema: &Json, body: &Json) -> Option<String> {
    let wanted: Vec<&str> = match &schema["type"] {
        Json::String(one) => vec![one],
        Json::Array(many) => many.iter().filter_map(Json::as_str).collect(),
        // A whole schema of ours describes an object.
        _ if schema.get("properties").is_some() => vec!["object"],
        _ => return None,
    };
    let fits = |word: &&str| match *word {
        "null" => body.is_null(),
        "boolean" => body.is_boolean(),
        "integer" => body.is_i64() || body.is_u64(),
        "number" => body.is_number(),
        "string" => body.is_string(),
        "array" => body.is_array(),
        _ => body.is_object(),
    };
    if wanted.iter().any(fits) {
        return None;
    }
    let wanted: Vec<String> = wanted.iter().map(|word| format!("'{word}'")).collect();
    Some(format!("{} is not of type {}", python(body), wanted.join(", ")))
}

fn text_problem(schema: &Json, body: &Json) -> Option<String> {
    if let Some(known) = schema["enum"].as_array()
        && !known.contains(body)
    {
        let known: Vec<String> = known.iter().map(python).collect();
        return Some(format!("{} is not one of [{}]", python(body), known.join(", ")));
    }
    if let (Some(most), Some(text)) = (schema["maxLength"].as_u64(), body.as_str())
        && text.chars().count() as u64 > most
    {
        return Some(format!("{} is too long", python(body)));
    }
    if let (Some(least), Some(number)) = (schema["minimum"].as_f64(), body.as_f64())
        && number < least
    {
        return Some(format!("{} is less than the minimum of {least}", python(body)));
    }
    None
}

fn list_problem(root: &Json, schema: &Json, body: &Json, depth: usize) -> Option<String> {
    let items = body.as_array()?;
    let repeated = items.iter().enumerate().any(|(place, item)| items[..place].contains(item));
    if schema["uniqueItems"] == true && repeated {
        return Some(format!("{} has non-unique elements", python(body)));
    }
    let of = schema.get("items").filter(|of| of.is_object())?;
    items.iter().find_map(|item| check(root, of, item, depth - 1))
}

fn object_problem(root: &Json, schema: &Json, body: &Json, depth: usize) -> Option<String> {
    let object = body.as_object()?;
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str);
    if let Some(missing) = required.into_iter().find(|name| !object.contains_key(*name)) {
        return Some(format!("'{missing}' is a required property"));
    }
    for (name, value) in object {
        let known = schema["properties"].get(name);
        let wrong = match (known, &schema["additionalProperties"]) {
            (Some(known), _) => check(root, known, value, depth - 1),
            (None, Json::Bool(false)) => {
                Some(format!("Additional properties are not allowed ('{name}' was unexpected)"))
            }
            (None, of @ Json::Object(_)) => check(root, of, value, depth - 1),
            (None, _) => None,
        };
        if wrong.is_some() {
            return wrong;
        }
    }
    None
}
