//! Finds candidates in the index.
//!
//! Each group alone is met by *parts*: a choice of providers within one tree, or of providers that share with it. A
//! part is anchored at the root of the tree. A candidate takes one part for every group, all with the same anchor, and
//! still fits when the amounts on each provider are added up.
//!
//! ```text
//! groups ──► parts of each group, by anchor ──► one of each (product) ──► fits, group_policy, same_subtree ──► candidates
//! ```

use std::collections::{BTreeMap, BTreeSet, HashSet};

use rand::seq::SliceRandom;

use super::ask::{Group, Question};
use crate::Settings;
use crate::index::Index;

/// Limit: combinations looked at for one request. Upstream has none and can be kept busy for hours.
const COMBINATIONS: usize = 2_000_000;

/// One way to meet the whole request. Providers are positions in the index.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Candidate<'q> {
    /// Amounts by provider and class, in the order in which the groups ask for them.
    pub(crate) amounts: Vec<(usize, &'q str, i64)>,
    /// By group: the providers that meet it.
    pub(crate) mappings: Vec<(&'q str, Vec<usize>)>,
}

pub(crate) struct Found<'q> {
    pub(crate) candidates: Vec<Candidate<'q>>,
    /// The providers to be summed up: those of all trees that give something.
    pub(crate) summaries: Vec<usize>,
}

/// A choice of providers for one group: one per resource, or the same one for all.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Part {
    providers: Vec<usize>,
    /// The provider of a group that asks for no resources.
    bare: Option<usize>,
}

type Parts = BTreeMap<usize, Vec<Part>>;

pub(crate) fn search<'q>(index: &Index, question: &'q Question, settings: &Settings) -> Found<'q> {
    let nothing = Found { candidates: Vec::new(), summaries: Vec::new() };
    let anchors = question.root.as_ref().map(|traits| {
        let roots = index.shape.trees.keys().copied();
        roots.filter(|root| index.entries[*root].has_traits(traits)).collect::<HashSet<usize>>()
    });
    let mut parts: Vec<Parts> = Vec::with_capacity(question.groups.len());
    for group in &question.groups {
        let mut found = match group.together() {
            true => together(index, group),
            false => spread(index, group),
        };
        if let Some(anchors) = &anchors {
            found.retain(|anchor, _| anchors.contains(anchor));
        }
        if found.is_empty() {
            return nothing;
        }
        parts.push(found);
    }
    let mut candidates = combined(index, question, settings, &parts);
    if settings.randomize_allocation_candidates {
        candidates.shuffle(&mut rand::rng());
    }
    candidates.truncate(question.limit.unwrap_or(usize::MAX));
    let summaries = summaries(index, question, &candidates);
    Found { candidates, summaries }
}

/// A tree that a group must come from, if it names one.
fn tree_of(index: &Index, group: &Group) -> Result<Option<usize>, ()> {
    match &group.in_tree {
        None => Ok(None),
        Some(uuid) => index.root_of(uuid).map(Some).ok_or(()),
    }
}

/// Parts of a group that one provider must meet alone.
fn together(index: &Index, group: &Group) -> Parts {
    let mut parts = Parts::new();
    let Ok(tree) = tree_of(index, group) else { return parts };
    let all: Vec<usize>;
    let possible = match group.resources.first() {
        Some((class, _)) => index.shape.by_class.get(class).map_or(&[][..], Vec::as_slice),
        None => {
            all = (0..index.entries.len()).collect();
            &all
        }
    };
    for &at in possible {
        let entry = &index.entries[at];
        let root = index.shape.roots[at];
        let meets = tree.is_none_or(|tree| tree == root)
            && group.resources.iter().all(|(class, amount)| entry.fits(class, *amount))
            && entry.has_traits(&group.traits)
            && entry.is_member(&group.membership);
        if !meets {
            continue;
        }
        let part = match group.resources.len() {
            0 => Part { providers: Vec::new(), bare: Some(at) },
            count => Part { providers: vec![at; count], bare: None },
        };
        let shares_with = index.shape.anchors.get(&at).into_iter().flatten().copied();
        for anchor in shares_with.chain([root]).collect::<BTreeSet<_>>() {
            parts.entry(anchor).or_default().push(part.clone());
        }
    }
    parts
}

