//! Flavors: the sizes that a server may have, who may use them, and their extra specs.

mod access;
mod extra_specs;
mod known_specs;

use std::borrow::Cow;
use std::collections::BTreeMap;

use api::wire::{Maybe, flag, integer, number, text};
use api::{
    Answer, Body, Call, Done, Json, Listed, Listing, NoInput, Operation, OrConflict, Path, Reader, Refusal, Show,
    Target, View, delete, get, json, listing, post, put, v,
};
use base::Time;
use db::{Db, Order, Page, record, select, sql};

use crate::{Compute, names, query};

const FLAVORS: Listing = Listing {
    sort: &[
        "created_at",
        "description",
        "disabled",
        "ephemeral_gb",
        "flavorid=id",
        "id",
        "is_public",
        "memory_mb",
        "name",
        "root_gb",
        "rxtx_factor",
        "swap=swap_mb",
        "updated_at=created_at",
        "vcpu_weight=id",
        "vcpus",
    ],
    order: &[("id", Order::Asc)],
    ..Listing::PLAIN
};

/// Limit: upstream's; the columns of its database hold no more.
const MOST: i64 = 0x7fff_ffff;
/// Limit: the same for numbers with a fraction.
const MOST_FACTOR: f64 = 3.40282e38;
/// An id that a client chooses: no blanks around it.
const ID: &str = r"^[a-zA-Z0-9._-]([a-zA-Z0-9. _-]*[a-zA-Z0-9._-])?$";

/// Keys that a list's query may have; `name` came with 2.102.
const QUERY: &[&str] = &["limit", "marker", "is_public", "minRam", "minDisk", "sort_key", "sort_dir", "name"];

pub fn operations() -> Vec<Operation<Compute>> {
    let mut operations = vec![
        get("/flavors", list).open().paged(&FLAVORS),
        get("/flavors/detail", detail).open().paged(&FLAVORS),
        post("/flavors", create).rule("os_compute_api:os-flavor-manage:create").status(200),
        get("/flavors/{id}", show).open(),
        put("/flavors/{id}", update).rule("os_compute_api:os-flavor-manage:update").since(v(2, 55)),
        delete("/flavors/{id}", remove).rule("os_compute_api:os-flavor-manage:delete").status(202),
    ];
    operations.extend(access::operations());
    operations.extend(extra_specs::operations());
    operations
}

api::wire! {
    /// What an administrator sends to make a flavor.
    pub struct NewFlavor in "flavor" {
        name: String = text(1, 255).required(),
        id: Maybe<String> = text(1, 255).matching(ID).loose().nullable(),
        memory_mb as "ram": i64 = integer(1, MOST).loose().required(),
        vcpus: i64 = integer(1, MOST).loose().required(),
        root_gb as "disk": i64 = integer(0, MOST).loose().required(),
        ephemeral_gb as "OS-FLV-EXT-DATA:ephemeral": Option<i64> = integer(0, MOST).loose(),
        swap_mb as "swap": Option<i64> = integer(0, MOST).loose(),
        rxtx_factor: Option<f64> = number(f64::MIN_POSITIVE, MOST_FACTOR).loose().until(v(2, 101)),
        is_public as "os-flavor-access:is_public": Option<bool> = flag().loose(),
        description: Maybe<String> = text(0, 65535).nullable().since(v(2, 55)),
    }
}

api::wire! {
    /// The one thing about a flavor that may change.
    pub struct FlavorUpdate in "flavor" {
        description: Maybe<String> = text(0, 65535).nullable().required(),
    }
}

record! {
    #[derive(serde::Serialize, serde::Deserialize)]
    pub struct Flavor in "flavors" {
        pub id: String,
        pub name: String,
        pub name_folded: String,
        pub description: Option<String>,
        pub memory_mb: i64,
        pub vcpus: i64,
        pub root_gb: i64,
        pub ephemeral_gb: i64,
        pub swap_mb: i64,
        pub rxtx_factor: f64,
        pub is_public: bool,
        pub disabled: bool,
        pub extra_specs: BTreeMap<String, String>,
        pub created_at: Time,
    }
}

impl Target for Flavor {
    fn attribute(&self, _: &str) -> Option<Cow<'_, str>> {
        None
    }
}

impl View for Flavor {
    const ONE: &'static str = "flavor";
    const MANY: &'static str = "flavors";

