//! What is in a namespace: objects, properties, tags, and the types of resources that it is meant for.
//!
//! All four are named documents; a [`Kind`] says what they are called, who may touch them and how they look.

use api::{
    Answer, AnyBody, Call, Document, Done, NoInput, Operation, OrConflict, Path, Permitted, Refusal, Reply, delete,
    get, post, put,
};
use base::{Json, Time, clock, json};
use db::{Tx, select, sql};

use super::{Namespace, NamespaceFault, checked, find, href};
use crate::Images;
use crate::schemas;

/// One of the four.
pub struct Kind {
    pub word: &'static str,
    /// The key that holds many of them.
    pub key: &'static str,
    schema: &'static str,
    list: &'static str,
    show: &'static str,
    pub add: &'static str,
    modify: &'static str,
    remove: &'static str,
}

pub static OBJECT: Kind = Kind {
    word: "object",
    key: "objects",
    schema: schemas::OBJECT,
    list: "get_metadef_objects",
    show: "get_metadef_object",
    add: "add_metadef_object",
    modify: "modify_metadef_object",
    remove: "delete_metadef_object",
};

pub static PROPERTY: Kind = Kind {
    word: "property",
    key: "properties",
    schema: schemas::PROPERTY,
    list: "get_metadef_properties",
    show: "get_metadef_property",
    add: "add_metadef_property",
    modify: "modify_metadef_property",
    remove: "remove_metadef_property",
};

pub static TAG: Kind = Kind {
    word: "tag",
    key: "tags",
    schema: schemas::TAG,
    list: "get_metadef_tags",
    show: "get_metadef_tag",
    add: "add_metadef_tag",
    modify: "modify_metadef_tag",
    remove: "delete_metadef_tag",
};

pub static RESOURCE_TYPE: Kind = Kind {
    word: "resource_type",
    key: "resource_type_associations",
    schema: schemas::RESOURCE_TYPE,
    list: "get_metadef_resource_type",
    show: "get_metadef_resource_type",
    add: "add_metadef_resource_type_association",
    modify: "add_metadef_resource_type_association",
    remove: "remove_metadef_resource_type_association",
};

pub static KINDS: &[&Kind] = &[&OBJECT, &PROPERTY, &TAG, &RESOURCE_TYPE];

db::record! {
    pub struct Item in "metadef_items" {
        pub namespace: String,
        pub kind: String,
        pub name: String,
        pub document: Json,
        pub created_at: Time,
        pub updated_at: Time,
    }
}

macro_rules! at {
    ($rest:literal) => {
        concat!("/metadefs/namespaces/{namespace}/", $rest)
    };
}

pub fn operations() -> Vec<Operation<Images>> {
    let mut operations = vec![
        get("/metadefs/resource_types", resource_types).rule("list_metadef_resource_types"),
        get(at!("resource_types"), |call, path| list(call, &RESOURCE_TYPE, path)).rule(RESOURCE_TYPE.list),
        post(at!("resource_types"), |call, input| create(call, &RESOURCE_TYPE, input)).rule(RESOURCE_TYPE.add),
        delete(at!("resource_types/{resource_type}"), |call, path| remove(call, &RESOURCE_TYPE, path))
            .rule(RESOURCE_TYPE.remove),
        post(at!("tags"), replace_tags).rule("add_metadef_tags"),
        post(at!("tags/{tag_name}"), create_tag).rule(TAG.add),
        delete(at!("tags"), |call, path| clear(call, &TAG, path)).rule("delete_metadef_tags"),
        post(at!("objects"), |call, input| create(call, &OBJECT, input)).rule(OBJECT.add),
        delete(at!("objects"), |call, path| clear(call, &OBJECT, path)).rule(OBJECT.remove),
        post(at!("properties"), |call, input| create(call, &PROPERTY, input)).rule(PROPERTY.add),
        delete(at!("properties"), |call, path| clear(call, &PROPERTY, path)).rule(PROPERTY.remove),
    ];
    operations.extend(alike(&OBJECT, at!("objects"), at!("objects/{object_name}")));
    operations.extend(alike(&PROPERTY, at!("properties"), at!("properties/{property_name}")));
    operations.extend(alike(&TAG, at!("tags"), at!("tags/{tag_name}")));
    operations
}

