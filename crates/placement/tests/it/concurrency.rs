//! Many at once: nothing is given twice, on any database.

use api::{Json, json};
use futures_util::future::join_all;

use crate::cloud::{Cloud, claim, id};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_claimants_only_as_many_win_as_there_is_room_for() {
    let cloud = Cloud::new().await;
    let client = cloud.latest();
    let provider = client.provider(1, None).await;
    client.has(&provider, json!({"VCPU": {"total": 10}})).await;
    let one = |number: u32| {
        let (client, provider) = (client.clone(), provider.clone());
        tokio::spawn(async move { client.claim(100 + number, &provider, json!({"VCPU": 1})).await })
    };
    let replies = join_all((0..40).map(one)).await;
    let statuses: Vec<u16> = replies.into_iter().map(|reply| reply.unwrap().status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 204).count(), 10, "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 204 | 409)), "{statuses:?}");
    let usages = client.get(&format!("/resource_providers/{provider}/usages")).await.is(200);
    assert_eq!(usages["usages"], json!({"VCPU": 10}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn claims_over_two_providers_do_not_block_each_other_for_ever() {
    let cloud = Cloud::new().await;
    let client = cloud.latest();
    for number in [1, 2] {
        let provider = client.provider(number, None).await;
        client.has(&provider, json!({"VCPU": {"total": 100}})).await;
    }
    let one = |number: u32| {
        let client = client.clone();
        tokio::spawn(async move {
            let (first, second) = if number.is_multiple_of(2) { (1, 2) } else { (2, 1) };
            let mut body = claim(&id(first), json!({"VCPU": 1}), Json::Null);
            body["allocations"][id(second)] = json!({"resources": {"VCPU": 1}});
            client.put(&format!("/allocations/{}", id(100 + number)), &body).await.status
        })
    };
    for status in join_all((0..30).map(one)).await {
        assert_eq!(status.unwrap(), 204);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_of_two_who_make_the_same_consumer_wins() {
    let cloud = Cloud::new().await;
    let client = cloud.latest();
    let provider = client.provider(1, None).await;
    client.has(&provider, json!({"VCPU": {"total": 10}})).await;
    let one = |_| {
        let (client, provider) = (client.clone(), provider.clone());
        tokio::spawn(async move { client.claim(100, &provider, json!({"VCPU": 1})).await.status })
    };
    let statuses: Vec<u16> = join_all((0..8).map(one)).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 204).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 204 | 409)), "{statuses:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_of_many_who_write_the_same_generation_wins() {
    let cloud = Cloud::new().await;
    let client = cloud.latest();
    let provider = client.provider(1, None).await;
    let one = |number: u32| {
        let (client, provider) = (client.clone(), provider.clone());
        tokio::spawn(async move {
            let body = json!({"resource_provider_generation": 0, "inventories": {"VCPU": {"total": number + 1}}});
            client.put(&format!("/resource_providers/{provider}/inventories"), &body).await.status
        })
    };
    let statuses: Vec<u16> = join_all((0..12).map(one)).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 200 | 409)), "{statuses:?}");
    assert_eq!(client.generation(&provider).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_inventory_does_not_vanish_under_a_claim() {
    let cloud = Cloud::new().await;
    let client = cloud.latest();
    for round in 0..10 {
        let provider = client.provider(round, None).await;
        client.has(&provider, json!({"VCPU": {"total": 10}})).await;
        let (remover, claimer) = (client.clone(), client.clone());
        let path = format!("/resource_providers/{provider}/inventories");
        let removing = tokio::spawn(async move { remover.delete(&path).await.status });
        let claimed = claimer.claim(100 + round, &provider, json!({"VCPU": 1})).await.status;
        let removed = removing.await.unwrap();
        assert!(matches!((removed, claimed), (204, 409) | (409, 204)), "{removed} {claimed}");
    }
}
