//! Providers in trees.

use api::{Json, json};

use crate::cloud::{Client, Cloud, id};

async fn place(client: &Client, number: u32) -> (Json, Json) {
    let shown = client.get(&format!("/resource_providers/{}", id(number))).await.is(200);
    (shown["parent_provider_uuid"].clone(), shown["root_provider_uuid"].clone())
}

fn under(parent: Option<u32>, number: u32) -> Json {
    json!({"name": format!("p{number}"), "parent_provider_uuid": parent.map(id)})
}

#[tokio::test]
async fn children_know_their_root() {
    let cloud = Cloud::new().await;
    let client = cloud.latest();
    client.provider(1, None).await;
    client.provider(2, Some(1)).await;
    client.provider(3, Some(2)).await;
    assert_eq!(place(&client, 3).await, (json!(id(2)), json!(id(1))));
    let tree = client.get(&format!("/resource_providers?in_tree={}", id(3))).await.is(200);
    assert_eq!(tree["resource_providers"].as_array().unwrap().len(), 3);
    let why = client.delete(&format!("/resource_providers/{}", id(2))).await.why(409);
    assert_eq!(why, format!("Unable to delete parent resource provider {}: It has child resource providers.", id(2)));
}

#[tokio::test]
async fn a_provider_moves_with_all_below_it_from_1_37() {
    let cloud = Cloud::new().await;
    let client = cloud.latest();
    for (number, parent) in [(1, None), (2, Some(1)), (3, Some(2)), (4, None)] {
        client.provider(number, parent).await;
    }
    let path = format!("/resource_providers/{}", id(2));
    let why = cloud.at(36).put(&path, &under(Some(4), 2)).await.why(400);
    assert!(why.ends_with("re-parenting a provider is not currently allowed."), "{why}");
    let why = cloud.at(36).put(&path, &under(None, 2)).await.why(400);
    assert!(why.ends_with("un-parenting a provider is not currently allowed."), "{why}");

    client.put(&path, &under(Some(4), 2)).await.is(200);
    assert_eq!(place(&client, 3).await, (json!(id(2)), json!(id(4))));
    client.put(&path, &under(None, 2)).await.is(200);
    assert_eq!(place(&client, 2).await, (Json::Null, json!(id(2))));
    assert_eq!(place(&client, 3).await, (json!(id(2)), json!(id(2))));
}

#[tokio::test]
async fn a_name_changes_without_a_word_about_the_parent() {
    let cloud = Cloud::new().await;
    let client = cloud.latest();
    client.provider(1, None).await;
    client.provider(2, Some(1)).await;
    let shown = client.put(&format!("/resource_providers/{}", id(2)), &json!({"name": "new"})).await.is(200);
    assert_eq!((shown["name"].as_str(), shown["parent_provider_uuid"].as_str()), (Some("new"), Some(&*id(1))));
}

#[tokio::test]
async fn a_tree_has_no_loops_and_no_parents_that_do_not_exist() {
    let cloud = Cloud::new().await;
    let client = cloud.latest();
    client.provider(1, None).await;
    client.provider(2, Some(1)).await;
    for parent in [1, 2] {
        let why = client.put(&format!("/resource_providers/{}", id(1)), &under(Some(parent), 1)).await.why(400);
        assert!(why.ends_with("creating loop in the provider tree is not allowed."), "{why}");
    }
    let why = client.put(&format!("/resource_providers/{}", id(1)), &under(Some(9), 1)).await.why(400);
    assert!(why.ends_with("parent provider UUID does not exist."), "{why}");
    let own = json!({"uuid": id(5), "name": "p5", "parent_provider_uuid": id(5)});
    let why = client.post("/resource_providers", &own).await.why(400);
    assert!(why.contains("parent provider UUID cannot be same as UUID."), "{why}");
}