/// Parts of the group without a suffix: each resource may come from another provider of the tree, or from one that
/// shares with it.
fn spread(index: &Index, group: &Group) -> Parts {
    let Ok(tree) = tree_of(index, group) else { return Parts::new() };
    let mut by_anchor: BTreeMap<usize, Vec<Vec<usize>>> = BTreeMap::new();
    for (place, (class, amount)) in group.resources.iter().enumerate() {
        for (at, anchor) in sources(index, group, tree, class, *amount) {
            let choices = by_anchor.entry(anchor).or_default();
            // A tree that lacks an earlier resource is out.
            if choices.len() == place {
                choices.push(Vec::new());
            }
            if let Some(choice) = choices.get_mut(place) {
                choice.push(at);
            }
        }
        by_anchor.retain(|_, choices| choices.len() == place + 1);
    }
    let meets = |part: &Part| {
        let entries: Vec<_> = part.providers.iter().map(|at| &index.entries[*at]).collect();
        let has = |name: &String| entries.iter().any(|entry| entry.has_trait(name));
        let required = group.traits.required.iter().all(|names| names.iter().any(has));
        required && !group.traits.forbidden.iter().any(has)
    };
    let mut parts = Parts::new();
    for (anchor, choices) in by_anchor {
        let found: Vec<Part> = Product::new(&choices)
            .take(COMBINATIONS)
            .map(|providers| Part { providers, bare: None })
            .filter(meets)
            .collect();
        if !found.is_empty() {
            parts.insert(anchor, found);
        }
    }
    parts
}

/// Who can give `amount` of `class` to which tree.
fn sources(index: &Index, group: &Group, tree: Option<usize>, class: &str, amount: i64) -> BTreeSet<(usize, usize)> {
    let mut sources = BTreeSet::new();
    let membership = &group.membership;
    let in_all = |at: usize| membership.any.iter().all(|set| index.entries[at].in_any(set));
    // An aggregate of the root is one of the whole tree.
    let is_member = |at: usize, anchor: usize| {
        (in_all(at) || in_all(anchor)) && ![at, anchor].iter().any(|one| index.entries[*one].in_any(&membership.none))
    };
    for &at in index.shape.by_class.get(class).into_iter().flatten() {
        if !index.entries[at].fits(class, amount) {
            continue;
        }
        let root = index.shape.roots[at];
        if tree.is_none_or(|tree| tree == root) && is_member(at, root) {
            sources.insert((at, root));
        }
        // What others share is not of the tree that was asked for.
        if tree.is_none() && in_all(at) {
            let anchors = index.shape.anchors.get(&at).into_iter().flatten();
            sources.extend(anchors.map(|anchor| (at, *anchor)).filter(|(at, anchor)| is_member(*at, *anchor)));
        }
    }
    sources
}

