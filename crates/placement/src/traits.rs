//! Traits: what providers can do, in words that everybody knows or that a cloud makes for itself.

use api::message::Reply;
use api::wire::{integer, list as many, text};
use api::{Answer, Call, Operation, Path, Permitted, Refusal, delete, get, json, put, v};
use base::{Time, clock};
use db::{record, select, sql};

use crate::Placement;
use crate::epoch;
use crate::exchange::{AcceptsJson, Sent, dated, only_queries, shown};
use crate::providers::{self, raise};
use crate::standard;
use crate::stop::{self, Stop, concurrent};

pub fn operations() -> Vec<Operation<Placement>> {
    const OF_PROVIDER: &str = "/resource_providers/{uuid}/traits";
    vec![
        get("/traits", list).rule("placement:traits:list").since(v(1, 6)),
        get("/traits/{name}", show).rule("placement:traits:show").since(v(1, 6)),
        put("/traits/{name}", ensure).rule("placement:traits:update").since(v(1, 6)),
        delete("/traits/{name}", remove).rule("placement:traits:delete").since(v(1, 6)),
        get(OF_PROVIDER, list_of_provider).rule("placement:resource_providers:traits:list").since(v(1, 6)),
        put(OF_PROVIDER, set).rule("placement:resource_providers:traits:update").since(v(1, 6)),
        delete(OF_PROVIDER, clear).rule("placement:resource_providers:traits:delete").since(v(1, 6)),
    ]
}

api::wire! {
    pub struct ProviderTraits {
        resource_provider_generation: i64 = integer(i64::MIN, i64::MAX).required(),
        traits: Vec<String> = many(text(1, 255)).required(),
    }
}

record! {
    pub struct Trait in "traits" {
        pub name: String,
        pub created_at: Time,
    }
}

record! {
    /// A provider has a trait.
    pub(crate) struct Has in "provider_traits" {
        pub(crate) provider: String,
        pub(crate) r#trait: String,
    }
}

fn body_of(call: &Call<Placement>, traits: &[Trait], generation: Option<i64>) -> Reply {
    let mut body = json!({"traits": traits.iter().map(|one| &one.name).collect::<Vec<_>>()});
    if let Some(generation) = generation {
        body["resource_provider_generation"] = json!(generation);
    }
    let newest = traits.iter().map(|one| one.created_at).max();
    shown(call, &body, newest.unwrap_or_else(clock::now))
}

async fn list(call: Call<Placement>, _: AcceptsJson) -> Answer<Permitted<Reply>> {
    let permitted = call.allow()?;
    only_queries(&call, &[("name", v(1, 6)), ("associated", v(1, 6))])?;
    let mut traits = select::<Trait>("ORDER BY name");
    if let Some(name) = call.query.get("name") {
        traits = match name.split_once(':') {
            Some(("in", names)) => traits.in_list("name", names.split(',')),
            // The end of the range is behind every character that a name may have.
            Some(("startswith", prefix)) => {
                traits.and("name >= ? AND name < ?").bind(prefix).bind(format!("{prefix}~"))
            }
            Some(_) => traits,
            None => {
                let form = "?name=[in|startswith]:[name1,name2|prefix]";
                let text = "Badly formatted name parameter. Expected name query string parameter in form:";
                return Err(Refusal::bad_request(format!("{text} {form}. Got: \"{name}\"")));
            }
        };
    }
    if let Some(flag) = call.query.get("associated") {
        const USED: &str = "(SELECT trait FROM provider_traits)";
        traits = match flag.to_ascii_lowercase().as_str() {
            "true" => traits.and(format!("name IN {USED}")),
            "false" => traits.and(format!("name NOT IN {USED}")),
            _ => {
                let text = "The query parameter \"associated\" only accepts \"true\" or \"false\"";
                return Err(Refusal::bad_request(text));
            }
        };
    }
    let traits = call.db.all(traits).await?;
    Ok(permitted.map(|()| body_of(&call, &traits, None)))
}

fn not_found(name: &str) -> Refusal {
    Refusal::not_found(format!("No such trait(s): {name}."))
}

async fn show(call: Call<Placement>, Path(name): Path<String>) -> Answer<Permitted<Reply>> {
    let permitted = call.allow()?;
    let found = call.db.maybe(select::<Trait>("WHERE name = ?").bind(&name)).await?;
    let found = found.ok_or_else(|| not_found(&name))?;
    Ok(permitted.map(|()| dated(&call, Reply::new(204), found.created_at)))
}

async fn ensure(call: Call<Placement>, Path(name): Path<String>) -> Answer<Permitted<Reply>> {
    let permitted = call.allow()?;
    let allowed = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    if !standard::is_custom(&name) || name.len() == "CUSTOM_".len() || name.len() > 255 || !name.bytes().all(allowed) {
        return Err(Refusal::bad_request(
            "The trait is invalid. A valid trait must be no longer than 255 characters, start with the prefix \
             \"CUSTOM_\" and use following characters: \"A\"-\"Z\", \"0\"-\"9\" and \"_\"",
        ));
    }
    let new = Trait { name, created_at: clock::now() };
    let status = if call.db.insert_new(&new).await? { 201 } else { 204 };
    let found = call.db.maybe(select::<Trait>("WHERE name = ?").bind(&new.name)).await?.unwrap_or(new);
    let link = call.reader.link(&format!("/traits/{}", found.name));
    Ok(permitted.map(|()| dated(&call, Reply::new(status), found.created_at).header("location", &link)))
}

