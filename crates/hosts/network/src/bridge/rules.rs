//! An nft table as a value: rendered whole, or as the difference to what is loaded, in one atomic transaction.

use std::collections::BTreeMap;
use std::fmt::Write;

/// One table. Two of the same value filter alike, so an unchanged table needs no `nft`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    /// For example `bridge ferrostack`.
    pub name: String,
    pub sets: BTreeMap<String, Set>,
    pub chains: BTreeMap<String, Chain>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Chain {
    /// `type filter hook forward priority 0; policy accept;`, or empty for a chain that others jump to.
    pub hook: String,
    pub rules: Vec<String>,
}

/// A set or a map; in a map every element has a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Set {
    /// `set` or `map`.
    kind: &'static str,
    /// `type ifname : verdict`.
    declaration: String,
    /// Elements are prefixes: the kernel keeps them as intervals.
    intervals: bool,
    elements: BTreeMap<String, String>,
}

impl Set {
    pub(crate) fn of(declaration: &str) -> Set {
        Set { kind: "set", declaration: declaration.into(), intervals: false, elements: BTreeMap::new() }
    }

    pub(crate) fn map(declaration: &str) -> Set {
        Set { kind: "map", ..Set::of(declaration) }
    }

    pub(crate) fn intervals(declaration: &str) -> Set {
        Set { intervals: true, ..Set::of(declaration) }
    }

    pub(crate) fn insert(&mut self, element: impl Into<String>) {
        self.elements.insert(element.into(), String::new());
    }

    pub(crate) fn map_to(&mut self, element: impl Into<String>, value: impl Into<String>) {
        self.elements.insert(element.into(), value.into());
    }

    fn is_like(&self, other: &Set) -> bool {
        self.kind == other.kind && self.declaration == other.declaration && self.intervals == other.intervals
    }

    fn declare(&self, name: &str) -> String {
        let flags = if self.intervals { " flags interval;" } else { "" };
        format!("{} {name} {{ {};{flags} }}", self.kind, self.declaration)
    }
}

impl Table {
    pub(crate) fn new(name: &str) -> Table {
        Table { name: name.into(), sets: BTreeMap::new(), chains: BTreeMap::new() }
    }

    pub(crate) fn chain(&mut self, name: impl Into<String>, hook: &str, rules: Vec<String>) {
        self.chains.insert(name.into(), Chain { hook: hook.into(), rules });
    }

    pub(crate) fn set(&mut self, name: impl Into<String>, set: Set) {
        self.sets.insert(name.into(), set);
    }

    /// The elements of a set or map that `now` has no more, or maps to something else.
    pub(crate) fn lost<'a>(&'a self, now: &'a Table, set: &str) -> impl Iterator<Item = &'a str> {
        let kept = now.sets.get(set);
        let mine = self.sets.get(set).into_iter().flat_map(|set| &set.elements);
        let lost = mine.filter(move |(key, value)| kept.and_then(|kept| kept.elements.get(*key)) != Some(value));
        lost.map(|(key, _)| key.as_str())
    }

    /// The chains of both that have had rules which `now` lacks.
    pub(crate) fn stricter<'a>(&'a self, now: &'a Table) -> impl Iterator<Item = &'a str> {
        let both = self.chains.iter().filter_map(|(name, old)| Some((name, old, now.chains.get(name)?)));
        let lost = |old: &Chain, new: &Chain| old.rules.iter().any(|rule| !new.rules.contains(rule));
        both.filter(move |(_, old, new)| lost(old, new)).map(|(name, ..)| name.as_str())
    }

    /// Replaces whatever is loaded under this name.
    pub(crate) fn whole(&self) -> String {
        let mut text = format!("table {0}\ndelete table {0}\ntable {0} {{\n", self.name);
        for (name, set) in &self.sets {
            writeln!(text, "{}", set.declare(name)).expect("a string takes all text");
        }
        for (name, chain) in &self.chains {
            writeln!(text, "chain {name} {{ {}", chain.hook).expect("a string takes all text");
            chain.rules.iter().for_each(|rule| text += &format!(" {rule}\n"));
            text += "}\n";
        }
        text += "}\n";
        for (name, set) in &self.sets {
            text += &change("add", &self.name, name, set.elements.iter());
        }
        text
    }

    /// What turns `loaded` into this; empty where nothing differs.
    pub(crate) fn since(&self, loaded: &Table) -> String {
        if self == loaded {
            return String::new();
        }
        let same_shape = self.name == loaded.name
            && self.sets.iter().all(|(name, set)| loaded.sets.get(name).is_none_or(|old| set.is_like(old)))
            && self.chains.iter().all(|(name, chain)| {
                loaded.chains.get(name).map_or(chain.hook.is_empty(), |old| chain.hook == old.hook)
            });
        if !same_shape { self.whole() } else { self.difference(loaded) }
    }

