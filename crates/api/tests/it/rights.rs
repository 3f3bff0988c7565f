//! Who asks, what they may, and what they are told when they may not or when we fail.

use std::sync::Arc;

use api::{Caller, Endpoint, Method, Request, json};

use crate::toy::{BLUE, COMPUTE, Got, IDENTITY, IMAGE, NETWORK, PLACEMENT, Stage};

#[tokio::test]
async fn without_a_valid_token_each_service_answers_401_and_names_identity() {
    let middleware = json!({"error": {
        "code": 401, "title": "Unauthorized", "message": "The request you have made requires authentication.",
    }});
    let stage = Stage::<COMPUTE>::bare();
    for asking in
        [stage.ask("GET", "/v2.1/widgets").without("x-auth-token"), stage.ask("GET", "/v2.1/widgets").token("x")]
    {
        let got = asking.send().await;
        assert_eq!(got.is(401), middleware);
        assert_eq!(got.header("www-authenticate"), "Keystone uri=\"http://controller:5000/v3\"");
        assert_eq!(got.header("content-type"), "application/json");
        assert_eq!(got.header("openstack-api-version"), "");
    }
    let got = Stage::<NETWORK>::bare().ask("GET", "/v2.0/widgets").token("x").send().await;
    assert_eq!(got.is(401), middleware);
    let got = Stage::<PLACEMENT>::bare().ask("GET", "/widgets").token("x").send().await;
    assert_eq!(got.is(401), middleware);
    let got = Stage::<IDENTITY>::bare().ask("GET", "/v3/widgets").token("x").send().await;
    assert_eq!(got.is(401), middleware);
    let got = Stage::<IMAGE>::bare().ask("GET", "/v2/widgets").token("x").send().await;
    assert_eq!(got.is(401)["code"], "401 Unauthorized");
}

#[tokio::test]
async fn a_denied_rule_is_told_in_the_words_of_each_service() {
    let body = json!({"widget": {"name": "w"}});
    let got = Stage::<COMPUTE>::bare().ask("POST", "/v2.1/widgets").token("reader").json(&body).send().await;
    let words = "Policy doesn't allow widgets:create to be performed.";
    assert_eq!(got.is(403), json!({"forbidden": {"code": 403, "message": words}}));

    let got = Stage::<NETWORK>::bare().ask("POST", "/v2.0/widgets").token("reader").json(&body).send().await;
    assert_eq!(got.is(403)["NeutronError"]["type"], "PolicyNotAuthorized");
    let got = Stage::<IDENTITY>::bare().ask("POST", "/v3/widgets").token("reader").json(&body).send().await;
    let words = "You are not authorized to perform the requested action: widgets:create.";
    assert_eq!(got.is(403)["error"]["message"], words);
    let got = Stage::<IMAGE>::bare().ask("POST", "/v2/widgets").token("reader").json(&body).send().await;
    assert_eq!(got.is(403)["title"], "Forbidden");
    let got = Stage::<PLACEMENT>::bare().ask("POST", "/widgets").token("reader").json(&body).send().await;
    let words = "Access was denied to this resource.\n\n Policy does not allow widgets:create to be performed.  ";
    assert_eq!(got.is(403)["errors"][0]["detail"], words);
}

#[tokio::test]
async fn other_peoples_things_are_hidden_where_the_handler_says_so() {
    let stage = Stage::<COMPUTE>::with_widgets(&["a"]).await;
    stage.get("/v2.1/widgets/id-a").await.is(200);
    let got = stage.ask("GET", "/v2.1/widgets/id-a").token("bob").send().await;
    assert_eq!(got.is(404)["itemNotFound"]["message"], "No widget id-a.");
}

#[tokio::test]
async fn a_service_passes_a_users_request_on_with_a_token_of_its_own() {
    let stage = Stage::<COMPUTE>::bare();
    let seen = stage.ask("GET", "/v2.1/whoami").header("x-service-token", "nova").send().await.is(200);
    assert_eq!((&seen["user"], &seen["service_roles"]), (&json!("alice"), &json!(["service"])));
    stage.ask("GET", "/v2.1/whoami").header("x-service-token", "nonsense").send().await.is(401);
}

#[tokio::test]
async fn a_limited_credential_is_good_for_its_calls_only() {
    let stage = Stage::<COMPUTE>::bare();
    let limited = |path: &str| stage.ask("GET", path).token("limited");
    limited("/v2.1/whoami").send().await.is(200);
    limited("/v2.1/newer").send().await.is(401);
    // What it may begin, a service may carry on; but not somebody who only has a second token.
    limited("/v2.1/echo/a/b").header("x-service-token", "nova").send().await.is(200);
    limited("/v2.1/echo/a/b").header("x-service-token", "bob").send().await.is(401);
}

#[tokio::test]
async fn a_caller_of_the_same_process_needs_no_token() {
    let stage = Stage::<COMPUTE>::bare();
    let caller = Caller { user_id: "inside".into(), project_id: Some(BLUE.into()), ..Caller::default() };
    let request = Request { caller: Some(Arc::new(caller)), ..Request::new(Method::GET, "/v2.1/whoami") };
    let seen = Got::read(stage.app.call(request).await).await.is(200);
    assert_eq!(seen["user"], "inside");
}

#[tokio::test]
async fn when_identity_is_away_the_answer_is_503_and_not_401() {
    let stage = Stage::<COMPUTE>::bare();
    let got = stage.ask("GET", "/v2.1/whoami").token("nobody-answers").send().await;
    assert_eq!(got.is(503)["serviceUnavailable"]["code"], 503);
}

#[tokio::test]
async fn a_panic_is_an_answer_in_the_shape_of_its_service() {
    let stage = Stage::<COMPUTE>::bare();
    let got = stage.get("/v2.1/panic").await;
    let message = got.is(500)["computeFault"]["message"].to_string();
    assert!(message.contains("Unexpected API Error") && !message.contains("on purpose"), "{message}");
    assert!(got.header("x-openstack-request-id").starts_with("req-"));
    let got = stage.get("/broken-document").await;
    assert_eq!(got.is(500)["computeFault"]["code"], 500);

    let got = Stage::<NETWORK>::bare().get("/v2.0/panic").await;
    assert_eq!(got.is(500)["NeutronError"]["type"], "HTTPInternalServerError");
}

#[tokio::test]
async fn a_handler_that_forgets_its_rule_gives_nothing_away() {
    let got = Stage::<COMPUTE>::bare().get("/v2.1/forgetful").await;
    got.is(500);
    assert!(!got.text.contains("secret"));
}

#[tokio::test]
async fn a_request_has_an_id_and_keeps_the_one_it_came_with() {
    let stage = Stage::<COMPUTE>::bare();
    let got = stage.get("/v2.1/whoami").await;
    let seen = got.is(200);
    assert_eq!(seen["request"], got.header("x-openstack-request-id"));
    assert_eq!(seen["lasting"], seen["request"]);

    let came_with = "req-0aa7c2f1-31a5-4a5c-8f0e-2a1f7a6c0b11";
    let got = stage.ask("GET", "/v2.1/whoami").header("x-openstack-request-id", came_with).send().await;
    let seen = got.is(200);
    assert_ne!(seen["request"], came_with);
    assert_eq!(seen["lasting"], came_with);

    // What is no request id does not get into the log.
    let got = stage.ask("GET", "/v2.1/whoami").header("x-openstack-request-id", "req-forged line").send().await;
    let seen = got.is(200);
    assert_eq!(seen["lasting"], seen["request"]);
}
