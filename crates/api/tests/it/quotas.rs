//! Quotas hold, also when everybody asks at once.

use api::{Endpoint, Method, Request, json};
use db::sql;

use crate::toy::{BLUE, COMPUTE, Got, Stage};

#[tokio::test]
async fn a_full_quota_is_refused_and_says_how_full() {
    let stage = Stage::<COMPUTE>::new().await;
    let create = || stage.ask("POST", "/v2.1/widgets").json(&json!({"widget": {"name": "w"}})).send();
    for _ in 0..5 {
        create().await.is(201);
    }
    let words = "Quota exceeded for widgets: Requested 1, but already used 5 of 5 widgets";
    assert_eq!(create().await.is(403)["forbidden"]["message"], words);
    // Another project's is its own.
    let bob = stage.ask("POST", "/v2.1/widgets").token("bob").json(&json!({"widget": {"name": "w"}}));
    bob.send().await.is(201);
}

#[tokio::test]
async fn a_projects_own_limit_counts_more_than_the_default_of_all() {
    let stage = Stage::<COMPUTE>::new().await;
    stage.set_quota("default", 1).await;
    stage.set_quota(BLUE, -1).await;
    for _ in 0..7 {
        stage.ask("POST", "/v2.1/widgets").json(&json!({"widget": {"name": "w"}})).send().await.is(201);
    }
    let bob = || stage.ask("POST", "/v2.1/widgets").token("bob").json(&json!({"widget": {"name": "w"}})).send();
    bob().await.is(201);
    bob().await.is(403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_last_places_go_to_as_many_as_there_are() {
    let stage = Stage::<COMPUTE>::new().await;
    let mut asking = tokio::task::JoinSet::new();
    for place in 0..40 {
        let app = stage.app.clone();
        asking.spawn(async move {
            let body = json!({"widget": {"name": format!("w{place}")}});
            let request = Request::new(Method::POST, "/v2.1/widgets").json(&body).header("x-auth-token", "alice");
            Got::read(app.call(request).await).await.status
        });
    }
    let mut answers = asking.join_all().await;
    answers.sort_unstable();
    assert_eq!(answers[..5], [201; 5], "{answers:?}");
    assert_eq!(answers[5..], [403; 35], "{answers:?}");
    assert_eq!(stage.db().count(sql("SELECT COUNT(*) FROM widgets")).await.unwrap(), 5);
}
