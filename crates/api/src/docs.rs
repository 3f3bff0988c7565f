//! Documents made from the table of operations: a line for each, and OpenAPI.

use base::{Json, json};

use crate::operation::{Operation, Service};
use crate::version::Version;

/// `METHOD path[ action]` of every operation, with the mount, as the facts name them.
pub fn served<S: Service>(operations: &[Operation<S>]) -> Vec<String> {
    let mount = S::SHAPE.mounts.first().copied().unwrap_or_default();
    let line = |operation: &Operation<S>| {
        let action = operation.action.map(|key| format!(" {key}")).unwrap_or_default();
        format!("{} {mount}{}{action}", operation.method, operation.path)
    };
    operations.iter().map(line).collect()
}

/// The page of one service in `docs/api/`: a line for each operation.
pub fn page<S: Service>(operations: &[Operation<S>]) -> String {
    let mut page =
        format!("# {}\n\n| operation | versions | rule | success | body |\n|---|---|---|---|---|\n", S::SHAPE.name);
    for (line, operation) in served(operations).iter().zip(operations) {
        let rule = match (operation.rule, operation.public, operation.open) {
            (Some(rule), ..) => rule,
            (None, true, _) => "(no token)",
            _ => "(any token)",
        };
        let latest = S::SHAPE.versions.map_or(Version(0, 0), |versions| versions.max);
        let status = operation.status_at(latest).map_or("usual".to_string(), |status| status.to_string());
        let body = if operation.schema.is_some() { "checked" } else { "-" };
        page.push_str(&format!("| `{line}` | {} | `{rule}` | {status} | {body} |\n", window(operation)));
    }
    page
}

/// The OpenAPI document of a service at one version.
pub fn openapi<S: Service>(operations: &[Operation<S>], version: Version) -> Json {
    let mut paths = json!({});
    let mount = S::SHAPE.mounts.first().copied().unwrap_or_default();
    for operation in operations.iter().filter(|operation| operation.serves(version)) {
        let path = format!("{mount}{}", operation.path);
        let method = operation.method.as_str().to_ascii_lowercase();
        let mut entry = json!({
            "responses": {"default": {"description": "See the status of success in the table of operations."}},
            "x-policy": operation.rule,
            "deprecated": operation.deprecated,
        });
        if let Some(schema) = operation.schema {
            let mut schema = schema(version);
            if let Some(action) = operation.action {
                schema = json!({"type": "object", "properties": {action: schema}, "required": [action]});
            }
            // Actions share a path: any of their bodies will do.
            let known =
                paths[&path][&method]["requestBody"]["content"]["application/json"]["schema"]["anyOf"].as_array();
            let mut bodies = known.cloned().unwrap_or_default();
            bodies.push(schema);
            entry["requestBody"] = json!({"content": {"application/json": {"schema": {"anyOf": bodies}}}});
        }
        paths[&path][&method] = entry;
    }
    json!({"openapi": "3.1.0", "info": {"title": S::SHAPE.name, "version": version.to_string()}, "paths": paths})
}

fn window<S: Service>(operation: &Operation<S>) -> String {
    match (operation.since, operation.until) {
        (Version(0, 0), Version::MAX) => "all".to_string(),
        (since, Version::MAX) => format!("{since} –"),
        (Version(0, 0), until) => format!("– {until}"),
        (since, until) => format!("{since} – {until}"),
    }
}
