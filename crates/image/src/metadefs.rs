//! Metadata definitions: namespaces that explain to people and dashboards which properties mean what.
//!
//! Nothing in the cloud obeys them; they are a catalogue that clients read.

use std::borrow::Cow;
use std::collections::HashMap;

use api::{
    Answer, AnyBody, Call, Document, Done, NoInput, Operation, OrConflict, Path, Permitted, Reader, Refusal, Reply,
    Show, Target, View, delete, get, post, put,
};
use base::{Json, Time, clock, json};
use db::{Order, Page, Tx, select, sql};

use crate::Images;
use crate::images::{Visibility, is_admin, page_link};
use crate::schemas;

mod items;

use items::{Item, Kind};

pub fn operations() -> Vec<Operation<Images>> {
    let mut operations = vec![
        get("/metadefs/namespaces", list).rule("get_metadef_namespaces"),
        post("/metadefs/namespaces", create).rule("add_metadef_namespace"),
        get("/metadefs/namespaces/{namespace}", show).rule("get_metadef_namespace"),
        put("/metadefs/namespaces/{namespace}", update).rule("modify_metadef_namespace"),
        delete("/metadefs/namespaces/{namespace}", remove).rule("delete_metadef_namespace"),
    ];
    operations.extend(items::operations());
    operations
}

db::record! {
    pub struct Namespace in "metadef_namespaces" {
        pub namespace: String,
        pub display_name: Option<String>,
        pub description: Option<String>,
        pub visibility: Visibility,
        pub owner: Option<String>,
        pub protected: bool,
        pub created_at: Time,
        pub updated_at: Time,
    }
}

impl Target for Namespace {
    fn attribute(&self, name: &str) -> Option<Cow<'_, str>> {
        match name {
            "project_id" | "owner" => self.owner.as_deref().map(Cow::Borrowed),
            "visibility" => Some(Cow::Borrowed(self.visibility.word())),
            "namespace" => Some(Cow::Borrowed(&self.namespace)),
            _ => None,
        }
    }
}

impl View for Namespace {
    const ONE: &'static str = "";
    const MANY: &'static str = "namespaces";

    fn view(&self, _: &Reader) -> Json {
        let mut view = json!({
            "namespace": self.namespace,
            "visibility": self.visibility.word(),
            "protected": self.protected,
            "owner": self.owner,
            "created_at": self.created_at.iso_z(),
            "updated_at": self.updated_at.iso_z(),
            "self": href(&self.namespace),
            "schema": "/v2/schemas/metadefs/namespace",
        });
        // Upstream: what is not set is not there.
        for (key, value) in [("display_name", &self.display_name), ("description", &self.description)] {
            if let Some(value) = value {
                view[key] = json!(value);
            }
        }
        view
    }
}

fn href(namespace: &str) -> String {
    format!("/v2/metadefs/namespaces/{namespace}")
}

api::faults! {
    pub enum NamespaceFault {
        NotFound(name: String) = 404 "" "Metadata definition namespace={name} was not found.",
        Missing(name: String) = 404 "" "Namespace {name} not found",
        Exists(name: String) = 409 "" "The metadata definition namespace={name} already exists.",
        WouldExist(name: String) = 409 "" "Invalid update. It would result in a duplicate metadata definition namespace with the same name of {name}",
        Protected(name: String) = 403 "" "Metadata definition namespace {name} is protected and cannot be deleted.",
    }
}

/// The namespace, if the caller may know of it.
async fn find(call: &Call<Images>, name: &str) -> Answer<Option<Namespace>> {
    let row = call.db.maybe(select::<Namespace>("WHERE namespace = ?").bind(name)).await?;
    Ok(row.filter(|row| {
        let seen = is_admin(call) || row.visibility == Visibility::Public || row.owner == call.caller.project_id;
        seen && call.may("get_metadef_namespace", row)
    }))
}

