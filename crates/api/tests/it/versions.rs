//! Microversions: what is asked for, what is served, and what the headers say.

use api::json;

use crate::toy::{COMPUTE, NETWORK, PLACEMENT, Stage};

#[tokio::test]
async fn compute_names_the_version_in_both_headers() {
    let stage = Stage::<COMPUTE>::bare();
    let got = stage.get("/v2.1/whoami").await;
    got.is(200);
    assert_eq!(got.header("openstack-api-version"), "compute 2.1");
    assert_eq!(got.header("x-openstack-nova-api-version"), "2.1");
    assert_eq!(got.all("vary"), ["OpenStack-API-Version", "X-OpenStack-Nova-API-Version"]);
    assert_eq!(got.header("x-compute-request-id"), got.header("x-openstack-request-id"));

    let got = stage.ask("GET", "/v2.1/whoami").header("x-openstack-nova-api-version", "latest").send().await;
    assert_eq!(got.header("openstack-api-version"), "compute 2.104");
}

#[tokio::test]
async fn refusals_name_the_version_too() {
    let stage = Stage::<COMPUTE>::bare();
    let asking = stage.ask("POST", "/v2.1/widgets").header("openstack-api-version", "compute 2.37");
    let got = asking.json(&json!({"widget": {}})).send().await;
    let words = "Invalid input for field/attribute widget. Value: {}. 'name' is a required property";
    assert_eq!(got.is(400)["badRequest"]["message"], words);
    assert_eq!(got.header("openstack-api-version"), "compute 2.37");
    assert_eq!(got.header("content-type"), "application/json; charset=UTF-8");
}

#[tokio::test]
async fn a_version_out_of_range_is_refused_with_the_range() {
    let stage = Stage::<COMPUTE>::bare();
    let got = stage.ask("GET", "/v2.1/whoami").header("openstack-api-version", "compute 2.9999").send().await;
    let words = "Version 2.9999 is not supported by the API. Minimum is 2.1 and maximum is 2.104.";
    assert_eq!(got.is(406), json!({"computeFault": {"code": 406, "message": words}}));
    assert_eq!(got.header("openstack-api-version"), "compute 2.9999");

    let stage = Stage::<PLACEMENT>::bare();
    let got = stage.ask("GET", "/whoami").header("openstack-api-version", "placement 1.999").send().await;
    let error = &got.is(406)["errors"][0];
    assert_eq!((&error["max_version"], &error["min_version"]), (&json!("1.39"), &json!("1.0")));
    assert_eq!(error.get("code"), None);
    assert_eq!(got.header("openstack-api-version"), "");
}

#[tokio::test]
async fn a_version_that_cannot_be_read_is_refused() {
    let stage = Stage::<COMPUTE>::bare();
    let got = stage.ask("GET", "/v2.1/whoami").header("x-openstack-nova-api-version", "abc").send().await;
    let words = "API Version String abc is of invalid format. Must be of format MajorNum.MinorNum.";
    assert_eq!(got.is(400), json!({"badRequest": {"code": 400, "message": words}}));
    assert_eq!(got.header("openstack-api-version"), "");

    let stage = Stage::<PLACEMENT>::bare();
    let got = stage.ask("GET", "/whoami").header("openstack-api-version", "placement abc").send().await;
    let detail = got.is(400)["errors"][0]["detail"].to_string();
    assert!(detail.contains("Invalid microversion: invalid version string: abc"), "{detail}");
}

#[tokio::test]
async fn an_operation_of_later_versions_is_not_there_before() {
    let stage = Stage::<COMPUTE>::bare();
    let at = |version: &str| stage.ask("GET", "/v2.1/newer").header("openstack-api-version", version).send();
    let got = at("compute 2.9").await;
    assert_eq!(got.is(404)["itemNotFound"]["code"], 404);
    assert_eq!(got.header("openstack-api-version"), "compute 2.9");
    at("compute 2.10").await.is(204);

    let stage = Stage::<PLACEMENT>::bare();
    let got = stage.ask("GET", "/newer").header("openstack-api-version", "placement 1.5").send().await;
    assert_eq!(got.is(404)["errors"][0]["detail"], "The resource could not be found.\n\n   ");
    assert_eq!(got.header("vary"), "openstack-api-version");
}

#[tokio::test]
async fn the_older_compute_api_knows_no_microversions() {
    let stage = Stage::<COMPUTE>::bare();
    let got = stage.ask("GET", "/v2/newer").header("openstack-api-version", "compute 2.50").send().await;
    got.is(404);
    assert_eq!(got.header("openstack-api-version"), "");
    assert_eq!(got.all("vary"), [""; 0]);
    stage.get("/v2/whoami").await.is(200);
}

#[tokio::test]
async fn a_token_is_looked_at_before_the_version() {
    let stage = Stage::<COMPUTE>::bare();
    let asking = stage.ask("GET", "/v2.1/whoami").token("nonsense").header("openstack-api-version", "compute 9.9");
    asking.send().await.is(401);
}

#[tokio::test]
async fn services_without_microversions_have_no_such_headers() {
    let stage = Stage::<NETWORK>::bare();
    let got = stage.ask("GET", "/v2.0/whoami").header("openstack-api-version", "network 9.9").send().await;
    got.is(200);
    assert_eq!(got.header("openstack-api-version"), "");
}
