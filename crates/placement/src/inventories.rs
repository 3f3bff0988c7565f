//! Inventories: how much of each resource class a provider has to give.

use std::collections::BTreeMap;

use api::message::Reply;
use api::wire::{integer, map, nested, number, text};
use api::{Answer, Call, Done, Json, NoInput, Operation, Path, Permitted, Refusal, delete, get, json, post, put, v};
use base::{Time, clock};
use db::{Queries, Tx, record, select, sql};

use crate::Placement;
use crate::epoch;
use crate::exchange::{AcceptsJson, Sent, invalid, shown};
use crate::filters;
use crate::providers::{self, Provider, raise};
use crate::stop::{self, Stop, concurrent};

/// Limit: amounts; upstream keeps them in 32 bits.
const MAX: i64 = 0x7FFF_FFFF;

/// Limit: upstream keeps ratios in single precision.
const MAX_RATIO: f64 = 3.40282e38;

pub(crate) const CLASS_NAME: &str = "^[A-Z0-9_]+$";

pub fn operations() -> Vec<Operation<Placement>> {
    const ALL: &str = "/resource_providers/{uuid}/inventories";
    const ONE: &str = "/resource_providers/{uuid}/inventories/{resource_class}";
    vec![
        get(ALL, list).rule("placement:resource_providers:inventories:list"),
        post(ALL, create).rule("placement:resource_providers:inventories:create"),
        put(ALL, replace).rule("placement:resource_providers:inventories:update"),
        delete(ALL, not_yet).rule("placement:resource_providers:inventories:delete").until(v(1, 4)),
        delete(ALL, remove_all).rule("placement:resource_providers:inventories:delete").since(v(1, 5)),
        get(ONE, show).rule("placement:resource_providers:inventories:show"),
        put(ONE, update).rule("placement:resource_providers:inventories:update"),
        delete(ONE, remove).rule("placement:resource_providers:inventories:delete"),
    ]
}

api::wire! {
    /// The amounts of one class.
    pub struct Amounts {
        resource_provider_generation: Option<i64> = integer(i64::MIN, i64::MAX),
        total: i64 = integer(1, MAX).required(),
        reserved: Option<i64> = integer(0, MAX),
        min_unit: Option<i64> = integer(1, MAX),
        max_unit: Option<i64> = integer(1, MAX),
        step_size: Option<i64> = integer(1, MAX),
        allocation_ratio: Option<f64> = number(f64::MIN, MAX_RATIO),
    }
}

api::wire! {
    pub struct NewInventory {
        resource_class: String = text(0, 255).matching(CLASS_NAME).required(),
        resource_provider_generation: Option<i64> = integer(i64::MIN, i64::MAX),
        total: i64 = integer(1, MAX).required(),
        reserved: Option<i64> = integer(0, MAX),
        min_unit: Option<i64> = integer(1, MAX),
        max_unit: Option<i64> = integer(1, MAX),
        step_size: Option<i64> = integer(1, MAX),
        allocation_ratio: Option<f64> = number(f64::MIN, MAX_RATIO),
    }
}

api::wire! {
    /// All of a provider's inventories.
    pub struct Inventories {
        resource_provider_generation: i64 = integer(i64::MIN, i64::MAX).required(),
        inventories: BTreeMap<String, Amounts> = map(nested::<Amounts>()).required(),
    }
}

record! {
    pub struct Inventory in "inventories" {
        pub provider: String,
        pub resource_class: String,
        pub total: i64,
        pub reserved: i64,
        pub min_unit: i64,
        pub max_unit: i64,
        pub step_size: i64,
        pub allocation_ratio: f64,
        pub created_at: Time,
        pub updated_at: Time,
    }
}

impl Inventory {
    pub(crate) fn new(provider: &str, class: &str, amounts: &Amounts) -> Inventory {
        let now = clock::now();
        Inventory {
            provider: provider.to_string(),
            resource_class: class.to_string(),
            total: amounts.total,
            reserved: amounts.reserved.unwrap_or(0),
            min_unit: amounts.min_unit.unwrap_or(1),
            max_unit: amounts.max_unit.unwrap_or(MAX),
            step_size: amounts.step_size.unwrap_or(1),
            allocation_ratio: amounts.allocation_ratio.unwrap_or(1.0),
            created_at: now,
            updated_at: now,
        }
    }

    pub(crate) fn exact_capacity(&self) -> f64 {
        (self.total - self.reserved) as f64 * self.allocation_ratio
    }

    /// What can be given in whole units.
    pub(crate) fn capacity(&self) -> i64 {
        self.exact_capacity() as i64
    }

