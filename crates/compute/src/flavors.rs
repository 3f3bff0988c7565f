//! Flavors: the sizes that a server may have, who may use them, and their extra specs.

mod access;
mod extra_specs;

use std::borrow::Cow;
use std::collections::BTreeMap;

use api::wire::{Maybe, flag, integer, number, text};
use api::{
    Answer, Body, Call, Done, Json, Listed, Listing, NoInput, Operation, OrConflict, Path, Reader, Refusal, Show,
    Target, View, delete, get, json, listing, post, put, v,
};
use base::Time;
use db::{Db, Order, record, select, sql};

use crate::Compute;

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
        "vcpus",
        "updated_at=created_at",
    ],
    filter: &[listing::text("flavorid").on("id")],
    order: &[("id", Order::Asc)],
    ..Listing::PLAIN
};

/// Limit: upstream's; the columns of its database hold no more.
const MOST: i64 = 0x7fff_ffff;

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
        id: Maybe<String> = text(1, 255).matching(r"^[a-zA-Z0-9. _-]*$").loose().nullable(),
        memory_mb as "ram": i64 = integer(1, MOST).loose().required(),
        vcpus: i64 = integer(1, MOST).loose().required(),
        root_gb as "disk": i64 = integer(0, MOST).loose().required(),
        ephemeral_gb as "OS-FLV-EXT-DATA:ephemeral": Option<i64> = integer(0, MOST).loose(),
        swap_mb as "swap": Option<i64> = integer(0, MOST).loose(),
        rxtx_factor: Option<f64> = number(f64::MIN_POSITIVE, 3.40282e38).loose(),
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
            "OS-FLV-DISABLED:disabled": self.disabled,
            "vcpus": self.vcpus,
            "os-flavor-access:is_public": self.is_public,
            "rxtx_factor": self.rxtx_factor,
            "links": links(&self.id, to),
        });
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
        BadName(name: String) = 400 "badRequest" "Invalid input for field/attribute name. Value: {name}. '{name}' has surrounding blanks.",
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
    let flavor = find_visible(&call, &id).await?;
    Ok(Show(call.permit(flavor)?))
}

async fn create(call: Call<Compute>, Body(new): Body<NewFlavor>) -> Answer<Show<Flavor>> {
    if new.name.trim() != new.name {
        return Err(FlavorFault::BadName { name: new.name }.into());
    }
    let flavor = call.permit(Flavor {
        id: new.id.value().filter(|id| !id.is_empty()).unwrap_or_else(base::id::uuid),
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
    })?;
    let same = select::<Flavor>("WHERE name_folded = ?").bind(&flavor.name_folded);
    if call.db.maybe(same).await?.is_some() {
        return Err(FlavorFault::NameTaken { name: flavor.name.clone() }.into());
    }
    call.db.insert(&*flavor).await.or_conflict(|| FlavorFault::IdTaken { id: flavor.id.clone() })?;
    Ok(Show(flavor))
}

async fn update(
    call: Call<Compute>,
    (Path(id), Body(new)): (Path<String>, Body<FlavorUpdate>),
) -> Answer<Show<Flavor>> {
    let mut flavor = call.permit(find(&call.db, &id).await?.ok_or(FlavorFault::NotFound { id })?)?;
    flavor.description = new.description.value();
    let change = sql("UPDATE flavors SET description = ? WHERE id = ?");
    call.db.run(change.bind(&flavor.description).bind(&flavor.id)).await?;
    Ok(Show(flavor))
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
    let rows = rows.and("memory_mb >= ?").bind(least(call, "minRam")?);
    let rows = rows.and("root_gb >= ?").bind(least(call, "minDisk")?);
    call.db.page(rows, &call.page).await.map_err(|error| match error {
        db::Error::MarkerNotFound { .. } => {
            let marker = call.page.marker.clone().unwrap_or_default();
            Refusal::bad_request(format!("marker [{marker}] not found"))
        }
        error => error.into(),
    })
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
