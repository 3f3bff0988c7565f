//! Who may do what; versions; media types.

use api::{Endpoint, Method, Request, json};

use crate::cloud::{Cloud, id};

#[tokio::test]
async fn every_operation_refuses_a_stranger_and_somebody_without_a_role() {
    let cloud = Cloud::new().await;
    for operation in placement::operations().iter().filter(|operation| !operation.public) {
        assert!(operation.rule.is_some(), "{} {}", operation.method, operation.path);
        let path = operation.path.replace("{uuid}", &id(1)).replace("{consumer_uuid}", &id(1));
        let path = path.replace("{name}", "CUSTOM_A").replace("{resource_class}", "VCPU");
        let minor = if operation.until < api::v(1, 39) { operation.until.1 } else { 39 };
        if operation.path.ends_with("/inventories") && minor == 4 {
            continue;
        }
        let version = format!("1.{minor}");
        let nobody = cloud.client("nobody", &version);
        let body = json!({});
        let body = matches!(operation.method, Method::PUT | Method::POST).then_some(&body);
        nobody.send(operation.method.clone(), &path, body).await.is(403);
        let stranger = cloud.client("stranger", &version);
        stranger.send(operation.method.clone(), &path, body).await.is(401);
    }
}

#[tokio::test]
async fn the_version_document_needs_no_token() {
    let cloud = Cloud::new().await;
    let reply = cloud.app.call(Request::new(Method::GET, "/")).await;
    assert_eq!(reply.status, 200);
    let shown = cloud.at(15).get("/").await;
    assert_eq!(shown.header("openstack-api-version"), Some("placement 1.15"));
    assert_eq!(shown.header("vary"), Some("openstack-api-version"));
    assert_eq!(shown.is(200)["versions"][0]["max_version"], "1.39");
}

#[tokio::test]
async fn only_json_is_taken_and_given() {
    let cloud = Cloud::new().await;
    let request = Request::new(Method::POST, "/resource_providers").header("x-auth-token", "admin");
    let mut request = request.json(&json!({"name": "x"}));
    request.headers.insert("content-type", "text/plain".parse().unwrap());
    assert_eq!(cloud.app.call(request).await.status, 415);
    let request = Request::new(Method::GET, "/resource_providers").header("x-auth-token", "admin");
    assert_eq!(cloud.app.call(request.header("accept", "text/plain")).await.status, 406);
}

#[tokio::test]
async fn refusals_carry_a_code_from_1_23() {
    let cloud = Cloud::new().await;
    for minor in [22, 23] {
        let body = cloud.at(minor).get(&format!("/resource_providers/{}", id(1))).await.is(404);
        assert_eq!(body["errors"][0].get("code").is_some(), minor == 23);
        assert!(body["errors"][0]["request_id"].as_str().unwrap().starts_with("req-"));
    }
}