    /// New chains and sets first, then rules and elements that may name them, last what nothing names any more.
    fn difference(&self, loaded: &Table) -> String {
        let table = &self.name;
        let mut text = String::new();
        for name in self.chains.keys().filter(|name| !loaded.chains.contains_key(*name)) {
            text += &format!("add chain {table} {name}\n");
        }
        for (name, set) in self.sets.iter().filter(|(name, _)| !loaded.sets.contains_key(*name)) {
            text += &format!("add {}\n", set.declare(name).replacen(' ', &format!(" {table} "), 1));
        }
        for (name, chain) in &self.chains {
            text += &self.chain_difference(name, chain, loaded.chains.get(name));
        }
        for (name, set) in &self.sets {
            text += &set_difference(table, name, set, loaded.sets.get(name));
        }
        let gone: Vec<&String> = loaded.chains.keys().filter(|name| !self.chains.contains_key(*name)).collect();
        gone.iter().for_each(|name| text += &format!("flush chain {table} {name}\n"));
        gone.iter().for_each(|name| text += &format!("delete chain {table} {name}\n"));
        for (name, set) in loaded.sets.iter().filter(|(name, _)| !self.sets.contains_key(*name)) {
            text += &format!("delete {} {table} {name}\n", set.kind);
        }
        text
    }

    fn chain_difference(&self, name: &str, chain: &Chain, old: Option<&Chain>) -> String {
        if old.is_some_and(|old| old.rules == chain.rules) {
            return String::new();
        }
        let mut text = match old {
            Some(_) => format!("flush chain {} {name}\n", self.name),
            None => String::new(),
        };
        for rule in &chain.rules {
            text += &format!("add rule {} {name} {rule}\n", self.name);
        }
        text
    }
}

fn set_difference(table: &str, name: &str, set: &Set, old: Option<&Set>) -> String {
    let Some(old) = old else { return change("add", table, name, set.elements.iter()) };
    if old.elements == set.elements {
        return String::new();
    }
    if set.intervals {
        // The kernel refuses an interval that overlaps one which the same transaction removes.
        return format!("flush set {table} {name}\n") + &change("add", table, name, set.elements.iter());
    }
    let gone = old.elements.iter().filter(|(key, value)| set.elements.get(*key) != Some(value));
    let new = set.elements.iter().filter(|(key, value)| old.elements.get(*key) != Some(value));
    change("delete", table, name, gone) + &change("add", table, name, new)
}

fn change<'a>(verb: &str, table: &str, set: &str, elements: impl Iterator<Item = (&'a String, &'a String)>) -> String {
    let elements: Vec<String> =
        elements.map(|(key, value)| if value.is_empty() { key.clone() } else { format!("{key} : {value}") }).collect();
    match elements.is_empty() {
        true => String::new(),
        false => format!("{verb} element {table} {set} {{ {} }}\n", elements.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(members: &[&str], rules: &[&str]) -> Table {
        let mut table = Table::new("inet t");
        let mut set = Set::of("type ipv4_addr");
        members.iter().for_each(|member| set.insert(*member));
        table.set("members", set);
        table.chain("hooked", "type filter hook forward priority 0; policy accept;", vec![]);
        table.chain("port", "", rules.iter().map(|rule| rule.to_string()).collect());
        table
    }

    #[test]
    fn nothing_is_loaded_when_nothing_changed() {
        assert_eq!(table(&["10.0.0.1"], &["drop"]).since(&table(&["10.0.0.1"], &["drop"])), "");
    }

    #[test]
    fn a_new_member_touches_only_its_set() {
        let change = table(&["10.0.0.1", "10.0.0.3"], &["drop"]).since(&table(&["10.0.0.1", "10.0.0.2"], &["drop"]));
        let wanted = "delete element inet t members { 10.0.0.2 }\nadd element inet t members { 10.0.0.3 }\n";
        assert_eq!(change, wanted);
    }

    #[test]
    fn a_changed_rule_rewrites_only_its_chain() {
        let change = table(&[], &["accept"]).since(&table(&[], &["drop"]));
        assert_eq!(change, "flush chain inet t port\nadd rule inet t port accept\n");
    }

    #[test]
    fn a_changed_hook_replaces_the_table() {
        let mut new = table(&[], &["drop"]);
        new.chain("hooked", "type filter hook input priority 0; policy accept;", vec![]);
        assert!(new.since(&table(&[], &["drop"])).starts_with("table inet t\ndelete table inet t\n"));
    }
}
