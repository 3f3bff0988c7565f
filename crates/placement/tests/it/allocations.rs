//! Allocations: every form of the body, generations, capacity.

use api::{Json, json};

use crate::cloud::{Client, Cloud, claim, id};

async fn stocked(client: &Client) -> String {
    let provider = client.provider(1, None).await;
    let vcpu = json!({"total": 10, "max_unit": 8, "step_size": 2, "min_unit": 2});
    client.has(&provider, json!({"VCPU": vcpu, "MEMORY_MB": {"total": 1000}})).await;
    provider
}

fn path(consumer: u32) -> String {
    format!("/allocations/{}", id(consumer))
}

#[tokio::test]
async fn each_version_has_its_form_of_the_body() {
    let cloud = Cloud::new().await;
    let provider = stocked(&cloud.latest()).await;
    let listed = json!([{"resource_provider": {"uuid": provider}, "resources": {"VCPU": 2}}]);
    let keyed = json!({&provider: {"resources": {"VCPU": 2}}});
    let mut body = json!({"allocations": listed});
    cloud.at(0).put(&path(1), &body).await.is(204);
    let why = cloud.at(8).put(&path(1), &body).await.why(400);
    assert!(why.contains("'project_id' is a required property"), "{why}");
    body["project_id"] = json!("blue");
    body["user_id"] = json!("alice");
    cloud.at(8).put(&path(1), &body).await.is(204);
    cloud.at(12).put(&path(1), &body).await.is(400);
    body["allocations"] = keyed;
    cloud.at(12).put(&path(1), &body).await.is(204);
    cloud.at(28).put(&path(1), &body).await.is(400);
    body["consumer_generation"] = json!(3);
    cloud.at(28).put(&path(1), &body).await.is(204);
    body["consumer_generation"] = json!(4);
    body["mappings"] = json!({"_A": [provider]});
    cloud.at(33).put(&path(1), &body).await.is(400);
    cloud.at(34).put(&path(1), &body).await.is(204);
    body["consumer_generation"] = json!(5);
    cloud.at(38).put(&path(1), &body).await.is(400);
    body["consumer_type"] = json!("INSTANCE");
    cloud.at(38).put(&path(1), &body).await.is(204);
}

#[tokio::test]
async fn a_consumer_is_shown_with_what_each_version_knows_of_it() {
    let cloud = Cloud::new().await;
    let client = cloud.latest();
    let provider = stocked(&client).await;
    client.claim(1, &provider, json!({"VCPU": 2, "MEMORY_MB": 5})).await.is(204);
    let keys = async |minor: u16| cloud.at(minor).get(&path(1)).await.is(200).as_object().unwrap().len();
    assert_eq!([keys(0).await, keys(12).await, keys(28).await, keys(38).await], [1, 3, 4, 5]);
    let shown = client.get(&path(1)).await.is(200);
    assert_eq!(shown["allocations"][&provider]["resources"], json!({"VCPU": 2, "MEMORY_MB": 5}));
    assert_eq!(shown["allocations"][&provider]["generation"], 2);
    assert_eq!(client.get(&path(7)).await.is(200), json!({"allocations": {}}));
    let of_provider = client.get(&format!("/resource_providers/{provider}/allocations")).await.is(200);
    let expected = json!({id(1): {"resources": {"VCPU": 2, "MEMORY_MB": 5}, "consumer_generation": 1}});
    assert_eq!(of_provider["allocations"], expected);
}

#[tokio::test]
async fn a_consumer_has_a_generation_from_1_28() {
    let cloud = Cloud::new().await;
    let client = cloud.latest();
    let provider = stocked(&client).await;
    let at = |generation: Json| claim(&provider, json!({"VCPU": 2}), generation);
    let why = client.put(&path(1), &at(json!(5))).await.why(409);
    assert_eq!(why, "consumer generation conflict - expected null but got 5");
    client.put(&path(1), &at(Json::Null)).await.is(204);
    let refused = client.put(&path(1), &at(Json::Null)).await;
    assert_eq!(refused.why(409), "consumer generation conflict - expected 1 but got None");
    assert_eq!(client.put(&path(1), &at(json!(0))).await.code(409), "placement.concurrent_update");
    client.put(&path(1), &at(json!(1))).await.is(204);
}

