//! Replacing what consumers use, with every check inside the transaction.
//!
//! Invariant: whoever adds allocations has raised the generation of the providers first. That takes their rows, so
//! claims on one provider come one after the other and the sums read after it are what they will be at the commit:
//! nothing is given twice, on any database.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use api::Refusal;
use base::clock;
use db::{Tx, select, sql};

use super::{Allocation, Consumer};
use crate::Settings;
use crate::filters;
use crate::inventories::Inventory;
use crate::stop::{Stop, concurrent};

/// What one consumer shall use from now on; nothing, if `resources` is empty.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    pub(crate) consumer: String,
    /// None before 1.8.
    pub(crate) project_id: Option<String>,
    pub(crate) user_id: Option<String>,
    /// The generation that the consumer must have; inside, none means that it must not exist. None before 1.28.
    pub(crate) generation: Option<Option<i64>>,
    pub(crate) consumer_type: Option<String>,
    /// By provider, by class.
    pub(crate) resources: BTreeMap<String, BTreeMap<String, i64>>,
}

/// Amounts by provider and class.
type Sums = HashMap<(String, String), i64>;

/// Replaces the allocations of the consumers in `claims`. Returns the providers that have changed. `unknown` begins the
/// refusal of a resource class that does not exist.
pub(crate) async fn replace(
    tx: &mut Tx,
    claims: &[Claim],
    settings: &Settings,
    unknown: &str,
) -> Result<BTreeSet<String>, Stop> {
    let consumers: Vec<&str> = claims.iter().map(|claim| claim.consumer.as_str()).collect();
    let known: Vec<Consumer> = tx.all(select("").in_list("uuid", &consumers)).await?;
    for claim in claims {
        ensure_consumer(tx, claim, known.iter().find(|one| one.uuid == claim.consumer), settings).await?;
    }
    let before: Vec<Allocation> = tx.all(select("").in_list("consumer", &consumers)).await?;

    let mut raised: BTreeSet<String> = claims.iter().flat_map(|claim| claim.resources.keys().cloned()).collect();
    let emptied = claims.iter().filter(|claim| claim.resources.is_empty());
    for claim in emptied {
        raised.extend(before.iter().filter(|row| row.consumer == claim.consumer).map(|row| row.provider.clone()));
    }
    raise_all(tx, &raised).await?;
    tx.run(sql("DELETE FROM allocations").in_list("consumer", &consumers)).await?;

    check(tx, claims, &before, unknown).await?;
    tx.insert_all(&rows(claims)).await?;
    for claim in claims.iter().filter(|claim| claim.resources.is_empty()) {
        tx.run(sql("DELETE FROM consumers WHERE uuid = ?").bind(&claim.consumer)).await?;
    }
    raised.extend(before.into_iter().map(|row| row.provider));
    Ok(raised)
}

/// Makes the consumer's row, or checks and raises its generation.
async fn ensure_consumer(
    tx: &mut Tx,
    claim: &Claim,
    known: Option<&Consumer>,
    settings: &Settings,
) -> Result<(), Stop> {
    let conflict = |expected: String, got: String| {
        Stop::from(concurrent(format!("consumer generation conflict - expected {expected} but got {got}")))
    };
    let shown = |generation: Option<i64>| generation.map_or("None".to_string(), |number| number.to_string());
    let project = claim.project_id.as_ref().unwrap_or(&settings.incomplete_consumer_project_id);
    let user = claim.user_id.as_ref().unwrap_or(&settings.incomplete_consumer_user_id);
    let now = clock::now();
    let Some(known) = known else {
        if let Some(Some(got)) = claim.generation {
            return Err(conflict("null".into(), got.to_string()));
        }
        let new = Consumer {
            uuid: claim.consumer.clone(),
            project_id: project.clone(),
            user_id: user.clone(),
            consumer_type: claim.consumer_type.clone(),
            generation: 1,
            created_at: now,
            updated_at: now,
        };
        return match tx.insert(&new).await {
            Err(error) if error.is_duplicate() => Err(Stop::Raced),
            done => Ok(done?),
        };
    };
    if let Some(got) = claim.generation.filter(|got| *got != Some(known.generation)) {
        return Err(conflict(known.generation.to_string(), shown(got)));
    }
    let kind = claim.consumer_type.as_ref().or(known.consumer_type.as_ref());
    let raise = "UPDATE consumers SET generation = generation + 1, project_id = ?, user_id = ?, consumer_type = ?, \
                 updated_at = ? WHERE uuid = ? AND generation = ?";
    let raise = sql(raise).bind(project).bind(user).bind(kind.cloned()).bind(now);
    match tx.run(raise.bind(&known.uuid).bind(known.generation)).await? {
        0 => Err(Stop::Raced),
        _ => Ok(()),
    }
}

/// Takes the providers, always in the same order.
async fn raise_all(tx: &mut Tx, providers: &BTreeSet<String>) -> Result<(), Stop> {
    let now = clock::now();
    for provider in providers {
        let raise = sql("UPDATE resource_providers SET generation = generation + 1, updated_at = ? WHERE uuid = ?");
        if tx.run(raise.bind(now).bind(provider)).await? == 0 {
            let text = format!("Allocation for resource provider '{provider}' that does not exist.");
            return Err(Refusal::bad_request(text).into());
        }
    }
    Ok(())
}

