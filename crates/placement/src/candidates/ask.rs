//! The query of `GET /allocation_candidates`: request groups by suffix, and what holds for all of them.

use std::collections::BTreeSet;

use api::{Answer, Call, Refusal, v};

use crate::Placement;
use crate::exchange::bad_query;
use crate::filters::{self, Membership, Traits};

/// What a client wants room for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Question {
    pub(crate) groups: Vec<Group>,
    /// Whether every group with a suffix must be met by a provider of its own.
    pub(crate) isolate: bool,
    pub(crate) limit: Option<usize>,
    /// What the root of the tree must and must not have.
    pub(crate) root: Option<Traits>,
    /// Groups by suffix; the providers of each set must stand below one of them.
    pub(crate) same_subtree: Vec<BTreeSet<String>>,
    /// Before 1.29: no more than one provider of a tree.
    pub(crate) nested: bool,
}

/// What must come from one provider, or, without a suffix, from one tree and whoever shares with it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Group {
    pub(crate) suffix: String,
    pub(crate) resources: Vec<(String, i64)>,
    pub(crate) traits: Traits,
    pub(crate) membership: Membership,
    /// Any provider of the tree that is wanted.
    pub(crate) in_tree: Option<String>,
}

impl Group {
    /// Whether one provider must give everything.
    pub(crate) fn together(&self) -> bool {
        !self.suffix.is_empty()
    }
}

/// The words of a query that begin a request group.
const GROUPED: [&str; 4] = ["resources", "required", "member_of", "in_tree"];

pub(crate) async fn read(call: &Call<Placement>) -> Answer<Question> {
    check_names(call)?;
    let question = Question {
        limit: limit(call)?,
        isolate: group_policy(call)? == Some("isolate"),
        root: root_required(call)?,
        same_subtree: same_subtree(call)?,
        groups: groups(call)?,
        nested: call.version >= v(1, 29),
    };
    match call.version >= v(1, 36) {
        true => check_suffixes(&question)?,
        false => check_orphans(&question.groups)?,
    }
    if call.version >= v(1, 22) {
        check_conflicts(&question.groups)?;
    }
    let together = question.groups.iter().filter(|group| group.together()).count();
    if together > 1 && !call.query.has("group_policy") {
        let text =
            "The \"group_policy\" parameter is required when specifying more than one \"resources{N}\" parameter.";
        return Err(Refusal::bad_request(text));
    }
    check_known(call, &question).await?;
    Ok(question)
}

/// The suffix of a grouped name, if `name` is one at this version.
fn suffix<'a>(call: &Call<Placement>, word: &str, name: &'a str) -> Option<&'a str> {
    let suffix = name.strip_prefix(word)?;
    let fits = match call.version {
        version if version < v(1, 25) => suffix.is_empty(),
        version if version < v(1, 33) => {
            suffix.is_empty() || (!suffix.starts_with('0') && suffix.bytes().all(|b| b.is_ascii_digit()))
        }
        _ => suffix.len() <= 64 && suffix.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')),
    };
    fits.then_some(suffix)
}

fn check_names(call: &Call<Placement>) -> Answer<()> {
    let since = [("resources", v(1, 10)), ("required", v(1, 17)), ("member_of", v(1, 21)), ("in_tree", v(1, 31))];
    let plain =
        [("limit", v(1, 16)), ("group_policy", v(1, 25)), ("root_required", v(1, 35)), ("same_subtree", v(1, 36))];
    let serves = |name: &str| {
        let grouped = |(word, since): &(&str, _)| call.version >= *since && suffix(call, word, name).is_some();
        plain.iter().any(|(word, since)| name == *word && call.version >= *since) || since.iter().any(grouped)
    };
    if let Some((name, _)) = call.query.0.iter().find(|(name, _)| !serves(name)) {
        let why = match call.version < v(1, 25) {
            true => format!("Additional properties are not allowed ('{name}' was unexpected)"),
            false => format!("'{name}' does not match any of the regexes: '{}'", patterns(call).join("', '")),
        };
        return Err(bad_query(why));
    }
    match call.version < v(1, 25) && !call.query.has("resources") {
        true => Err(bad_query("'resources' is a required property")),
        false => Ok(()),
    }
}

