//! What a real cloud answered, key by key: `tests/facts/golden.tsv` holds method, path, body, status and the answer.

use std::collections::BTreeMap;

use api::{Json, Method};

use crate::cloud::Cloud;

const GOLDEN: &str = include_str!("../facts/golden.tsv");

/// Keys whose value is a map of the operator's own making.
const FREE: &[&str] = &["links.next", "links.previous", "options.immutable"];

/// Every path of keys in a document, with the kind of value at its end. Lists count by their first item.
fn shape(value: &Json, at: &str, paths: &mut BTreeMap<String, &'static str>) {
    match value {
        Json::Object(map) => {
            paths.insert(at.to_string(), "object");
            for (key, inner) in map {
                shape(inner, &format!("{at}.{key}"), paths);
            }
        }
        Json::Array(items) => {
            paths.insert(at.to_string(), "array");
            if let Some(first) = items.first() {
                shape(first, &format!("{at}[]"), paths);
            }
        }
        // Whether something is null depends on the rows, not on the shape.
        _ => drop(paths.insert(at.to_string(), "value")),
    }
}

fn shapes(value: &Json) -> BTreeMap<String, &'static str> {
    let mut paths = BTreeMap::new();
    shape(value, "", &mut paths);
    paths.retain(|path, _| !FREE.iter().any(|free| path.ends_with(free)));
    paths
}

#[tokio::test]
async fn answers_have_the_shape_of_a_real_clouds() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin().await;
    let mut ids: BTreeMap<String, String> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (number, line) in GOLDEN.lines().enumerate().filter(|(_, line)| !line.starts_with('#')) {
        let columns: Vec<&str> = line.split('\t').collect();
        let [method, path, body, status, keep, expected] = columns.as_slice() else { panic!("line {number}") };
        let fill =
            |text: &str| ids.iter().fold(text.to_string(), |text, (name, id)| text.replace(&format!("<{name}>"), id));
        let (path, body) = (fill(path), fill(body));
        let body = (body != "-").then(|| serde_json::from_str::<Json>(&body).unwrap());
        let reply = admin.send(Method::from_bytes(method.as_bytes()).unwrap(), &path, body.as_ref()).await;
        if reply.status.to_string() != *status {
            wrong.push(format!("{number}: {method} {path}: {} instead of {status}: {}", reply.status, reply.body));
            continue;
        }
        if *keep != "-" {
            let id_of = |value: &Json| {
                let id = value["id"].as_str().or(value[0]["id"].as_str()).or(value["access"].as_str());
                id.map(String::from)
            };
            ids.insert(keep.to_string(), reply.body.as_object().unwrap().values().find_map(id_of).unwrap());
        }
        if *expected != "-" {
            let (ours, theirs) = (shapes(&reply.body), shapes(&serde_json::from_str(expected).unwrap()));
            let lacking: Vec<_> = theirs.iter().filter(|(key, kind)| ours.get(*key) != Some(kind)).collect();
            let more: Vec<_> = ours.iter().filter(|(key, _)| !theirs.contains_key(*key)).collect();
            if !lacking.is_empty() || !more.is_empty() {
                wrong.push(format!("{number}: {method} {path}: lacks {lacking:?}, has {more:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
