//! The shapes that a real cloud was recorded with, key by key: `tests/it/golden.tsv` has one exchange a line.

use std::collections::BTreeMap;

use api::{Json, json};

use crate::cloud::{Cloud, Got, bytes, text};

/// Name, status, keys of the body, headers; a dash for none.
fn recorded() -> BTreeMap<&'static str, (u16, Vec<&'static str>, Vec<&'static str>)> {
    let lines = include_str!("golden.tsv").lines().filter(|line| !line.starts_with('#'));
    let list = |text: &'static str| text.split(',').filter(|word| *word != "-").collect();
    lines
        .map(|line| {
            let [name, status, keys, headers] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
            (name, (status.parse().unwrap(), list(keys), list(headers)))
        })
        .collect()
}

fn compare(name: &str, got: &Got, part: impl Fn(&Json) -> Json) {
    let (status, keys, headers) = recorded()[name].clone();
    let body = got.ok(status);
    let body = part(&body);
    let found: Vec<&str> = body.as_object().map(|body| body.keys().map(String::as_str).collect()).unwrap_or_default();
    assert_eq!(found, keys, "{name}");
    for header in headers {
        assert!(got.headers.contains_key(header), "{name} has no {header}");
    }
}

#[tokio::test]
async fn every_answer_has_the_keys_that_clients_know() {
    let cloud = Cloud::new().await;
    let (alice, bob, admin) = (cloud.by("alice"), cloud.by("bob"), cloud.by("admin"));
    let whole = |body: &Json| body.clone();
    let first = |key: &'static str| move |body: &Json| body[key][0].clone();

    let created =
        alice.post("/v2/images", json!({"name": "err", "disk_format": "raw", "container_format": "bare"})).await;
    compare("create", &created, whole);
    let id = text(&created.ok(201)["id"]);
    let at = |rest: &str| format!("/v2/images/{id}{rest}");
    compare("no data", &alice.get(&at("/file")).await, whole);
    compare("upload", &alice.upload(&id, bytes("data")).await, whole);
    compare("upload again", &alice.upload(&id, bytes("data")).await, whole);
    compare("show", &alice.get(&at("")).await, whole);
    compare("list", &alice.get("/v2/images").await, whole);
    compare("item", &alice.get("/v2/images").await, first("images"));
    compare("page", &alice.get("/v2/images?limit=1").await, whole);
    compare("range", &alice.get_with(&at("/file"), "range", "bytes=1-2").await, whole);
    compare("share", &alice.post(&at("/members"), json!({"member": "red"})).await, whole);
    compare("members", &alice.get(&at("/members")).await, whole);
    compare("member", &alice.get(&at("/members")).await, first("members"));
    compare("accept", &bob.put(&at("/members/red"), json!({"status": "accepted"})).await, whole);
    compare("unshare", &alice.delete(&at("/members/red")).await, whole);
    compare("stores", &alice.get("/v2/info/stores").await, first("stores"));
    compare("import", &alice.get("/v2/info/import").await, |body| body["import-methods"].clone());
    compare("tasks", &admin.get("/v2/tasks").await, whole);
    compare("schema", &alice.get("/v2/schemas/image").await, |body| body["properties"].clone());
    compare("schemas", &alice.get("/v2/schemas/images").await, whole);
    compare("deactivate", &alice.post(&at("/actions/deactivate"), json!(null)).await, whole);
    compare("missing", &alice.get("/v2/images/00000000-0000-0000-0000-000000000000").await, whole);
    compare("no token", &cloud.by("nonsense").get("/v2/images").await, whole);
    compare("versions", &alice.get("/").await, first("versions"));
    compare("delete", &alice.delete(&at("")).await, whole);
    compare("delete again", &alice.delete(&at("")).await, whole);
}