/// The names that may have a suffix at this version, as upstream writes them.
fn patterns(call: &Call<Placement>) -> Vec<String> {
    let suffix = if call.version < v(1, 33) { "[1-9][0-9]*" } else { "[a-zA-Z0-9_-]{1,64}" };
    let mut words = GROUPED.to_vec();
    words.sort_unstable();
    let served = words.into_iter().filter(|word| *word != "in_tree" || call.version >= v(1, 31));
    served.map(|word| format!("^{word}({suffix})?$")).collect()
}

fn limit(call: &Call<Placement>) -> Answer<Option<usize>> {
    let Some(text) = call.query.all("limit").next() else { return Ok(None) };
    let plain = !text.starts_with('0') && !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match plain {
        true => Ok(Some(text.parse().unwrap_or(usize::MAX))),
        false => Err(bad_query(format!("'{text}' does not match '^[1-9][0-9]*$'"))),
    }
}

fn group_policy(call: &Call<Placement>) -> Answer<Option<&str>> {
    match call.query.all("group_policy").next() {
        Some(policy) if !matches!(policy, "none" | "isolate") => {
            Err(bad_query(format!("'{policy}' is not one of ['none', 'isolate']")))
        }
        policy => Ok(policy),
    }
}

fn bad_value(text: impl Into<String>) -> Refusal {
    Refusal::new(400, "placement.query.bad_value", text)
}

fn root_required(call: &Call<Placement>) -> Answer<Option<Traits>> {
    let values: Vec<&str> = call.query.all("root_required").collect();
    let value = match values[..] {
        [] => return Ok(None),
        [value] => value,
        _ => {
            let text = "Query parameter 'root_required' may be specified only once.";
            return Err(Refusal::new(400, "placement.query.duplicate_key", text));
        }
    };
    let traits = filters::traits(value, true, false)?;
    let both = traits.required.iter().flatten().filter(|name| traits.forbidden.contains(*name));
    let both: Vec<&str> = both.map(String::as_str).collect();
    match both.is_empty() {
        true => Ok(Some(traits)),
        false => {
            let names = both.join(", ");
            Err(bad_value(format!("Conflicting required and forbidden traits found in root_required: {names}")))
        }
    }
}

fn same_subtree(call: &Call<Placement>) -> Answer<Vec<BTreeSet<String>>> {
    let read = |value: &str| {
        let suffixes: BTreeSet<String> = value.split(',').map(|one| one.trim().to_string()).collect();
        match suffixes.contains("") {
            true => Err(bad_value("Empty string (unsuffixed group) can not be specified in `same_subtree` ")),
            false => Ok(suffixes),
        }
    };
    call.query.all("same_subtree").map(read).collect()
}

/// The groups, in the order of their first appearance.
fn groups(call: &Call<Placement>) -> Answer<Vec<Group>> {
    let mut groups: Vec<Group> = Vec::new();
    for (name, value) in &call.query.0 {
        let grouped = GROUPED.iter().find_map(|word| Some((*word, suffix(call, word, name)?)));
        let Some((word, suffix)) = grouped else { continue };
        let at = groups.iter().position(|group| group.suffix == suffix).unwrap_or_else(|| {
            groups.push(Group { suffix: suffix.to_string(), ..Group::default() });
            groups.len() - 1
        });
        let group = &mut groups[at];
        match word {
            "resources" => group.resources = filters::resources(value)?,
            "required" => group.traits = filters::required(call, name)?,
            "member_of" => group.membership = filters::member_of(call, name, suffix)?,
            _ => group.in_tree = filters::in_tree(&call.query, name)?,
        }
    }
    Ok(groups)
}

