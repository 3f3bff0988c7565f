//! Resource classes and traits.

use api::{Method, json};

use crate::cloud::{Cloud, id};

fn names(body: &api::Json) -> Vec<String> {
    let classes = body["resource_classes"].as_array().unwrap();
    classes.iter().map(|one| one["name"].as_str().unwrap().to_string()).collect()
}

#[tokio::test]
async fn standard_classes_come_first_and_custom_ones_are_made() {
    let cloud = Cloud::new().await;
    let client = cloud.latest();
    client.post("/resource_classes", &json!({"name": "CUSTOM_GOLD"})).await.is(201);
    assert_eq!(
        client.post("/resource_classes", &json!({"name": "CUSTOM_GOLD"})).await.why(409),
        "Conflicting resource class already exists: CUSTOM_GOLD"
    );
    let all = names(&client.get("/resource_classes").await.is(200));
    assert_eq!((all.len(), all[0].as_str(), all[21].as_str()), (22, "VCPU", "CUSTOM_GOLD"));
    let why = client.post("/resource_classes", &json!({"name": "GOLD"})).await.why(400);
    assert!(why.contains("'GOLD' does not match '^CUSTOM_[A-Z0-9_]+$'"), "{why}");
    cloud.at(1).get("/resource_classes").await.is(404);
}

#[tokio::test]
async fn a_put_renames_before_1_7_and_ensures_after() {
    let cloud = Cloud::new().await;
    let client = cloud.latest();
    client.send(Method::PUT, "/resource_classes/CUSTOM_A", None).await.is(201);
    client.send(Method::PUT, "/resource_classes/CUSTOM_A", None).await.is(204);
    let provider = client.provider(1, None).await;
    client.has(&provider, json!({"CUSTOM_A": {"total": 3}})).await;
    client.claim(9, &provider, json!({"CUSTOM_A": 1})).await.is(204);

    cloud.at(6).put("/resource_classes/CUSTOM_A", &json!({"name": "CUSTOM_B"})).await.is(200);
    let usages = client.get(&format!("/resource_providers/{provider}/usages")).await.is(200);
    assert_eq!(usages["usages"], json!({"CUSTOM_B": 1}));
    let found = client.get("/resource_providers?resources=CUSTOM_B:2").await.is(200);
    assert_eq!(found["resource_providers"].as_array().unwrap().len(), 1);
    cloud.at(6).put("/resource_classes/VCPU", &json!({"name": "CUSTOM_C"})).await.is(400);
}

#[tokio::test]
async fn a_class_in_use_or_of_the_standard_stays() {
    let cloud = Cloud::new().await;
    let client = cloud.latest();
    client.send(Method::PUT, "/resource_classes/CUSTOM_A", None).await.is(201);
    let provider = client.provider(1, None).await;
    client.has(&provider, json!({"CUSTOM_A": {"total": 3}})).await;
    let why = client.delete("/resource_classes/CUSTOM_A").await.why(409);
    assert!(why.ends_with("Class is in use in inventory."), "{why}");
    client.has(&provider, json!({})).await;
    client.delete("/resource_classes/CUSTOM_A").await.is(204);
    assert_eq!(client.delete("/resource_classes/CUSTOM_A").await.why(404), "No such resource class CUSTOM_A.");
    let why = client.delete("/resource_classes/VCPU").await.why(400);
    assert_eq!(why, "Error in delete resource class: Cannot delete standard resource class VCPU.");
}

#[tokio::test]
async fn traits_are_listed_by_name_prefix_and_use() {
    let cloud = Cloud::new().await;
    let client = cloud.latest();
    client.send(Method::PUT, "/traits/CUSTOM_A", None).await.is(201);
    client.send(Method::PUT, "/traits/CUSTOM_A", None).await.is(204);
    client.send(Method::GET, "/traits/CUSTOM_A", None).await.is(204);
    let provider = client.provider(1, None).await;
    client.can(&provider, &["CUSTOM_A", "HW_CPU_X86_AVX"]).await;
    let count =
        async |query: &str| client.get(&format!("/traits{query}")).await.is(200)["traits"].as_array().unwrap().len();
    assert_eq!(count("").await, 378);
    assert_eq!(count("?name=startswith:CUSTOM_").await, 1);
    assert_eq!(count("?name=in:CUSTOM_A,HW_CPU_X86_AVX,NOPE").await, 2);
    assert_eq!(count("?associated=true").await, 2);
    assert_eq!(count("?associated=false&name=startswith:CUSTOM").await, 0);
    client.get("/traits?associated=maybe").await.is(400);
    client.get("/traits?name=CUSTOM_A").await.is(400);
    assert_eq!(
        client.delete("/traits/CUSTOM_A").await.why(409),
        "The trait CUSTOM_A is in use by a resource provider."
    );
    assert_eq!(client.delete("/traits/HW_CPU_X86_AVX").await.why(400), "Cannot delete standard trait HW_CPU_X86_AVX.");
    client.send(Method::PUT, "/traits/GOLD", None).await.is(400);
}

#[tokio::test]
async fn a_providers_traits_are_set_at_the_right_generation() {
    let cloud = Cloud::new().await;
    let client = cloud.latest();
    let provider = client.provider(1, None).await;
    let path = format!("/resource_providers/{provider}/traits");
    let body = json!({"resource_provider_generation": 0, "traits": ["HW_CPU_X86_AVX"]});
    assert_eq!(client.put(&path, &body).await.is(200)["resource_provider_generation"], 1);
    assert_eq!(client.put(&path, &body).await.code(409), "placement.concurrent_update");
    let same = json!({"resource_provider_generation": 1, "traits": ["HW_CPU_X86_AVX"]});
    assert_eq!(client.put(&path, &same).await.is(200)["resource_provider_generation"], 1, "nothing has changed");
    let unknown = json!({"resource_provider_generation": 1, "traits": ["CUSTOM_NOPE"]});
    assert_eq!(client.put(&path, &unknown).await.why(400), "No such trait CUSTOM_NOPE");
    client.delete(&path).await.is(204);
    assert_eq!(client.get(&path).await.is(200), json!({"traits": [], "resource_provider_generation": 2}));
}

#[tokio::test]
async fn aggregates_carry_a_generation_from_1_19() {
    let cloud = Cloud::new().await;
    let client = cloud.latest();
    let provider = client.provider(1, None).await;
    let path = format!("/resource_providers/{provider}/aggregates");
    let old = cloud.at(18).put(&path, &json!([id(100)])).await.is(200);
    assert_eq!(old, json!({"aggregates": [id(100)]}));
    assert_eq!(client.generation(&provider).await, 0);
    let body = json!({"resource_provider_generation": 0, "aggregates": [id(101)]});
    let new = client.put(&path, &body).await.is(200);
    assert_eq!(new, json!({"aggregates": [id(101)], "resource_provider_generation": 1}));
    assert_eq!(client.put(&path, &body).await.code(409), "placement.concurrent_update");
    cloud.at(0).get(&path).await.is(404);
}