/// What three of the four have alike.
fn alike(kind: &'static Kind, all: &'static str, one: &'static str) -> [Operation<Images>; 4] {
    [
        get(all, move |call, path| list(call, kind, path)).rule(kind.list),
        get(one, move |call, path| show(call, kind, path)).rule(kind.show),
        put(one, move |call, input| update(call, kind, input)).rule(kind.modify),
        delete(one, move |call, path| remove(call, kind, path)).rule(kind.remove),
    ]
}

impl Kind {
    pub fn read(&self, namespace: &str, document: Json) -> Answer<Item> {
        checked(self.schema, &document)?;
        let now = clock::now();
        let name = document["name"].as_str().unwrap_or_default().to_string();
        let namespace = namespace.to_string();
        Ok(Item { namespace, kind: self.word.to_string(), name, document, created_at: now, updated_at: now })
    }

    /// One of them, alone.
    pub fn view(&self, item: &Item) -> Json {
        let mut view = item.document.clone();
        if self.word == OBJECT.word {
            view["self"] = json!(format!("{}/objects/{}", href(&item.namespace), item.name));
            view["schema"] = json!("/v2/schemas/metadefs/object");
        }
        if self.word != PROPERTY.word {
            view["created_at"] = json!(item.created_at.iso_z());
            view["updated_at"] = json!(item.updated_at.iso_z());
        }
        view
    }

    /// One of them once it is kept: what an object does not say is shown as empty.
    fn kept(&self, item: &Item) -> Json {
        let mut view = self.view(item);
        if self.word == OBJECT.word {
            for (key, empty) in [("required", json!([])), ("properties", json!({}))] {
                if view.get(key).is_none() {
                    view[key] = empty;
                }
            }
        }
        view
    }

    /// All of them, as their namespace shows them; properties have `prefix` before their names.
    pub fn within_namespace(&self, items: &[&Item], prefix: &str) -> Json {
        let prefixed = |properties: &Json| {
            let properties = properties.as_object().into_iter().flatten();
            Json::Object(properties.map(|(name, value)| (format!("{prefix}{name}"), value.clone())).collect())
        };
        match self.word {
            "property" => {
                let unnamed = |item: &&Item| {
                    let mut document = item.document.clone();
                    document.as_object_mut().map(|document| document.remove("name"));
                    (format!("{prefix}{}", item.name), document)
                };
                Json::Object(items.iter().map(unnamed).collect())
            }
            "tag" => items.iter().map(|item| json!({"name": item.name})).collect(),
            "object" => items
                .iter()
                .map(|item| {
                    let mut view = self.kept(item);
                    view["properties"] = prefixed(&view["properties"]);
                    view
                })
                .collect(),
            _ => items.iter().map(|item| self.view(item)).collect(),
        }
    }

    fn many(&self, items: &[Item]) -> Json {
        match self.word {
            "property" => {
                let all = items.iter().map(|item| (item.name.clone(), item.document.clone())).collect();
                json!({"properties": Json::Object(all)})
            }
            "tag" => json!({"tags": items.iter().map(|item| json!({"name": item.name})).collect::<Json>()}),
            "object" => {
                let all: Json = items.iter().map(|item| self.kept(item)).collect();
                // Upstream: this one link has no slash before it.
                json!({"objects": all, "schema": "v2/schemas/metadefs/objects"})
            }
            _ => {
                json!({"resource_type_associations": items.iter().map(|item| self.view(item)).collect::<Json>()})
            }
        }
    }

    fn missing(&self, name: &str) -> Refusal {
        let what = match self.word {
            "object" => "metadata object",
            "tag" => "metadata tag",
            "property" => "property",
            _ => return Refusal::not_found(format!("Failed to find resource type {name} to delete")),
        };
        Refusal::not_found(format!("Could not find {what} {name}"))
    }

    fn exists(&self, item: &Item) -> Refusal {
        let Item { namespace, name, .. } = item;
        Refusal::conflict(match self.word {
            "tag" => format!(
                "A metadata tag with name={name} already exists in namespace={namespace}. (Please note that metadata \
                 tag names are case insensitive)."
            ),
            "resource_type" => format!(
                "The metadata definition resource-type association of resource-type={name} to namespace={namespace} \
                 already exists."
            ),
            word => format!("A metadata definition {word} with name={name} already exists in namespace={namespace}."),
        })
    }
}