async fn remove(call: Call<Placement>, Path(name): Path<String>) -> Answer<Permitted<Reply>> {
    let permitted = call.allow()?;
    if call.db.maybe(select::<Trait>("WHERE name = ?").bind(&name)).await?.is_none() {
        return Err(not_found(&name));
    }
    if !standard::is_custom(&name) {
        return Err(Refusal::bad_request(format!("Cannot delete standard trait {name}.")));
    }
    match call.db.run(sql("DELETE FROM traits WHERE name = ?").bind(&name)).await {
        Err(db::Error::Constraint { .. }) => {
            Err(Refusal::conflict(format!("The trait {name} is in use by a resource provider.")))
        }
        Err(error) => Err(error.into()),
        Ok(0) => Err(not_found(&name)),
        Ok(_) => Ok(permitted.map(|()| Reply::new(204))),
    }
}

async fn list_of_provider(
    call: Call<Placement>,
    (_, Path(uuid)): (AcceptsJson, Path<String>),
) -> Answer<Permitted<Reply>> {
    let permitted = call.allow()?;
    let provider = providers::find(&call.db, &uuid).await.map_err(|refusal| match refusal.status {
        404 => Refusal::not_found(format!("No resource provider with uuid {uuid} found: {}", refusal.message)),
        _ => refusal,
    })?;
    let traits = select::<Trait>("WHERE name IN (SELECT trait FROM provider_traits WHERE provider = ?) ORDER BY name");
    let traits = call.db.all(traits.bind(&uuid)).await?;
    Ok(permitted.map(|()| body_of(&call, &traits, Some(provider.generation))))
}

async fn set(
    call: Call<Placement>,
    (Path(uuid), sent): (Path<String>, Sent<ProviderTraits>),
) -> Answer<Permitted<Reply>> {
    let permitted = call.allow()?;
    let body = sent.body()?;
    let provider = providers::find(&call.db, &uuid).await?;
    if provider.generation != body.resource_provider_generation {
        let text = "Resource provider's generation already changed. Please update the generation and try again.";
        return Err(concurrent(text));
    }
    let wanted = select::<Trait>("ORDER BY name").in_list("name", &body.traits);
    let wanted: Vec<Trait> = call.db.all(wanted).await?;
    let is_known = |name: &&String| wanted.iter().any(|one| one.name == **name);
    let unknown: Vec<&str> = body.traits.iter().filter(|name| !is_known(name)).map(String::as_str).collect();
    if !unknown.is_empty() {
        return Err(Refusal::bad_request(format!("No such trait {}", unknown.join(", "))));
    }
    let names: Vec<&str> = wanted.iter().map(|one| one.name.as_str()).collect();
    let expected = Some(body.resource_provider_generation);
    let generation = call.db.retry(|| write(&call, &uuid, expected, &names)).await?;
    Ok(permitted.map(|()| body_of(&call, &wanted, Some(generation))))
}

async fn clear(call: Call<Placement>, Path(uuid): Path<String>) -> Answer<Permitted<Reply>> {
    let permitted = call.allow()?;
    call.db.retry(|| write(&call, &uuid, None, &[])).await?;
    Ok(permitted.map(|()| Reply::new(204)))
}

/// Gives the provider exactly `wanted`; returns its generation, which is raised only if something changed.
async fn write(call: &Call<Placement>, uuid: &str, expected: Option<i64>, wanted: &[&str]) -> Result<i64, Stop> {
    let mut tx = call.db.begin().await?;
    let provider = providers::find(&mut tx, uuid).await?;
    if expected.is_some_and(|expected| expected != provider.generation) {
        return Err(concurrent(stop::PROVIDER).into());
    }
    let present = tx.all(select::<Has>("WHERE provider = ?").bind(uuid)).await?;
    let new = wanted.iter().filter(|name| !present.iter().any(|has| has.r#trait == **name));
    let new: Vec<Has> = new.map(|name| Has { provider: uuid.to_string(), r#trait: name.to_string() }).collect();
    let old = present.iter().map(|has| has.r#trait.as_str()).filter(|name| !wanted.contains(name));
    let old: Vec<&str> = old.collect();
    if new.is_empty() && old.is_empty() {
        return Ok(provider.generation);
    }
    if !raise(&mut tx, &provider).await? {
        return Err(if expected.is_some() { concurrent(stop::PROVIDER).into() } else { Stop::Raced });
    }
    if !old.is_empty() {
        tx.run(sql("DELETE FROM provider_traits WHERE provider = ?").bind(uuid).in_list("trait", old)).await?;
    }
    match tx.insert_all(&new).await {
        // A trait that was deleted meanwhile.
        Err(db::Error::Constraint { .. }) => return Err(Stop::Raced),
        done => done?,
    }
    epoch::touch_one(&mut tx, uuid).await?;
    tx.commit().await?;
    Ok(provider.generation + 1)
}
