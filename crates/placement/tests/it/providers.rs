//! Providers, alone.

use api::json;

use crate::cloud::{Cloud, id};

#[tokio::test]
async fn a_new_provider_is_shown_in_the_answer_from_1_20() {
    let cloud = Cloud::new().await;
    let reply = cloud.at(19).post("/resource_providers", &json!({"name": "old"})).await;
    assert!(reply.header("location").unwrap().starts_with("http://localhost/resource_providers/"));
    assert!(reply.is(201).is_null());
    let plain = id(1).replace('-', "");
    let shown = cloud.at(20).post("/resource_providers", &json!({"name": "new", "uuid": plain})).await.is(200);
    assert_eq!((shown["uuid"].as_str(), shown["generation"].as_i64()), (Some(id(1).as_str()), Some(0)));
    assert_eq!(shown["root_provider_uuid"].as_str(), Some(id(1).as_str()));
}

#[tokio::test]
async fn a_provider_has_more_links_with_each_thing_that_came_later() {
    let cloud = Cloud::new().await;
    let provider = cloud.latest().provider(1, None).await;
    for (minor, links) in [(0, 3), (1, 4), (6, 5), (11, 6)] {
        let shown = cloud.at(minor).get(&format!("/resource_providers/{provider}")).await.is(200);
        assert_eq!(shown["links"].as_array().unwrap().len(), links, "at 1.{minor}");
        assert_eq!(shown.get("parent_provider_uuid").is_some(), minor >= 14);
    }
}

#[tokio::test]
async fn answers_say_when_they_last_changed_from_1_15() {
    let cloud = Cloud::new().await;
    let provider = cloud.latest().provider(1, None).await;
    for minor in [14, 15] {
        let reply = cloud.at(minor).get(&format!("/resource_providers/{provider}")).await;
        assert_eq!(reply.header("last-modified").is_some_and(|time| time.ends_with(" GMT")), minor == 15);
        assert_eq!(reply.header("cache-control").is_some(), minor == 15);
    }
}

#[tokio::test]
async fn names_and_ids_are_given_once() {
    let cloud = Cloud::new().await;
    let client = cloud.latest();
    client.provider(1, None).await;
    let again = json!({"uuid": id(1), "name": "other"});
    assert_eq!(client.post("/resource_providers", &again).await.code(409), "placement.duplicate_name");
    let why = client.post("/resource_providers", &json!({"name": "p1"})).await.why(409);
    assert_eq!(why, "Conflicting resource provider name: p1 already exists.");
    client.provider(2, None).await;
    let why = client.put(&format!("/resource_providers/{}", id(2)), &json!({"name": "p1"})).await.why(409);
    assert_eq!(why, "Conflicting resource provider p1 already exists.");
}

#[tokio::test]
async fn a_provider_in_use_cannot_be_deleted() {
    let cloud = Cloud::new().await;
    let client = cloud.latest();
    let provider = client.provider(1, None).await;
    let path = format!("/resource_providers/{provider}");
    client.has(&provider, json!({"VCPU": {"total": 4}})).await;
    client.claim(9, &provider, json!({"VCPU": 1})).await.is(204);
    assert_eq!(client.delete(&path).await.code(409), "placement.resource_provider.inuse");
    client.delete(&format!("/allocations/{}", id(9))).await.is(204);
    client.delete(&path).await.is(204);
    assert_eq!(
        client.delete(&path).await.why(404),
        format!("No resource provider with uuid {provider} found for delete")
    );
}

#[tokio::test]
async fn providers_are_found_by_what_they_have_can_and_belong_to() {
    let cloud = Cloud::new().await;
    let client = cloud.latest();
    let [one, two, three] =
        [client.provider(1, None).await, client.provider(2, None).await, client.provider(3, None).await];
    client.has(&one, json!({"VCPU": {"total": 4}})).await;
    client.has(&two, json!({"VCPU": {"total": 8}, "DISK_GB": {"total": 10}})).await;
    client.can(&two, &["HW_CPU_X86_AVX", "CUSTOM_GOLD"]).await;
    client.can(&three, &["CUSTOM_SILVER"]).await;
    client.joins(&one, &[&id(100)]).await;
    client.joins(&three, &[&id(100), &id(101)]).await;
    for (query, expected) in [
        ("name=p2".to_string(), vec![2]),
        (format!("uuid={two}"), vec![2]),
        ("name=nobody".to_string(), vec![]),
        ("resources=VCPU:4".to_string(), vec![1, 2]),
        ("resources=VCPU:5,DISK_GB:1".to_string(), vec![2]),
        ("required=CUSTOM_GOLD".to_string(), vec![2]),
        ("required=!CUSTOM_GOLD".to_string(), vec![1, 3]),
        ("required=in:CUSTOM_GOLD,CUSTOM_SILVER".to_string(), vec![2, 3]),
        ("required=in:CUSTOM_GOLD,CUSTOM_SILVER&required=HW_CPU_X86_AVX".to_string(), vec![2]),
        (format!("member_of={}", id(100)), vec![1, 3]),
        (format!("member_of={}&member_of=in:{},{}", id(100), id(101), id(102)), vec![3]),
        (format!("member_of=!{}", id(101)), vec![1, 2]),
        (format!("in_tree={two}"), vec![2]),
        (format!("in_tree={}", id(77)), vec![]),
    ] {
        let found = client.get(&format!("/resource_providers?{query}")).await.is(200);
        let found = found["resource_providers"].as_array().unwrap().iter();
        let found: Vec<&str> = found.map(|one| one["name"].as_str().unwrap()).collect();
        let expected: Vec<String> = expected.iter().map(|number| format!("p{number}")).collect();
        assert_eq!(found, expected, "{query}");
    }
}

#[tokio::test]
async fn a_query_that_came_later_is_refused_before() {
    let cloud = Cloud::new().await;
    for (minor, query) in [(2, "member_of"), (3, "resources"), (13, "in_tree"), (17, "required")] {
        let value = if query == "resources" { "VCPU:1".to_string() } else { id(1) };
        let why = cloud.at(minor).get(&format!("/resource_providers?{query}={value}")).await.why(400);
        assert!(why.contains(&format!("Additional properties are not allowed ('{query}' was unexpected)")), "{why}");
    }
    let why = cloud.at(21).get("/resource_providers?required=!CUSTOM_A").await.why(400);
    assert!(why.ends_with("Got: !CUSTOM_A"), "{why}");
    let why = cloud.at(38).get("/resource_providers?required=in:A,B").await.why(400);
    assert!(why.contains("only supported since microversion 1.39"), "{why}");
    let why = cloud.at(23).get(&format!("/resource_providers?member_of={0}&member_of={0}", id(1))).await.why(400);
    assert_eq!(why, "Multiple member_of parameters are not supported");
}