fn rows(claims: &[Claim]) -> Vec<Allocation> {
    let created_at = clock::now();
    let row = |claim: &Claim, provider: &String, class: &String, used: i64| Allocation {
        consumer: claim.consumer.clone(),
        provider: provider.clone(),
        resource_class: class.clone(),
        used,
        created_at,
    };
    let mut rows = Vec::new();
    for claim in claims {
        for (provider, resources) in &claim.resources {
            rows.extend(resources.iter().map(|(class, used)| row(claim, provider, class, *used)));
        }
    }
    rows
}

/// Whether everything asked for is there, in the units and amounts that the inventories allow.
async fn check(tx: &mut Tx, claims: &[Claim], before: &[Allocation], unknown: &str) -> Result<(), Stop> {
    let wanted = rows(claims);
    if wanted.is_empty() {
        return Ok(());
    }
    let providers: BTreeSet<&String> = wanted.iter().map(|row| &row.provider).collect();
    let classes: BTreeSet<&String> = wanted.iter().map(|row| &row.resource_class).collect();
    let inventories: Vec<Inventory> = tx.all(select("").in_list("provider", &providers)).await?;
    let inventory = |row: &Allocation| {
        let same = |one: &&Inventory| one.provider == row.provider && one.resource_class == row.resource_class;
        inventories.iter().find(same)
    };
    if wanted.iter().any(|row| inventory(row).is_none()) {
        return Err(missing(tx, &wanted, &classes, &inventories, unknown).await?);
    }

    let used = sums_of_others(tx, &providers).await?;
    let mut previous = used.clone();
    for row in before {
        *previous.entry((row.provider.clone(), row.resource_class.clone())).or_default() += row.used;
    }
    let mut asked: Sums = HashMap::new();
    for row in &wanted {
        let Some(inventory) = inventory(row) else { continue };
        let Inventory { min_unit, max_unit, step_size, .. } = *inventory;
        if row.used < min_unit || row.used > max_unit || row.used % step_size != 0 {
            return Err(refused(row, "The requested amount would violate inventory constraints."));
        }
        let key = (row.provider.clone(), row.resource_class.clone());
        let sum = asked.entry(key.clone()).or_default();
        *sum += row.used;
        let after = used.get(&key).unwrap_or(&0) + *sum;
        // Upstream: too much is allowed if it is no more than it was.
        let worse = previous.get(&key).is_none_or(|before| after > *before);
        if after as f64 > inventory.exact_capacity() && worse {
            return Err(refused(row, "The requested amount would exceed the capacity."));
        }
    }
    Ok(())
}

/// What everybody but the consumers of this transaction uses; their own rows are deleted already.
async fn sums_of_others(tx: &mut Tx, providers: &BTreeSet<&String>) -> Result<Sums, db::Error> {
    let sums = sql("SELECT provider, resource_class, SUM(used) FROM allocations GROUP BY provider, resource_class");
    let rows = tx.rows(sums.in_list("provider", providers)).await?;
    rows.iter().map(|row| Ok(((row.get(0)?, row.get(1)?), row.get(2)?))).collect()
}

/// Something is not there at all: a class, or an inventory of it.
async fn missing(
    tx: &mut Tx,
    wanted: &[Allocation],
    classes: &BTreeSet<&String>,
    inventories: &[Inventory],
    unknown: &str,
) -> Result<Stop, Stop> {
    if let Some(class) = filters::unknown_class(&mut *tx, classes.iter().map(|name| name.as_str()).collect()).await? {
        return Ok(Refusal::bad_request(format!("{unknown} No such resource class {class}.")).into());
    }
    let has_any = |provider: &String| {
        inventories.iter().any(|one| one.provider == *provider && classes.contains(&one.resource_class))
    };
    let all: Vec<&str> = classes.iter().map(|name| name.as_str()).collect();
    let bare = wanted.iter().find(|row| !has_any(&row.provider));
    let (class, provider) = match bare {
        Some(row) => (all.join(", "), &row.provider),
        None => {
            let there = |row: &&Allocation| {
                let same = |one: &Inventory| one.provider == row.provider && one.resource_class == row.resource_class;
                !inventories.iter().any(same)
            };
            let row = wanted.iter().find(there).ok_or(Stop::Raced)?;
            (row.resource_class.clone(), &row.provider)
        }
    };
    let text = format!("Inventory for '{class}' on resource provider '{provider}' invalid.");
    Ok(Refusal::conflict(format!("Unable to allocate inventory: {text}")).into())
}

fn refused(row: &Allocation, why: &str) -> Stop {
    let Allocation { resource_class, provider, .. } = row;
    let text = format!("Unable to create allocation for '{resource_class}' on resource provider '{provider}'.");
    Refusal::conflict(format!("Unable to allocate inventory: {text} {why}")).into()
}
