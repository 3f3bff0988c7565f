//! Every operation has a rule or says why it needs none, and no two can be confused.

use std::collections::{BTreeMap, BTreeSet};

use testkit::tables;

#[test]
fn every_operation_has_a_rule_or_says_that_it_needs_none() {
    let without = tables::all();
    let without = without.iter().filter(|row| row.rule.is_none() && !row.open && !row.public);
    assert_eq!(without.map(|row| row.name()).collect::<Vec<_>>(), Vec::<String>::new());
}

#[test]
fn an_operation_with_a_rule_is_neither_open_nor_public() {
    let both = tables::all();
    let both = both.iter().filter(|row| row.rule.is_some() && (row.open || row.public));
    assert_eq!(both.map(|row| row.name()).collect::<Vec<_>>(), Vec::<String>::new());
}

#[test]
fn every_rule_that_an_operation_names_is_in_its_policy() {
    let policies: BTreeMap<_, _> = tables::policies().into_iter().collect();
    let unknown = tables::all();
    let unknown = unknown.iter().filter(|row| row.rule.is_some_and(|rule| policies[row.service].rule(rule).is_none()));
    assert_eq!(unknown.map(|row| row.name()).collect::<Vec<_>>(), Vec::<String>::new());
}

#[test]
fn no_two_operations_are_the_same() {
    let mut seen: BTreeMap<String, Vec<&tables::Row>> = BTreeMap::new();
    let mut twice = Vec::new();
    let all = tables::all();
    for row in &all {
        let key = format!("{} {} {} {:?}", row.service, row.method, row.target(|_| "{}".into()), row.action);
        let others = seen.entry(key.clone()).or_default();
        if others.iter().any(|other| row.since <= other.until && other.since <= row.until) {
            twice.push(key);
        }
        others.push(row);
    }
    assert_eq!(twice, Vec::<String>::new());
}

#[test]
fn what_is_served_is_not_listed_as_missing() {
    let named = |text: &str| {
        let segments = text.trim_end_matches('/').split('/');
        segments.map(|segment| if segment.starts_with('{') { "{}" } else { segment }).collect::<Vec<_>>().join("/")
    };
    let all = tables::all();
    let served: BTreeSet<String> =
        all.iter().map(|row| format!("{} {}{} {:?}", row.method, row.mount, named(row.path), row.action)).collect();
    let both: Vec<String> = tables::missing()
        .iter()
        .map(|(_, method, path, action)| format!("{method} {} {:?}", named(path), action.as_deref()))
        .filter(|line| served.contains(line))
        .collect();
    assert_eq!(both, Vec::<String>::new());
}

#[test]
fn versions_of_operations_lie_within_those_of_their_service() {
    let odd = tables::all();
    let odd = odd.iter().filter(|row| row.since > row.until);
    assert_eq!(odd.map(|row| row.name()).collect::<Vec<_>>(), Vec::<String>::new());
}
