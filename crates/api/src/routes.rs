//! From a method and a path to the rows of the operation table.

use std::collections::{BTreeMap, BTreeSet};

use http::Method;
use matchit::Router;

use crate::message::decode;
use crate::operation::Shape;

/// The paths of one service. Operations that are known but not there yet are kept beside the others.
#[derive(Default)]
pub(crate) struct Routes {
    /// By normalised path: the place in `slots`.
    router: Router<usize>,
    slots: Vec<Slot>,
}

/// One path and what is on it.
#[derive(Default)]
pub(crate) struct Slot {
    path: String,
    methods: BTreeMap<String, Vec<usize>>,
    missing: BTreeSet<String>,
    missing_actions: BTreeSet<String>,
}

pub(crate) enum Found<'a> {
    Operations(&'a [usize]),
    /// Known, and answers 501.
    Missing,
    /// The path is there, the method is not: what is, for `Allow`.
    OtherMethods(String),
}

pub(crate) struct Located<'a> {
    pub found: Found<'a>,
    pub slot: &'a Slot,
    /// The values of the names in the path, in order, decoded.
    pub names: Vec<String>,
    /// The mount, with the project where the path has one.
    pub mount: String,
    pub path: String,
    /// The project between the mount and the path.
    pub project: Option<String>,
    /// Found below another mount than the first: an older version of the API, which knows no microversions.
    pub older: bool,
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
            let slot = self.slot(below);
            match words.next().filter(|word| !word.chars().all(|c| c.is_ascii_digit()) && *word != "-") {
                Some(action) => slot.missing_actions.insert(action.to_string()),
                None => slot.missing.insert(method.to_string()),
            };
        }
    }

    /// Every group of operations on the same path with the same method.
    pub(crate) fn groups(&self) -> impl Iterator<Item = &[usize]> {
        self.slots.iter().flat_map(|slot| slot.methods.values().map(Vec::as_slice))
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

    pub(crate) fn locate(&self, method: &Method, path: &str, shape: &Shape) -> Option<Located<'_>> {
        let is_below =
            |mount: &&str| path.strip_prefix(*mount).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let place = shape.mounts.iter().position(is_below)?;
        let mount = shape.mounts[place];
        let below = path[mount.len()..].trim_end_matches('/');
        let below = if below.is_empty() { "/" } else { below };
        let head_is_get = shape.envelope.head_is_get();
        if let Some((project, rest)) = project_and_rest(below).filter(|_| shape.project_in_path)
            && let Some(located) = self.locate_below(method, rest, head_is_get)
        {
            let mount = format!("{mount}/{project}");
            return Some(Located { mount, project: Some(project.to_string()), older: place > 0, ..located });
        }
        let located = self.locate_below(method, below, head_is_get)?;
        Some(Located { mount: mount.to_string(), older: place > 0, ..located })
    }

    fn locate_below(&self, method: &Method, path: &str, head_is_get: bool) -> Option<Located<'_>> {
        let matched = self.router.at(path).ok()?;
        let slot = &self.slots[*matched.value];
        let names = matched.params.iter().map(|(_, value)| decode(value)).collect();
        let found = slot.on(method.as_str()).or_else(|| match head_is_get && method == Method::HEAD {
            true => slot.on("GET"),
            false => None,
        });
        let found = found.unwrap_or_else(|| Found::OtherMethods(slot.allowed()));
        let (mount, path) = (String::new(), path.to_string());
        Some(Located { found, slot, names, mount, path, project: None, older: false })
    }
}

impl Slot {
    pub(crate) fn lacks_action(&self, key: &str) -> bool {
        self.missing_actions.contains(key)
    }

    fn on(&self, method: &str) -> Option<Found<'_>> {
        let missing = self.missing.contains(method) || (method == "POST" && !self.missing_actions.is_empty());
        match self.methods.get(method) {
            Some(indexes) => Some(Found::Operations(indexes)),
            None => missing.then_some(Found::Missing),
        }
    }

    fn allowed(&self) -> String {
        let methods: BTreeSet<&String> = self.methods.keys().chain(&self.missing).collect();
        methods.into_iter().map(String::as_str).collect::<Vec<_>>().join(", ")
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
