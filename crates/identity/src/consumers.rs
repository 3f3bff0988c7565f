//! OAuth consumers: programs that may ask users for a part of their rights.

use api::view::listed;
use api::wire::{Maybe, text};
use api::{
    Answer, Body, Call, Document, Done, NoInput, Operation, Path, Reader, Refusal, Show, View, delete, get, patch,
    post, wire,
};
use base::{Json, json};
use db::{select, sql};

use crate::{Identity, missing};

pub fn operations() -> Vec<Operation<Identity>> {
    vec![
        get("/OS-OAUTH1/consumers", list).rule("identity:list_consumers"),
        post("/OS-OAUTH1/consumers", create).rule("identity:create_consumer").status(201),
        get("/OS-OAUTH1/consumers/{consumer_id}", show).rule("identity:get_consumer"),
        patch("/OS-OAUTH1/consumers/{consumer_id}", update).rule("identity:update_consumer"),
        delete("/OS-OAUTH1/consumers/{consumer_id}", remove).rule("identity:delete_consumer"),
    ]
}

wire! {
    /// What a client sends for a new consumer.
    pub struct NewConsumer in "consumer" open {
        description: Option<String> = text(0, 65535).nullable(),
    }
}

wire! {
    /// What a client sends to change a consumer.
    pub struct ConsumerChange in "consumer" open {
        id: Option<String> = text(0, 255),
        description: Maybe<String> = text(0, 65535).nullable(),
        secret: Option<Json> = wire::any(),
    }
}

db::record! {
    pub struct Consumer in "consumers" {
        pub id: String,
        pub description: Option<String>,
        pub secret: String,
        pub extra: Json,
    }
}

/// A consumer without its secret, which is shown only once.
fn shown(consumer: &Consumer, to: &Reader) -> Json {
    let mut view = consumer.extra.clone();
    view["id"] = json!(consumer.id);
    view["description"] = json!(consumer.description);
    view["links"] = json!({"self": to.link(&format!("/OS-OAUTH1/consumers/{}", consumer.id))});
    view
}

impl View for Consumer {
    const ONE: &'static str = "consumer";
    const MANY: &'static str = "consumers";

    fn view(&self, to: &Reader) -> Json {
        shown(self, to)
    }
}

async fn consumer(call: &Call<Identity>, id: &str) -> Answer<Consumer> {
    let found = call.db.maybe(select::<Consumer>("WHERE id = ?").bind(id)).await?;
    found.ok_or_else(|| missing("Consumer", id))
}

async fn list(call: Call<Identity>, _: NoInput) -> Answer<Document> {
    let permitted = call.allow()?;
    let rows = call.db.all(select::<Consumer>("ORDER BY id")).await?;
    let items = rows.iter().map(|one| shown(one, &call.reader)).collect();
    Ok(Document::new(permitted, listed("consumers", items, &call.reader)))
}

async fn show(call: Call<Identity>, Path(id): Path<String>) -> Answer<Show<Consumer>> {
    let permitted = call.allow()?;
    let consumer = consumer(&call, &id).await?;
    Ok(Show(permitted.map(|()| consumer)))
}

async fn create(call: Call<Identity>, Body(new): Body<NewConsumer>) -> Answer<Document> {
    let permitted = call.allow()?;
    let consumer = Consumer {
        id: base::id::hex(),
        description: new.description,
        secret: base::id::hex(),
        extra: crate::extra(new.rest),
    };
    call.db.insert(&consumer).await?;
    let mut view = shown(&consumer, &call.reader);
    view["secret"] = json!(consumer.secret);
    Ok(Document::new(permitted, json!({"consumer": view})))
}

async fn update(
    call: Call<Identity>,
    (Path(id), Body(change)): (Path<String>, Body<ConsumerChange>),
) -> Answer<Show<Consumer>> {
    let permitted = call.allow()?;
    if change.secret.is_some() {
        return Err(Refusal::bad_request("Cannot change consumer secret"));
    }
    if change.id.as_ref().is_some_and(|other| *other != id) {
        return Err(Refusal::bad_request("Cannot change ID"));
    }
    let mut new = consumer(&call, &id).await?;
    if let Some(description) = change.description.sent() {
        new.description = description;
    }
    crate::merge(&mut new.extra, change.rest);
    let statement = sql("UPDATE consumers SET description = ?, extra = ? WHERE id = ?");
    call.db.run(statement.bind(&new.description).bind(&new.extra).bind(&id)).await?;
    Ok(Show(permitted.map(|()| new)))
}

async fn remove(call: Call<Identity>, Path(id): Path<String>) -> Answer<Done> {
    let permitted = call.allow()?;
    consumer(&call, &id).await?;
    call.db.run(sql("DELETE FROM consumers WHERE id = ?").bind(&id)).await?;
    Ok(Done::with(permitted))
}