    fn view(&self) -> Json {
        json!({
            "total": self.total,
            "reserved": self.reserved,
            "min_unit": self.min_unit,
            "max_unit": self.max_unit,
            "step_size": self.step_size,
            "allocation_ratio": self.allocation_ratio,
        })
    }

    /// From 1.26 everything may be reserved.
    fn must_hold_something(&self, call: &Call<Placement>) -> Result<(), String> {
        let why = match self.capacity() {
            capacity if call.version >= v(1, 26) && capacity < 0 => "The reserved value is greater than total.",
            capacity if call.version < v(1, 26) && capacity <= 0 => {
                "The reserved value is greater than or equal to total."
            }
            _ => return Ok(()),
        };
        let Inventory { resource_class, provider, .. } = self;
        Err(format!("Invalid inventory for '{resource_class}' on resource provider '{provider}'. {why}"))
    }
}

impl NewInventory {
    fn amounts(&self) -> Amounts {
        Amounts {
            resource_provider_generation: None,
            total: self.total,
            reserved: self.reserved,
            min_unit: self.min_unit,
            max_unit: self.max_unit,
            step_size: self.step_size,
            allocation_ratio: self.allocation_ratio,
        }
    }
}

pub(crate) async fn of(mut db: impl Queries, provider: &str) -> Result<Vec<Inventory>, db::Error> {
    db.all(select("WHERE provider = ? ORDER BY resource_class").bind(provider)).await
}

fn all_shown(call: &Call<Placement>, inventories: &[Inventory], generation: i64) -> Reply {
    let by_class = inventories.iter().map(|one| (one.resource_class.clone(), one.view()));
    let body = json!({
        "resource_provider_generation": generation,
        "inventories": by_class.collect::<serde_json::Map<_, _>>(),
    });
    let newest = inventories.iter().map(|one| one.updated_at).max();
    shown(call, &body, newest.unwrap_or_else(clock::now))
}

fn one_shown(call: &Call<Placement>, inventory: &Inventory, generation: i64) -> Reply {
    let mut body = inventory.view();
    body["resource_provider_generation"] = json!(generation);
    shown(call, &body, inventory.updated_at)
}

async fn find_provider(call: &Call<Placement>, uuid: &str) -> Answer<Provider> {
    providers::find(&call.db, uuid).await.map_err(|refusal| match refusal.status {
        404 => Refusal::not_found(format!("No resource provider with uuid {uuid} found : {}", refusal.message)),
        _ => refusal,
    })
}

async fn list(call: Call<Placement>, (_, Path(uuid)): (AcceptsJson, Path<String>)) -> Answer<Permitted<Reply>> {
    let permitted = call.allow()?;
    let provider = find_provider(&call, &uuid).await?;
    let inventories = of(&call.db, &uuid).await?;
    Ok(permitted.map(|()| all_shown(&call, &inventories, provider.generation)))
}

async fn show(
    call: Call<Placement>,
    (_, Path((uuid, class))): (AcceptsJson, Path<(String, String)>),
) -> Answer<Permitted<Reply>> {
    let permitted = call.allow()?;
    let provider = find_provider(&call, &uuid).await?;
    let found = select::<Inventory>("WHERE provider = ? AND resource_class = ?").bind(&uuid).bind(&class);
    let found = call.db.maybe(found).await?;
    let missing = || Refusal::not_found(format!("No inventory of class {class} for {uuid}"));
    let inventory = found.ok_or_else(missing)?;
    Ok(permitted.map(|()| one_shown(&call, &inventory, provider.generation)))
}

async fn create(
    call: Call<Placement>,
    (Path(uuid), sent): (Path<String>, Sent<NewInventory>),
) -> Answer<Permitted<Reply>> {
    let permitted = call.allow()?;
    providers::find(&call.db, &uuid).await?;
    let new = sent.body()?;
    let class = &new.resource_class;
    let inventory = Inventory::new(&uuid, class, &new.amounts());
    let unable =
        |why: String| Refusal::bad_request(format!("Unable to create inventory for resource provider {uuid}: {why}"));
    inventory.must_hold_something(&call).map_err(unable)?;
    if filters::unknown_class(&call.db, vec![class.as_str()]).await?.is_some() {
        return Err(unable(format!("No such resource class {class}.")));
    }
    let generation = call.db.retry(async || -> Result<i64, Stop> {
        let mut tx = call.db.begin().await?;
        let provider = raised(&mut tx, &uuid, None, "Update conflict").await?;
        match tx.insert(&inventory).await {
            Err(error) if error.is_duplicate() => {
                let text = format!("Update conflict: the provider has inventory of class {class} already");
                return Err(concurrent(text).into());
            }
            done => done?,
        }
        epoch::touch_one(&mut tx, &uuid).await?;
        tx.commit().await?;
        Ok(provider.generation)
    });
    let generation = generation.await?;
    let link = call.reader.link(&format!("/resource_providers/{uuid}/inventories/{class}"));
    let reply = one_shown(&call, &inventory, generation).header("location", &link);
    Ok(permitted.map(|()| Reply { status: api::message::StatusCode::CREATED, ..reply }))
}