/// Before 1.36 every group must want resources.
fn check_orphans(groups: &[Group]) -> Answer<()> {
    let orphans = |word: &str, has: fn(&Group) -> bool| {
        let found = groups.iter().filter(|group| group.resources.is_empty() && has(group));
        found.map(|group| format!("{word}{}", group.suffix)).collect::<Vec<_>>().join(", ")
    };
    let traits = orphans("required", |group| !group.traits.required.is_empty());
    if !traits.is_empty() {
        let text =
            "All traits parameters must be associated with resources.  Found the following orphaned traits keys:";
        return Err(Refusal::bad_request(format!("{text} {traits}")));
    }
    let members = orphans("member_of", |group| !group.membership.any.is_empty() || !group.membership.none.is_empty());
    if !members.is_empty() {
        let text = "All member_of parameters must be associated with resources. Found the following orphaned member_of";
        return Err(Refusal::bad_request(format!("{text} keys: {members}")));
    }
    match groups {
        [] => Err(Refusal::bad_request("At least one request group (`resources` or `resources{$S}`) is required.")),
        groups if groups.iter().any(|group| group.resources.is_empty()) => {
            Err(Refusal::bad_request("All request groups must specify resources."))
        }
        _ => Ok(()),
    }
}

/// From 1.36 a group without resources is fine, if its place in the tree is asked for.
fn check_suffixes(question: &Question) -> Answer<()> {
    let Question { groups, same_subtree, .. } = question;
    if groups.iter().all(|group| group.resources.is_empty()) {
        let text = "There must be at least one resources or resources[$S] parameter.";
        return Err(Refusal::new(400, "placement.query.missing_value", text));
    }
    let quoted =
        |suffixes: Vec<&str>| suffixes.iter().map(|suffix| format!("'{suffix}'")).collect::<Vec<_>>().join(", ");
    let named = |suffix: &str| same_subtree.iter().any(|set| set.contains(suffix));
    let loose = groups.iter().filter(|group| group.resources.is_empty() && !named(&group.suffix));
    let loose: Vec<&str> = loose.map(|group| group.suffix.as_str()).collect();
    if !loose.is_empty() {
        let text =
            "Resourceless suffixed group request should be specified in `same_subtree` query param: bad group(s)";
        return Err(bad_value(format!("{text} - [{}].", quoted(loose))));
    }
    let real = |suffix: &&String| groups.iter().any(|group| group.suffix == **suffix);
    let unreal = same_subtree.iter().flatten().filter(|suffix| !real(suffix));
    let unreal: Vec<&str> = unreal.map(String::as_str).collect();
    if !unreal.is_empty() {
        let all = quoted(groups.iter().map(|group| group.suffix.as_str()).collect());
        let text = "Real suffixes should be specified in `same_subtree`:";
        return Err(bad_value(format!("{text} [{}] not found in [{all}].", quoted(unreal))));
    }
    Ok(())
}

fn check_conflicts(groups: &[Group]) -> Answer<()> {
    let mut conflicts = Vec::new();
    for Group { suffix, traits, .. } in groups {
        for names in traits.required.iter().filter(|names| names.is_subset(&traits.forbidden)) {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            conflicts.push(format!("required{suffix}: ({})", names.join(", ")));
        }
    }
    conflicts.sort();
    match conflicts.is_empty() {
        true => Ok(()),
        false => {
            let text = "Conflicting required and forbidden traits found in the following traits keys:";
            Err(Refusal::bad_request(format!("{text} {}", conflicts.join(", "))))
        }
    }
}

/// Names that nobody has ever heard of are mistakes, not requests without candidates.
async fn check_known(call: &Call<Placement>, question: &Question) -> Answer<()> {
    let classes = question.groups.iter().flat_map(|group| group.resources.iter().map(|(class, _)| class.as_str()));
    if let Some(class) = filters::unknown_class(&call.db, classes.collect()).await? {
        let text = format!("Invalid resource class in resources parameter: No such resource class {class}.");
        return Err(Refusal::bad_request(text));
    }
    let mut all = question.root.clone().unwrap_or_default();
    for group in &question.groups {
        all.required.extend(group.traits.required.iter().cloned());
        all.forbidden.extend(group.traits.forbidden.iter().cloned());
    }
    match filters::unknown_trait(&call.db, &all).await? {
        None => Ok(()),
        Some(name) => Err(Refusal::bad_request(format!("No such trait(s): {name}."))),
    }
}

impl Question {
    /// The classes asked for by any group: all that summaries show before 1.27.
    pub(crate) fn classes(&self) -> BTreeSet<&str> {
        self.groups.iter().flat_map(|group| &group.resources).map(|(class, _)| class.as_str()).collect()
    }
}
