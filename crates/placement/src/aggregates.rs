//! Aggregates: which providers belong together. An aggregate is nothing but its UUID.

use api::message::Reply;
use api::wire::{integer, list, uuid};
use api::{Answer, Call, Operation, Path, Permitted, get, json, put, v};
use base::clock;
use db::{Queries, record, select, sql};

use crate::Placement;
use crate::epoch;
use crate::exchange::{AcceptsJson, SentJson, checked, invalid, shown};
use crate::providers::{self, raise};
use crate::stop::{self, Stop, concurrent};

pub fn operations() -> Vec<Operation<Placement>> {
    const PATH: &str = "/resource_providers/{uuid}/aggregates";
    vec![
        get(PATH, show).rule("placement:resource_providers:aggregates:list").since(v(1, 1)),
        put(PATH, set).rule("placement:resource_providers:aggregates:update").since(v(1, 1)),
    ]
}

api::wire! {
    pub struct Membership {
        resource_provider_generation: i64 = integer(i64::MIN, i64::MAX).required(),
        aggregates: Vec<String> = list(uuid()).unique().required(),
    }
}

record! {
    /// A provider is in an aggregate.
    pub(crate) struct Member in "provider_aggregates" {
        pub(crate) provider: String,
        pub(crate) aggregate: String,
    }
}

async fn of(mut db: impl Queries, provider: &str) -> Result<Vec<Member>, db::Error> {
    db.all(select("WHERE provider = ? ORDER BY aggregate").bind(provider)).await
}

fn body_of(call: &Call<Placement>, aggregates: &[String], generation: i64) -> Reply {
    let mut body = json!({"aggregates": aggregates});
    if call.version >= v(1, 19) {
        body["resource_provider_generation"] = json!(generation);
    }
    shown(call, &body, clock::now())
}

async fn show(call: Call<Placement>, (_, Path(uuid)): (AcceptsJson, Path<String>)) -> Answer<Permitted<Reply>> {
    let permitted = call.allow()?;
    let provider = providers::find(&call.db, &uuid).await?;
    let aggregates: Vec<String> = of(&call.db, &uuid).await?.into_iter().map(|member| member.aggregate).collect();
    Ok(permitted.map(|()| body_of(&call, &aggregates, provider.generation)))
}

/// Before 1.19 the body is a bare list and generations are left alone.
async fn set(call: Call<Placement>, (Path(uuid), sent): (Path<String>, SentJson)) -> Answer<Permitted<Reply>> {
    let permitted = call.allow()?;
    let provider = providers::find(&call.db, &uuid).await?;
    let body = sent.body()?;
    let with_generation = call.version >= v(1, 19);
    let body = match with_generation {
        true => body,
        false if body.is_array() => json!({"resource_provider_generation": 0, "aggregates": body}),
        false => return Err(invalid(format!("{body} is not of type 'array'"))),
    };
    let Membership { resource_provider_generation, aggregates } = checked(body, call.version)?;
    if with_generation && resource_provider_generation != provider.generation {
        let text = "Resource provider's generation already changed. Please update the generation and try again.";
        return Err(concurrent(text));
    }
    let expected = with_generation.then_some(resource_provider_generation);
    let generation = call.db.retry(|| write(&call, &uuid, expected, &aggregates)).await?;
    Ok(permitted.map(|()| body_of(&call, &aggregates, generation)))
}

async fn write(call: &Call<Placement>, uuid: &str, expected: Option<i64>, wanted: &[String]) -> Result<i64, Stop> {
    let mut tx = call.db.begin().await?;
    let provider = providers::find(&mut tx, uuid).await?;
    let mut generation = provider.generation;
    if let Some(expected) = expected {
        if expected != generation || !raise(&mut tx, &provider).await? {
            return Err(concurrent(format!("Update conflict: {}", stop::PROVIDER)).into());
        }
        generation += 1;
    }
    tx.run(sql("DELETE FROM provider_aggregates WHERE provider = ?").bind(uuid)).await?;
    let member = |aggregate: &String| Member { provider: uuid.to_string(), aggregate: aggregate.clone() };
    let members: Vec<Member> = wanted.iter().map(member).collect();
    match tx.insert_all(&members).await {
        Err(error) if error.is_duplicate() => return Err(Stop::Raced),
        done => done?,
    }
    epoch::touch_one(&mut tx, uuid).await?;
    tx.commit().await?;
    Ok(generation)
}
