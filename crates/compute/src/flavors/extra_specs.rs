//! Extra specs: what the scheduler and the hypervisor read off a flavor.

use std::collections::BTreeMap;

use api::wire::{map, text};
use api::{
    Answer, AnyBody, Body, Call, Document, Done, Json, Operation, Path, Permitted, Refusal, delete, get, json, post,
    put, v,
};
use db::sql;

use super::{Flavor, FlavorFault, find, find_visible, known_specs};
use crate::{Compute, query};

/// Limit: how often a change is tried again when somebody else changes the same flavor; upstream's.
const TRIES: usize = 10;
const KEY: &str = r"^[a-zA-Z0-9_.\-: ]+$";

pub fn operations() -> Vec<Operation<Compute>> {
    vec![
        get("/flavors/{id}/os-extra_specs", list).rule("os_compute_api:os-flavor-extra-specs:index"),
        post("/flavors/{id}/os-extra_specs", create).rule("os_compute_api:os-flavor-extra-specs:create"),
        get("/flavors/{id}/os-extra_specs/{key}", show).rule("os_compute_api:os-flavor-extra-specs:show"),
        put("/flavors/{id}/os-extra_specs/{key}", update).rule("os_compute_api:os-flavor-extra-specs:update"),
        delete("/flavors/{id}/os-extra_specs/{key}", remove)
            .rule("os_compute_api:os-flavor-extra-specs:delete")
            .status(200),
    ]
}

api::wire! {
    /// Extra specs to set; those that are not named stay.
    pub struct NewSpecs {
        extra_specs: BTreeMap<String, String> = map(text(0, 255).loose()).required(),
    }
}

async fn list(call: Call<Compute>, Path(id): Path<String>) -> Answer<Document> {
    query::strict(&call, v(2, 102), &[])?;
    let permitted = call.allow()?;
    let flavor = find_visible(&call, &id).await?;
    Ok(Document::new(permitted, json!({"extra_specs": flavor.extra_specs})))
}

async fn create(call: Call<Compute>, (Path(id), Body(new)): (Path<String>, Body<NewSpecs>)) -> Answer<Document> {
    let flavor = known(&call, id).await?;
    check(&call, &new.extra_specs).await?;
    change(&call, &flavor.id, |specs| {
        specs.extend(new.extra_specs.clone());
        true
    })
    .await?;
    Ok(Document::of(flavor, |_| json!({"extra_specs": new.extra_specs})))
}

async fn show(call: Call<Compute>, Path((id, key)): Path<(String, String)>) -> Answer<Document> {
    query::strict(&call, v(2, 102), &[])?;
    let permitted = call.allow()?;
    let flavor = find_visible(&call, &id).await?;
    let value = flavor.extra_specs.get(&key).ok_or_else(|| missing(&flavor.id, &key))?;
    Ok(Document::new(permitted, one(&key, value)))
}

async fn update(
    call: Call<Compute>,
    (Path((id, key)), AnyBody(body)): (Path<(String, String)>, AnyBody),
) -> Answer<Document> {
    let flavor = known(&call, id).await?;
    let given = body.as_object().filter(|map| map.len() == 1).and_then(|map| map.get(&key));
    let value = match given {
        Some(Json::String(text)) if text.len() <= 255 => text.clone(),
        Some(Json::Number(number)) => number.to_string(),
        _ => return Err(Refusal::bad_request("Request body and URI mismatch")),
    };
    check(&call, &BTreeMap::from([(key.clone(), value.clone())])).await?;
    change(&call, &flavor.id, |specs| {
        specs.insert(key.clone(), value.clone());
        true
    })
    .await?;
    Ok(Document::of(flavor, |_| one(&key, &value)))
}

async fn remove(call: Call<Compute>, Path((id, key)): Path<(String, String)>) -> Answer<Done> {
    let flavor = known(&call, id).await?;
    match change(&call, &flavor.id, |specs| specs.remove(&key).is_some()).await? {
        true => Ok(Done::with(flavor)),
        false => Err(missing(&flavor.id, &key)),
    }
}

async fn known(call: &Call<Compute>, id: String) -> Answer<Permitted<Flavor>> {
    let permitted = call.allow()?;
    let flavor = find(&call.db, &id).await?.ok_or(FlavorFault::NotFound { id })?;
    Ok(permitted.map(|()| flavor))
}

/// Refuses keys that are none, and from 2.86 values that a known key cannot have.
async fn check(call: &Call<Compute>, specs: &BTreeMap<String, String>) -> Answer<()> {
    if let Some(bad) = specs.keys().find(|key| !is_key(key)) {
        return Err(bad_key(bad));
    }
    if call.version >= v(2, 86) {
        for (key, value) in specs {
            known_specs::check(call, key, value).await?;
        }
    }
    Ok(())
}

/// Changes a flavor's specs by compare and swap. `change` says whether there is anything to keep.
async fn change(
    call: &Call<Compute>,
    id: &str,
    change: impl Fn(&mut BTreeMap<String, String>) -> bool,
) -> Answer<bool> {
    for _ in 0..TRIES {
        let missing = || FlavorFault::NotFound { id: id.to_string() };
        let flavor = find(&call.db, id).await?.ok_or_else(missing)?;
        let mut specs = flavor.extra_specs.clone();
        if !change(&mut specs) {
            return Ok(false);
        }
        let swap = sql("UPDATE flavors SET extra_specs = ? WHERE id = ? AND extra_specs = ?");
        if call.db.run(swap.bind(&specs).bind(id).bind(&flavor.extra_specs)).await? > 0 {
            return Ok(true);
        }
    }
    let words = format!("Flavor {id} extra spec cannot be updated or created after {TRIES} retries.");
    Err(Refusal::conflict(words))
}

fn is_key(key: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | ':' | ' ');
    !key.is_empty() && key.len() <= 255 && key.chars().all(fits)
}

fn bad_key(key: &str) -> Refusal {
    let message =
        format!("Invalid input for field/attribute extra_specs. Value: {key}. '{key}' does not match '{KEY}'");
    Refusal::bad_request(message)
}

fn missing(id: &str, key: &str) -> Refusal {
    Refusal::not_found(format!("Flavor {id} has no extra specs with key {key}."))
}

fn one(key: &str, value: &str) -> Json {
    let mut body = json!({});
    body[key] = json!(value);
    body
}