/// A property of a map, with the name that it has there.
pub fn named(document: &Json, name: &str) -> Json {
    let mut document = document.clone();
    if let Some(document) = document.as_object_mut() {
        document.insert("name".into(), json!(name));
    }
    document
}

/// The prefix that properties have on this type of resource.
pub fn prefix_for<'a>(items: &'a [Item], resource_type: &str) -> &'a str {
    let found = items.iter().find(|item| item.kind == RESOURCE_TYPE.word && item.name == resource_type);
    found.and_then(|item| item.document["prefix"].as_str()).unwrap_or_default()
}

pub async fn insert(tx: &mut Tx, kind: &Kind, item: &Item) -> Answer<()> {
    if kind.word == TAG.word {
        // Names of tags are the same in capitals.
        let others = select::<Item>("WHERE namespace = ? AND kind = ?").bind(&item.namespace).bind(kind.word);
        let name = item.name.to_lowercase();
        if tx.all(others).await?.iter().any(|other| other.name.to_lowercase() == name) {
            return Err(kind.exists(item));
        }
    }
    tx.insert(item).await.or_conflict(|| kind.exists(item))
}

async fn namespace(call: &Call<Images>, kind: &Kind, name: &str) -> Answer<Namespace> {
    find(call, name).await?.ok_or_else(|| match kind.word {
        "object" => NamespaceFault::NotFound { name: name.into() }.into(),
        _ => NamespaceFault::Missing { name: name.into() }.into(),
    })
}

async fn item(call: &Call<Images>, kind: &Kind, namespace: &str, name: &str) -> Answer<Item> {
    let one = select::<Item>("WHERE namespace = ? AND kind = ? AND name = ?");
    let item = call.db.maybe(one.bind(namespace).bind(kind.word).bind(name)).await?;
    item.ok_or_else(|| kind.missing(name))
}

async fn resource_types(call: Call<Images>, _: NoInput) -> Answer<Document> {
    let allowed = call.allow()?;
    let all = sql(
        "SELECT name, MIN(created_at), MAX(updated_at) FROM metadef_items WHERE kind = ? GROUP BY name ORDER BY name",
    );
    let rows = call.db.rows(all.bind(RESOURCE_TYPE.word)).await?;
    let view = |row: &db::Row| {
        let (name, created, updated): (String, Time, Time) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(json!({"name": name, "created_at": created.iso_z(), "updated_at": updated.iso_z()}))
    };
    let all: Vec<Json> = rows.iter().map(view).collect::<Result<_, db::Error>>()?;
    Ok(Document::new(allowed, json!({"resource_types": all})))
}

async fn list(call: Call<Images>, kind: &'static Kind, Path(name): Path<String>) -> Answer<Document> {
    let allowed = call.allow_on(&namespace(&call, kind, &name).await?)?;
    let all = select::<Item>("WHERE namespace = ? AND kind = ? ORDER BY created_at DESC, name DESC");
    let mut items = call.db.all(all.bind(&name).bind(kind.word)).await?;
    if let Some(marker) = call.query.get("marker") {
        let after = items.iter().position(|item| item.name == marker).ok_or_else(|| kind.missing(marker))?;
        items.drain(..=after);
    }
    if let Some(limit) = call.query.get("limit") {
        let limit = limit.trim().parse().map_err(|_| Refusal::bad_request("limit param must be an integer"))?;
        items.truncate(limit);
    }
    Ok(Document::new(allowed, kind.many(&items)))
}

async fn show(
    call: Call<Images>,
    kind: &'static Kind,
    Path((name, item_name)): Path<(String, String)>,
) -> Answer<Document> {
    let allowed = call.allow_on(&namespace(&call, kind, &name).await?)?;
    let mut view = kind.kept(&item(&call, kind, &name, &item_name).await?);
    if let Some(wanted) = call.query.get("resource_type").filter(|_| kind.word == PROPERTY.word) {
        let types = select::<Item>("WHERE namespace = ? AND kind = ?").bind(&name).bind(RESOURCE_TYPE.word);
        let types = call.db.all(types).await?;
        view["name"] = json!(format!("{}{item_name}", prefix_for(&types, wanted)));
    }
    Ok(Document::new(allowed, view))
}

