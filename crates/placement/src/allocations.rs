//! Allocations: what a consumer uses of whose inventory. A consumer's allocations are replaced as a whole.

use std::collections::{BTreeMap, BTreeSet};

use api::message::Reply;
use api::wire::rule::python;
use api::wire::{Maybe, integer, list, map, nested, object, text, uuid};
use api::{Answer, Call, Json, Operation, Path, Permitted, Refusal, delete, get, json, post, put, v};
use base::{Time, clock};
use db::{record, select, sql};

use crate::Placement;
use crate::epoch;
use crate::exchange::{AcceptsJson, SentJson, checked, invalid, shown};
use crate::inventories::CLASS_NAME;
use crate::providers::{self, Provider};
use crate::stop::Stop;

pub(crate) mod claim;

use claim::Claim;

pub fn operations() -> Vec<Operation<Placement>> {
    vec![
        post("/allocations", change_many).rule("placement:allocations:manage").since(v(1, 13)),
        get("/allocations/{consumer_uuid}", of_consumer).rule("placement:allocations:list"),
        put("/allocations/{consumer_uuid}", change).rule("placement:allocations:update"),
        delete("/allocations/{consumer_uuid}", remove).rule("placement:allocations:delete"),
        get("/resource_providers/{uuid}/allocations", of_provider)
            .rule("placement:resource_providers:allocations:list"),
    ]
}

api::wire! {
    pub struct NamedProvider {
        uuid: String = uuid().required(),
    }
}

api::wire! {
    pub struct ListedAllocation {
        resource_provider: NamedProvider = nested::<NamedProvider>().required(),
        resources: BTreeMap<String, i64> = map(integer(1, i64::MAX)).required(),
    }
}

api::wire! {
    /// A consumer's allocations before 1.12.
    pub struct ListedAllocations {
        allocations: Vec<ListedAllocation> = list(nested::<ListedAllocation>()).items(1, usize::MAX).required(),
        project_id: Option<String> = text(1, 255).since(v(1, 8)).required_since(v(1, 8)),
        user_id: Option<String> = text(1, 255).since(v(1, 8)).required_since(v(1, 8)),
    }
}

api::wire! {
    pub struct ProviderAllocation {
        generation: Option<i64> = integer(i64::MIN, i64::MAX),
        resources: BTreeMap<String, i64> = map(integer(1, i64::MAX)).required(),
    }
}

api::wire! {
    /// A consumer's allocations from 1.12.
    pub struct ConsumerAllocations {
        allocations: BTreeMap<String, ProviderAllocation> = map(nested::<ProviderAllocation>()).required(),
        project_id: String = text(1, 255).required(),
        user_id: String = text(1, 255).required(),
        consumer_generation: Maybe<i64> =
            integer(i64::MIN, i64::MAX).nullable().since(v(1, 28)).required_since(v(1, 28)),
        mappings: Option<Json> = object().since(v(1, 34)),
        consumer_type: Option<String> =
            text(1, 255).matching(CLASS_NAME).since(v(1, 38)).required_since(v(1, 38)),
    }
}

record! {
    pub struct Consumer in "consumers" {
        pub uuid: String,
        pub project_id: String,
        pub user_id: String,
        /// None is shown as `unknown`.
        pub consumer_type: Option<String>,
        pub generation: i64,
        pub created_at: Time,
        pub updated_at: Time,
    }
}

record! {
    pub struct Allocation in "allocations" {
        pub consumer: String,
        pub provider: String,
        pub resource_class: String,
        pub used: i64,
        pub created_at: Time,
    }
}

