//! What comes from outside is bounded: sizes, depths, numbers.

use std::time::{Duration, Instant};

use api::json;

use crate::toy::{COMPUTE, IMAGE, Stage};

#[tokio::test]
async fn a_json_body_has_a_greatest_size() {
    let stage = Stage::<COMPUTE>::bare();
    let body = json!({"widget": {"name": "x".repeat(api::limits::JSON_BODY_BYTES)}});
    let got = stage.ask("POST", "/v2.1/widgets").json(&body).send().await;
    assert_eq!(got.is(413)["overLimit"]["code"], 413);
    let got = stage.ask("POST", "/v2.1/widgets/1/action").json(&body).send().await;
    got.is(413);
    Stage::<IMAGE>::bare().ask("POST", "/v2/widgets").json(&body).send().await.is(413);
}

#[tokio::test]
async fn an_upload_has_no_greatest_size() {
    let stage = Stage::<COMPUTE>::bare();
    let size = api::limits::JSON_BODY_BYTES + 1;
    let got = stage.ask("POST", "/v2.1/upload").body(vec![0; size]).send().await;
    assert_eq!(got.is(200)["bytes"], size);
}

#[tokio::test]
async fn json_has_a_greatest_depth() {
    let stage = Stage::<COMPUTE>::bare();
    let deep = |levels: usize| format!("{{\"widget\": {}1{}}}", "[".repeat(levels), "]".repeat(levels));
    let got = stage.ask("POST", "/v2.1/widgets").body(deep(100_000)).send().await;
    assert_eq!(got.is(400)["badRequest"]["message"], "Malformed request body");
    let action = format!("{{\"paint\": {}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    stage.ask("POST", "/v2.1/widgets/1/action").body(action).send().await.is(400);
}

#[tokio::test]
async fn a_query_has_a_greatest_number_of_parameters() {
    let stage = Stage::<COMPUTE>::bare();
    let query = |pairs: usize| vec!["a=1"; pairs].join("&");
    stage.get(&format!("/v2.1/echo/a/b?{}", query(api::limits::QUERY_PAIRS))).await.is(200);
    stage.get(&format!("/v2.1/echo/a/b?{}", query(api::limits::QUERY_PAIRS + 1))).await.is(400);
}

#[tokio::test]
async fn a_list_without_repetitions_is_checked_in_little_time() {
    let stage = Stage::<COMPUTE>::bare();
    let labels: Vec<u32> = (0..400_000).chain(std::iter::once(0)).collect();
    let started = Instant::now();
    let body = json!({"widget": {"name": "w", "labels": labels}});
    let got = stage.ask("POST", "/v2.1/widgets").json(&body).send().await;
    assert!(got.is(400)["badRequest"]["message"].to_string().contains("has non-unique elements"));
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}
