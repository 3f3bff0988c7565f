//! Endpoints: the URLs of services.

use api::listing::text as text_filter;
use api::wire::{Maybe, flag, one_of, text};
use api::{
    Answer, Body, Call, Created, Done, Listed, Listing, NoInput, Operation, Path, Reader, Refusal, Show, View, delete,
    get, patch, post, wire,
};
use base::{Json, json};
use db::{Queries, Tx, select, sql};

use crate::{Identity, catalog, expecting, missing, regions, services};

const ENDPOINTS: Listing = Listing {
    sort: &["id"],
    filter: &[text_filter("interface"), text_filter("service_id"), text_filter("region_id")],
    ..Listing::PLAIN
};
const INTERFACES: &[&str] = &["admin", "internal", "public"];
const URL: &str = "^[a-zA-Z0-9+.-]+:.+";

pub fn operations() -> Vec<Operation<Identity>> {
    vec![
        get("/endpoints", list).rule("identity:list_endpoints").paged(&ENDPOINTS),
        post("/endpoints", create).rule("identity:create_endpoint"),
        get("/endpoints/{endpoint_id}", show).rule("identity:get_endpoint"),
        patch("/endpoints/{endpoint_id}", update).rule("identity:update_endpoint"),
        delete("/endpoints/{endpoint_id}", remove).rule("identity:delete_endpoint"),
    ]
}

wire! {
    /// What a client sends for a new endpoint.
    pub struct NewEndpoint in "endpoint" open {
        interface: String = one_of(INTERFACES).required(),
        service_id: String = text(1, 64).required(),
        url: String = text(0, 225).matching(URL).required(),
        enabled: Option<bool> = flag(),
        region_id: Option<String> = text(0, 255).nullable(),
        region: Option<String> = text(0, 255).nullable(),
    }
}

wire! {
    /// What a client sends to change an endpoint.
    pub struct EndpointChange in "endpoint" open {
        id: Option<String> = text(0, 255),
        interface: Option<String> = one_of(INTERFACES),
        service_id: Option<String> = text(1, 64),
        url: Option<String> = text(0, 225).matching(URL),
        enabled: Option<bool> = flag(),
        region_id: Maybe<String> = text(0, 255).nullable(),
        region: Option<String> = text(0, 255).nullable(),
    }
}

db::record! {
    pub struct Endpoint in "endpoints" {
        pub id: String,
        pub service_id: String,
        pub region_id: Option<String>,
        pub interface: String,
        pub url: String,
        pub enabled: bool,
        pub extra: Json,
    }
}

impl View for Endpoint {
    const ONE: &'static str = "endpoint";
    const MANY: &'static str = "endpoints";

    fn view(&self, to: &Reader) -> Json {
        let mut view = self.extra.clone();
        view["id"] = json!(self.id);
        view["interface"] = json!(self.interface);
        view["region_id"] = json!(self.region_id);
        view["service_id"] = json!(self.service_id);
        view["url"] = json!(self.url);
        view["enabled"] = json!(self.enabled);
        view["region"] = json!(self.region_id);
        view["links"] = json!({"self": to.link(&format!("/endpoints/{}", self.id))});
        view
    }
}

pub async fn find(mut db: impl Queries, id: &str) -> Result<Option<Endpoint>, db::Error> {
    db.maybe(select::<Endpoint>("WHERE id = ?").bind(id)).await
}

pub async fn endpoint(db: impl Queries, id: &str) -> Answer<Endpoint> {
    find(db, id).await?.ok_or_else(|| missing("endpoint", id))
}

async fn list(call: Call<Identity>, _: NoInput) -> Answer<Listed<Endpoint>> {
    let permitted = call.allow()?;
    let rows = crate::rows(&call, select::<Endpoint>("")).await?;
    Ok(Listed(permitted.each(rows)))
}

async fn show(call: Call<Identity>, Path(id): Path<String>) -> Answer<Show<Endpoint>> {
    let permitted = call.allow()?;
    let endpoint = endpoint(&call.db, &id).await?;
    Ok(Show(permitted.map(|()| endpoint)))
}