/// Upstream: 36 hex digits and dashes, wherever the dashes are.
fn is_long_uuid(text: &str) -> bool {
    text.len() == 36 && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

fn no_match(key: &str, pattern: &str) -> Refusal {
    invalid(format!("'{key}' does not match any of the regexes: '{pattern}'"))
}

fn check_resources(resources: &BTreeMap<String, i64>) -> Answer<()> {
    let plain = |name: &str| name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
    if resources.is_empty() {
        return Err(invalid("{} should be non-empty"));
    }
    resources.keys().find(|name| !plain(name)).map_or(Ok(()), |name| Err(no_match(name, CLASS_NAME)))
}

/// Which providers met which request group: taken and checked, but not kept.
fn check_mappings(mappings: &Json) -> Answer<()> {
    let pairs = mappings.as_object().filter(|map| !map.is_empty());
    for (suffix, providers) in pairs.ok_or_else(|| invalid("{} should be non-empty"))? {
        let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
        if suffix.len() > 64 || !suffix.bytes().all(word) {
            return Err(no_match(suffix, "[a-zA-Z0-9_-]{1,64}"));
        }
        let shown = python(providers);
        let providers = providers.as_array().ok_or_else(|| invalid(format!("{shown} is not of type 'array'")))?;
        if providers.is_empty() {
            return Err(invalid("[] should be non-empty"));
        }
        let bad = providers.iter().find(|one| !one.as_str().is_some_and(base::id::is_uuid));
        if let Some(bad) = bad {
            return Err(invalid(format!("{} is not a 'uuid'", python(bad))));
        }
    }
    Ok(())
}

impl ConsumerAllocations {
    fn claim(self, consumer: &str, may_be_empty: bool) -> Answer<Claim> {
        if self.allocations.is_empty() && !may_be_empty {
            return Err(invalid("{} should be non-empty"));
        }
        if let Some(key) = self.allocations.keys().find(|key| !is_long_uuid(key)) {
            return Err(no_match(key, "^[0-9a-fA-F-]{36}$"));
        }
        self.allocations.values().try_for_each(|one| check_resources(&one.resources))?;
        self.mappings.as_ref().map_or(Ok(()), check_mappings)?;
        let resources = self.allocations.into_iter().map(|(provider, one)| (provider, one.resources));
        Ok(Claim {
            consumer: consumer.to_string(),
            project_id: Some(self.project_id),
            user_id: Some(self.user_id),
            generation: self.consumer_generation.sent(),
            consumer_type: self.consumer_type,
            resources: resources.collect(),
        })
    }
}

impl ListedAllocations {
    fn claim(self, consumer: &str) -> Answer<Claim> {
        self.allocations.iter().try_for_each(|one| check_resources(&one.resources))?;
        let resources = self.allocations.into_iter().map(|one| (one.resource_provider.uuid, one.resources));
        Ok(Claim {
            consumer: consumer.to_string(),
            project_id: self.project_id,
            user_id: self.user_id,
            generation: None,
            consumer_type: None,
            resources: resources.collect(),
        })
    }
}

/// Reads `{consumer: {…}}`, as `POST /allocations` and the reshaper have it.
pub(crate) fn claims(body: Json, call: &Call<Placement>, least: usize) -> Answer<Vec<Claim>> {
    let Json::Object(consumers) = body else {
        return Err(invalid(format!("{body} is not of type 'object'")));
    };
    if consumers.len() < least {
        return Err(invalid("{} should be non-empty"));
    }
    if let Some(key) = consumers.keys().find(|key| !is_long_uuid(key)) {
        return Err(no_match(key, "^[0-9a-fA-F-]{36}$"));
    }
    let read =
        |(consumer, value): (String, Json)| checked::<ConsumerAllocations>(value, call.version)?.claim(&consumer, true);
    consumers.into_iter().map(read).collect()
}

async fn change(call: Call<Placement>, (Path(consumer), sent): (Path<String>, SentJson)) -> Answer<Permitted<Reply>> {
    let permitted = call.allow()?;
    let malformed = || Refusal::bad_request(format!("Malformed consumer_uuid: {consumer}"));
    let consumer = base::id::dashed(&consumer).ok_or_else(malformed)?;
    let body = sent.body()?;
    let claim = match call.version >= v(1, 12) {
        true => checked::<ConsumerAllocations>(body, call.version)?.claim(&consumer, call.version >= v(1, 28))?,
        false => checked::<ListedAllocations>(body, call.version)?.claim(&consumer)?,
    };
    let unknown = format!("Unable to allocate inventory for consumer {consumer}:");
    replace(&call, &[claim], &unknown).await?;
    Ok(permitted.map(|()| Reply::new(204)))
}

async fn change_many(call: Call<Placement>, sent: SentJson) -> Answer<Permitted<Reply>> {
    let permitted = call.allow()?;
    let claims = claims(sent.body()?, &call, 1)?;
    replace(&call, &claims, "Unable to allocate inventory").await?;
    Ok(permitted.map(|()| Reply::new(204)))
}

async fn replace(call: &Call<Placement>, claims: &[Claim], unknown: &str) -> Answer<()> {
    let replaced = call.db.retry(async || -> Result<(), Stop> {
        let mut tx = call.db.begin().await?;
        let touched = claim::replace(&mut tx, claims, &call.settings, unknown).await?;
        epoch::touch(&mut tx, &touched).await?;
        tx.commit().await?;
        Ok(())
    });
    replaced.await.map_err(Refusal::from)
}

async fn remove(call: Call<Placement>, Path(consumer): Path<String>) -> Answer<Permitted<Reply>> {
    let permitted = call.allow()?;
    let removed = call.db.retry(async || -> Result<(), Stop> {
        let mut tx = call.db.begin().await?;
        let rows: Vec<Allocation> = tx.all(select("WHERE consumer = ?").bind(&consumer)).await?;
        if rows.is_empty() {
            return Err(Refusal::not_found(format!("No allocations for consumer '{consumer}'")).into());
        }
        tx.run(sql("DELETE FROM allocations WHERE consumer = ?").bind(&consumer)).await?;
        tx.run(sql("DELETE FROM consumers WHERE uuid = ?").bind(&consumer)).await?;
        let providers: BTreeSet<String> = rows.into_iter().map(|row| row.provider).collect();
        epoch::touch(&mut tx, &providers).await?;
        tx.commit().await?;
        Ok(())
    });
    removed.await?;
    Ok(permitted.map(|()| Reply::new(204)))
}

fn newest(rows: &[Allocation]) -> Time {
    rows.iter().map(|row| row.created_at).max().unwrap_or_else(clock::now)
}

async fn of_consumer(
    call: Call<Placement>,
    (_, Path(consumer)): (AcceptsJson, Path<String>),
) -> Answer<Permitted<Reply>> {
    let permitted = call.allow()?;
    let rows: Vec<Allocation> = call.db.all(select("WHERE consumer = ?").bind(&consumer)).await?;
    let named: BTreeSet<&String> = rows.iter().map(|row| &row.provider).collect();
    let providers: Vec<Provider> = match named.is_empty() {
        true => Vec::new(),
        false => call.db.all(select("").in_list("uuid", named)).await?,
    };
    let mut allocations = json!({});
    for provider in &providers {
        allocations[&provider.uuid] = json!({"resources": {}, "generation": provider.generation});
    }
    for row in &rows {
        allocations[&row.provider]["resources"][&row.resource_class] = json!(row.used);
    }
    let mut body = json!({"allocations": allocations});
    let found = call.db.maybe(select::<Consumer>("WHERE uuid = ?").bind(&consumer)).await?;
    if let Some(consumer) = found.filter(|_| !rows.is_empty()) {
        for (key, since, value) in [
            ("project_id", v(1, 12), json!(consumer.project_id)),
            ("user_id", v(1, 12), json!(consumer.user_id)),
            ("consumer_generation", v(1, 28), json!(consumer.generation)),
            ("consumer_type", v(1, 38), json!(consumer.consumer_type.as_deref().unwrap_or("unknown"))),
        ] {
            if call.version >= since {
                body[key] = value;
            }
        }
    }
    Ok(permitted.map(|()| shown(&call, &body, newest(&rows))))
}

async fn of_provider(call: Call<Placement>, (_, Path(uuid)): (AcceptsJson, Path<String>)) -> Answer<Permitted<Reply>> {
    let permitted = call.allow()?;
    let provider = providers::find(&call.db, &uuid).await.map_err(|refusal| match refusal.status {
        404 => Refusal::not_found(format!("Resource provider '{uuid}' not found: {}", refusal.message)),
        _ => refusal,
    })?;
    let rows: Vec<Allocation> = call.db.all(select("WHERE provider = ?").bind(&uuid)).await?;
    let mut allocations = json!({});
    for row in &rows {
        allocations[&row.consumer]["resources"][&row.resource_class] = json!(row.used);
    }
    if call.version >= v(1, 28) {
        let consumers = select::<Consumer>("WHERE uuid IN (SELECT consumer FROM allocations WHERE provider = ?)");
        for consumer in call.db.all(consumers.bind(&uuid)).await? {
            if let Some(shown) = allocations.get_mut(&consumer.uuid) {
                shown["consumer_generation"] = json!(consumer.generation);
            }
        }
    }
    let body = json!({"allocations": allocations, "resource_provider_generation": provider.generation});
    Ok(permitted.map(|()| shown(&call, &body, newest(&rows))))
}
