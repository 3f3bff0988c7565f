//! Who may depend on whom: edges point down the list of STYLE.md, never up and never sideways.

use super::Breach;
use crate::tree::Source;

/// What every service may lean on.
const BELOW_SERVICES: &[&str] = &["base", "db", "bus", "flow", "api", "clients", "contract"];
/// What every host agent may lean on. An agent has no database.
const BELOW_HOSTS: &[&str] = &["base", "bus", "api", "clients", "contract"];
/// What stands above everything may lean on all of it.
const ANYTHING: &[&str] = &["*"];

/// Every crate and what it may depend on. A new edge needs a decision in docs/adr.
const EDGES: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("db", &["base"]),
    ("bus", &["base"]),
    ("flow", &["base", "db", "bus"]),
    ("api", &["base", "db", "bus"]),
    ("clients", &["base", "db", "bus", "api"]),
    ("contract", &["base"]),
    ("identity", BELOW_SERVICES),
    ("image", BELOW_SERVICES),
    ("placement", BELOW_SERVICES),
    ("compute", BELOW_SERVICES),
    ("network", BELOW_SERVICES),
    ("host-hypervisor", BELOW_HOSTS),
    ("host-network", BELOW_HOSTS),
    ("ferrostack", ANYTHING),
    ("engines", &[]),
    ("testkit", ANYTHING),
    ("host", &["api", "engines"]),
    ("benches", ANYTHING),
    ("xtask", &["engines"]),
];

/// What tests may lean on beside that.
const FOR_TESTS: &[&str] = &["testkit", "engines", "ferrostack"];

/// Libraries that stop at one door, and the crates that are that door.
const DOORS: &[(&str, &[&str])] = &[
    ("hyper", &["api", "benches"]),
    ("hyper-util", &["api", "benches"]),
    ("http", &["api", "benches"]),
    ("http-body-util", &["api", "benches"]),
    ("matchit", &["api"]),
    ("sqlx", &["db"]),
    ("lapin", &["bus"]),
    ("clap", &["ferrostack", "xtask", "benches"]),
    ("anyhow", &["ferrostack", "xtask", "testkit", "engines", "benches"]),
];

/// A crate as its manifest describes it.
struct Crate<'a> {
    name: &'a str,
    path: &'a str,
    dependencies: Vec<Dependency<'a>>,
}

struct Dependency<'a> {
    name: &'a str,
    /// Counted from 1.
    line: usize,
    for_tests: bool,
    /// Written `name.workspace = true` and nothing else.
    is_plain: bool,
}

pub fn check(sources: &[Source]) -> Vec<Breach> {
    let members: Vec<Crate> = sources.iter().filter(|it| it.path.ends_with("/Cargo.toml")).map(read).collect();
    members.iter().flat_map(|member| check_one(member, &members)).collect()
}

fn check_one(member: &Crate, members: &[Crate]) -> Vec<Breach> {
    let mut breaches = Vec::new();
    let Some((_, allowed)) = EDGES.iter().find(|(name, _)| *name == member.name) else {
        let what = format!("crate {} has no row in the table of edges", member.name);
        let mend = "add it to EDGES in xtask/src/tidy/crates.rs, where it belongs in the order";
        return vec![Breach { path: member.path.into(), line: 1, what, mend }];
    };
    for dependency in &member.dependencies {
        let mut add = |what, mend| {
            breaches.push(Breach { path: member.path.into(), line: dependency.line, what, mend });
        };
        let name = dependency.name;
        let ours = members.iter().any(|it| it.name == name);
        let for_tests = dependency.for_tests && FOR_TESTS.contains(&name);
        if ours && !for_tests && !allowed.contains(&name) && *allowed != ANYTHING {
            add(
                format!("{} may not depend on {name}", member.name),
                "dependencies point down; ask through clients instead",
            );
        }
        let door = DOORS.iter().find(|(library, _)| *library == name);
        if door.is_some_and(|(_, owners)| !owners.contains(&member.name)) && !dependency.for_tests {
            add(
                format!("{name} stops at its door"),
                "use what the crate that owns it offers (DOORS in xtask/src/tidy/crates.rs)",
            );
        }
        if !dependency.is_plain {
            add(
                format!("{name} has a version or features of its own"),
                "write name.workspace = true; the root manifest has the rest",
            );
        }
    }
    breaches
}

/// How many libraries of other people the workspace names, and how many come with them.
pub fn count_dependencies(sources: &[Source]) -> (usize, usize) {
    let text = |path: &str| sources.iter().find(|it| it.path == path).map_or("", |it| it.text.as_str());
    let named = section(text("Cargo.toml"), "workspace.dependencies");
    let direct = named.filter(|(_, line)| !line.contains("path =")).count();
    let all = text("Cargo.lock").lines().filter(|line| line.starts_with("source = ")).count();
    (direct, all)
}

fn read(source: &Source) -> Crate<'_> {
    let name = section(&source.text, "package").find_map(|(_, line)| line.strip_prefix("name = "));
    let mut dependencies = Vec::new();
    for (kind, for_tests) in [("dependencies", false), ("dev-dependencies", true), ("build-dependencies", false)] {
        for (line, text) in section(&source.text, kind) {
            let (key, value) = text.split_once('=').unwrap_or((text, ""));
            let name = key.trim().trim_end_matches(".workspace").trim_matches('"');
            let is_plain = key.trim().ends_with(".workspace") && value.trim() == "true";
            dependencies.push(Dependency { name, line, for_tests, is_plain });
        }
    }
    Crate { name: name.unwrap_or("?").trim_matches('"'), path: &source.path, dependencies }
}

/// The lines of one section of a manifest that say something, with their numbers.
fn section<'a>(text: &'a str, wanted: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
    let mut inside = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let line = line.trim();
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            inside = name == wanted;
            return None;
        }
        let says_something = !line.is_empty() && !line.starts_with('#');
        (inside && says_something).then_some((index + 1, line))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(name: &str, rest: &str) -> Source {
        let text = format!("[package]\nname = \"{name}\"\n\n{rest}\n");
        Source { path: format!("crates/{name}/Cargo.toml"), text }
    }

    fn breaches(sources: &[Source]) -> Vec<String> {
        check(sources).into_iter().map(|it| it.what).collect()
    }

    #[test]
    fn a_service_may_not_depend_on_another_service() {
        let sources = [
            manifest("compute", "[dependencies]\nbase.workspace = true\nnetwork.workspace = true"),
            manifest("network", ""),
            manifest("base", ""),
        ];
        assert_eq!(breaches(&sources), ["compute may not depend on network"]);
    }

    #[test]
    fn tests_may_lean_on_the_test_kit_and_the_product_may_not() {
        let sources = [
            manifest("image", "[dev-dependencies]\ntestkit.workspace = true"),
            manifest("db", "[dependencies]\ntestkit.workspace = true"),
            manifest("testkit", "[dependencies]\nimage.workspace = true"),
        ];
        assert_eq!(breaches(&sources), ["db may not depend on testkit"]);
    }

    #[test]
    fn heavy_libraries_stop_at_their_door() {
        let sources = [
            manifest("image", "[dependencies]\nhyper.workspace = true"),
            manifest("api", "[dependencies]\nhyper.workspace = true"),
        ];
        assert_eq!(breaches(&sources), ["hyper stops at its door"]);
    }

    #[test]
    fn versions_and_features_stand_in_the_root_manifest() {
        let sources = [manifest("base", "[dependencies]\nserde = { version = \"1\" }")];
        assert_eq!(breaches(&sources), ["serde has a version or features of its own"]);
    }
}
