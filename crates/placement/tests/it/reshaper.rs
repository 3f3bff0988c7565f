//! The reshaper.

use api::{Json, json};

use crate::cloud::{Cloud, claim, id};

#[tokio::test]
async fn inventories_move_together_with_what_is_used_of_them() {
    let cloud = Cloud::new().await;
    let client = cloud.latest();
    let host = client.provider(1, None).await;
    let card = client.provider(2, Some(1)).await;
    client.has(&host, json!({"VCPU": {"total": 8}, "VGPU": {"total": 4}})).await;
    client.claim(9, &host, json!({"VCPU": 2, "VGPU": 3})).await.is(204);

    let inventories = json!({
        &host: {"resource_provider_generation": 2, "inventories": {"VCPU": {"total": 8}}},
        &card: {"resource_provider_generation": 0, "inventories": {"VGPU": {"total": 4}}},
    });
    let mut moved = claim(&host, json!({"VCPU": 2}), json!(1));
    moved["allocations"][&card] = json!({"resources": {"VGPU": 3}});
    let body = json!({"inventories": inventories, "allocations": {id(9): moved}});
    client.post("/reshaper", &body).await.is(204);

    let shown = client.get(&format!("/resource_providers/{card}/usages")).await.is(200);
    assert_eq!(shown["usages"], json!({"VGPU": 3}));
    let shown = client.get(&format!("/resource_providers/{host}/usages")).await.is(200);
    assert_eq!(shown["usages"], json!({"VCPU": 2}));
    assert_eq!(client.post("/reshaper", &body).await.code(409), "placement.concurrent_update");
    cloud.at(29).post("/reshaper", &body).await.is(404);
}

#[tokio::test]
async fn a_shape_that_does_not_hold_what_is_used_changes_nothing() {
    let cloud = Cloud::new().await;
    let client = cloud.latest();
    let host = client.provider(1, None).await;
    client.has(&host, json!({"VCPU": {"total": 8}})).await;
    client.claim(9, &host, json!({"VCPU": 2})).await.is(204);
    let with = |inventories: Json| json!({"inventories": {&host: inventories}, "allocations": {}});
    let none = with(json!({"resource_provider_generation": 2, "inventories": {}}));
    assert_eq!(client.post("/reshaper", &none).await.code(409), "placement.inventory.inuse");
    let unknown = with(json!({"resource_provider_generation": 2, "inventories": {"CUSTOM_X": {"total": 1}}}));
    client.post("/reshaper", &unknown).await.is(400);
    assert_eq!(client.generation(&host).await, 2);
    let nobody =
        json!({"inventories": {id(50): {"resource_provider_generation": 0, "inventories": {}}}, "allocations": {}});
    assert_eq!(client.post("/reshaper", &nobody).await.code(400), "placement.resource_provider.not_found");
}

#[tokio::test]
async fn only_services_reshape() {
    let cloud = Cloud::new().await;
    cloud.client("admin", "1.39").post("/reshaper", &json!({})).await.is(403);
    cloud.client("service", "1.39").post("/reshaper", &json!({})).await.is(400);
}
