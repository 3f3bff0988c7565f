//! The lists of operations that are not served yet: they may only shrink, and nothing may be in neither place.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use crate::floors::Tally;
use crate::{cloud, process, tree};

const FACTS: &str = "tests/facts/operations.tsv";
const LISTS: &str = "tests/ratchet/operations";
/// Limit: how many earlier versions of a list it is compared with.
const VERSIONS: &str = "20";
const SERVICES: [&str; 5] = ["compute", "identity", "image", "network", "placement"];

const VERSION_DOCUMENTS: [&str; 6] =
    ["GET /", "GET /v3", "GET /versions", "GET /v2.0/", "GET /v2.1/", "GET /v2.1/versions/{id}"];

/// One operation as the facts and the lists write it: `METHOD path[ action]`.
type Name = String;

/// Takes what is served by now out of the lists.
pub fn tighten() -> Result<()> {
    let served = served()?;
    for service in SERVICES {
        let listed = read_list(service)?;
        let left: Vec<&(Name, String)> = listed.iter().filter(|(name, _)| !is_served(&served, service, name)).collect();
        let text: String = left.iter().map(|(name, issue)| format!("{name} {issue}\n")).collect();
        fs::write(tree::root().join(LISTS).join(format!("{service}.txt")), text)?;
        println!("{service}: {} of {} listed operations are served by now", listed.len() - left.len(), listed.len());
    }
    Ok(())
}

/// Every operation is one test: it is served, or it is listed.
pub fn check() -> Result<Tally> {
    let served = served()?;
    let mut tally = Tally::default();
    for service in SERVICES {
        let facts = facts(service)?;
        let listed: BTreeMap<Name, String> = read_list(service)?.into_iter().collect();
        for name in &facts {
            let is_listed = listed.contains_key(name);
            // Services answer these outside of their tables.
            let is_document = !is_listed && VERSION_DOCUMENTS.contains(&name.as_str());
            match (is_document || is_served(&served, service, name), is_listed) {
                (true, true) => {
                    report(&mut tally, service, name, "is served: take it out with cargo xtask golden --ratchet")
                }
                (false, false) => report(&mut tally, service, name, "is neither served nor listed in tests/ratchet"),
                _ => tally.passed += 1,
            }
        }
        for name in listed.keys().filter(|name| !facts.contains(*name)) {
            report(&mut tally, service, name, "is not an operation of tests/facts/operations.tsv");
        }
        for name in grown(service, &listed)? {
            report(&mut tally, service, &name, "is new in the list, which may only shrink");
        }
    }
    Ok(tally)
}

fn report(tally: &mut Tally, service: &str, name: &str, what: &str) {
    println!("{service}: {name} {what}");
    tally.failed += 1;
}

/// What the list holds now and some earlier version of it did not.
fn grown(service: &str, listed: &BTreeMap<Name, String>) -> Result<BTreeSet<Name>> {
    let path = format!("{LISTS}/{service}.txt");
    let log = process::quiet(Command::new("git").args(["log", "-n", VERSIONS, "--format=%H", "--", &path]))?;
    let mut new = BTreeSet::new();
    for commit in log.lines.iter().filter(|_| log.success) {
        let show = process::quiet(Command::new("git").arg("show").arg(format!("{commit}:{path}")))?;
        let before: BTreeSet<Name> = show.lines.iter().filter_map(|line| split(line)).map(|(name, _)| name).collect();
        if show.success {
            new.extend(listed.keys().filter(|name| !before.contains(*name)).cloned());
        }
    }
    Ok(new)
}

/// The operations that must be served or listed: all but those of other trees and those that upstream has removed.
fn facts(service: &str) -> Result<BTreeSet<Name>> {
    let text = fs::read_to_string(tree::root().join(FACTS)).with_context(|| format!("cannot read {FACTS}"))?;
    let rows = text.lines().map(|line| line.split('\t').collect::<Vec<_>>());
    let wanted = rows.filter(|row| row.len() > 9 && row[0] == service && row[8] != "ext-other" && row[9] != "removed");
    Ok(wanted.map(|row| name(row[2], row[3], row[4])).collect())
}

fn name(method: &str, path: &str, action: &str) -> Name {
    if action == "-" { format!("{method} {path}") } else { format!("{method} {path} {action}") }
}

fn read_list(service: &str) -> Result<Vec<(Name, String)>> {
    let path = tree::root().join(LISTS).join(format!("{service}.txt"));
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    text.lines().map(|line| split(line).with_context(|| format!("{}: {line}", path.display()))).collect()
}

/// `METHOD path[ action] issue` without, and with, its last word.
fn split(line: &str) -> Option<(Name, String)> {
    let (name, issue) = line.rsplit_once(' ')?;
    Some((name.to_owned(), issue.to_owned()))
}

/// What the program serves: `service METHOD path[ action]`, with the names of parameters left out.
fn served() -> Result<BTreeSet<String>> {
    let lines = process::must(Command::new(cloud::program()?).arg("operations"), "ferrostack operations")?;
    let names = lines.iter().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [service, method, path, rest @ ..] = words.as_slice() else { return None };
        Some(format!("{service} {}", plain(&name(method, path, rest.first().copied().unwrap_or("-")))))
    });
    Ok(names.collect())
}

fn is_served(served: &BTreeSet<String>, service: &str, name: &str) -> bool {
    let name = plain(name);
    let by = |name: &str| served.contains(&format!("{service} {name}"));
    // Upstream: whoever answers GET answers HEAD.
    let as_get = name.strip_prefix("HEAD ").map(|path| format!("GET {path}"));
    // The facts count tags once for all kinds of resources; ports stand for them.
    let of_ports = name.replace("/v2.0/{}/{}/tags", "/v2.0/ports/{}/tags");
    by(&name) || as_get.is_some_and(|it| by(&it)) || by(&of_ports)
}

/// The name with every `{parameter}` as `{}` and without a slash at the end of the path.
fn plain(name: &str) -> String {
    let mut plain = String::new();
    let mut inside = false;
    for it in name.chars() {
        if !inside || it == '}' {
            plain.push(it);
        }
        inside = it == '{' || (inside && it != '}');
    }
    let words = plain.split(' ').map(|word| if word.len() > 1 { word.trim_end_matches('/') } else { word });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_parameters_do_not_matter() {
        assert_eq!(plain("GET /v2.1/servers/{server_id}/ips/{id}"), "GET /v2.1/servers/{}/ips/{}");
        assert_eq!(plain("GET /v2.0/"), "GET /v2.0");
        assert_eq!(plain("GET /"), "GET /");
    }

    #[test]
    fn head_is_served_with_get_and_tags_with_any_resource() {
        let served = ["identity GET /v3/auth/tokens", "network GET /v2.0/ports/{}/tags"].map(str::to_owned).into();
        assert!(is_served(&served, "identity", "HEAD /v3/auth/tokens"));
        assert!(is_served(&served, "network", "GET /v2.0/{resource_type}/{resource_id}/tags"));
        assert!(!is_served(&served, "network", "GET /v2.0/trunks"));
    }
}
