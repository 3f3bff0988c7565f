//! The reshaper: moves inventories between providers together with what is used of them, all or nothing.

use std::collections::BTreeSet;

use api::message::Reply;
use api::{Answer, Call, Json, Operation, Permitted, Refusal, post, v};
use db::{Tx, sql};

use crate::Placement;
use crate::allocations::claim::{self, Claim};
use crate::allocations::claims;
use crate::epoch;
use crate::exchange::{SentJson, checked, invalid};
use crate::filters;
use crate::inventories::{self, Inventories, Inventory, in_use, used};
use crate::providers::{self, raise};
use crate::stop::{Stop, concurrent};

pub fn operations() -> Vec<Operation<Placement>> {
    vec![post("/reshaper", reshape).rule("placement:reshaper:reshape").since(v(1, 30))]
}

/// The inventories that one provider shall have.
struct Shape {
    provider: String,
    generation: i64,
    wanted: Vec<Inventory>,
}

async fn reshape(call: Call<Placement>, sent: SentJson) -> Answer<Permitted<Reply>> {
    let permitted = call.allow()?;
    let (shapes, claims) = read(&call, sent.body()?)?;
    let classes = shapes.iter().flat_map(|shape| shape.wanted.iter().map(|one| one.resource_class.as_str()));
    if let Some(class) = filters::unknown_class(&call.db, classes.collect()).await? {
        return Err(Refusal::bad_request(format!("malformed reshaper data: No such resource class {class}.")));
    }
    let reshaped = call.db.retry(async || -> Result<(), Stop> {
        let mut tx = call.db.begin().await?;
        let touched = write(&mut tx, &call, &shapes, &claims).await?;
        epoch::touch(&mut tx, &touched).await?;
        tx.commit().await?;
        Ok(())
    });
    reshaped.await?;
    Ok(permitted.map(|()| Reply::new(204)))
}

fn read(call: &Call<Placement>, body: Json) -> Answer<(Vec<Shape>, Vec<Claim>)> {
    let Json::Object(mut body) = body else {
        return Err(invalid("the body is not of type 'object'"));
    };
    let mut take = |key: &str| body.remove(key).ok_or_else(|| invalid(format!("'{key}' is a required property")));
    let (inventories, allocations) = (take("inventories")?, take("allocations")?);
    if let Some(key) = body.keys().next() {
        return Err(invalid(format!("Additional properties are not allowed ('{key}' was unexpected)")));
    }
    let Json::Object(inventories) = inventories else {
        return Err(invalid("the inventories are not of type 'object'"));
    };
    if inventories.is_empty() {
        return Err(invalid("{} should be non-empty"));
    }
    let shape = |(provider, value): (String, Json)| {
        if !base::id::is_uuid(&provider) {
            return Err(invalid(format!("'{provider}' does not match any of the regexes: '^[0-9a-fA-F-]{{36}}$'")));
        }
        let body: Inventories = checked(value, call.version)?;
        let wanted = body.inventories.iter().map(|(class, amounts)| Inventory::new(&provider, class, amounts));
        Ok(Shape { wanted: wanted.collect(), generation: body.resource_provider_generation, provider })
    };
    let shapes = inventories.into_iter().map(shape).collect::<Answer<Vec<_>>>()?;
    Ok((shapes, claims(allocations, call, 0)?))
}

/// In three steps, because an inventory in use cannot go and an allocation needs its inventory: first what there is and
/// what shall be, then the allocations, then only what shall be.
async fn write(
    tx: &mut Tx,
    call: &Call<Placement>,
    shapes: &[Shape],
    claims: &[Claim],
) -> Result<BTreeSet<String>, Stop> {
    for shape in shapes {
        let provider = expected(tx, shape).await?;
        if !raise(tx, &provider).await? {
            return Err(Stop::Raced);
        }
        if shape.wanted.is_empty() {
            continue;
        }
        let mut both = inventories::of(&mut *tx, &shape.provider).await?;
        both.retain(|one| !shape.wanted.iter().any(|new| new.resource_class == one.resource_class));
        both.extend(shape.wanted.iter().cloned());
        _ = inventories::set(tx, &shape.provider, &both).await?;
    }
    let mut touched = claim::replace(tx, claims, &call.settings, "malformed reshaper data:").await?;
    for Shape { provider, wanted, .. } in shapes {
        let conflict = |classes: String| in_use(format!("update conflict: {}", used(&classes, provider)));
        inventories::set(tx, provider, wanted).await?.map_err(conflict)?;
        // Upstream: each of the two changes of the inventories counts.
        if !wanted.is_empty() {
            let raise = sql("UPDATE resource_providers SET generation = generation + 1 WHERE uuid = ?");
            tx.run(raise.bind(provider)).await?;
        }
        touched.insert(provider.clone());
    }
    Ok(touched)
}

async fn expected(tx: &mut Tx, shape: &Shape) -> Result<providers::Provider, Stop> {
    let Shape { provider: uuid, generation, .. } = shape;
    let provider = providers::find(&mut *tx, uuid).await.map_err(|refusal| match refusal.status {
        404 => {
            let text = format!("Resource provider {uuid} in inventories not found: {}", refusal.message);
            Refusal::new(400, "placement.resource_provider.not_found", text)
        }
        _ => refusal,
    })?;
    match provider.generation == *generation {
        true => Ok(provider),
        false => {
            let (actual, conflict) = (provider.generation, "resource provider generation conflict for provider");
            Err(concurrent(format!("{conflict} {uuid}: actual: {actual}, given: {generation}")).into())
        }
    }
}
