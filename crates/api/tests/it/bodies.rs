//! Bodies: what cannot be read, what does not fit, and which action is meant.

use api::{Json, json};

use crate::toy::{COMPUTE, IDENTITY, IMAGE, NETWORK, PLACEMENT, Stage};

#[tokio::test]
async fn what_is_no_json_is_refused_in_the_words_of_each_service() {
    let got = Stage::<COMPUTE>::bare().ask("POST", "/v2.1/widgets").body("{x").send().await;
    assert_eq!(got.is(400)["badRequest"]["message"], "Malformed request body");
    let got = Stage::<NETWORK>::bare().ask("POST", "/v2.0/widgets").body("{x").send().await;
    let body =
        json!({"NeutronError": {"type": "HTTPBadRequest", "message": "Body contains invalid data", "detail": ""}});
    assert_eq!(got.is(400), body);
    let got = Stage::<IMAGE>::bare().ask("POST", "/v2/widgets").body("{x").send().await;
    assert_eq!(got.is(400)["message"], "Malformed JSON in request body.<br /><br />\n\n\n");
    let got = Stage::<IDENTITY>::bare().ask("POST", "/v3/widgets").body("{x").send().await;
    assert!(got.is(400)["error"]["message"].to_string().contains("Expecting to find valid JSON in request body."));
    let got = Stage::<PLACEMENT>::bare().ask("POST", "/widgets").body("{x").send().await;
    assert!(got.is(400)["errors"][0]["detail"].to_string().contains("Malformed JSON"));
}

#[tokio::test]
async fn a_body_that_does_not_fit_is_refused_in_the_words_of_each_service() {
    let body = json!({"widget": {"name": 5}});
    let got = Stage::<COMPUTE>::bare().ask("POST", "/v2.1/widgets").json(&body).send().await;
    let words = "Invalid input for field/attribute name. Value: 5. 5 is not of type 'string'";
    assert_eq!(got.is(400)["badRequest"]["message"], words);
    let got = Stage::<IDENTITY>::bare().ask("POST", "/v3/widgets").json(&body).send().await;
    assert_eq!(got.is(400)["error"]["message"], words);
    let got = Stage::<PLACEMENT>::bare().ask("POST", "/widgets").json(&body).send().await;
    assert!(got.is(400)["errors"][0]["detail"].to_string().contains("JSON does not validate: 5 is not of type"));
    let got = Stage::<IDENTITY>::bare().ask("POST", "/v3/widgets").json(&json!({"name": "x"})).send().await;
    assert_eq!(got.is(400)["error"]["message"], "'widget' is a required property");
    for odd in [json!(null), json!([]), json!("widget"), json!({"widget": []}), json!({"widget": null})] {
        Stage::<COMPUTE>::bare().ask("POST", "/v2.1/widgets").json(&odd).send().await.is(400);
    }
}

#[tokio::test]
async fn an_action_is_chosen_by_the_only_key_of_the_body() {
    let stage = Stage::<COMPUTE>::bare();
    let act = |body: Json| stage.ask("POST", "/v2.1/widgets/7/action").json(&body).send();
    assert_eq!(act(json!({"paint": {"color": "red"}})).await.is(200), json!({"painted": "7", "color": "red"}));
    let words = "Invalid input for field/attribute color. Value: 1. 1 is not of type 'string'";
    assert_eq!(act(json!({"paint": {"color": 1}})).await.is(400)["badRequest"]["message"], words);
    assert_eq!(act(json!({"fly": {}})).await.is(400)["badRequest"]["message"], "There is no such action: fly");
    for odd in [json!({}), json!([]), json!(null), json!({"paint": {}, "sink": {}})] {
        assert_eq!(act(odd).await.is(400)["badRequest"]["message"], "Malformed request body");
    }
    stage.ask("POST", "/v2.1/widgets/7/action").send().await.is(400);
}

#[tokio::test]
async fn an_action_of_later_versions_is_not_there_before() {
    let stage = Stage::<COMPUTE>::bare();
    let sink = |version: &str| {
        let asking = stage.ask("POST", "/v2.1/widgets/7/action").header("openstack-api-version", version);
        asking.json(&json!({"sink": null})).send()
    };
    assert_eq!(sink("compute 2.4").await.is(404)["itemNotFound"]["code"], 404);
    sink("compute 2.5").await.is(204);
}

#[tokio::test]
async fn a_nul_is_refused_wherever_it_hides() {
    let stage = Stage::<COMPUTE>::with_widgets(&[]).await;
    let words = |field: &str| format!("Invalid input for field/attribute {field}.");
    for (body, field) in [
        (json!({"widget": {"name": "a\0b"}}), "name"),
        (json!({"widget": {"name": "a", "notes": {"deep": ["x", "a\0b"]}}}), "1"),
        (json!({"widget": {"name": "a", "notes": {"a\0b": 1}}}), "notes"),
    ] {
        let got = stage.ask("POST", "/v2.1/widgets").json(&body).send().await;
        let message = got.is(400)["badRequest"]["message"].as_str().unwrap().to_string();
        assert!(message.starts_with(&words(field)), "{message}");
    }
    // Five letters after a backslash are no NUL when the backslash stands for itself.
    let fine = r#"{"widget": {"name": "C:\\u0000"}}"#;
    stage.ask("POST", "/v2.1/widgets").body(fine).send().await.is(201);
    stage.get("/v2.1/widgets/a%00b").await.is(404);
    stage.get("/v2.1/widgets?name=a%00b").await.is(400);
    Stage::<NETWORK>::bare().get("/v2.0/widgets?na%00me=b").await.is(400);
}

#[tokio::test]
async fn the_last_of_equal_keys_counts() {
    let stage = Stage::<COMPUTE>::with_widgets(&[]).await;
    let body = r#"{"widget": {"name": "first", "name": "last"}}"#;
    let got = stage.ask("POST", "/v2.1/widgets").body(body).send().await;
    assert_eq!(got.is(201)["widget"]["name"], "last");
}
