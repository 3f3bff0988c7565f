//! Inventories.

use api::{Method, json};

use crate::cloud::{Cloud, id};

#[tokio::test]
async fn inventories_are_replaced_as_a_whole_at_the_right_generation() {
    let cloud = Cloud::new().await;
    let client = cloud.latest();
    let provider = client.provider(1, None).await;
    let path = format!("/resource_providers/{provider}/inventories");
    let body =
        json!({"resource_provider_generation": 0, "inventories": {"VCPU": {"total": 4}, "DISK_GB": {"total": 9}}});
    assert_eq!(client.put(&path, &body).await.is(200)["resource_provider_generation"], 1);
    assert_eq!(client.put(&path, &body).await.code(409), "placement.concurrent_update");
    client.has(&provider, json!({"VCPU": {"total": 8, "allocation_ratio": 1.5, "reserved": 2}})).await;
    let shown = client.get(&path).await.is(200);
    assert_eq!(shown["inventories"].as_object().unwrap().len(), 1);
    assert_eq!(shown["inventories"]["VCPU"]["allocation_ratio"], 1.5);
    assert_eq!(shown["inventories"]["VCPU"]["max_unit"], 2147483647);
}

#[tokio::test]
async fn one_inventory_is_made_changed_and_removed() {
    let cloud = Cloud::new().await;
    let client = cloud.latest();
    let provider = client.provider(1, None).await;
    let path = format!("/resource_providers/{provider}/inventories");
    let reply = client.post(&path, &json!({"resource_class": "VCPU", "total": 4})).await;
    assert!(reply.header("location").unwrap().ends_with("/inventories/VCPU"));
    assert_eq!(reply.is(201)["resource_provider_generation"], 1);
    assert_eq!(
        client.post(&path, &json!({"resource_class": "VCPU", "total": 4})).await.code(409),
        "placement.concurrent_update"
    );
    let why = client.post(&path, &json!({"resource_class": "CUSTOM_X", "total": 4})).await.why(400);
    assert!(why.ends_with("No such resource class CUSTOM_X."), "{why}");

    let one = format!("{path}/VCPU");
    let shown = client.put(&one, &json!({"resource_provider_generation": 1, "total": 5})).await.is(200);
    assert_eq!((&shown["total"], &shown["resource_provider_generation"]), (&json!(5), &json!(2)));
    client.delete(&one).await.is(204);
    assert_eq!(client.get(&one).await.why(404), format!("No inventory of class VCPU for {provider}"));
    client.delete(&one).await.is(404);
}

#[tokio::test]
async fn everything_may_be_reserved_from_1_26() {
    let cloud = Cloud::new().await;
    let provider = cloud.latest().provider(1, None).await;
    let path = format!("/resource_providers/{provider}/inventories");
    let all = |reserved| json!({"resource_provider_generation": 0, "inventories": {"VCPU": {"total": 4, "reserved": reserved}}});
    let why = cloud.at(25).put(&path, &all(4)).await.why(400);
    assert!(why.ends_with("The reserved value is greater than or equal to total."), "{why}");
    let why = cloud.at(26).put(&path, &all(5)).await.why(400);
    assert!(why.ends_with("The reserved value is greater than total."), "{why}");
    cloud.at(26).put(&path, &all(4)).await.is(200);
}

#[tokio::test]
async fn an_inventory_in_use_stays() {
    let cloud = Cloud::new().await;
    let client = cloud.latest();
    let provider = client.provider(1, None).await;
    client.has(&provider, json!({"VCPU": {"total": 4}, "DISK_GB": {"total": 4}})).await;
    client.claim(9, &provider, json!({"DISK_GB": 1, "VCPU": 1})).await.is(204);
    let path = format!("/resource_providers/{provider}/inventories");
    let all = client.delete(&path).await;
    let expected = format!("Inventory for 'VCPU, DISK_GB' on resource provider '{provider}' in use.");
    assert_eq!(all.why(409), expected);
    assert_eq!(client.delete(&path).await.code(409), "placement.inventory.inuse");
    assert_eq!(client.delete(&format!("{path}/VCPU")).await.code(409), "placement.concurrent_update");
    let generation = client.generation(&provider).await;
    let body = json!({"resource_provider_generation": generation, "inventories": {"VCPU": {"total": 4}}});
    assert_eq!(client.put(&path, &body).await.code(409), "placement.inventory.inuse");
    client.delete(&format!("/allocations/{}", id(9))).await.is(204);
    client.delete(&path).await.is(204);
}

#[tokio::test]
async fn all_inventories_are_deleted_at_once_from_1_5() {
    let cloud = Cloud::new().await;
    let provider = cloud.latest().provider(1, None).await;
    let path = format!("/resource_providers/{provider}/inventories");
    let reply = cloud.at(4).send(Method::DELETE, &path, None).await;
    assert_eq!(reply.header("allow"), Some("GET, POST, PUT"));
    reply.is(405);
    cloud.at(5).delete(&path).await.is(204);
}

#[tokio::test]
async fn amounts_are_checked_in_upstreams_words() {
    let cloud = Cloud::new().await;
    let client = cloud.latest();
    let provider = client.provider(1, None).await;
    let path = format!("/resource_providers/{provider}/inventories");
    let why = client.post(&path, &json!({"resource_class": "VCPU", "total": 0})).await.why(400);
    assert!(why.starts_with("JSON does not validate: 0 is less than the minimum of 1"), "{why}");
    assert!(why.contains("Failed validating 'minimum' in schema['properties']['total']"), "{why}");
    let why = client.post(&path, &json!({"resource_class": "vcpu", "total": 1})).await.why(400);
    assert!(why.contains("'vcpu' does not match '^[A-Z0-9_]+$'"), "{why}");
}
