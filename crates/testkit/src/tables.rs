//! The tables of all services as data, for walks over every operation.

use api::policy::Policy;
use api::{Json, Operation, Service, Version, json};

/// One operation of one service, without its handler.
pub struct Row {
    pub service: &'static str,
    pub mount: &'static str,
    pub method: String,
    /// Below the mount, with names in braces.
    pub path: &'static str,
    pub action: Option<&'static str>,
    pub rule: Option<&'static str>,
    pub open: bool,
    pub public: bool,
    pub since: Version,
    pub until: Version,
    /// The version to ask at, as the microversion header has it.
    pub version: Option<String>,
    /// Of the body at that version; the inner one for actions.
    pub schema: Option<Json>,
}

impl Row {
    pub fn name(&self) -> String {
        let action = self.action.map(|action| format!(" {action}")).unwrap_or_default();
        let since = if self.since == Version(0, 0) { String::new() } else { format!(" since {}", self.since) };
        format!("{} {} {}{action}{since}", self.service, self.method, self.path)
    }

    /// The target with every name replaced by what `value` says for the segment before it.
    pub fn target(&self, value: impl Fn(&str) -> String) -> String {
        let mut before = "";
        let segments = self.path.split('/').map(|segment| {
            let shown = if segment.starts_with('{') { value(before) } else { segment.to_string() };
            before = segment;
            shown
        });
        format!("{}{}", self.mount, segments.collect::<Vec<_>>().join("/"))
    }

    /// A body that should pass the check of form, with everything that is required.
    pub fn body(&self) -> Json {
        let inner = self.schema.as_ref().map(sample);
        match self.action {
            Some(action) => json!({action: inner}),
            None => inner.unwrap_or_default(),
        }
    }
}

/// Every operation of every service.
pub fn all() -> Vec<Row> {
    let mut all = rows(identity::operations());
    all.extend(rows(image::operations()));
    all.extend(rows(placement::operations()));
    all.extend(rows(network::operations()));
    all.extend(rows(compute::operations()));
    all
}

fn rows<S: Service>(operations: Vec<Operation<S>>) -> Vec<Row> {
    operations.iter().map(row).collect()
}

fn row<S: Service>(operation: &Operation<S>) -> Row {
    let newest = S::SHAPE.versions.map_or(Version(0, 0), |versions| versions.max);
    let version = operation.until.min(newest);
    Row {
        service: S::SHAPE.name,
        mount: S::SHAPE.mounts[0],
        method: operation.method.to_string(),
        path: operation.path,
        action: operation.action,
        rule: operation.rule,
        open: operation.open,
        public: operation.public,
        since: operation.since,
        until: operation.until,
        version: S::SHAPE.versions.map(|versions| format!("{} {version}", versions.word)),
        schema: operation.schema.map(|schema| schema(version)),
    }
}

/// The policy of each service with the rows of what it does not serve yet.
pub fn policies() -> Vec<(&'static str, Policy)> {
    let texts = [
        ("identity", include_str!("../../identity/policy.tsv")),
        ("image", include_str!("../../image/policy.tsv")),
        ("placement", include_str!("../../placement/policy.tsv")),
        ("network", include_str!("../../network/policy.tsv")),
        ("compute", include_str!("../../compute/policy.tsv")),
    ];
    texts.into_iter().map(|(service, text)| (service, Policy::new(text, None).unwrap())).collect()
}

/// What is known and not served: service, method, path as the facts have it, action.
pub fn missing() -> Vec<(&'static str, String, String, Option<String>)> {
    let texts = [
        ("identity", include_str!("../../../tests/ratchet/operations/identity.txt")),
        ("image", include_str!("../../../tests/ratchet/operations/image.txt")),
        ("placement", include_str!("../../../tests/ratchet/operations/placement.txt")),
        ("network", include_str!("../../../tests/ratchet/operations/network.txt")),
        ("compute", include_str!("../../../tests/ratchet/operations/compute.txt")),
    ];
    let mut all = Vec::new();
    for (service, text) in texts {
        for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let action = words[2..].iter().find(|word| !word.chars().all(|c| c.is_ascii_digit()) && **word != "-");
            all.push((service, words[0].to_string(), words[1].to_string(), action.map(ToString::to_string)));
        }
    }
    all
}

/// The smallest value that fits a schema.
pub fn sample(schema: &Json) -> Json {
    if let Some(word) = schema["enum"].get(0) {
        return word.clone();
    }
    match schema["type"].as_str() {
        Some("object") => {
            let required = schema["required"].as_array().cloned().unwrap_or_default();
            let pairs = required.iter().filter_map(Json::as_str);
            pairs.map(|key| (key.to_string(), sample(&schema["properties"][key]))).collect::<api::JsonMap>().into()
        }
        Some("array") => json!([sample(&schema["items"])]),
        Some("integer") => schema["minimum"].as_i64().filter(|least| *least > i64::MIN / 2).unwrap_or(1).into(),
        Some("number") => json!(1),
        Some("boolean") => json!(true),
        Some("string") => text(schema),
        _ => json!({}),
    }
}

fn text(schema: &Json) -> Json {
    match schema["format"].as_str() {
        Some("uuid") => json!("6d1c1d3c-9a3e-4a3a-8f0c-0a4cf7d9a001"),
        Some("ip") => json!("10.0.0.9"),
        Some("cidr") => json!("10.9.0.0/24"),
        Some("mac-address") => json!("fa:16:3e:00:00:01"),
        _ => {
            let least = schema["minLength"].as_u64().unwrap_or(1).clamp(1, 64) as usize;
            json!("1".repeat(least))
        }
    }
}
