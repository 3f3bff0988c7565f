//! What candidates are chosen from, in memory: a picture of the rows that follows the epoch.
//!
//! Each request reads the epoch (one row). If it moved, only the providers that changed since are read again; the
//! relations between providers are worked out anew only if one of them changed its place, traits or aggregates.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use db::{Db, Record, Row, Select, Statement, select, sql};

use crate::aggregates::Member;
use crate::epoch::Gone;
use crate::filters::{Membership, Traits};
use crate::inventories::Inventory;
use crate::providers::Provider;
use crate::traits::Has;

/// Providers with this trait lend their inventory to the trees with which they share an aggregate.
pub(crate) const SHARES: &str = "MISC_SHARES_VIA_AGGREGATE";

/// Limit: changed providers that are asked for by name; more, and everything is read.
const BY_NAME: usize = 500;

/// One provider with all that it has.
pub(crate) struct Entry {
    pub(crate) provider: Provider,
    pub(crate) stocks: Vec<Stock>,
    /// Sorted.
    pub(crate) traits: Vec<String>,
    /// Sorted.
    pub(crate) aggregates: Vec<String>,
    /// The traits as JSON, made when first asked for.
    pub(crate) traits_json: OnceLock<String>,
}

/// An inventory and how much of it is used.
pub(crate) struct Stock {
    pub(crate) inventory: Inventory,
    pub(crate) used: i64,
}

/// The picture at one epoch. Providers are named by their position in `entries`.
#[derive(Clone, Default)]
pub(crate) struct Index {
    epoch: i64,
    /// In the order of their creation.
    pub(crate) entries: Vec<Arc<Entry>>,
    pub(crate) shape: Arc<Shape>,
}

/// How the providers relate to each other.
#[derive(Default)]
pub(crate) struct Shape {
    pub(crate) positions: HashMap<String, usize>,
    /// By position.
    pub(crate) parents: Vec<Option<usize>>,
    pub(crate) roots: Vec<usize>,
    /// By the position of the root: its whole tree.
    pub(crate) trees: HashMap<usize, Vec<usize>>,
    pub(crate) by_class: HashMap<String, Vec<usize>>,
    /// For each provider that shares: the roots of the trees that it shares with.
    pub(crate) anchors: BTreeMap<usize, BTreeSet<usize>>,
    pub(crate) has_trees: bool,
}

impl Stock {
    pub(crate) fn fits(&self, amount: i64) -> bool {
        let Inventory { min_unit, max_unit, step_size, .. } = self.inventory;
        let in_units = amount >= min_unit && amount <= max_unit && amount % step_size == 0;
        in_units && (self.used + amount) as f64 <= self.inventory.exact_capacity()
    }
}

impl Entry {
    pub(crate) fn stock(&self, class: &str) -> Option<&Stock> {
        self.stocks.iter().find(|stock| stock.inventory.resource_class == class)
    }

    pub(crate) fn fits(&self, class: &str, amount: i64) -> bool {
        self.stock(class).is_some_and(|stock| stock.fits(amount))
    }

    pub(crate) fn has_trait(&self, name: &str) -> bool {
        self.traits.binary_search_by(|known| known.as_str().cmp(name)).is_ok()
    }

    pub(crate) fn has_traits(&self, traits: &Traits) -> bool {
        let one_of = |names: &BTreeSet<String>| names.iter().any(|name| self.has_trait(name));
        traits.required.iter().all(one_of) && !one_of(&traits.forbidden)
    }

    pub(crate) fn in_any(&self, aggregates: &BTreeSet<String>) -> bool {
        self.aggregates.iter().any(|one| aggregates.contains(one))
    }

    pub(crate) fn is_member(&self, membership: &Membership) -> bool {
        membership.any.iter().all(|set| self.in_any(set)) && !self.in_any(&membership.none)
    }

    /// Whether the relations of `other` to everybody else are the same.
    fn same_place(&self, other: &Entry) -> bool {
        let classes = |entry: &Entry| -> Vec<String> {
            entry.stocks.iter().map(|stock| stock.inventory.resource_class.clone()).collect()
        };
        self.provider.parent == other.provider.parent
            && self.provider.root == other.provider.root
            && self.traits == other.traits
            && self.aggregates == other.aggregates
            && classes(self) == classes(other)
    }
}

