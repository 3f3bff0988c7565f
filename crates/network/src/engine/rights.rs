//! Rights by attribute: which rules a call must pass beside the operation's own, and what a reader may see.
//!
//! A rule `create_network:shared` exists exactly where upstream enforces one, so the list of rules is the table.

use std::collections::HashSet;
use std::sync::LazyLock;

use api::{Answer, Call, JsonMap, Refusal};
use base::Json;

use super::attribute::{Attributes, Kind, Post};
use crate::Network;

/// Names of all rules of the service.
static RULES: LazyLock<HashSet<&'static str>> = LazyLock::new(|| {
    let lines = include_str!("../../policy.tsv").lines();
    lines.filter(|line| !line.starts_with('#')).filter_map(|line| line.split('\t').next()).collect()
});

pub fn exists(rule: &str) -> bool {
    RULES.contains(rule)
}

/// Demands the operation's rule, and that of each attribute given, about `target`.
pub fn demand(call: &Call<Network>, verb: &str, kind: &Kind, given: &Attributes, target: &Json) -> Answer<()> {
    let action = format!("{verb}_{}", kind.one);
    let mut rules = vec![action.clone()];
    for (name, value) in &given.0 {
        if verb == "create" && is_default(kind, name, value) {
            continue;
        }
        let rule = format!("{action}:{name}");
        if !exists(&rule) {
            continue;
        }
        let parts: Vec<String> = parts(value).map(|key| format!("{rule}:{key}")).filter(|rule| exists(rule)).collect();
        rules.push(rule);
        for part in parts {
            if !rules.contains(&part) {
                rules.push(part);
            }
        }
    }
    let own = call.allow_on(target).is_ok();
    match own && rules[1..].iter().all(|rule| call.may(rule, target)) {
        true => Ok(()),
        false => Err(denied(&rules)),
    }
}

/// The words for rules of which at least one refused.
pub fn denied(rules: &[String]) -> Refusal {
    let named: Vec<String> = rules.iter().map(|rule| format!("rule:{rule}")).collect();
    let text = match named.as_slice() {
        [one] => one.clone(),
        many => format!("({})", many.join(" and ")),
    };
    Refusal::new(403, "PolicyNotAuthorized", format!("{text} is disallowed by policy"))
}

/// Upstream: what equals its default counts as not given.
fn is_default(kind: &Kind, name: &str, value: &Json) -> bool {
    match kind.attribute(name).map(|attribute| attribute.post) {
        Some(Post::Default(default)) => default.json() == *value,
        _ => false,
    }
}

/// The keys of an object, or of the objects in a list.
fn parts(value: &Json) -> Box<dyn Iterator<Item = &String> + '_> {
    match value {
        Json::Object(map) => Box::new(map.keys()),
        Json::Array(items) => Box::new(items.iter().filter_map(Json::as_object).flat_map(|map| map.keys())),
        _ => Box::new(std::iter::empty()),
    }
}

/// What a reader gets to see of one kind: the attributes asked for, each with the rule that may hide it.
pub struct Sight<'a> {
    call: &'a Call<Network>,
    attributes: Vec<(&'static str, Option<String>)>,
}

impl<'a> Sight<'a> {
    /// `fields` are those asked for; none means all.
    pub fn new(call: &'a Call<Network>, kind: &'static Kind, fields: &[String]) -> Sight<'a> {
        let present =
            |extension: Option<&str>| extension.is_none_or(|extension| call.settings.has_extension(extension));
        let wanted = |name: &str| fields.is_empty() || fields.iter().any(|field| field == name);
        let attributes = kind.attributes.iter().filter(|it| it.visible && present(it.extension) && wanted(it.name));
        let with_rule = |name: &'static str| {
            let rule = format!("get_{}:{name}", kind.one);
            (name, exists(&rule).then_some(rule))
        };
        Sight { call, attributes: attributes.map(|attribute| with_rule(attribute.name)).collect() }
    }

    pub fn of(&self, item: &Json) -> Json {
        let mut shown = JsonMap::new();
        for (name, rule) in &self.attributes {
            let hidden = rule.as_ref().is_some_and(|rule| !self.call.may(rule, item));
            if let Some(value) = item.get(*name).filter(|_| !hidden) {
                shown.insert((*name).into(), value.clone());
            }
        }
        Json::Object(shown)
    }
}
