//! From a method and a path to the rows of the operation table.

use std::collections::{BTreeMap, BTreeSet};

use http::Method;
use matchit::Router;

use crate::message::decode;
use crate::operation::Shape;

/// The paths of one service. Operations that are known but not there yet are kept beside the others.
#[derive(Default)]
pub(crate) struct Routes {
    /// By normalised path: per method, the operations on it.
    router: Router<usize>,
    slots: Vec<Slot>,
    missing_actions: BTreeSet<String>,
}

#[derive(Default)]
struct Slot {
    path: String,
    methods: BTreeMap<String, Vec<usize>>,
    missing: BTreeSet<String>,
}

pub(crate) enum Found {
    Operations(Vec<usize>),
    /// Known, and answers 501.
    Missing,
    /// The path is there, the method is not: what is, for `Allow`.
    OtherMethods(String),
}

pub(crate) struct Located {
    pub found: Found,
    /// The values of the names in the path, in order, decoded.
    pub names: Vec<String>,
    /// The mount, with the project where the path has one.
    pub mount: String,
    pub path: String,
}

impl Routes {
    pub(crate) fn add(&mut self, method: &Method, path: &str, index: usize) {
        self.slot(path).methods.entry(method.to_string()).or_default().push(index);
    }

    /// Reads the list of operations that are not there yet: `METHOD /mount/path[ action] …`.
    pub(crate) fn add_missing(&mut self, lines: &str, mounts: &[&str]) {
        for line in lines.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
            let mut words = line.split_whitespace();
            let (Some(method), Some(path)) = (words.next(), words.next()) else { continue };
            let below = mounts.iter().find_map(|mount| path.strip_prefix(mount)).unwrap_or(path);
            let below = below.split('?').next().unwrap_or(below);
            let below = below.strip_prefix("/{project_id}").unwrap_or(below);
            match words.next().filter(|word| !word.chars().all(|c| c.is_ascii_digit()) && *word != "-") {
                Some(action) => {
                    self.missing_actions.insert(action.to_string());
                }
                None => {
                    self.slot(below).missing.insert(method.to_string());
                }
            }
        }
    }

    pub(crate) fn missing_action(&self, key: &str) -> bool {
        self.missing_actions.contains(key)
    }

    /// Paths that differ only in the words inside braces are the same path.
    fn slot(&mut self, path: &str) -> &mut Slot {
        let path = normalised(path);
        let index = match self.slots.iter().position(|slot| slot.path == path) {
            Some(index) => index,
            None => {
                let index = self.slots.len();
                self.router.insert(path.clone(), index).unwrap_or_else(|error| panic!("the path {path}: {error}"));
                self.slots.push(Slot { path, ..Slot::default() });
                index
            }
        };
        &mut self.slots[index]
    }

    pub(crate) fn locate(&self, method: &Method, path: &str, shape: &Shape) -> Option<Located> {
        let mount = shape
            .mounts
            .iter()
            .find(|mount| path.strip_prefix(**mount).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))?;
        let below = path[mount.len()..].trim_end_matches('/');
        let below = if below.is_empty() { "/" } else { below };
        if let Some((project, rest)) = project_and_rest(below).filter(|_| shape.project_in_path) {
            let mount = format!("{mount}/{project}");
            if let Some(located) = self.locate_below(method, rest, mount) {
                return Some(located);
            }
        }
        self.locate_below(method, below, mount.to_string())
    }

    fn locate_below(&self, method: &Method, path: &str, mount: String) -> Option<Located> {
        let matched = self.router.at(path).ok()?;
        let slot = &self.slots[*matched.value];
        let names = matched.params.iter().map(|(_, value)| decode(value)).collect();
        let of = |name: &str| slot.methods.get(name).cloned();
        let found = match of(method.as_str()).or_else(|| of("GET").filter(|_| method == Method::HEAD)) {
            Some(indexes) => Found::Operations(indexes),
            None if slot.missing.contains(method.as_str()) => Found::Missing,
            None => Found::OtherMethods(slot.methods.keys().cloned().collect::<Vec<_>>().join(", ")),
        };
        Some(Located { found, names, mount, path: path.to_string() })
    }
}

/// `/{server_id}/tags/{tag}` → `/{0}/tags/{1}`.
fn normalised(path: &str) -> String {
    let mut names = 0;
    let segments = path.split('/').map(|segment| match segment.starts_with('{') {
        true => {
            names += 1;
            format!("{{n{names}}}")
        }
        false => segment.to_string(),
    });
    let joined = segments.collect::<Vec<_>>().join("/");
    if joined.is_empty() { "/".to_string() } else { joined }
}

/// Splits a leading project id off: 32 hex digits or a UUID.
fn project_and_rest(path: &str) -> Option<(&str, &str)> {
    let trimmed = path.strip_prefix('/')?;
    let (first, rest) = trimmed.split_at(trimmed.find('/').unwrap_or(trimmed.len()));
    base::id::is_uuid(first).then_some((first, if rest.is_empty() { "/" } else { rest }))
}
