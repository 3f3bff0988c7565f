//! The catalogue of metadata definitions.

use api::{Json, json};

use crate::cloud::{Cloud, Got, text};

const ALL: &str = "/v2/metadefs/namespaces";

fn keys(value: &Json) -> String {
    value.as_object().unwrap().keys().map(String::as_str).collect::<Vec<_>>().join(" ")
}

async fn filled(cloud: &Cloud) -> Got {
    let body = json!({
        "namespace": "B", "visibility": "public", "protected": true, "display_name": "Bee", "owner": "blue",
        "objects": [{"name": "o1", "required": [], "properties": {"p": {"title": "T", "type": "string"}}}],
        "properties": {"q": {"title": "Q", "type": "integer", "minimum": 1}},
        "tags": [{"name": "t1"}],
        "resource_type_associations": [{"name": "OS::Nova::Server", "prefix": "hw:"}],
    });
    cloud.by("admin").post(ALL, body).await
}

#[tokio::test]
async fn a_namespace_comes_with_all_that_is_in_it() {
    let cloud = Cloud::new().await;
    let created = filled(&cloud).await;
    let body = created.ok(201);
    assert_eq!(created.header("location"), "http://localhost/v2/metadefs/namespaces/B");
    assert_eq!(
        body["objects"],
        json!([{"name": "o1", "required": [], "properties": {"p": {"title": "T", "type": "string"}}}])
    );

    let shown = cloud.by("alice").get(&format!("{ALL}/B")).await.ok(200);
    assert_eq!(
        keys(&shown),
        "created_at display_name namespace objects owner properties protected resource_type_associations schema self \
         tags updated_at visibility"
    );
    assert_eq!(shown["properties"], json!({"q": {"title": "Q", "type": "integer", "minimum": 1}}));
    assert_eq!(shown["tags"], json!([{"name": "t1"}]));
    assert_eq!(shown["objects"][0]["self"], "/v2/metadefs/namespaces/B/objects/o1");
    assert_eq!(keys(&shown["resource_type_associations"][0]), "created_at name prefix updated_at");

    let prefixed = cloud.by("alice").get(&format!("{ALL}/B?resource_type=OS::Nova::Server")).await.ok(200);
    assert_eq!(keys(&prefixed["properties"]), "hw:q");
    assert_eq!(keys(&prefixed["objects"][0]["properties"]), "hw:p");

    let types = cloud.by("alice").get("/v2/metadefs/resource_types").await.ok(200);
    assert_eq!(keys(&types["resource_types"][0]), "created_at name updated_at");
}

