//! Which operation a path means, and what a path that means none is told, service by service.

use api::json;

use crate::toy::{BLUE, COMPUTE, IDENTITY, IMAGE, NETWORK, PLACEMENT, Stage};

#[tokio::test]
async fn a_trailing_slash_changes_nothing() {
    let stage = Stage::<COMPUTE>::bare();
    stage.get("/v2.1/whoami").await.is(200);
    stage.get("/v2.1/whoami/").await.is(200);
    Stage::<PLACEMENT>::bare().get("/whoami/").await.is(200);
}

#[tokio::test]
async fn names_in_a_path_are_decoded_after_it_is_taken_apart() {
    let stage = Stage::<COMPUTE>::bare();
    let seen = stage.get("/v2.1/echo/a%2Fb/%C3%BC%20x?k=1&k=%26&flag").await.is(200);
    assert_eq!(seen["names"], json!(["a/b", "ü x"]));
    assert_eq!(seen["query"], json!([["k", "1"], ["k", "&"], ["flag", ""]]));
}

#[tokio::test]
async fn a_project_may_stand_in_a_path_of_compute_if_it_is_the_callers_own() {
    let stage = Stage::<COMPUTE>::bare();
    let seen = stage.get(&format!("/v2.1/{BLUE}/echo/a/b")).await.is(200);
    assert_eq!(seen["link"], format!("http://localhost/v2.1/{BLUE}/here"));

    let other = "ffffffffffffffffffffffffffffffff";
    let refused = stage.get(&format!("/v2.1/{other}/echo/a/b")).await.is(400);
    let words =
        format!("Malformed request URL: URL's project_id '{other}' doesn't match Context's project_id '{BLUE}'");
    assert_eq!(refused["badRequest"]["message"], words);

    Stage::<NETWORK>::bare().get(&format!("/v2.0/{BLUE}/echo/a/b")).await.is(404);
}

#[tokio::test]
async fn an_unknown_path_is_told_so_in_the_words_of_each_service() {
    let page = json!({"message": "The resource could not be found.<br /><br />\n\n\n", "code": "404 Not Found", "title": "Not Found"});
    let got = Stage::<COMPUTE>::bare().get("/v2.1/nosuch").await;
    assert_eq!(got.is(404), page);
    assert_eq!(got.header("openstack-api-version"), "");
    assert_eq!(got.all("vary"), [""; 0]);
    assert!(got.header("x-compute-request-id").starts_with("req-"));

    let got = Stage::<IMAGE>::bare().get("/v2/nosuch").await;
    assert_eq!(got.is(404), page);

    let got = Stage::<NETWORK>::bare().get("/v2.0/nosuch").await;
    let body =
        json!({"NeutronError": {"type": "HTTPNotFound", "message": "The resource could not be found.", "detail": ""}});
    assert_eq!(got.is(404), body);

    let got =
        Stage::<PLACEMENT>::bare().ask("GET", "/nosuch").header("openstack-api-version", "placement 1.36").send().await;
    let body = got.is(404);
    assert_eq!(body["errors"][0]["detail"], "The resource could not be found.\n\n   ");
    assert_eq!(body["errors"][0]["code"], "placement.undefined_code");
    assert_eq!(got.header("openstack-api-version"), "placement 1.36");

    let got = Stage::<IDENTITY>::bare().ask("GET", "/v3/nosuch").without("x-auth-token").send().await;
    got.is(404);
    assert_eq!(got.header("content-type"), "text/html; charset=utf-8");
    assert_eq!(got.header("vary"), "X-Auth-Token");
}

#[tokio::test]
async fn without_a_token_most_services_do_not_say_which_paths_they_know() {
    Stage::<COMPUTE>::bare().ask("GET", "/v2.1/nosuch").without("x-auth-token").send().await.is(401);
    Stage::<NETWORK>::bare().ask("PATCH", "/v2.0/widgets").without("x-auth-token").send().await.is(401);
}

#[tokio::test]
async fn a_method_that_a_path_lacks_is_refused_in_the_words_of_each_service() {
    Stage::<COMPUTE>::bare().ask("PUT", "/v2.1/widgets").send().await.is(404);

    let got = Stage::<NETWORK>::bare().ask("PATCH", "/v2.0/widgets").send().await;
    let words = "The server could not comply with the request since it is either malformed or otherwise incorrect.";
    assert_eq!(got.is(405), json!({"NeutronError": {"type": "HTTPMethodNotAllowed", "message": words, "detail": ""}}));

    let got = Stage::<PLACEMENT>::bare().ask("PUT", "/widgets").send().await;
    let words =
        "The method PUT is not allowed for this resource. \n\n The method specified is not allowed for this resource.";
    assert_eq!(got.is(405)["errors"][0]["detail"], words);
    assert_eq!(got.header("allow"), "GET, POST");

    let got = Stage::<IDENTITY>::bare().ask("DELETE", "/v3/widgets").without("x-auth-token").send().await;
    assert_eq!(got.is(405), json!({"message": "The method is not allowed for the requested URL."}));
    assert_eq!(got.header("allow"), "GET, POST, HEAD, OPTIONS");

    let got = Stage::<IMAGE>::bare().ask("DELETE", "/v2/widgets").send().await;
    got.is(405);
    assert_eq!(got.header("allow"), "GET, POST");
}

