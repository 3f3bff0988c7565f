//! Extra specs: what the scheduler and the hypervisor read off a flavor.

use std::collections::BTreeMap;

use api::wire::{map, text};
use api::{
    Answer, Body, Call, Document, Done, Json, Operation, Path, Permitted, Refusal, delete, get, json, post, put,
};
use db::sql;

use super::{Flavor, FlavorFault, find, find_visible};
use crate::Compute;

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
    let flavor = call.permit(find_visible(&call, &id).await?)?;
    Ok(Document::of(flavor, |flavor| json!({"extra_specs": flavor.extra_specs})))
}

async fn create(call: Call<Compute>, (Path(id), Body(new)): (Path<String>, Body<NewSpecs>)) -> Answer<Document> {
    let mut flavor = known(&call, id).await?;
    if let Some(bad) = new.extra_specs.keys().find(|key| !is_key(key)) {
        return Err(bad_key(bad));
    }
    flavor.extra_specs.extend(new.extra_specs.clone());
    save(&call, &flavor).await?;
    Ok(Document::of(flavor, |_| json!({"extra_specs": new.extra_specs})))
}

async fn show(call: Call<Compute>, Path((id, key)): Path<(String, String)>) -> Answer<Document> {
    let flavor = call.permit(find_visible(&call, &id).await?)?;
    let value = flavor.extra_specs.get(&key).cloned().ok_or_else(|| missing(&flavor.id, &key))?;
    Ok(Document::of(flavor, |_| one(&key, &value)))
}

async fn update(
    call: Call<Compute>,
    (Path((id, key)), api::AnyBody(body)): (Path<(String, String)>, api::AnyBody),
) -> Answer<Document> {
    let mut flavor = known(&call, id).await?;
    let given = body.as_object().filter(|map| map.len() == 1).and_then(|map| map.get(&key));
    let value = match given {
        Some(Json::String(text)) if text.len() <= 255 => text.clone(),
        Some(Json::Number(number)) => number.to_string(),
        _ => return Err(Refusal::bad_request("Request body and URI mismatch")),
    };
    if !is_key(&key) {
        return Err(bad_key(&key));
    }
    flavor.extra_specs.insert(key.clone(), value.clone());
    save(&call, &flavor).await?;
    Ok(Document::of(flavor, |_| one(&key, &value)))
}

async fn remove(call: Call<Compute>, Path((id, key)): Path<(String, String)>) -> Answer<Done> {
    let mut flavor = known(&call, id).await?;
    if flavor.extra_specs.remove(&key).is_none() {
        return Err(missing(&flavor.id, &key));
    }
    save(&call, &flavor).await?;
    Ok(Done::with(flavor))
}

async fn known(call: &Call<Compute>, id: String) -> Answer<Permitted<Flavor>> {
    let flavor = find(&call.db, &id).await?.ok_or(FlavorFault::NotFound { id })?;
    call.permit(flavor)
}

async fn save(call: &Call<Compute>, flavor: &Flavor) -> Answer<()> {
    let change = sql("UPDATE flavors SET extra_specs = ? WHERE id = ?");
    call.db.run(change.bind(&flavor.extra_specs).bind(&flavor.id)).await?;
    Ok(())
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