    fn view(&self, to: &Reader) -> Json {
        let mut view = json!({
            "id": self.id,
            "name": self.name,
            "ram": self.memory_mb,
            "disk": self.root_gb,
            // Upstream: no swap is shown as an empty string up to 2.74.
            "swap": if self.swap_mb == 0 && !to.since(v(2, 75)) { json!("") } else { json!(self.swap_mb) },
            "OS-FLV-EXT-DATA:ephemeral": self.ephemeral_gb,
            "vcpus": self.vcpus,
            "os-flavor-access:is_public": self.is_public,
            "links": links(&self.id, to),
        });
        if !to.since(v(2, 102)) {
            view["OS-FLV-DISABLED:disabled"] = json!(self.disabled);
            view["rxtx_factor"] = json!(self.rxtx_factor);
        }
        if to.since(v(2, 55)) {
            view["description"] = json!(self.description);
        }
        if to.since(v(2, 61)) && to.may_own("os_compute_api:os-flavor-extra-specs:index") {
            view["extra_specs"] = json!(self.extra_specs);
        }
        view
    }
}

/// A flavor in the short list.
struct Named(Flavor);

impl Target for Named {
    fn attribute(&self, _: &str) -> Option<Cow<'_, str>> {
        None
    }
}

impl View for Named {
    const ONE: &'static str = "flavor";
    const MANY: &'static str = "flavors";

    fn view(&self, to: &Reader) -> Json {
        let mut view = json!({"id": self.0.id, "name": self.0.name, "links": links(&self.0.id, to)});
        if to.since(v(2, 55)) {
            view["description"] = json!(self.0.description);
        }
        view
    }
}

fn links(id: &str, to: &Reader) -> Json {
    let path = format!("/flavors/{}", api::message::encode(id));
    json!([{"rel": "self", "href": to.link(&path)}, {"rel": "bookmark", "href": to.bookmark(&path)}])
}

api::faults! {
    /// Why a call about flavors may be refused.
    pub enum FlavorFault {
        NotFound(id: String) = 404 "itemNotFound" "Flavor {id} could not be found.",
        NameTaken(name: String) = 409 "conflictingRequest" "Flavor with name {name} already exists.",
        IdTaken(id: String) = 409 "conflictingRequest" "Flavor with ID {id} already exists.",
        BadFilter(name: String, value: String) = 400 "badRequest" "Invalid {name} filter [{value}]",
    }
}

async fn list(call: Call<Compute>, _: NoInput) -> Answer<Listed<Named>> {
    let rows = visible(&call).await?;
    Ok(Listed(call.permit_listed(rows.into_iter().map(Named).collect())?))
}

async fn detail(call: Call<Compute>, _: NoInput) -> Answer<Listed<Flavor>> {
    let rows = visible(&call).await?;
    Ok(Listed(call.permit_listed(rows)?))
}

async fn show(call: Call<Compute>, Path(id): Path<String>) -> Answer<Show<Flavor>> {
    query::strict(&call, v(2, 102), &[])?;
    let flavor = find_visible(&call, &id).await?;
    Ok(Show(call.permit(flavor)?))
}

async fn create(call: Call<Compute>, Body(new): Body<NewFlavor>) -> Answer<Show<Flavor>> {
    let permitted = call.allow()?;
    names::check("name", &new.name)?;
    let flavor = Flavor {
        id: new.id.value().unwrap_or_else(base::id::uuid),
        name_folded: new.name.to_lowercase(),
        name: new.name,
        description: new.description.value(),
        memory_mb: new.memory_mb,
        vcpus: new.vcpus,
        root_gb: new.root_gb,
        ephemeral_gb: new.ephemeral_gb.unwrap_or(0),
        swap_mb: new.swap_mb.unwrap_or(0),
        rxtx_factor: new.rxtx_factor.unwrap_or(1.0),
        is_public: new.is_public.unwrap_or(true),
        disabled: false,
        extra_specs: BTreeMap::new(),
        created_at: base::clock::now(),
    };
    refuse_name(&call.db, &flavor).await?;
    if let Err(error) = call.db.insert(&flavor).await {
        // Somebody else may have been faster with the same name.
        refuse_name(&call.db, &flavor).await?;
        return Err(error).or_conflict(|| FlavorFault::IdTaken { id: flavor.id.clone() });
    }
    Ok(Show(permitted.map(|()| flavor)))
}

async fn refuse_name(db: &Db, flavor: &Flavor) -> Answer<()> {
    let same = sql("SELECT COUNT(*) FROM flavors WHERE name_folded = ?").bind(&flavor.name_folded);
    match db.count(same).await? {
        0 => Ok(()),
        _ => Err(FlavorFault::NameTaken { name: flavor.name.clone() }.into()),
    }
}