async fn replace(
    call: Call<Placement>,
    (Path(uuid), sent): (Path<String>, Sent<Inventories>),
) -> Answer<Permitted<Reply>> {
    let permitted = call.allow()?;
    let provider = providers::find(&call.db, &uuid).await?;
    let body = sent.body()?;
    if body.resource_provider_generation != provider.generation {
        return Err(concurrent("resource provider generation conflict"));
    }
    let wanted: Vec<_> =
        body.inventories.iter().map(|(class, amounts)| Inventory::new(&uuid, class, amounts)).collect();
    for inventory in &wanted {
        inventory.must_hold_something(&call).map_err(|why| unable_to_update(&uuid, &why))?;
    }
    if let Some(class) = filters::unknown_class(&call.db, body.inventories.keys().map(String::as_str).collect()).await?
    {
        let text = format!("Unknown resource class in inventory for resource provider {uuid}: No such resource class");
        return Err(Refusal::bad_request(format!("{text} {class}.")));
    }
    let saved = call.db.retry(async || -> Result<_, Stop> {
        let mut tx = call.db.begin().await?;
        let provider = raised(&mut tx, &uuid, Some(body.resource_provider_generation), "update conflict").await?;
        let saved = set(&mut tx, &uuid, &wanted).await?;
        let in_use = |classes: String| in_use(format!("update conflict: {}", used(&classes, &uuid)));
        let saved = saved.map_err(in_use)?;
        epoch::touch_one(&mut tx, &uuid).await?;
        tx.commit().await?;
        Ok((saved, provider.generation))
    });
    let (saved, generation) = saved.await?;
    Ok(permitted.map(|()| all_shown(&call, &saved, generation)))
}

/// Upstream: before 1.5 this is a method that the path does not have, unlike everything else that came later.
async fn not_yet(_: Call<Placement>, _: NoInput) -> Answer<Done> {
    let refusal = Refusal::new(405, "", "The method specified is not allowed for this resource.");
    Err(refusal.header("allow", "GET, POST, PUT"))
}

async fn remove_all(call: Call<Placement>, Path(uuid): Path<String>) -> Answer<Permitted<Reply>> {
    let permitted = call.allow()?;
    let removed = call.db.retry(async || -> Result<(), Stop> {
        let mut tx = call.db.begin().await?;
        raised(&mut tx, &uuid, None, "update conflict").await?;
        set(&mut tx, &uuid, &[]).await?.map_err(|classes| in_use(used(&classes, &uuid)))?;
        epoch::touch_one(&mut tx, &uuid).await?;
        tx.commit().await?;
        Ok(())
    });
    removed.await?;
    Ok(permitted.map(|()| Reply::new(204)))
}

async fn update(
    call: Call<Placement>,
    (Path((uuid, class)), sent): (Path<(String, String)>, Sent<Amounts>),
) -> Answer<Permitted<Reply>> {
    let permitted = call.allow()?;
    let provider = providers::find(&call.db, &uuid).await?;
    let amounts = sent.body()?;
    let Some(generation) = amounts.resource_provider_generation else {
        return Err(invalid("'resource_provider_generation' is a required property"));
    };
    if generation != provider.generation {
        return Err(concurrent("resource provider generation conflict"));
    }
    let inventory = Inventory::new(&uuid, &class, &amounts);
    inventory.must_hold_something(&call).map_err(|why| unable_to_update(&uuid, &why))?;
    if filters::unknown_class(&call.db, vec![class.as_str()]).await?.is_some() {
        return Err(Refusal::not_found(format!("No such resource class {class}.")));
    }
    let generation = call.db.retry(async || -> Result<i64, Stop> {
        let mut tx = call.db.begin().await?;
        let provider = raised(&mut tx, &uuid, Some(generation), "update conflict").await?;
        if !write(&mut tx, &inventory).await? {
            let text = format!("No inventory record with resource class for resource provider {uuid}: No inventory of");
            return Err(Refusal::bad_request(format!("{text} class {class} found.")).into());
        }
        epoch::touch_one(&mut tx, &uuid).await?;
        tx.commit().await?;
        Ok(provider.generation)
    });
    let generation = generation.await?;
    Ok(permitted.map(|()| one_shown(&call, &inventory, generation)))
}

