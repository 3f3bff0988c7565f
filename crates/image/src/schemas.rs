//! JSON schemas that clients fetch to learn what an image, a member and the others look like.

use api::{Answer, Call, Document, NoInput, Operation, get};
use base::{Json, json};

use crate::Images;

mod check;

pub use check::problem;

pub const NAMESPACE: &str = include_str!("schemas/metadef_namespace.json");
pub const OBJECT: &str = include_str!("schemas/metadef_object.json");
pub const PROPERTY: &str = include_str!("schemas/metadef_property.json");
pub const RESOURCE_TYPE: &str = include_str!("schemas/metadef_resource_type.json");
pub const TAG: &str = include_str!("schemas/metadef_tag.json");

/// One thing that has a schema.
struct Kind {
    path: &'static str,
    paths: &'static str,
    /// The key of a list that holds the items.
    key: &'static str,
    text: &'static str,
    /// Upstream: keys that items of a list do not have.
    alone: &'static [&'static str],
}

const KINDS: &[Kind] = &[
    Kind {
        path: "/schemas/image",
        paths: "/schemas/images",
        key: "images",
        text: include_str!("schemas/image.json"),
        alone: &[],
    },
    Kind {
        path: "/schemas/member",
        paths: "/schemas/members",
        key: "members",
        text: include_str!("schemas/member.json"),
        alone: &[],
    },
    Kind {
        path: "/schemas/task",
        paths: "/schemas/tasks",
        key: "tasks",
        text: include_str!("schemas/task.json"),
        alone: &["input", "result", "message"],
    },
    Kind {
        path: "/schemas/metadefs/namespace",
        paths: "/schemas/metadefs/namespaces",
        key: "namespaces",
        text: NAMESPACE,
        alone: &[],
    },
    Kind {
        path: "/schemas/metadefs/object",
        paths: "/schemas/metadefs/objects",
        key: "objects",
        text: OBJECT,
        alone: &[],
    },
    Kind {
        path: "/schemas/metadefs/property",
        paths: "/schemas/metadefs/properties",
        key: "properties",
        text: PROPERTY,
        alone: &[],
    },
    Kind {
        path: "/schemas/metadefs/resource_type",
        paths: "/schemas/metadefs/resource_types",
        key: "resource_type_associations",
        text: RESOURCE_TYPE,
        alone: &[],
    },
    Kind { path: "/schemas/metadefs/tag", paths: "/schemas/metadefs/tags", key: "tags", text: TAG, alone: &[] },
];

pub fn operations() -> Vec<Operation<Images>> {
    let pair = |kind: &'static Kind| {
        let one = get(kind.path, move |call, _: NoInput| show(call, kind, false)).open();
        let many = get(kind.paths, move |call, _: NoInput| show(call, kind, true)).open();
        [one, many]
    };
    KINDS.iter().flat_map(pair).collect()
}

async fn show(call: Call<Images>, kind: &'static Kind, many: bool) -> Answer<Document> {
    let mut one: Json = serde_json::from_str(kind.text).expect("our schemas are JSON");
    if kind.key == "images" {
        // What an operator allows; null means not known yet.
        let words = |known: &[String]| known.iter().map(|word| json!(word)).collect::<Vec<_>>();
        let with_null = |known: &[String]| Json::Array([vec![Json::Null], words(known)].concat());
        one["properties"]["disk_format"]["enum"] = with_null(&call.options.disk_formats);
        one["properties"]["container_format"]["enum"] = with_null(&call.options.container_formats);
    }
    let schema = if many { list_of(kind, one) } else { one };
    Ok(Document::new(call.allow()?, schema))
}

fn list_of(kind: &Kind, mut one: Json) -> Json {
    let definitions = one.as_object_mut().and_then(|one| one.remove("definitions"));
    if let Some(properties) = one["properties"].as_object_mut() {
        properties.retain(|name, _| !kind.alone.contains(&name.as_str()));
    }
    // Upstream: the properties of a namespace are listed by name.
    let items = match kind.key {
        "properties" => json!({"type": "object", "additionalProperties": one}),
        _ => json!({"type": "array", "items": one}),
    };
    let mut list = json!({
        "name": kind.key,
        "properties": {"first": {"type": "string"}, "next": {"type": "string"}, "schema": {"type": "string"}},
        "links": [
            {"rel": "first", "href": "{first}"},
            {"rel": "next", "href": "{next}"},
            {"rel": "describedby", "href": "{schema}"},
        ],
    });
    list["properties"][kind.key] = items;
    if let Some(definitions) = definitions {
        list["definitions"] = definitions;
    }
    list
}