async fn update(
    call: Call<Compute>,
    (Path(id), Body(new)): (Path<String>, Body<FlavorUpdate>),
) -> Answer<Show<Flavor>> {
    let permitted = call.allow()?;
    let mut flavor = find(&call.db, &id).await?.ok_or(FlavorFault::NotFound { id })?;
    flavor.description = new.description.value();
    let change = sql("UPDATE flavors SET description = ? WHERE id = ?");
    call.db.run(change.bind(&flavor.description).bind(&flavor.id)).await?;
    Ok(Show(permitted.map(|()| flavor)))
}

async fn remove(call: Call<Compute>, Path(id): Path<String>) -> Answer<Done> {
    let permitted = call.allow()?;
    let mut tx = call.db.begin().await?;
    tx.run(sql("DELETE FROM flavor_access WHERE flavor_id = ?").bind(&id)).await?;
    if tx.run(sql("DELETE FROM flavors WHERE id = ?").bind(&id)).await? == 0 {
        return Err(FlavorFault::NotFound { id }.into());
    }
    tx.commit().await?;
    Ok(Done::with(permitted))
}

/// The page of flavors that the caller may see: public ones, those of the project, and for an administrator what
/// `is_public` asks for.
async fn visible(call: &Call<Compute>) -> Answer<Vec<Flavor>> {
    const SHARED: &str = "(is_public = 1 OR id IN (SELECT flavor_id FROM flavor_access WHERE project_id = ?))";
    let known = if call.version >= v(2, 102) { QUERY } else { &QUERY[..QUERY.len() - 1] };
    query::strict(call, v(2, 75), known)?;
    let asked = call.query.get("is_public").unwrap_or("True");
    let admin = call.may_own("context_is_admin");
    let rows = match (admin, asked.eq_ignore_ascii_case("none"), listing::flag_value(asked)) {
        (false, ..) => select::<Flavor>("").and(SHARED).bind(call.caller.project()),
        (true, true, _) => select::<Flavor>(""),
        (true, false, Some(true)) => select::<Flavor>("").and(SHARED).bind(call.caller.project()),
        (true, false, Some(false)) => select::<Flavor>("WHERE is_public = 0"),
        (true, false, None) => {
            return Err(FlavorFault::BadFilter { name: "is_public".into(), value: asked.into() }.into());
        }
    };
    let mut rows = rows.and("memory_mb >= ?").bind(least(call, "minRam")?);
    rows = rows.and("root_gb >= ?").bind(least(call, "minDisk")?);
    if let Some(name) = call.query.get("name").filter(|_| call.version >= v(2, 102)) {
        rows = rows.and("name_folded = ?").bind(name.to_lowercase());
    }
    if !admin {
        rows = rows.and("disabled = 0");
    }
    call.db.page(rows, &page(call)?).await.map_err(|error| match error {
        db::Error::MarkerNotFound => {
            let marker = call.page.marker.clone().unwrap_or_default();
            Refusal::bad_request(format!("marker [{marker}] not found"))
        }
        error => error.into(),
    })
}

/// The page asked for. Upstream: flavors rise where the client names no direction, other than servers.
fn page(call: &Call<Compute>) -> Answer<Page> {
    if call.version >= v(2, 102) && call.query.all("sort_key").any(|key| key == "rxtx_factor") {
        return Err(Refusal::bad_request("Sort key supplied is invalid: rxtx_factor"));
    }
    let mut page = call.page.clone();
    if !call.query.has("sort_dir") {
        page.sort.iter_mut().for_each(|(_, order)| *order = Order::Asc);
    }
    Ok(page)
}

fn least(call: &Call<Compute>, name: &str) -> Answer<i64> {
    let Some(text) = call.query.get(name) else { return Ok(0) };
    text.parse().map_err(|_| FlavorFault::BadFilter { name: name.into(), value: text.into() }.into())
}

/// A flavor that the caller may use; somebody else's private one does not exist.
pub async fn find_visible(call: &Call<Compute>, id: &str) -> Answer<Flavor> {
    let missing = || FlavorFault::NotFound { id: id.to_string() };
    let flavor = find(&call.db, id).await?.ok_or_else(missing)?;
    if flavor.is_public || call.may_own("context_is_admin") {
        return Ok(flavor);
    }
    let shared = sql("SELECT COUNT(*) FROM flavor_access WHERE flavor_id = ? AND project_id = ?");
    match call.db.count(shared.bind(id).bind(call.caller.project())).await? {
        0 => Err(missing().into()),
        _ => Ok(flavor),
    }
}

pub async fn find(db: &Db, id: &str) -> Result<Option<Flavor>, db::Error> {
    db.maybe(select::<Flavor>("WHERE id = ?").bind(id)).await
}
