//! The service user's token: fetched once, renewed in time, forgotten when it is refused.

use crate::stand_in::{Identity, account};

#[tokio::test]
async fn a_token_is_fetched_once_for_everybody_who_waits() {
    let identity = Identity::new();
    let account = account(&identity);
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let account = account.clone();
        waiting.spawn(async move { account.token().await.unwrap().0 });
    }
    assert_eq!(waiting.join_all().await, vec!["service-1"; 20]);
    assert_eq!(identity.log_ins(), 1);
}

#[tokio::test]
async fn a_token_that_is_about_to_expire_is_renewed() {
    let identity = Identity::new();
    identity.lifetime(60);
    let account = account(&identity);
    assert_eq!(account.token().await.unwrap().0, "service-1");
    identity.lifetime(3600);
    assert_eq!(account.token().await.unwrap().0, "service-2");
    assert_eq!(account.token().await.unwrap().0, "service-2");
}

#[tokio::test]
async fn a_revoked_token_is_replaced_when_its_rights_are_asked_for() {
    let identity = Identity::new();
    let account = account(&identity);
    assert_eq!(account.caller().await.unwrap().user_id, "service-1");
    identity.revoke("service-1");
    assert_eq!(account.caller().await.unwrap().user_id, "service-2");
}

#[tokio::test]
async fn a_late_refusal_does_not_cost_the_newer_token() {
    let identity = Identity::new();
    let account = account(&identity);
    let old = account.token().await.unwrap();
    account.refused(&old).await;
    let newer = account.token().await.unwrap();
    account.refused(&old).await;
    assert_eq!(account.token().await.unwrap().0, newer.0);
    assert_eq!(identity.log_ins(), 2);
}

#[test]
fn a_password_does_not_get_into_a_log() {
    assert!(!format!("{:?}", crate::stand_in::login()).contains("s3kr1t"));
}
