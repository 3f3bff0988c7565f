//! Services: what the cloud offers, as the catalog names it.

use api::listing::text as text_filter;
use api::wire::{flag, text};
use api::{
    Answer, Body, Call, Created, Done, Listed, Listing, NoInput, Operation, Path, Reader, Refusal, Show, View, delete,
    get, patch, post, wire,
};
use base::{Json, json};
use db::{Queries, select, sql};

use crate::{Identity, missing};

const SERVICES: Listing =
    Listing { sort: &["name", "type", "id"], filter: &[text_filter("type"), text_filter("name")], ..Listing::PLAIN };

pub fn operations() -> Vec<Operation<Identity>> {
    vec![
        get("/services", list).rule("identity:list_services").paged(&SERVICES),
        post("/services", create).rule("identity:create_service"),
        get("/services/{service_id}", show).rule("identity:get_service"),
        patch("/services/{service_id}", update).rule("identity:update_service"),
        delete("/services/{service_id}", remove).rule("identity:delete_service"),
    ]
}

wire! {
    /// What a client sends for a new service.
    pub struct NewService in "service" open {
        kind as "type": String = text(1, 255).required(),
        name: Option<String> = text(0, 255),
        enabled: Option<bool> = flag(),
    }
}

wire! {
    /// What a client sends to change a service.
    pub struct ServiceChange in "service" open {
        id: Option<String> = text(0, 255),
        kind as "type": Option<String> = text(1, 255),
        name: Option<String> = text(0, 255),
        enabled: Option<bool> = flag(),
    }
}

db::record! {
    pub struct Service in "services" {
        pub id: String,
        pub r#type: String,
        pub name: Option<String>,
        pub enabled: bool,
        pub extra: Json,
    }
}

impl View for Service {
    const ONE: &'static str = "service";
    const MANY: &'static str = "services";

    fn view(&self, to: &Reader) -> Json {
        let mut view = self.extra.clone();
        if let Some(name) = &self.name {
            view["name"] = json!(name);
        }
        view["id"] = json!(self.id);
        view["type"] = json!(self.r#type);
        view["enabled"] = json!(self.enabled);
        view["links"] = json!({"self": to.link(&format!("/services/{}", self.id))});
        view
    }
}

pub async fn find(mut db: impl Queries, id: &str) -> Result<Option<Service>, db::Error> {
    db.maybe(select::<Service>("WHERE id = ?").bind(id)).await
}

pub async fn service(db: impl Queries, id: &str) -> Answer<Service> {
    find(db, id).await?.ok_or_else(|| missing("service", id))
}

async fn list(call: Call<Identity>, _: NoInput) -> Answer<Listed<Service>> {
    let permitted = call.allow()?;
    let rows = crate::rows(&call, select::<Service>("")).await?;
    Ok(Listed(permitted.each(rows)))
}

async fn show(call: Call<Identity>, Path(id): Path<String>) -> Answer<Show<Service>> {
    let permitted = call.allow()?;
    let service = service(&call.db, &id).await?;
    Ok(Show(permitted.map(|()| service)))
}

async fn create(call: Call<Identity>, Body(new): Body<NewService>) -> Answer<Created<Service>> {
    let permitted = call.allow()?;
    let service = Service {
        id: base::id::hex(),
        r#type: new.kind,
        name: new.name,
        enabled: new.enabled.unwrap_or(true),
        extra: crate::extra(new.rest),
    };
    let mut tx = call.db.begin().await?;
    tx.insert(&service).await?;
    call.settle(tx).await?;
    Ok(Created(permitted.map(|()| service)))
}

async fn update(
    call: Call<Identity>,
    (Path(id), Body(change)): (Path<String>, Body<ServiceChange>),
) -> Answer<Show<Service>> {
    let permitted = call.allow()?;
    if change.id.as_ref().is_some_and(|other| *other != id) {
        return Err(Refusal::bad_request("Cannot change ID"));
    }
    let mut new = service(&call.db, &id).await?;
    new.r#type = change.kind.unwrap_or(new.r#type);
    new.name = change.name.or(new.name);
    new.enabled = change.enabled.unwrap_or(new.enabled);
    crate::merge(&mut new.extra, change.rest);
    let mut tx = call.db.begin().await?;
    let statement = sql("UPDATE services SET \"type\" = ?, name = ?, enabled = ?, extra = ? WHERE id = ?");
    let statement = statement.bind(&new.r#type).bind(&new.name).bind(new.enabled).bind(&new.extra);
    tx.run(statement.bind(&id)).await?;
    call.settle(tx).await?;
    Ok(Show(permitted.map(|()| new)))
}

async fn remove(call: Call<Identity>, Path(id): Path<String>) -> Answer<Done> {
    let permitted = call.allow()?;
    service(&call.db, &id).await?;
    let mut tx = call.db.begin().await?;
    for text in [
        "DELETE FROM project_endpoints WHERE endpoint_id IN (SELECT id FROM endpoints WHERE service_id = ?)",
        "DELETE FROM endpoints WHERE service_id = ?",
        "DELETE FROM services WHERE id = ?",
    ] {
        tx.run(sql(text).bind(&id)).await?;
    }
    call.settle(tx).await?;
    Ok(Done::with(permitted))
}
