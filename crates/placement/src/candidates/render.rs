//! Candidates as JSON, written straight from the index: a large cloud's answer has megabytes.
//!
//! Invariant: everything written here is a UUID, a class, a trait or a suffix, none of which needs escaping.

use std::collections::BTreeSet;
use std::fmt::Write;

use api::{Version, v};

use super::ask::Question;
use super::search::{Candidate, Found};
use crate::index::{Entry, Index};
use crate::standard::is_custom;

pub(crate) fn render(index: &Index, question: &Question, found: &Found<'_>, version: Version) -> String {
    let mut text = String::with_capacity(found.candidates.len() * 256 + found.summaries.len() * 1024);
    text.push_str("{\"allocation_requests\": [");
    for (place, candidate) in found.candidates.iter().enumerate() {
        text.push_str(if place == 0 { "{" } else { ", {" });
        match version >= v(1, 12) {
            true => allocations(&mut text, index, candidate),
            false => listed_allocations(&mut text, index, candidate),
        }
        if version >= v(1, 34) {
            mappings(&mut text, index, candidate);
        }
        text.push('}');
    }
    text.push_str("], \"provider_summaries\": {");
    let classes = (version < v(1, 27)).then(|| question.classes());
    for (place, at) in found.summaries.iter().enumerate() {
        text.push_str(if place == 0 { "" } else { ", " });
        summary(&mut text, &index.entries[*at], classes.as_ref(), version);
    }
    text.push_str("}}");
    text
}

/// The amounts of a candidate, provider by provider.
fn by_provider<'c>(candidate: &'c Candidate<'_>) -> Vec<(usize, Vec<(&'c str, i64)>)> {
    let mut providers: Vec<(usize, Vec<(&str, i64)>)> = Vec::new();
    for (at, class, amount) in &candidate.amounts {
        match providers.iter_mut().find(|(known, _)| known == at) {
            Some((_, amounts)) => amounts.push((class, *amount)),
            None => providers.push((*at, vec![(class, *amount)])),
        }
    }
    providers
}

fn resources(text: &mut String, amounts: &[(&str, i64)]) {
    text.push_str("\"resources\": {");
    for (place, (class, amount)) in amounts.iter().enumerate() {
        let comma = if place == 0 { "" } else { ", " };
        _ = write!(text, "{comma}\"{class}\": {amount}");
    }
    text.push('}');
}

fn allocations(text: &mut String, index: &Index, candidate: &Candidate<'_>) {
    text.push_str("\"allocations\": {");
    for (place, (at, amounts)) in by_provider(candidate).into_iter().enumerate() {
        let comma = if place == 0 { "" } else { ", " };
        _ = write!(text, "{comma}\"{}\": {{", index.entries[at].provider.uuid);
        resources(text, &amounts);
        text.push('}');
    }
    text.push('}');
}

fn listed_allocations(text: &mut String, index: &Index, candidate: &Candidate<'_>) {
    text.push_str("\"allocations\": [");
    for (place, (at, amounts)) in by_provider(candidate).into_iter().enumerate() {
        let comma = if place == 0 { "" } else { ", " };
        let uuid = &index.entries[at].provider.uuid;
        _ = write!(text, "{comma}{{\"resource_provider\": {{\"uuid\": \"{uuid}\"}}, ");
        resources(text, &amounts);
        text.push('}');
    }
    text.push(']');
}

fn mappings(text: &mut String, index: &Index, candidate: &Candidate<'_>) {
    text.push_str(", \"mappings\": {");
    for (place, (suffix, providers)) in candidate.mappings.iter().enumerate() {
        let comma = if place == 0 { "" } else { ", " };
        _ = write!(text, "{comma}\"{suffix}\": [");
        for (place, at) in providers.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            _ = write!(text, "{comma}\"{}\"", index.entries[*at].provider.uuid);
        }
        text.push(']');
    }
    text.push('}');
}

fn summary(text: &mut String, entry: &Entry, classes: Option<&BTreeSet<&str>>, version: Version) {
    _ = write!(text, "\"{}\": {{\"resources\": {{", entry.provider.uuid);
    let shown = |class: &str| classes.is_none_or(|classes| classes.contains(class));
    let stocks = entry.stocks.iter().filter(|stock| shown(&stock.inventory.resource_class));
    for (place, stock) in stocks.enumerate() {
        let comma = if place == 0 { "" } else { ", " };
        let (class, capacity, used) = (&stock.inventory.resource_class, stock.inventory.capacity(), stock.used);
        _ = write!(text, "{comma}\"{class}\": {{\"capacity\": {capacity}, \"used\": {used}}}");
    }
    text.push('}');
    if version >= v(1, 17) {
        let traits = entry.traits_json.get_or_init(|| {
            let (custom, standard): (Vec<&String>, _) = entry.traits.iter().partition(|name| is_custom(name));
            let all = standard.into_iter().chain(custom);
            let quoted: Vec<String> = all.map(|name| format!("\"{name}\"")).collect();
            format!(", \"traits\": [{}]", quoted.join(", "))
        });
        text.push_str(traits);
    }
    if version >= v(1, 29) {
        match &entry.provider.parent {
            Some(parent) => _ = write!(text, ", \"parent_provider_uuid\": \"{parent}\""),
            None => text.push_str(", \"parent_provider_uuid\": null"),
        }
        _ = write!(text, ", \"root_provider_uuid\": \"{}\"", entry.provider.root);
    }
    text.push('}');
}
