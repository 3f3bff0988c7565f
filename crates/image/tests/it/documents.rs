//! Versions, schemas, stores and the shape of refusals.

use api::{Json, Method, Request, json};

use crate::cloud::{Cloud, text};

#[tokio::test]
async fn anybody_may_ask_for_the_versions() {
    let cloud = Cloud::new().await;
    for (path, status) in [("/", 300), ("/versions", 200), ("/v1", 300), ("/v3/x", 300)] {
        let got = cloud.by("nonsense").send(Request::new(Method::GET, path)).await;
        let versions = got.ok(status)["versions"].clone();
        assert_eq!(versions[0]["id"], "v2.17");
        assert_eq!(versions[0]["status"], "CURRENT");
        assert_eq!(versions[1]["links"][0]["href"], "http://localhost/v2/");
        assert_eq!(versions.as_array().unwrap().len(), 16);
    }
}

#[tokio::test]
async fn the_service_tells_what_it_is_and_what_it_is_not() {
    let cloud = Cloud::new().await;
    let reader = cloud.by("reader");
    assert_eq!(reader.get("/v2/info/stores").await.ok(200), json!({"stores": [{"id": "fs", "default": "true"}]}));
    assert_eq!(reader.get("/v2/info/import").await.ok(200)["import-methods"]["value"], json!([]));
    assert_eq!(reader.get("/v2/info/usage").await.ok(200), json!({"usage": {}}));
    reader.get("/v2/info/stores/detail").await.ok(403);
    assert_eq!(cloud.by("admin").get("/v2/info/stores/detail").await.ok(200)["stores"][0]["type"], "file");
    assert_eq!(reader.get("/v2/cache").await.refused(404), "Caching via API is not supported at this site.");
    reader.get("/v2/nosuch").await.ok(404);
}

#[tokio::test]
async fn there_are_no_tasks_for_those_who_may_ask() {
    let cloud = Cloud::new().await;
    let tasks = cloud.by("admin").get("/v2/tasks").await.ok(200);
    assert_eq!(tasks, json!({"tasks": [], "first": "/v2/tasks", "schema": "/v2/schemas/tasks"}));
    cloud.by("alice").get("/v2/tasks").await.ok(403);
    cloud.by("admin").get("/v2/tasks/x").await.ok(404);
    let id = cloud.by("alice").queued("i").await;
    assert_eq!(cloud.by("alice").get(&format!("/v2/images/{id}/tasks")).await.ok(200), json!({"tasks": []}));
}

#[tokio::test]
async fn where_data_lies_is_for_services_and_its_only_copy_stays() {
    let cloud = Cloud::new().await;
    let id = cloud.by("alice").active("i", "x").await;
    cloud.by("alice").get(&format!("/v2/images/{id}/locations")).await.ok(403);
    let locations = cloud.by("admin").get(&format!("/v2/images/{id}/locations")).await.ok(200);
    assert!(text(&locations[0]["url"]).starts_with("file:///"));
    cloud.by("admin").delete(&format!("/v2/stores/fs/{id}")).await.ok(403);
    cloud.by("admin").delete(&format!("/v2/stores/other/{id}")).await.ok(409);
}

#[tokio::test]
async fn every_schema_describes_one_thing_or_a_list_of_it() {
    let cloud = Cloud::configured("[image_format]\ndisk_formats = raw, qcow2").await;
    let reader = cloud.by("reader");
    let image = reader.get("/v2/schemas/image").await.ok(200);
    assert_eq!(image["properties"]["disk_format"]["enum"], json!([null, "raw", "qcow2"]));
    for (one, many, key) in [
        ("image", "images", "images"),
        ("member", "members", "members"),
        ("task", "tasks", "tasks"),
        ("metadefs/namespace", "metadefs/namespaces", "namespaces"),
        ("metadefs/object", "metadefs/objects", "objects"),
        ("metadefs/property", "metadefs/properties", "properties"),
        ("metadefs/resource_type", "metadefs/resource_types", "resource_type_associations"),
        ("metadefs/tag", "metadefs/tags", "tags"),
    ] {
        let single = reader.get(&format!("/v2/schemas/{one}")).await.ok(200);
        let list = reader.get(&format!("/v2/schemas/{many}")).await.ok(200);
        assert!(single["name"].is_string(), "{one}");
        assert_eq!(list["name"], key);
        assert!(list["properties"][key].is_object(), "{many}");
    }
}

#[tokio::test]
async fn a_refusal_is_a_page_unless_the_client_prefers_json() {
    let cloud = Cloud::new().await;
    let page = Request::new(Method::GET, "/v2/images/tiny").header("x-auth-token", "alice").header("accept", "*/*");
    let got = cloud.by("alice").send(page).await;
    assert_eq!(got.status, 404);
    assert_eq!(got.header("content-type"), "text/html; charset=UTF-8");
    assert_eq!(
        String::from_utf8_lossy(&got.bytes),
        "<html>\n <head>\n  <title>404 Not Found</title>\n </head>\n <body>\n  <h1>404 Not Found</h1>\n  No image \
         found with ID tiny<br /><br />\n\n\n\n </body>\n</html>"
    );
    let got = cloud.by("nonsense").get("/v2/images").await;
    assert_eq!(got.ok(401)["title"], "Unauthorized");
    assert_eq!(got.header("www-authenticate"), "Keystone uri=\"http://controller:5000/v3\"");
    let malformed = Request { content: crate::cloud::bytes("{x"), ..Request::new(Method::POST, "/v2/images") };
    let malformed = malformed.header("x-auth-token", "alice").header("accept", "application/json");
    assert_eq!(cloud.by("alice").send(malformed).await.refused(400), "Malformed JSON in request body.");
    let other = cloud.by("alice").put("/v2/images", Json::Null).await;
    assert_eq!(other.status, 405);
    assert!(other.header("allow").contains("POST"));
}