async fn create(call: Call<Identity>, Body(new): Body<NewEndpoint>) -> Answer<Created<Endpoint>> {
    let permitted = call.allow()?;
    if !catalog::can_be_filled(&new.url) {
        return Err(Refusal::bad_request(format!("Cannot create an endpoint with an invalid URL: {}.", new.url)));
    }
    let mut tx = call.db.begin().await?;
    let region_id = region(&mut tx, new.region_id, new.region).await?;
    let endpoint = Endpoint {
        id: base::id::hex(),
        service_id: new.service_id,
        region_id,
        interface: new.interface,
        url: new.url,
        enabled: new.enabled.unwrap_or(true),
        extra: crate::extra(new.rest),
    };
    fits(&mut tx, &endpoint).await?;
    tx.insert(&endpoint).await?;
    call.settle(tx).await?;
    Ok(Created(permitted.map(|()| endpoint)))
}

/// Upstream: a region given under its older name is made when it is not there.
async fn region(tx: &mut Tx, id: Option<String>, older: Option<String>) -> Answer<Option<String>> {
    match (id, older) {
        (None, Some(older)) if !older.is_empty() => {
            regions::ensure(&mut *tx, &older).await?;
            Ok(Some(older))
        }
        (id, _) => Ok(id.filter(|id| !id.is_empty())),
    }
}

/// An endpoint needs its service and its region.
async fn fits(tx: &mut Tx, endpoint: &Endpoint) -> Answer<()> {
    if services::find(&mut *tx, &endpoint.service_id).await?.is_none() {
        return Err(expecting("endpoint service_id", "service table"));
    }
    match &endpoint.region_id {
        Some(id) if regions::find(&mut *tx, id).await?.is_none() => {
            Err(expecting("endpoint region_id", "region table"))
        }
        _ => Ok(()),
    }
}

async fn update(
    call: Call<Identity>,
    (Path(id), Body(change)): (Path<String>, Body<EndpointChange>),
) -> Answer<Show<Endpoint>> {
    let permitted = call.allow()?;
    if change.id.as_ref().is_some_and(|other| *other != id) {
        return Err(Refusal::bad_request("Cannot change ID"));
    }
    let mut new = endpoint(&call.db, &id).await?;
    let mut tx = call.db.begin().await?;
    new.interface = change.interface.unwrap_or(new.interface);
    new.service_id = change.service_id.unwrap_or(new.service_id);
    new.url = change.url.unwrap_or(new.url);
    new.enabled = change.enabled.unwrap_or(new.enabled);
    match (change.region_id.sent(), change.region) {
        (Some(id), None) => new.region_id = id.filter(|id| !id.is_empty()),
        (id, Some(older)) => new.region_id = region(&mut tx, id.flatten(), Some(older)).await?,
        (None, None) => {}
    }
    crate::merge(&mut new.extra, change.rest);
    fits(&mut tx, &new).await?;
    let statement = sql(
        "UPDATE endpoints SET service_id = ?, region_id = ?, interface = ?, url = ?, enabled = ?, extra = ? WHERE id = ?",
    );
    let statement = statement.bind(&new.service_id).bind(&new.region_id).bind(&new.interface).bind(&new.url);
    tx.run(statement.bind(new.enabled).bind(&new.extra).bind(&id)).await?;
    call.settle(tx).await?;
    Ok(Show(permitted.map(|()| new)))
}

async fn remove(call: Call<Identity>, Path(id): Path<String>) -> Answer<Done> {
    let permitted = call.allow()?;
    endpoint(&call.db, &id).await?;
    let mut tx = call.db.begin().await?;
    for text in ["DELETE FROM project_endpoints WHERE endpoint_id = ?", "DELETE FROM endpoints WHERE id = ?"] {
        tx.run(sql(text).bind(&id)).await?;
    }
    call.settle(tx).await?;
    Ok(Done::with(permitted))
}
