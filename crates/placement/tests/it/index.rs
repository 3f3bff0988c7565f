//! The picture in memory is never behind the rows, also when another process writes them.

use api::{Method, json};

use crate::cloud::{Client, Cloud, id};

async fn found(client: &Client, query: &str) -> usize {
    let body = client.get(&format!("/allocation_candidates?{query}")).await.is(200);
    body["allocation_requests"].as_array().unwrap().len()
}

#[tokio::test]
async fn every_kind_of_change_is_seen_by_the_next_request_of_another_process() {
    let cloud = Cloud::new().await;
    let twin = cloud.twin().await;
    let (here, there) = (cloud.latest(), twin.latest());
    let vcpu = "resources=VCPU:4";
    assert_eq!(found(&there, vcpu).await, 0);
    let provider = here.provider(1, None).await;
    here.has(&provider, json!({"VCPU": {"total": 4}})).await;
    assert_eq!(found(&there, vcpu).await, 1);
    here.claim(9, &provider, json!({"VCPU": 1})).await.is(204);
    assert_eq!(found(&there, vcpu).await, 0);
    here.delete(&format!("/allocations/{}", id(9))).await.is(204);
    assert_eq!(found(&there, vcpu).await, 1);

    let traits = "resources=VCPU:4&required=HW_CPU_X86_AVX";
    assert_eq!(found(&there, traits).await, 0);
    here.can(&provider, &["HW_CPU_X86_AVX"]).await;
    assert_eq!(found(&there, traits).await, 1);

    let member = format!("resources=VCPU:4&member_of={}", id(100));
    assert_eq!(found(&there, &member).await, 0);
    cloud.at(18).put(&format!("/resource_providers/{provider}/aggregates"), &json!([id(100)])).await.is(200);
    assert_eq!(found(&there, &member).await, 1);

    here.put(&format!("/resource_providers/{provider}"), &json!({"name": "renamed"})).await.is(200);
    let listed = there.get("/resource_providers?name=renamed").await.is(200);
    assert_eq!(listed["resource_providers"].as_array().unwrap().len(), 1);

    here.delete(&format!("/resource_providers/{provider}")).await.is(204);
    assert_eq!(found(&there, vcpu).await, 0);
    here.provider(1, None).await;
    here.has(&provider, json!({"VCPU": {"total": 4}})).await;
    assert_eq!(found(&there, vcpu).await, 1, "the same provider, back again");
}

#[tokio::test]
async fn a_tree_that_moves_is_seen_to_have_moved() {
    let cloud = Cloud::new().await;
    let twin = cloud.twin().await;
    let (here, there) = (cloud.latest(), twin.latest());
    here.provider(1, None).await;
    here.provider(2, Some(1)).await;
    here.provider(3, None).await;
    here.has(&id(1), json!({"VCPU": {"total": 4}})).await;
    here.has(&id(2), json!({"VGPU": {"total": 4}})).await;
    assert_eq!(found(&there, "resources=VCPU:1,VGPU:1").await, 1);
    let body = json!({"name": "p2", "parent_provider_uuid": id(3)});
    here.send(Method::PUT, &format!("/resource_providers/{}", id(2)), Some(&body)).await.is(200);
    assert_eq!(found(&there, "resources=VCPU:1,VGPU:1").await, 0);
}
