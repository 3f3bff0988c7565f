//! Services, endpoints, regions, and what clients see of them.

use api::json;

use crate::cloud::Cloud;

#[tokio::test]
async fn regions_form_trees_and_stay_while_they_are_used() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin().await;
    let made = admin.send(api::Method::PUT, "/v3/regions/east", Some(&json!({"region": {"description": "e"}}))).await;
    assert_eq!(made.ok(201)["region"]["id"], "east");
    admin.make("/v3/regions", "region", json!({"id": "town", "parent_region_id": "east"})).await;
    admin.post("/v3/regions", &json!({"region": {"id": "town"}})).await.refused(409);
    let listed = admin.get("/v3/regions?parent_region_id=east").await.ok(200);
    assert_eq!(listed["regions"][0]["id"], "town");
    admin.patch("/v3/regions/east", &json!({"region": {"parent_region_id": "town"}})).await.refused(400);
    admin.delete("/v3/regions/RegionOne").await.refused(403);
    admin.delete("/v3/regions/east").await.ok(204);
    admin.get("/v3/regions/town").await.refused(404);
}

#[tokio::test]
async fn a_service_and_its_endpoints_are_in_the_catalog() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin().await;
    let service = admin.make("/v3/services", "service", json!({"type": "object-store", "name": "swift"})).await;
    let body = json!({"service_id": service, "interface": "public", "region_id": "RegionOne",
        "url": "http://c:8080/v1/AUTH_%(project_id)s"});
    let endpoint = admin.make("/v3/endpoints", "endpoint", body).await;
    let catalog = admin.get("/v3/auth/catalog").await.ok(200);
    let swift =
        catalog["catalog"].as_array().unwrap().iter().find(|one| one["type"] == "object-store").unwrap().clone();
    let url = swift["endpoints"][0]["url"].as_str().unwrap();
    assert!(url.starts_with("http://c:8080/v1/AUTH_") && !url.contains('%'));

    admin.patch(&format!("/v3/endpoints/{endpoint}"), &json!({"endpoint": {"enabled": false}})).await.ok(200);
    let catalog = admin.get("/v3/auth/catalog").await.ok(200);
    let swift =
        catalog["catalog"].as_array().unwrap().iter().find(|one| one["type"] == "object-store").unwrap().clone();
    assert_eq!(swift["endpoints"], json!([]));
    admin.delete(&format!("/v3/services/{service}")).await.ok(204);
    admin.get(&format!("/v3/endpoints/{endpoint}")).await.refused(404);
}

#[tokio::test]
async fn endpoints_are_checked() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin().await;
    let service = admin.make("/v3/services", "service", json!({"type": "t"})).await;
    let body = |change: api::Json| {
        let mut endpoint = json!({"service_id": service, "interface": "public", "url": "http://x/"});
        endpoint.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        json!({"endpoint": endpoint})
    };
    admin.post("/v3/endpoints", &body(json!({"enabled": "False"}))).await.refused(400);
    admin.post("/v3/endpoints", &body(json!({"interface": "secret"}))).await.refused(400);
    admin.post("/v3/endpoints", &body(json!({"url": "nonsense"}))).await.refused(400);
    admin.post("/v3/endpoints", &body(json!({"service_id": "none"}))).await.refused(400);
    admin.post("/v3/endpoints", &body(json!({"region_id": "none"}))).await.refused(400);
    let made = admin.post("/v3/endpoints", &body(json!({"region": "made"}))).await.ok(201);
    assert_eq!((&made["endpoint"]["region"], &made["endpoint"]["region_id"]), (&json!("made"), &json!("made")));
    admin.get("/v3/regions/made").await.ok(200);
}

#[tokio::test]
async fn a_project_sees_the_endpoints_chosen_for_it() {
    let cloud = Cloud::new().await;
    let alice = cloud.user("alice", "member").await;
    let (admin, client) = (cloud.admin().await, cloud.as_user(&alice).await);
    let endpoints = admin.get("/v3/endpoints?interface=public").await.ok(200);
    let id = endpoints["endpoints"][0]["id"].as_str().unwrap();
    let count = |body: api::Json| body["catalog"][0]["endpoints"].as_array().unwrap().len();
    assert_eq!(count(client.get("/v3/auth/catalog").await.ok(200)), 3);
    let path = format!("/v3/OS-EP-FILTER/projects/{}/endpoints/{id}", alice.project);
    admin.put(&path).await.ok(204);
    admin.head(&path).await.ok(204);
    assert_eq!(count(client.get("/v3/auth/catalog").await.ok(200)), 1);
    let body = json!({"name": "g", "filters": {"interface": "internal"}});
    let group = admin.make("/v3/OS-EP-FILTER/endpoint_groups", "endpoint_group", body).await;
    admin.put(&format!("/v3/OS-EP-FILTER/endpoint_groups/{group}/projects/{}", alice.project)).await.ok(204);
    assert_eq!(count(client.get("/v3/auth/catalog").await.ok(200)), 2);
    admin.delete(&path).await.ok(204);
    admin.delete(&format!("/v3/OS-EP-FILTER/endpoint_groups/{group}")).await.ok(204);
    assert_eq!(count(client.get("/v3/auth/catalog").await.ok(200)), 3);
}