#[tokio::test]
async fn identity_tells_what_a_path_allows() {
    let got = Stage::<IDENTITY>::bare().ask("OPTIONS", "/v3/widgets").without("x-auth-token").send().await;
    got.is(200);
    assert_eq!(got.header("allow"), "GET, POST, HEAD, OPTIONS");
    assert_eq!(got.text, "");
}

#[tokio::test]
async fn head_is_get_without_the_body_where_upstream_has_it() {
    let stage = Stage::<IDENTITY>::bare();
    let got = stage.get("/v3/whoami").await;
    let head = stage.ask("HEAD", "/v3/whoami").send().await;
    assert_eq!((head.status, head.text.as_str()), (200, ""));
    assert_eq!(head.header("content-length"), got.text.len().to_string());

    Stage::<COMPUTE>::bare().ask("HEAD", "/v2.1/whoami").send().await.is(200);
    Stage::<PLACEMENT>::bare().ask("HEAD", "/whoami").send().await.is(405);
    Stage::<NETWORK>::bare().ask("HEAD", "/v2.0/whoami").send().await.is(405);
}

#[tokio::test]
async fn what_is_not_there_yet_says_so_in_the_shape_of_its_service() {
    let stage = Stage::<COMPUTE>::bare();
    let words = "/v2.1/gadgets is not implemented yet.";
    assert_eq!(stage.get("/v2.1/gadgets").await.is(501)["notImplemented"]["message"], words);
    stage.ask("HEAD", "/v2.1/gadgets").send().await.is(501);
    stage.ask("DELETE", "/v2.1/widgets/1").send().await.is(501);

    let action = |key: &str| stage.ask("POST", "/v2.1/widgets/1/action").json(&json!({key: null})).send();
    assert_eq!(action("burn").await.is(501)["notImplemented"]["message"], "The action burn is not implemented yet.");
    // An action that is missing elsewhere is unknown here.
    assert_eq!(action("spin").await.is(400)["badRequest"]["message"], "There is no such action: spin");
    stage.ask("POST", "/v2.1/gadgets/1/action").json(&json!({"spin": null})).send().await.is(501);

    assert_eq!(Stage::<IDENTITY>::bare().get("/v3/gadgets").await.is(501)["error"]["code"], 501);
    assert_eq!(Stage::<IMAGE>::bare().get("/v2/gadgets").await.is(501)["code"], "501 Not Implemented");
    let body = Stage::<NETWORK>::bare().get("/v2.0/gadgets").await.is(501);
    assert_eq!(body["NeutronError"]["type"], "HTTPNotImplemented");
    assert_eq!(Stage::<PLACEMENT>::bare().get("/gadgets").await.is(501)["errors"][0]["status"], 501);
}

#[tokio::test]
async fn documents_and_health_need_no_token() {
    let stage = Stage::<COMPUTE>::bare();
    let got = stage.ask("GET", "/").without("x-auth-token").base_url("http://cloud/compute").send().await;
    assert_eq!(got.is(200)["base"], "http://cloud/compute");
    assert_eq!(stage.ask("GET", "/healthcheck").without("x-auth-token").send().await.text, "OK");
}

#[tokio::test]
async fn operations_are_counted_by_name() {
    let stage = Stage::<COMPUTE>::bare();
    stage.get("/v2.1/whoami").await.is(200);
    stage.get("/v2.1/nosuch").await.is(404);
    let text = stage.ask("GET", "/metrics").without("x-auth-token").send().await.text;
    let counted = "ferrostack_request_seconds_count{service=\"compute\",operation=\"GET /whoami\"} 1";
    assert!(text.contains(counted), "{text}");
    assert!(text.contains("operation=\"(unknown)\"}"), "{text}");
    let classed = "ferrostack_requests_total{service=\"compute\",operation=\"(unknown)\",class=\"4xx\"} 1";
    assert!(text.contains(classed), "{text}");
    assert!(text.ends_with("# EOF\n"));
}