/// Keeps the newest picture and renews it when it is asked for.
#[derive(Default)]
pub(crate) struct Keeper {
    current: RwLock<Arc<Index>>,
    renewing: tokio::sync::Mutex<()>,
}

impl Keeper {
    /// The picture of everything committed before this call.
    pub(crate) async fn newest(&self, db: &Db) -> Result<Arc<Index>, db::Error> {
        let epoch = db.count(sql("SELECT value FROM epoch WHERE id = 1")).await?;
        let current = self.current();
        if current.epoch >= epoch {
            return Ok(current);
        }
        let _renewing = self.renewing.lock().await;
        let current = self.current();
        if current.epoch >= epoch {
            return Ok(current);
        }
        let renewed = Arc::new(renewed(db, &current).await?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = renewed.clone();
        Ok(renewed)
    }

    fn current(&self) -> Arc<Index> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn renewed(db: &Db, old: &Index) -> Result<Index, db::Error> {
    let counters = db.rows(sql("SELECT value, floor FROM epoch WHERE id = 1")).await?;
    let counter = |place: usize| counters.first().map_or(Ok(0), |row| row.get::<i64>(place));
    let (value, floor) = (counter(0)?, counter(1)?);

    let since = if old.epoch < floor { 0 } else { old.epoch };
    let changed: Vec<Provider> = db.all(select("WHERE revision > ?").bind(since)).await?;
    let gone: Vec<Gone> = db.all(select("WHERE revision > ?").bind(since)).await?;
    let epoch = changed.iter().map(|provider| provider.revision).max().unwrap_or(value).max(value);
    let whole = since == 0 || changed.len() > BY_NAME;
    let entries = entries(db, changed, whole).await?;
    Ok(old.with(epoch, entries, &gone, since == 0))
}

/// Reads all that belongs to `providers`, which are all that there are if `whole`.
async fn entries(db: &Db, providers: Vec<Provider>, whole: bool) -> Result<Vec<Arc<Entry>>, db::Error> {
    let names: Vec<String> = providers.iter().map(|provider| provider.uuid.clone()).collect();
    let names = (!whole).then_some(&names[..]);
    let inventories = grouped(all::<Inventory>(db, names).await?, |row| row.provider.clone());
    let traits = grouped(all::<Has>(db, names).await?, |row| row.provider.clone());
    let aggregates = grouped(all::<Member>(db, names).await?, |row| row.provider.clone());
    let used = used(db, names).await?;

    let entry = |provider: Provider| {
        let uuid = &provider.uuid;
        let stock = |inventory: &Inventory| {
            let key = (uuid.clone(), inventory.resource_class.clone());
            Stock { inventory: inventory.clone(), used: used.get(&key).copied().unwrap_or(0) }
        };
        let sorted = |mut names: Vec<String>| {
            names.sort();
            names
        };
        let traits = traits.get(uuid).into_iter().flatten().map(|row| row.r#trait.clone());
        let aggregates = aggregates.get(uuid).into_iter().flatten().map(|row| row.aggregate.clone());
        Arc::new(Entry {
            stocks: inventories.get(uuid).into_iter().flatten().map(stock).collect(),
            traits: sorted(traits.collect()),
            aggregates: sorted(aggregates.collect()),
            traits_json: OnceLock::new(),
            provider,
        })
    };
    Ok(providers.into_iter().map(entry).collect())
}

async fn all<T: Record>(db: &Db, providers: Option<&[String]>) -> Result<Vec<T>, db::Error> {
    let rows: Select<T> = select("");
    match providers {
        None => db.all(rows).await,
        Some(names) => db.all(rows.in_list("provider", names)).await,
    }
}

async fn used(db: &Db, providers: Option<&[String]>) -> Result<HashMap<(String, String), i64>, db::Error> {
    let sums = sql("SELECT provider, resource_class, SUM(used) FROM allocations GROUP BY provider, resource_class");
    let sums: Statement = match providers {
        None => sums,
        Some(names) => sums.in_list("provider", names),
    };
    let read = |row: &Row| Ok(((row.get(0)?, row.get(1)?), row.get(2)?));
    db.rows(sums).await?.iter().map(read).collect()
}

fn grouped<T>(rows: Vec<T>, key: impl Fn(&T) -> String) -> HashMap<String, Vec<T>> {
    let mut groups: HashMap<String, Vec<T>> = HashMap::new();
    for row in rows {
        groups.entry(key(&row)).or_default().push(row);
    }
    groups
}

impl Index {
    /// This picture with changes. `anew` means that `changed` is everything.
    fn with(&self, epoch: i64, changed: Vec<Arc<Entry>>, gone: &[Gone], anew: bool) -> Index {
        let positions = &self.shape.positions;
        let known = |entry: &Arc<Entry>| positions.get(&entry.provider.uuid).map(|at| &self.entries[*at]);
        let settled = changed.iter().all(|entry| known(entry).is_some_and(|old| old.same_place(entry)));
        let nobody_left = gone.iter().all(|gone| !positions.contains_key(&gone.uuid));
        if settled && nobody_left && !anew {
            let mut entries = self.entries.clone();
            for entry in changed {
                if let Some(at) = positions.get(&entry.provider.uuid) {
                    entries[*at] = entry;
                }
            }
            return Index { epoch, entries, shape: self.shape.clone() };
        }

        let old = if anew { &[][..] } else { &self.entries[..] };
        let mut by_uuid: HashMap<String, Arc<Entry>> =
            old.iter().map(|entry| (entry.provider.uuid.clone(), entry.clone())).collect();
        for gone in gone {
            by_uuid.remove(&gone.uuid);
        }
        // After the deletions: a provider may be there again under the same UUID.
        by_uuid.extend(changed.into_iter().map(|entry| (entry.provider.uuid.clone(), entry)));
        let mut entries: Vec<Arc<Entry>> = by_uuid.into_values().collect();
        entries.sort_by(|a, b| {
            let key = |entry: &Arc<Entry>| (entry.provider.created_at, entry.provider.uuid.clone());
            key(a).cmp(&key(b))
        });
        let shape = Arc::new(Shape::of(&entries));
        Index { epoch, entries, shape }
    }

    pub(crate) fn at(&self, uuid: &str) -> Option<usize> {
        self.shape.positions.get(uuid).copied()
    }

    /// The root of the tree in which `uuid` stands.
    pub(crate) fn root_of(&self, uuid: &str) -> Option<usize> {
        self.at(uuid).map(|at| self.shape.roots[at])
    }
}

impl Shape {
    fn of(entries: &[Arc<Entry>]) -> Shape {
        let named = |(at, entry): (usize, &Arc<Entry>)| (entry.provider.uuid.clone(), at);
        let positions: HashMap<String, usize> = entries.iter().enumerate().map(named).collect();
        let at = |uuid: &String| positions.get(uuid).copied();
        let parents: Vec<_> = entries.iter().map(|entry| entry.provider.parent.as_ref().and_then(at)).collect();
        let own = entries.iter().enumerate();
        let roots: Vec<_> = own.map(|(own, entry)| at(&entry.provider.root).unwrap_or(own)).collect();

        let mut shape = Shape { has_trees: parents.iter().any(Option::is_some), parents, ..Shape::default() };
        let mut by_aggregate: HashMap<&str, Vec<usize>> = HashMap::new();
        for (at, entry) in entries.iter().enumerate() {
            shape.trees.entry(roots[at]).or_default().push(at);
            for stock in &entry.stocks {
                shape.by_class.entry(stock.inventory.resource_class.clone()).or_default().push(at);
            }
            for aggregate in &entry.aggregates {
                by_aggregate.entry(aggregate).or_default().push(at);
            }
        }
        for (at, entry) in entries.iter().enumerate().filter(|(_, entry)| entry.has_trait(SHARES)) {
            let members = entry.aggregates.iter().filter_map(|one| by_aggregate.get(one.as_str())).flatten();
            shape.anchors.insert(at, members.map(|member| roots[*member]).collect());
        }
        Shape { positions, roots, ..shape }
    }
}