#[tokio::test]
async fn nothing_left_means_no_consumer_left() {
    let cloud = Cloud::new().await;
    let client = cloud.latest();
    let provider = stocked(&client).await;
    client.claim(1, &provider, json!({"VCPU": 2})).await.is(204);
    let mut empty = claim(&provider, json!({}), json!(1));
    empty["allocations"] = json!({});
    client.put(&path(1), &empty).await.is(204);
    assert_eq!(client.get(&path(1)).await.is(200), json!({"allocations": {}}));
    client.claim(1, &provider, json!({"VCPU": 2})).await.is(204);
    client.delete(&path(1)).await.is(204);
    assert_eq!(client.delete(&path(1)).await.why(404), format!("No allocations for consumer '{}'", id(1)));
    client.claim(1, &provider, json!({"VCPU": 2})).await.is(204);
}

#[tokio::test]
async fn units_and_capacity_are_respected() {
    let cloud = Cloud::new().await;
    let client = cloud.latest();
    let provider = stocked(&client).await;
    for amount in [1, 3, 10] {
        let why = client.claim(1, &provider, json!({"VCPU": amount})).await.why(409);
        assert!(why.ends_with("The requested amount would violate inventory constraints."), "{amount}: {why}");
    }
    client.claim(1, &provider, json!({"VCPU": 8})).await.is(204);
    let why = client.claim(2, &provider, json!({"VCPU": 4})).await.why(409);
    assert!(why.ends_with("The requested amount would exceed the capacity."), "{why}");
    assert_eq!(client.get(&path(2)).await.is(200), json!({"allocations": {}}), "nothing of a refused claim is kept");
    client.claim(2, &provider, json!({"VCPU": 2})).await.is(204);
}

#[tokio::test]
async fn what_is_not_there_cannot_be_used() {
    let cloud = Cloud::new().await;
    let client = cloud.latest();
    let provider = stocked(&client).await;
    let why = client.claim(1, &id(50), json!({"VCPU": 2})).await.why(400);
    assert_eq!(why, format!("Allocation for resource provider '{}' that does not exist.", id(50)));
    let why = client.claim(1, &provider, json!({"CUSTOM_X": 2})).await.why(400);
    assert!(why.ends_with(": No such resource class CUSTOM_X."), "{why}");
    let why = client.claim(1, &provider, json!({"DISK_GB": 2})).await.why(409);
    assert!(why.ends_with(&format!("Inventory for 'DISK_GB' on resource provider '{provider}' invalid.")), "{why}");
    client.put("/allocations/nonsense", &claim(&provider, json!({"VCPU": 2}), Json::Null)).await.is(400);
}

#[tokio::test]
async fn too_much_may_shrink_but_not_grow() {
    let cloud = Cloud::new().await;
    let client = cloud.latest();
    let provider = client.provider(1, None).await;
    client.has(&provider, json!({"DISK_GB": {"total": 10}})).await;
    client.claim(1, &provider, json!({"DISK_GB": 10})).await.is(204);
    client.has(&provider, json!({"DISK_GB": {"total": 4}})).await;
    client.put(&path(1), &claim(&provider, json!({"DISK_GB": 8}), json!(1))).await.is(204);
    client.put(&path(1), &claim(&provider, json!({"DISK_GB": 9}), json!(2))).await.is(409);
}

#[tokio::test]
async fn many_consumers_change_all_or_none() {
    let cloud = Cloud::new().await;
    let client = cloud.latest();
    let provider = stocked(&client).await;
    client.claim(1, &provider, json!({"VCPU": 8})).await.is(204);
    let one = |amount: u32, generation: Json| claim(&provider, json!({"VCPU": amount}), generation);
    let both = json!({id(1): one(6, json!(1)), id(2): one(8, Json::Null)});
    client.post("/allocations", &both).await.is(409);
    assert_eq!(client.get(&path(1)).await.is(200)["consumer_generation"], 1);

    // What the first one gives up, the second one takes.
    let mut gone = one(2, json!(1));
    gone["allocations"] = json!({});
    client.post("/allocations", &json!({id(1): gone, id(2): one(8, Json::Null)})).await.is(204);
    assert_eq!(client.get(&path(1)).await.is(200), json!({"allocations": {}}));
    cloud.at(12).post("/allocations", &both).await.is(404);
    client.post("/allocations", &json!({})).await.is(400);
}
