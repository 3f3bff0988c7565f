//! Resource providers: whoever has something to give, alone or as part of a tree.

use std::collections::BTreeSet;

use api::message::Reply;
use api::wire::{Maybe, text, uuid};
use api::{Answer, Call, Json, Operation, Path, Permitted, Refusal, delete, get, json, post, put, v};
use base::{Time, clock};
use db::{Queries, Tx, record, select, sql};

use crate::Placement;
use crate::epoch;
use crate::exchange::{AcceptsJson, Sent, bad_query, only_queries, path_link, shown};
use crate::filters;
use crate::stop::Stop;

pub fn operations() -> Vec<Operation<Placement>> {
    vec![
        get("/resource_providers", list).rule("placement:resource_providers:list"),
        post("/resource_providers", create).rule("placement:resource_providers:create").was(201, v(1, 19)),
        get("/resource_providers/{uuid}", show).rule("placement:resource_providers:show"),
        put("/resource_providers/{uuid}", update).rule("placement:resource_providers:update"),
        delete("/resource_providers/{uuid}", remove).rule("placement:resource_providers:delete"),
    ]
}

api::wire! {
    pub struct NewProvider {
        uuid: Option<String> = uuid(),
        name: String = text(0, 200).required(),
        parent_provider_uuid: Maybe<String> = uuid().nullable().since(v(1, 14)),
    }
}

api::wire! {
    pub struct ChangedProvider {
        name: String = text(0, 200).required(),
        parent_provider_uuid: Maybe<String> = uuid().nullable().since(v(1, 14)),
    }
}

record! {
    pub struct Provider in "resource_providers" {
        pub uuid: String,
        pub name: String,
        pub generation: i64,
        pub parent: Option<String>,
        /// The provider itself, if it has no parent.
        pub root: String,
        /// The epoch of its last change.
        pub revision: i64,
        pub created_at: Time,
        pub updated_at: Time,
    }
}

impl Provider {
    fn view(&self, call: &Call<Placement>) -> Json {
        let own = path_link(call, &format!("/resource_providers/{}", self.uuid));
        let mut links = vec![json!({"rel": "self", "href": own})];
        let below = [
            ("inventories", v(1, 0)),
            ("usages", v(1, 0)),
            ("aggregates", v(1, 1)),
            ("traits", v(1, 6)),
            ("allocations", v(1, 11)),
        ];
        for (rel, _) in below.iter().filter(|(_, since)| call.version >= *since) {
            links.push(json!({"rel": rel, "href": format!("{own}/{rel}")}));
        }
        let mut view = json!({"uuid": self.uuid, "name": self.name, "generation": self.generation, "links": links});
        if call.version >= v(1, 14) {
            view["parent_provider_uuid"] = json!(self.parent);
            view["root_provider_uuid"] = json!(self.root);
        }
        view
    }
}

/// The provider, or the 404 that all its operations give.
pub(crate) async fn find(mut db: impl Queries, uuid: &str) -> Answer<Provider> {
    let found = db.maybe(select::<Provider>("WHERE uuid = ?").bind(uuid)).await?;
    found.ok_or_else(|| not_found(uuid))
}

pub(crate) fn not_found(uuid: &str) -> Refusal {
    Refusal::not_found(format!("No resource provider with uuid {uuid} found"))
}

/// Raises the generation if it is still what it was; false if somebody else raised it.
pub(crate) async fn raise(tx: &mut Tx, provider: &Provider) -> Result<bool, db::Error> {
    let raise = "UPDATE resource_providers SET generation = generation + 1, updated_at = ? \
                 WHERE uuid = ? AND generation = ?";
    let raise = sql(raise).bind(clock::now()).bind(&provider.uuid).bind(provider.generation);
    Ok(tx.run(raise).await? == 1)
}

async fn show(call: Call<Placement>, (_, Path(uuid)): (AcceptsJson, Path<String>)) -> Answer<Permitted<Reply>> {
    let permitted = call.allow()?;
    let provider = find(&call.db, &uuid).await?;
    Ok(permitted.map(|()| shown(&call, &provider.view(&call), provider.updated_at)))
}

async fn list(call: Call<Placement>, _: AcceptsJson) -> Answer<Permitted<Reply>> {
    let permitted = call.allow()?;
    only_queries(
        &call,
        &[
            ("name", v(1, 0)),
            ("uuid", v(1, 0)),
            ("member_of", v(1, 3)),
            ("resources", v(1, 4)),
            ("in_tree", v(1, 14)),
            ("required", v(1, 18)),
        ],
    )?;
    let providers = filtered(&call).await?;
    let newest = providers.iter().map(|provider| provider.updated_at).max();
    let body = json!({"resource_providers": providers.iter().map(|provider| provider.view(&call)).collect::<Vec<_>>()});
    Ok(permitted.map(|()| shown(&call, &body, newest.unwrap_or_else(clock::now))))
}