/// Takes one part for every group, anchor by anchor.
fn combined<'q>(index: &Index, question: &'q Question, settings: &Settings, parts: &[Parts]) -> Vec<Candidate<'q>> {
    let Some((first, others)) = parts.split_first() else { return Vec::new() };
    let anchors = first.keys().filter(|anchor| others.iter().all(|parts| parts.contains_key(anchor)));
    let mut ways: Vec<_> = anchors
        .map(|anchor| Ways::new(index, question, parts.iter().map(|parts| &parts[anchor][..]).collect()))
        .collect();
    let most = settings.max_allocation_candidates.unwrap_or(usize::MAX);
    let wanted =
        if settings.randomize_allocation_candidates { usize::MAX } else { question.limit.unwrap_or(usize::MAX) };
    let enough = most.min(wanted);

    let mut seen = HashSet::new();
    let mut candidates = Vec::new();
    let mut looked = 0;
    let mut turn = 0;
    while candidates.len() < enough && !ways.is_empty() && looked < COMBINATIONS {
        turn %= ways.len();
        let Some(candidate) = ways[turn].next(&mut looked) else {
            ways.remove(turn);
            continue;
        };
        if seen.insert(key(&candidate)) && one_per_tree(index, question, &candidate) {
            candidates.push(candidate);
        }
        turn += usize::from(!settings.depth_first);
    }
    if looked >= COMBINATIONS {
        tracing::warn!(looked, "the search for candidates ended before it had seen every combination");
    }
    candidates
}

/// The same amounts in another order are the same candidate.
fn key<'q>(candidate: &Candidate<'q>) -> Candidate<'q> {
    let mut key = candidate.clone();
    key.amounts.sort_unstable();
    key
}

/// Before 1.29, clients do not know that providers can be parts of each other.
fn one_per_tree(index: &Index, question: &Question, candidate: &Candidate<'_>) -> bool {
    if question.nested || !index.shape.has_trees {
        return true;
    }
    let providers: BTreeSet<usize> = candidate.amounts.iter().map(|(at, ..)| *at).collect();
    let roots: BTreeSet<usize> = providers.iter().map(|at| index.shape.roots[*at]).collect();
    providers.len() == roots.len()
}

/// The combinations of parts at one anchor, one after the other.
struct Ways<'a, 'q> {
    index: &'a Index,
    question: &'q Question,
    lists: Vec<&'a [Part]>,
    /// The next part to try, per group; the groups before the last one hold the part taken.
    next: Vec<usize>,
    /// What the parts taken so far add up to, per group.
    taken: Vec<Vec<(usize, &'q str, i64)>>,
}

impl<'a, 'q> Ways<'a, 'q> {
    fn new(index: &'a Index, question: &'q Question, lists: Vec<&'a [Part]>) -> Ways<'a, 'q> {
        Ways { index, question, lists, next: vec![0], taken: vec![Vec::new()] }
    }

    /// The next candidate. A choice that no longer fits is not pursued.
    fn next(&mut self, looked: &mut usize) -> Option<Candidate<'q>> {
        while let Some(last) = self.next.last_mut() {
            let (depth, choice) = (self.taken.len() - 1, *last);
            let Some(part) = self.lists[depth].get(choice) else {
                self.next.pop();
                self.taken.pop();
                continue;
            };
            *last += 1;
            *looked += 1;
            if *looked >= COMBINATIONS {
                return None;
            }
            let Some(amounts) = self.with(depth, part) else { continue };
            if depth + 1 < self.lists.len() {
                self.next.push(0);
                self.taken.push(amounts);
                continue;
            }
            let parts: Vec<&Part> = self.lists.iter().zip(&self.next).map(|(list, next)| &list[next - 1]).collect();
            if self.isolated(&parts) && self.same_subtree(&parts) {
                return Some(self.candidate(&parts, amounts));
            }
        }
        None
    }

    /// The amounts taken before group `depth` and those of its `part`; none if that is more than there is.
    fn with(&self, depth: usize, part: &Part) -> Option<Vec<(usize, &'q str, i64)>> {
        let mut amounts = self.taken[depth].clone();
        for ((class, amount), at) in self.question.groups[depth].resources.iter().zip(&part.providers) {
            let known = amounts.iter().position(|(known, name, _)| known == at && *name == class.as_str());
            let place = known.unwrap_or_else(|| {
                amounts.push((*at, class.as_str(), 0));
                amounts.len() - 1
            });
            amounts[place].2 += amount;
            // Amounts of several groups may be too much together.
            let stock = self.index.entries[*at].stock(class)?;
            let sum = amounts[place].2;
            if stock.used + sum > stock.inventory.capacity() || sum > stock.inventory.max_unit {
                return None;
            }
        }
        Some(amounts)
    }