#[tokio::test]
async fn namespaces_are_listed_by_page_and_by_what_they_are_for() {
    let cloud = Cloud::new().await;
    let (admin, alice) = (cloud.by("admin"), cloud.by("alice"));
    let empty = alice.get(ALL).await.ok(200);
    assert_eq!(empty, json!({"namespaces": [], "schema": "/v2/schemas/metadefs/namespaces", "first": ALL}));
    filled(&cloud).await;
    for name in ["A", "C"] {
        admin.post(ALL, json!({"namespace": name})).await.ok(201);
    }
    let names = async |person: &str, query: &str| {
        let list = cloud.by(person).get(&format!("{ALL}?{query}")).await.ok(200);
        let names = list["namespaces"].as_array().unwrap().iter().map(|row| text(&row["namespace"]));
        names.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(names("admin", "").await, "C A B");
    assert_eq!(names("alice", "").await, "B", "the others are private");
    assert_eq!(names("admin", "resource_types=OS::Nova::Server").await, "B");
    assert_eq!(names("admin", "visibility=private&sort_key=namespace&sort_dir=asc").await, "A C");
    let page = admin.get(&format!("{ALL}?limit=1")).await.ok(200);
    assert_eq!(page["next"], format!("{ALL}?limit=1&marker=C"));
    assert_eq!(names("admin", "limit=1&marker=C").await, "A");
    admin.get(&format!("{ALL}?marker=nope")).await.ok(404);
}

#[tokio::test]
async fn namespaces_are_changed_by_administrators_and_read_by_all() {
    let cloud = Cloud::new().await;
    let (admin, alice) = (cloud.by("admin"), cloud.by("alice"));
    filled(&cloud).await;
    let again = filled(&cloud).await;
    assert_eq!(again.refused(409), "The metadata definition namespace=B already exists.");
    alice.post(ALL, json!({"namespace": "mine"})).await.ok(403);
    alice.delete(&format!("{ALL}/B")).await.ok(403);
    let missing = admin.post(ALL, json!({})).await.refused(400);
    assert_eq!(missing, "Provided object does not match schema 'namespace': 'namespace' is a required property");
    admin.post(ALL, json!({"namespace": "x".repeat(81)})).await.ok(400);
    admin.post(ALL, json!({"namespace": "x", "self": "y"})).await.ok(403);
    admin.post(ALL, json!({"namespace": "x", "visibility": "shared"})).await.ok(400);
    let bad = json!({"namespace": "x", "objects": [{"name": "o", "properties": {"p": {"title": "T"}}}]});
    assert!(admin.post(ALL, bad).await.refused(400).ends_with("'type' is a required property"));
    assert_eq!(
        alice.get(&format!("{ALL}/nope")).await.refused(404),
        "Metadata definition namespace=nope was not found."
    );

    let words = "Metadata definition namespace B is protected and cannot be deleted.";
    assert_eq!(admin.delete(&format!("{ALL}/B")).await.refused(403), words);
    admin.post(ALL, json!({"namespace": "A"})).await.ok(201);
    let taken = admin.put(&format!("{ALL}/B"), json!({"namespace": "A"})).await.refused(409);
    assert!(taken.starts_with("Invalid update."), "{taken}");
    let renamed = admin.put(&format!("{ALL}/B"), json!({"namespace": "D", "description": "x"})).await.ok(200);
    assert_eq!(renamed["description"], "x");
    assert_eq!(admin.get(&format!("{ALL}/D/tags")).await.ok(200), json!({"tags": [{"name": "t1"}]}));
    admin.delete(&format!("{ALL}/D")).await.ok(204);
    assert_eq!(admin.delete(&format!("{ALL}/D")).await.refused(404), "Namespace D not found");
}

#[tokio::test]
async fn objects_and_properties_are_kept_as_they_are_described() {
    let cloud = Cloud::new().await;
    let admin = cloud.by("admin");
    admin.post(ALL, json!({"namespace": "A", "visibility": "public"})).await.ok(201);
    let at = |rest: &str| format!("{ALL}/A/{rest}");

    let object = admin.post(&at("objects"), json!({"name": "o"})).await.ok(201);
    assert_eq!(keys(&object), "created_at name schema self updated_at");
    let twice = admin.post(&at("objects"), json!({"name": "o"})).await.refused(409);
    assert_eq!(twice, "A metadata definition object with name=o already exists in namespace=A.");
    let shown = cloud.by("bob").get(&at("objects/o")).await.ok(200);
    assert_eq!(keys(&shown), "created_at name properties required schema self updated_at");
    assert_eq!(admin.get(&at("objects")).await.ok(200)["schema"], "v2/schemas/metadefs/objects");
    let renamed = json!({"name": "o2", "properties": {"z": {"title": "Z", "type": "string"}}, "required": ["z"]});
    assert_eq!(admin.put(&at("objects/o"), renamed).await.ok(200)["self"], format!("{ALL}/A/objects/o2"));
    assert_eq!(admin.get(&at("objects/o")).await.refused(404), "Could not find metadata object o");
    admin.delete(&at("objects/o2")).await.ok(204);
    admin.delete(&at("objects/o2")).await.ok(404);

    let property = json!({"name": "p", "title": "P", "type": "string", "default": "x"});
    assert_eq!(admin.post(&at("properties"), property.clone()).await.ok(201), property);
    assert_eq!(admin.get(&at("properties")).await.ok(200), json!({"properties": {"p": property}}));
    admin.post(&at("properties"), json!({"name": "p"})).await.ok(400);
    cloud.by("alice").post(&at("properties"), property).await.ok(403);
    admin.delete(&at("properties")).await.ok(204);
    assert_eq!(admin.get(&at("properties/p")).await.refused(404), "Could not find property p");
}

#[tokio::test]
async fn tags_and_resource_types_are_names() {
    let cloud = Cloud::new().await;
    let admin = cloud.by("admin");
    admin.post(ALL, json!({"namespace": "A"})).await.ok(201);
    let at = |rest: &str| format!("{ALL}/A/{rest}");
    let tag = admin.post(&at("tags/x"), json!(null)).await.ok(201);
    assert_eq!(keys(&tag), "created_at name updated_at");
    assert!(admin.post(&at("tags/X"), json!(null)).await.refused(409).contains("case insensitive"));
    admin.put(&at("tags/x"), json!({"name": "y"})).await.ok(200);
    let both = json!({"tags": [{"name": "a"}, {"name": "b"}]});
    assert_eq!(admin.post(&at("tags"), both.clone()).await.ok(201), both);
    assert_eq!(admin.get(&at("tags?limit=1")).await.ok(200)["tags"].as_array().unwrap().len(), 1);
    admin.post(&at("tags"), json!({"tags": [{"name": "a"}, {"name": "a"}]})).await.ok(409);
    assert_eq!(admin.get(&at("tags")).await.ok(200)["tags"].as_array().unwrap().len(), 2, "the old ones stay");
    admin.delete(&at("tags/a")).await.ok(204);
    admin.delete(&at("tags")).await.ok(204);
    assert_eq!(admin.get(&at("tags")).await.ok(200), json!({"tags": []}));

    let association = json!({"name": "OS::Glance::Image", "prefix": "p_", "properties_target": "image"});
    admin.post(&at("resource_types"), association.clone()).await.ok(201);
    admin.post(&at("resource_types"), association).await.ok(409);
    let listed = admin.get(&at("resource_types")).await.ok(200);
    assert_eq!(listed["resource_type_associations"][0]["prefix"], "p_");
    admin.delete(&at("resource_types/OS::Glance::Image")).await.ok(204);
    let gone = admin.delete(&at("resource_types/OS::Glance::Image")).await;
    assert_eq!(gone.refused(404), "Failed to find resource type OS::Glance::Image to delete");
    cloud.by("bob").get(&at("resource_types")).await.ok(404);
}