async fn list(call: Call<Images>, _: NoInput) -> Answer<Document> {
    let allowed = call.allow()?;
    let mut rows = select::<Namespace>("");
    if !is_admin(&call) {
        rows = rows.and("visibility = ? OR owner = ?").bind(Visibility::Public).bind(call.caller.project());
    }
    if let Some(word) = call.query.get("visibility") {
        rows = rows.and("visibility = ?").bind(word);
    }
    if let Some(types) = call.query.get("resource_types") {
        let known = "EXISTS (SELECT 1 FROM metadef_items WHERE metadef_items.namespace = metadef_namespaces.namespace \
                     AND metadef_items.kind = ? AND metadef_items.name IN (?))";
        rows = rows.and(known).bind(items::RESOURCE_TYPE.word).bind_list(types.split(',').map(str::trim));
    }
    let page = page(&call)?;
    let limit = page.limit;
    let namespaces = match call.db.page(rows, &page).await {
        Err(db::Error::MarkerNotFound) => {
            return Err(NamespaceFault::NotFound { name: page.marker.unwrap_or_default() }.into());
        }
        namespaces => namespaces?,
    };
    let full = limit.is_some_and(|limit| namespaces.len() == limit as usize);
    let last = namespaces.last().filter(|_| full).map(|last| last.namespace.clone());
    let mut types = resource_types_of(&call, &namespaces).await?;
    let shown = namespaces.iter().filter(|row| call.may("get_metadef_namespace", *row)).map(|row| {
        let mut view = row.view(&call.reader);
        if let Some(types) = types.remove(&row.namespace) {
            view["resource_type_associations"] = Json::Array(types);
        }
        view
    });
    let mut body = json!({
        "namespaces": shown.collect::<Vec<Json>>(),
        "first": page_link("/v2/metadefs/namespaces", &call.query, None),
        "schema": "/v2/schemas/metadefs/namespaces",
    });
    if let Some(last) = last {
        body["next"] = json!(page_link("/v2/metadefs/namespaces", &call.query, Some(&last)));
    }
    Ok(Document::new(allowed, body))
}

fn page(call: &Call<Images>) -> Answer<Page> {
    let limit = match call.query.get("limit") {
        None => call.options.limit_param_default,
        Some(text) => text.trim().parse().map_err(|_| Refusal::bad_request("limit param must be an integer"))?,
    };
    let order = match call.query.get("sort_dir") {
        Some("asc") => Order::Asc,
        None | Some("desc") => Order::Desc,
        Some(other) => return Err(Refusal::bad_request(format!("Invalid sort direction: {other}"))),
    };
    let key = match call.query.get("sort_key") {
        None | Some("created_at") => "created_at",
        Some("updated_at") => "updated_at",
        Some("namespace") => "namespace",
        Some(other) => return Err(Refusal::bad_request(format!("Invalid sort key: {other}"))),
    };
    Ok(Page {
        limit: Some(limit.min(call.options.api_limit_max)),
        marker: call.query.get("marker").map(String::from),
        marker_column: "namespace",
        sort: vec![(key.to_string(), order), ("namespace".to_string(), order)],
        ..Page::default()
    })
}

async fn resource_types_of(call: &Call<Images>, namespaces: &[Namespace]) -> Answer<HashMap<String, Vec<Json>>> {
    let names = namespaces.iter().map(|row| row.namespace.as_str());
    let rows = select::<Item>("WHERE kind = ? ORDER BY name").bind(items::RESOURCE_TYPE.word);
    let mut found: HashMap<String, Vec<Json>> = HashMap::new();
    for item in call.db.all(rows.in_list("namespace", names)).await? {
        found.entry(item.namespace.clone()).or_default().push(items::RESOURCE_TYPE.view(&item));
    }
    Ok(found)
}

async fn create(call: Call<Images>, AnyBody(body): AnyBody) -> Answer<Permitted<Reply>> {
    let row = read(&call, &body)?;
    let row = call.permit(row)?;
    let contents = contents(&call, &row, &body)?;
    let mut tx = call.db.begin().await?;
    tx.insert(&*row).await.or_conflict(|| NamespaceFault::Exists { name: row.namespace.clone() })?;
    for (kind, item) in &contents {
        items::insert(&mut tx, kind, item).await?;
    }
    tx.commit().await?;

    let location = call.reader.link(&format!("/metadefs/namespaces/{}", row.namespace));
    let reader = call.reader.clone();
    Ok(row.map(|row| {
        let mut view = row.view(&reader);
        // Upstream: the contents come back as they were sent.
        for key in ["objects", "properties", "tags", "resource_type_associations"] {
            if let Some(sent) = body.get(key).filter(|sent| **sent != json!([]) && **sent != json!({})) {
                view[key] = sent.clone();
            }
        }
        Reply::json(201, &view).header("location", &location)
    }))
}

fn read(call: &Call<Images>, body: &Json) -> Answer<Namespace> {
    checked(schemas::NAMESPACE, body)?;
    let text = |key: &str| body[key].as_str().map(String::from);
    let now = clock::now();
    Ok(Namespace {
        namespace: text("namespace").unwrap_or_default(),
        display_name: text("display_name"),
        description: text("description"),
        visibility: text("visibility").and_then(|word| Visibility::named(&word)).unwrap_or(Visibility::Private),
        owner: text("owner").or_else(|| call.caller.project_id.clone()),
        protected: body["protected"].as_bool().unwrap_or(false),
        created_at: now,
        updated_at: now,
    })
}