async fn remove(call: Call<Placement>, Path((uuid, class)): Path<(String, String)>) -> Answer<Permitted<Reply>> {
    let permitted = call.allow()?;
    providers::find(&call.db, &uuid).await?;
    let missing = |why: String| Refusal::not_found(format!("No inventory of class {class} found for delete: {why}"));
    if filters::unknown_class(&call.db, vec![class.as_str()]).await?.is_some() {
        return Err(missing(format!("No such resource class {class}.")));
    }
    let removed = call.db.retry(async || -> Result<(), Stop> {
        let mut tx = call.db.begin().await?;
        raised(&mut tx, &uuid, None, "update conflict").await?;
        if !classes_in_use(&mut tx, &uuid, std::slice::from_ref(&class)).await?.is_empty() {
            let text = format!("Unable to delete inventory of class {class}: {}", used(&class, &uuid));
            return Err(concurrent(text).into());
        }
        let delete = sql("DELETE FROM inventories WHERE provider = ? AND resource_class = ?").bind(&uuid).bind(&class);
        if tx.run(delete).await? == 0 {
            return Err(missing(format!("No inventory of class {class} found for delete")).into());
        }
        epoch::touch_one(&mut tx, &uuid).await?;
        tx.commit().await?;
        Ok(())
    });
    removed.await?;
    Ok(permitted.map(|()| Reply::new(204)))
}

/// Takes the provider for this transaction by raising its generation, which must be `expected` if that is given.
async fn raised(tx: &mut Tx, uuid: &str, expected: Option<i64>, words: &str) -> Result<Provider, Stop> {
    let mut provider = providers::find(&mut *tx, uuid).await?;
    let conflict = || concurrent(format!("{words}: {}", stop::PROVIDER));
    if expected.is_some_and(|expected| expected != provider.generation) {
        return Err(conflict().into());
    }
    if !raise(tx, &provider).await? {
        return Err(if expected.is_some() { conflict().into() } else { Stop::Raced });
    }
    provider.generation += 1;
    Ok(provider)
}

/// Makes `wanted` all that the provider has. Inside: the classes that cannot go because they are in use.
pub(crate) async fn set(
    tx: &mut Tx,
    provider: &str,
    wanted: &[Inventory],
) -> Result<Result<Vec<Inventory>, String>, db::Error> {
    let present = of(&mut *tx, provider).await?;
    let is_wanted = |class: &str| wanted.iter().any(|one| one.resource_class == class);
    let superfluous: Vec<String> =
        present.iter().map(|one| one.resource_class.clone()).filter(|class| !is_wanted(class)).collect();
    let in_use = classes_in_use(tx, provider, &superfluous).await?;
    if !in_use.is_empty() {
        return Ok(Err(in_use.join(", ")));
    }
    if !superfluous.is_empty() {
        let delete = sql("DELETE FROM inventories WHERE provider = ?").bind(provider);
        tx.run(delete.in_list("resource_class", &superfluous)).await?;
    }
    for inventory in wanted {
        match present.iter().any(|one| one.resource_class == inventory.resource_class) {
            true => _ = write(tx, inventory).await?,
            false => tx.insert(inventory).await?,
        }
    }
    Ok(Ok(wanted.to_vec()))
}

/// Writes over an inventory; false if there is none.
async fn write(tx: &mut Tx, inventory: &Inventory) -> Result<bool, db::Error> {
    let write = "UPDATE inventories SET total = ?, reserved = ?, min_unit = ?, max_unit = ?, step_size = ?, \
                 allocation_ratio = ?, updated_at = ? WHERE provider = ? AND resource_class = ?";
    let Inventory { total, reserved, min_unit, max_unit, step_size, allocation_ratio, updated_at, .. } = inventory;
    let write = sql(write).bind(total).bind(reserved).bind(min_unit).bind(max_unit).bind(step_size);
    let write = write.bind(allocation_ratio).bind(updated_at).bind(&inventory.provider);
    Ok(tx.run(write.bind(&inventory.resource_class)).await? == 1)
}

async fn classes_in_use(tx: &mut Tx, provider: &str, classes: &[String]) -> Result<Vec<String>, db::Error> {
    let used = sql("SELECT name FROM resource_classes WHERE name IN (\
                    SELECT resource_class FROM allocations WHERE provider = ?) ORDER BY position, name");
    let rows = tx.rows(used.bind(provider).in_list("name", classes)).await?;
    rows.iter().map(|row| row.get(0)).collect()
}

pub(crate) fn used(classes: &str, provider: &str) -> String {
    format!("Inventory for '{classes}' on resource provider '{provider}' in use.")
}

pub(crate) fn in_use(message: String) -> Refusal {
    Refusal::new(409, "placement.inventory.inuse", message)
}

fn unable_to_update(provider: &str, why: &str) -> Refusal {
    Refusal::bad_request(format!("Unable to update inventory for resource provider {provider}: {why}"))
}