    fn isolated(&self, parts: &[&Part]) -> bool {
        if !self.question.isolate {
            return true;
        }
        let groups = self.question.groups.iter().zip(parts).filter(|(group, _)| group.together());
        let mut seen = HashSet::new();
        groups.filter_map(|(_, part)| part.provider()).all(|at| seen.insert(at))
    }

    fn same_subtree(&self, parts: &[&Part]) -> bool {
        self.question.same_subtree.iter().all(|suffixes| {
            let groups = self.question.groups.iter().zip(parts).filter(|(group, _)| suffixes.contains(&group.suffix));
            let providers: BTreeSet<usize> = groups.flat_map(|(_, part)| part.all()).collect();
            // One of them stands above all the others, or is all.
            providers.iter().any(|top| providers.iter().all(|at| self.is_below(*at, *top)))
        })
    }

    fn is_below(&self, at: usize, top: usize) -> bool {
        let mut place = Some(at);
        // Ends at the root; a tree has no loops.
        while let Some(here) = place {
            if here == top {
                return true;
            }
            place = self.index.shape.parents[here];
        }
        false
    }

    fn candidate(&self, parts: &[&Part], amounts: Vec<(usize, &'q str, i64)>) -> Candidate<'q> {
        let mapping = |(group, part): (&'q Group, &&Part)| (group.suffix.as_str(), part.all().into_iter().collect());
        Candidate { amounts, mappings: self.question.groups.iter().zip(parts).map(mapping).collect() }
    }
}

impl Part {
    /// The provider of a group that one meets alone.
    fn provider(&self) -> Option<usize> {
        self.bare.or_else(|| self.providers.first().copied())
    }

    fn all(&self) -> BTreeSet<usize> {
        self.providers.iter().copied().chain(self.bare).collect()
    }
}

fn summaries(index: &Index, question: &Question, candidates: &[Candidate<'_>]) -> Vec<usize> {
    let used = candidates.iter().flat_map(|candidate| candidate.amounts.iter().map(|(at, ..)| *at));
    if !question.nested && index.shape.has_trees {
        return used.collect::<BTreeSet<_>>().into_iter().collect();
    }
    let roots: BTreeSet<usize> = used.map(|at| index.shape.roots[at]).collect();
    roots.iter().filter_map(|root| index.shape.trees.get(root)).flatten().copied().collect()
}

/// All ways to take one of each list.
struct Product<'a> {
    lists: &'a [Vec<usize>],
    /// The next choice; none when all have been made.
    next: Option<Vec<usize>>,
}

impl<'a> Product<'a> {
    fn new(lists: &'a [Vec<usize>]) -> Product<'a> {
        let some = !lists.is_empty() && lists.iter().all(|list| !list.is_empty());
        Product { lists, next: some.then(|| vec![0; lists.len()]) }
    }
}

impl Iterator for Product<'_> {
    type Item = Vec<usize>;

    fn next(&mut self) -> Option<Vec<usize>> {
        let mut choice = self.next.take()?;
        let taken = self.lists.iter().zip(&choice).map(|(list, at)| list[*at]).collect();
        for place in (0..choice.len()).rev() {
            choice[place] += 1;
            if choice[place] < self.lists[place].len() {
                self.next = Some(choice);
                break;
            }
            choice[place] = 0;
        }
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_takes_one_of_each_list() {
        let lists = [vec![1, 2], vec![3], vec![4, 5]];
        let all: Vec<_> = Product::new(&lists).collect();
        assert_eq!(all, [[1, 3, 4], [1, 3, 5], [2, 3, 4], [2, 3, 5]]);
        assert_eq!(Product::new(&[vec![1], vec![]]).count(), 0);
        assert_eq!(Product::new(&[]).count(), 0);
    }
}