/// A body must fit its schema, and may not set what the service sets.
fn checked(schema: &str, body: &Json) -> Answer<()> {
    if body.is_null() {
        return Err(Refusal::bad_request("Body expected in request."));
    }
    for key in ["self", "schema", "created_at", "updated_at"] {
        if body.get(key).is_some() {
            return Err(Refusal::forbidden(format!("Attribute '{key}' is read-only.")));
        }
    }
    let schema: Json = serde_json::from_str(schema).expect("our schemas are JSON");
    let name = schema["name"].as_str().unwrap_or_default();
    if body.to_string().contains("\\u0000") {
        return Err(Refusal::bad_request("Text may not contain NUL."));
    }
    match schemas::problem(&schema, body) {
        Some(problem) => {
            Err(Refusal::bad_request(format!("Provided object does not match schema '{name}': {problem}")))
        }
        None => Ok(()),
    }
}

/// What a new namespace brings with it; each kind needs its own right.
fn contents(call: &Call<Images>, row: &Namespace, body: &Json) -> Answer<Vec<(&'static Kind, Item)>> {
    let mut contents = Vec::new();
    for kind in items::KINDS {
        let documents: Vec<Json> = match body.get(kind.key) {
            Some(Json::Array(list)) => list.clone(),
            Some(Json::Object(map)) => map.iter().map(|(name, document)| items::named(document, name)).collect(),
            _ => Vec::new(),
        };
        if !documents.is_empty() {
            call.must(kind.add, row)?;
        }
        for document in documents {
            contents.push((*kind, kind.read(&row.namespace, document)?));
        }
    }
    Ok(contents)
}

async fn show(call: Call<Images>, Path(name): Path<String>) -> Answer<Document> {
    let row = find(&call, &name).await?.ok_or_else(|| NamespaceFault::NotFound { name: name.clone() })?;
    let row = call.permit_or(row, NamespaceFault::NotFound { name: name.clone() })?;
    let all = select::<Item>("WHERE namespace = ? ORDER BY created_at, name").bind(&name);
    let all = call.db.all(all).await?;
    // Upstream: asked for one resource type, properties come with the prefix that they have there.
    let prefix = call.query.get("resource_type").map(|wanted| items::prefix_for(&all, wanted).to_string());
    let mut view = row.view(&call.reader);
    for kind in items::KINDS {
        let mine: Vec<&Item> = all.iter().filter(|item| item.kind == kind.word).collect();
        if !mine.is_empty() {
            view[kind.key] = kind.within_namespace(&mine, prefix.as_deref().unwrap_or_default());
        }
    }
    Ok(Document::of(row, |_| view))
}

async fn update(call: Call<Images>, (Path(name), AnyBody(body)): (Path<String>, AnyBody)) -> Answer<Show<Namespace>> {
    let mut new = read(&call, &body)?;
    let old = find(&call, &name).await?.ok_or_else(|| NamespaceFault::Missing { name: name.clone() })?;
    let old = call.permit(old)?;
    new.created_at = old.created_at;
    let mut tx = call.db.begin().await?;
    if new.namespace != name {
        let taken = sql("SELECT COUNT(*) FROM metadef_namespaces WHERE namespace = ?").bind(&new.namespace);
        if tx.count(taken).await? > 0 {
            return Err(NamespaceFault::WouldExist { name: new.namespace }.into());
        }
        let follow = sql("UPDATE metadef_items SET namespace = ? WHERE namespace = ?");
        tx.run(follow.bind(&new.namespace).bind(&name)).await?;
    }
    tx.run(sql("DELETE FROM metadef_namespaces WHERE namespace = ?").bind(&name)).await?;
    let would_exist = || NamespaceFault::WouldExist { name: new.namespace.clone() };
    tx.insert(&new).await.or_conflict(would_exist)?;
    tx.commit().await?;
    Ok(Show(old.map(|_| new)))
}

async fn remove(call: Call<Images>, Path(name): Path<String>) -> Answer<Done> {
    let row = find(&call, &name).await?.ok_or_else(|| NamespaceFault::Missing { name: name.clone() })?;
    let row = call.permit(row)?;
    if row.protected {
        return Err(NamespaceFault::Protected { name }.into());
    }
    let mut tx = call.db.begin().await?;
    empty(&mut tx, &name).await?;
    tx.run(sql("DELETE FROM metadef_namespaces WHERE namespace = ?").bind(&name)).await?;
    tx.commit().await?;
    Ok(Done::with(row))
}

async fn empty(tx: &mut Tx, name: &str) -> Result<u64, db::Error> {
    tx.run(sql("DELETE FROM metadef_items WHERE namespace = ?").bind(name)).await
}