async fn filtered(call: &Call<Placement>) -> Answer<Vec<Provider>> {
    let uuids = ["uuid", "in_tree"].into_iter().filter_map(|name| call.query.get(name));
    if let Some(wrong) = uuids.into_iter().find(|value| !base::id::is_uuid(value)) {
        return Err(bad_query(format!("'{wrong}' is not a 'uuid'")));
    }
    let membership = filters::member_of(call, "member_of", "")?;
    let traits = filters::required(call, "required")?;
    let resources = call.query.get("resources").map(filters::resources).transpose()?.unwrap_or_default();
    if let Some(class) =
        filters::unknown_class(&call.db, resources.iter().map(|(class, _)| class.as_str()).collect()).await?
    {
        let text = format!("Invalid resource class in resources parameter: No such resource class {class}.");
        return Err(Refusal::bad_request(text));
    }
    if let Some(name) = filters::unknown_trait(&call.db, &traits).await? {
        let text = format!("Invalid trait(s) in \"required\" parameter: No such trait(s): {name}.");
        return Err(Refusal::bad_request(text));
    }

    let index = call.index.newest(&call.db).await?;
    let tree = match call.query.get("in_tree") {
        None => None,
        Some(uuid) => match index.root_of(uuid) {
            Some(root) => Some(root),
            // Upstream: a tree that is not there is an empty list.
            None => return Ok(Vec::new()),
        },
    };
    let same = |filter: Option<&str>, value: &str| filter.is_none_or(|filter| filter.is_empty() || filter == value);
    let entries = index.entries.iter().enumerate().filter(|(at, entry)| {
        same(call.query.get("name"), &entry.provider.name)
            && same(call.query.get("uuid"), &entry.provider.uuid)
            && tree.is_none_or(|root| index.shape.roots[*at] == root)
            && entry.has_traits(&traits)
            && entry.is_member(&membership)
            && resources.iter().all(|(class, amount)| entry.fits(class, *amount))
    });
    Ok(entries.map(|(_, entry)| entry.provider.clone()).collect())
}

async fn create(call: Call<Placement>, sent: Sent<NewProvider>) -> Answer<Permitted<Reply>> {
    let permitted = call.allow()?;
    let new = sent.body()?;
    let uuid = new.uuid.and_then(|uuid| base::id::dashed(&uuid)).unwrap_or_else(base::id::uuid);
    let refuse = |why: &str| {
        let name = &new.name;
        Refusal::bad_request(format!(
            "Unable to create resource provider \"{name}\", {uuid}: Object action create failed because: {why}"
        ))
    };
    if new.name.is_empty() {
        return Err(refuse("name is required"));
    }
    let parent = new.parent_provider_uuid.clone().value();
    if parent.as_ref() == Some(&uuid) {
        return Err(refuse(
            "parent provider UUID cannot be same as UUID. Please set parent provider UUID to None if there is no \
             parent.",
        ));
    }
    let provider = call.db.retry(|| insert(&call, &uuid, &new.name, parent.as_deref(), &refuse)).await?;

    let reply = match call.version >= v(1, 20) {
        true => shown(&call, &provider.view(&call), provider.updated_at),
        false => Reply::new(201),
    };
    let link = call.reader.link(&format!("/resource_providers/{uuid}"));
    Ok(permitted.map(|()| reply.header("location", &link)))
}

async fn insert(
    call: &Call<Placement>,
    uuid: &str,
    name: &str,
    parent: Option<&str>,
    refuse: &(impl Fn(&str) -> Refusal + Sync),
) -> Result<Provider, Stop> {
    let mut tx = call.db.begin().await?;
    let mut root = uuid.to_string();
    if let Some(parent) = parent {
        epoch::lock(&mut tx).await?;
        let found = tx.maybe(select::<Provider>("WHERE uuid = ?").bind(parent)).await?;
        root = found.ok_or_else(|| refuse("parent provider UUID does not exist."))?.root;
    }
    let now = clock::now();
    let provider = Provider {
        uuid: uuid.to_string(),
        name: name.to_string(),
        generation: 0,
        parent: parent.map(str::to_string),
        root,
        revision: 0,
        created_at: now,
        updated_at: now,
    };
    let same = select::<Provider>("WHERE uuid = ? OR name = ?").bind(uuid).bind(name);
    if let Some(other) = tx.maybe(same).await? {
        return Err(exists(if other.uuid == uuid { format!("uuid: {uuid}") } else { format!("name: {name}") }).into());
    }
    match tx.insert(&provider).await {
        Err(error) if error.is_duplicate() => return Err(Stop::Raced),
        done => done?,
    }
    epoch::touch_one(&mut tx, uuid).await?;
    tx.commit().await?;
    Ok(provider)
}

fn exists(what: String) -> Refusal {
    Refusal::new(409, "placement.duplicate_name", format!("Conflicting resource provider {what} already exists."))
}

async fn update(
    call: Call<Placement>,
    (Path(uuid), sent): (Path<String>, Sent<ChangedProvider>),
) -> Answer<Permitted<Reply>> {
    let permitted = call.allow()?;
    find(&call.db, &uuid).await?;
    let changed = sent.body()?;
    let provider = call.db.retry(|| save(&call, &uuid, &changed)).await?;
    Ok(permitted.map(|()| shown(&call, &provider.view(&call), provider.updated_at)))
}