async fn create(
    call: Call<Images>,
    kind: &'static Kind,
    (Path(name), AnyBody(body)): (Path<String>, AnyBody),
) -> Answer<Permitted<Reply>> {
    let item = kind.read(&name, body)?;
    keep(&call, kind, item).await
}

/// Upstream: one tag has its name in the path, and no body.
async fn create_tag(call: Call<Images>, Path((name, tag)): Path<(String, String)>) -> Answer<Permitted<Reply>> {
    let item = TAG.read(&name, json!({"name": tag}))?;
    keep(&call, &TAG, item).await
}

async fn keep(call: &Call<Images>, kind: &'static Kind, item: Item) -> Answer<Permitted<Reply>> {
    let allowed = call.allow_on(&namespace(call, kind, &item.namespace).await?)?;
    let mut tx = call.db.begin().await?;
    insert(&mut tx, kind, &item).await?;
    tx.commit().await?;
    Ok(allowed.map(|()| Reply::json(201, &kind.view(&item))))
}

async fn update(
    call: Call<Images>,
    kind: &'static Kind,
    (Path((name, item_name)), AnyBody(body)): (Path<(String, String)>, AnyBody),
) -> Answer<Document> {
    let mut new = kind.read(&name, body)?;
    let allowed = call.allow_on(&namespace(&call, kind, &name).await?)?;
    new.created_at = item(&call, kind, &name, &item_name).await?.created_at;
    let mut tx = call.db.begin().await?;
    let old = sql("DELETE FROM metadef_items WHERE namespace = ? AND kind = ? AND name = ?");
    tx.run(old.bind(&name).bind(kind.word).bind(&item_name)).await?;
    insert(&mut tx, kind, &new).await?;
    tx.commit().await?;
    Ok(Document::new(allowed, kind.view(&new)))
}

async fn remove(
    call: Call<Images>,
    kind: &'static Kind,
    Path((name, item_name)): Path<(String, String)>,
) -> Answer<Done> {
    let allowed = call.allow_on(&namespace(&call, kind, &name).await?)?;
    let gone = sql("DELETE FROM metadef_items WHERE namespace = ? AND kind = ? AND name = ?");
    match call.db.run(gone.bind(&name).bind(kind.word).bind(&item_name)).await? {
        0 => Err(kind.missing(&item_name)),
        _ => Ok(Done::with(allowed)),
    }
}

async fn clear(call: Call<Images>, kind: &'static Kind, Path(name): Path<String>) -> Answer<Done> {
    let allowed = call.allow_on(&namespace(&call, kind, &name).await?)?;
    let gone = sql("DELETE FROM metadef_items WHERE namespace = ? AND kind = ?");
    call.db.run(gone.bind(&name).bind(kind.word)).await?;
    Ok(Done::with(allowed))
}

/// Upstream: a list of tags replaces those that were there, unless the client asks to append.
async fn replace_tags(
    call: Call<Images>,
    (Path(name), AnyBody(body)): (Path<String>, AnyBody),
) -> Answer<Permitted<Reply>> {
    let tags = body.get("tags").and_then(Json::as_array);
    let tags = tags.ok_or_else(|| Refusal::bad_request("Provided object does not match schema 'tags'"))?;
    let tags: Vec<Item> = tags.iter().map(|tag| TAG.read(&name, tag.clone())).collect::<Answer<_>>()?;
    let allowed = call.allow_on(&namespace(&call, &TAG, &name).await?)?;
    let mut tx = call.db.begin().await?;
    if call.header("x-openstack-append").and_then(api::listing::flag_value) != Some(true) {
        let gone = sql("DELETE FROM metadef_items WHERE namespace = ? AND kind = ?").bind(&name).bind(TAG.word);
        tx.run(gone).await?;
    }
    for tag in &tags {
        insert(&mut tx, &TAG, tag).await?;
    }
    tx.commit().await?;
    Ok(allowed.map(|()| Reply::json(201, &TAG.many(&tags))))
}