#[tokio::test]
async fn limits_have_registered_defaults() {
    let cloud = Cloud::new().await;
    let alice = cloud.user("alice", "member").await;
    let (admin, client) = (cloud.admin().await, cloud.as_user(&alice).await);
    let service = admin.get("/v3/services").await.ok(200)["services"][0]["id"].clone();
    let limit = json!({"limits": [{"project_id": alice.project, "service_id": service, "resource_name": "cores", "resource_limit": 5}]});
    admin.post("/v3/limits", &limit).await.refused(403);
    let registered =
        json!({"registered_limits": [{"service_id": service, "resource_name": "cores", "default_limit": 10}]});
    let made = admin.post("/v3/registered_limits", &registered).await.ok(201);
    let id = made["registered_limits"][0]["id"].as_str().unwrap();
    admin.post("/v3/registered_limits", &registered).await.refused(409);
    let made = admin.post("/v3/limits", &limit).await.ok(201);
    let own = made["limits"][0]["id"].as_str().unwrap();
    assert_eq!(client.get("/v3/limits").await.ok(200)["limits"][0]["resource_limit"], 5);
    client.get(&format!("/v3/limits/{own}")).await.ok(200);
    client.get("/v3/registered_limits").await.ok(200);
    admin.delete(&format!("/v3/registered_limits/{id}")).await.refused(403);
    let changed = admin.patch(&format!("/v3/limits/{own}"), &json!({"limit": {"resource_limit": 6}})).await.ok(200);
    assert_eq!(changed["limit"]["resource_limit"], 6);
    admin.delete(&format!("/v3/limits/{own}")).await.ok(204);
    admin.delete(&format!("/v3/registered_limits/{id}")).await.ok(204);
    assert_eq!(client.get("/v3/limits/model").await.ok(200)["model"]["name"], "flat");
}

#[tokio::test]
async fn policies_and_options_of_domains_are_kept() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin().await;
    let id = admin.make("/v3/policies", "policy", json!({"blob": "b", "type": "t"})).await;
    let changed = admin.patch(&format!("/v3/policies/{id}"), &json!({"policy": {"type": "u"}})).await.ok(200);
    assert_eq!((&changed["policy"]["type"], &changed["policy"]["blob"]), (&json!("u"), &json!("b")));
    admin.delete(&format!("/v3/policies/{id}")).await.ok(204);

    let domain = admin.make("/v3/domains", "domain", json!({"name": "d"})).await;
    let path = format!("/v3/domains/{domain}/config");
    let config = json!({"config": {"ldap": {"url": "ldap://x", "password": "hidden"}, "identity": {"driver": "ldap"}}});
    let made = admin.send(api::Method::PUT, &path, Some(&config)).await.ok(201);
    assert_eq!(made["config"]["ldap"], json!({"url": "ldap://x"}));
    assert_eq!(admin.get(&format!("{path}/ldap/url")).await.ok(200)["config"], json!({"url": "ldap://x"}));
    let change = json!({"config": {"url": "ldap://y"}});
    admin.patch(&format!("{path}/ldap/url"), &change).await.ok(200);
    assert_eq!(admin.get(&format!("{path}/ldap")).await.ok(200)["config"]["ldap"]["url"], "ldap://y");
    admin.delete(&format!("{path}/ldap")).await.ok(204);
    admin.get(&format!("{path}/ldap")).await.refused(404);
    admin.send(api::Method::PUT, &path, Some(&json!({"config": {"nova": {"x": 1}}}))).await.refused(403);
    let defaults = admin.get("/v3/domains/config/default").await.ok(200);
    assert_eq!(defaults["config"]["identity"]["driver"], "sql");
    admin.get("/v3/domains/config/ldap/default").await.ok(200);
    admin.get("/v3/domains/config/ldap/url/default").await.ok(200);
}