async fn save(call: &Call<Placement>, uuid: &str, changed: &ChangedProvider) -> Result<Provider, Stop> {
    let refuse = |action: &str, why: &str| {
        Refusal::bad_request(format!(
            "Unable to save resource provider {uuid}: Object action {action} failed because: {why}"
        ))
    };
    let mut tx = call.db.begin().await?;
    let mut touched = BTreeSet::from([uuid.to_string()]);
    if !changed.parent_provider_uuid.is_absent() {
        epoch::lock(&mut tx).await?;
    }
    let mut provider = find(&mut tx, uuid).await?;
    let parent = changed.parent_provider_uuid.clone().sent().unwrap_or_else(|| provider.parent.clone());
    if parent != provider.parent {
        let may_move = call.version >= v(1, 37);
        let root = match &parent {
            None if !may_move => {
                return Err(refuse("update", "un-parenting a provider is not currently allowed.").into());
            }
            None => uuid.to_string(),
            Some(parent) => {
                let found = tx.maybe(select::<Provider>("WHERE uuid = ?").bind(parent)).await?;
                let found = found.ok_or_else(|| refuse("create", "parent provider UUID does not exist."))?;
                if provider.parent.is_some() && !may_move {
                    return Err(refuse("update", "re-parenting a provider is not currently allowed.").into());
                }
                found.root
            }
        };
        let subtree = subtree(&mut tx, &provider).await?;
        if parent.as_ref().is_some_and(|parent| subtree.contains(parent)) {
            return Err(refuse("update", "creating loop in the provider tree is not allowed.").into());
        }
        let move_all = sql("UPDATE resource_providers SET root = ?").bind(&root).in_list("uuid", &subtree);
        tx.run(move_all).await?;
        touched.extend(subtree);
        (provider.parent, provider.root) = (parent, root);
    }
    (provider.name, provider.updated_at) = (changed.name.clone(), clock::now());
    let write = sql("UPDATE resource_providers SET name = ?, parent = ?, updated_at = ? WHERE uuid = ?");
    let write = write.bind(&provider.name).bind(&provider.parent).bind(provider.updated_at).bind(uuid);
    match tx.run(write).await {
        Err(error) if error.is_duplicate() => return Err(exists(provider.name).into()),
        done => done?,
    };
    epoch::touch(&mut tx, &touched).await?;
    tx.commit().await?;
    Ok(provider)
}

/// The provider and everything below it.
async fn subtree(tx: &mut Tx, provider: &Provider) -> Result<BTreeSet<String>, db::Error> {
    let tree = tx.all(select::<Provider>("WHERE root = ?").bind(&provider.root)).await?;
    let mut subtree = BTreeSet::from([provider.uuid.clone()]);
    // Each round goes one level deeper; a tree has no more levels than providers.
    for _ in 0..tree.len() {
        let below = tree.iter().filter(|one| one.parent.as_ref().is_some_and(|parent| subtree.contains(parent)));
        let below: Vec<String> = below.map(|one| one.uuid.clone()).collect();
        let before = subtree.len();
        subtree.extend(below);
        if subtree.len() == before {
            break;
        }
    }
    Ok(subtree)
}

async fn remove(call: Call<Placement>, Path(uuid): Path<String>) -> Answer<Permitted<Reply>> {
    let permitted = call.allow()?;
    call.db.retry(|| delete_rows(&call, &uuid)).await?;
    Ok(permitted.map(|()| Reply::new(204)))
}

async fn delete_rows(call: &Call<Placement>, uuid: &str) -> Result<(), Stop> {
    let mut tx = call.db.begin().await?;
    if tx.maybe(select::<Provider>("WHERE uuid = ?").bind(uuid)).await?.is_none() {
        return Err(Refusal::not_found(format!("No resource provider with uuid {uuid} found for delete")).into());
    }
    if tx.count(sql("SELECT COUNT(*) FROM resource_providers WHERE parent = ?").bind(uuid)).await? > 0 {
        let text = format!("Unable to delete parent resource provider {uuid}: It has child resource providers.");
        return Err(Refusal::new(409, "placement.resource_provider.cannot_delete_parent", text).into());
    }
    if tx.count(sql("SELECT COUNT(*) FROM allocations WHERE provider = ?").bind(uuid)).await? > 0 {
        let text = format!("Unable to delete resource provider {uuid}: Resource provider has allocations.");
        return Err(Refusal::new(409, "placement.resource_provider.inuse", text).into());
    }
    for table in ["inventories", "provider_traits", "provider_aggregates"] {
        fit(tx.run(sql(format!("DELETE FROM {table} WHERE provider = ?")).bind(uuid)).await)?;
    }
    fit(tx.run(sql("DELETE FROM resource_providers WHERE uuid = ?").bind(uuid)).await)?;
    epoch::bury(&mut tx, uuid).await?;
    tx.commit().await?;
    Ok(())
}

/// A row that came to depend on the provider meanwhile: look again.
fn fit(deleted: Result<u64, db::Error>) -> Result<u64, Stop> {
    match deleted {
        Err(db::Error::Constraint { .. }) => Err(Stop::Raced),
        other => Ok(other?),
    }
}
