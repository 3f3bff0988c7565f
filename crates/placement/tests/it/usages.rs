//! Usages of providers and projects.

use api::json;

use crate::cloud::{Cloud, claim, id};

#[tokio::test]
async fn usages_are_sums_by_project_user_and_consumer_type() {
    let cloud = Cloud::new().await;
    let client = cloud.latest();
    let provider = client.provider(1, None).await;
    client.has(&provider, json!({"VCPU": {"total": 20}, "DISK_GB": {"total": 50}})).await;
    client.claim(1, &provider, json!({"VCPU": 2, "DISK_GB": 5})).await.is(204);
    client.claim(2, &provider, json!({"VCPU": 3})).await.is(204);
    let mut other = claim(&provider, json!({"VCPU": 4}), json!(null));
    (other["user_id"], other["consumer_type"]) = (json!("bob"), json!("MIGRATION"));
    client.put(&format!("/allocations/{}", id(3)), &other).await.is(204);
    let old = json!({"allocations": {&provider: {"resources": {"VCPU": 1}}}, "project_id": "blue", "user_id": "bob"});
    cloud.at(12).put(&format!("/allocations/{}", id(4)), &old).await.is(204);

    let usages = async |minor: u16, query: &str| {
        cloud.at(minor).get(&format!("/usages?project_id=blue{query}")).await.is(200)["usages"].clone()
    };
    assert_eq!(usages(9, "").await, json!({"VCPU": 10, "DISK_GB": 5}));
    assert_eq!(usages(9, "&user_id=bob").await, json!({"VCPU": 5}));
    let expected = json!({
        "INSTANCE": {"VCPU": 5, "DISK_GB": 5, "consumer_count": 2},
        "MIGRATION": {"VCPU": 4, "consumer_count": 1},
        "unknown": {"VCPU": 1, "consumer_count": 1},
    });
    assert_eq!(usages(38, "").await, expected);
    assert_eq!(usages(38, "&consumer_type=MIGRATION").await, json!({"MIGRATION": {"VCPU": 4, "consumer_count": 1}}));
    let all = json!({"all": {"VCPU": 10, "DISK_GB": 5, "consumer_count": 4}});
    assert_eq!(usages(38, "&consumer_type=all").await, all);
    assert_eq!(usages(38, "&consumer_type=unknown").await, json!({"unknown": {"VCPU": 1, "consumer_count": 1}}));
    assert_eq!(client.get("/usages?project_id=red").await.is(200), json!({"usages": {}}));
}

#[tokio::test]
async fn a_providers_usages_name_every_class_that_it_has() {
    let cloud = Cloud::new().await;
    let client = cloud.latest();
    let provider = client.provider(1, None).await;
    client.has(&provider, json!({"VCPU": {"total": 20}, "DISK_GB": {"total": 50}})).await;
    client.claim(1, &provider, json!({"VCPU": 2})).await.is(204);
    let shown = client.get(&format!("/resource_providers/{provider}/usages")).await.is(200);
    assert_eq!(shown, json!({"resource_provider_generation": 2, "usages": {"VCPU": 2, "DISK_GB": 0}}));
}

#[tokio::test]
async fn a_reader_sees_the_usages_of_its_own_project() {
    let cloud = Cloud::new().await;
    let reader = cloud.client("reader", "1.38");
    reader.get("/usages?project_id=blue").await.is(200);
    reader.get("/usages?project_id=red").await.is(403);
    reader.get("/usages").await.is(403);
    cloud.latest().get("/usages").await.is(400);
    cloud.at(37).get("/usages?project_id=blue&consumer_type=all").await.is(400);
}
