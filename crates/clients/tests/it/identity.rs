//! Validating tokens at an identity service elsewhere.

use std::sync::Arc;

use api::{AuthError, Authenticator};
use clients::Account;
use clients::identity::RemoteIdentity;

use crate::stand_in::{Identity, login};

/// As the binary wires it: the door asks with an account that itself goes through the door.
fn door(identity: &Arc<Identity>) -> (Arc<RemoteIdentity>, Arc<Account>) {
    let door = Arc::new(RemoteIdentity::new(identity.clone(), "http://controller:5000/v3"));
    let account = Arc::new(Account::new(identity.clone(), door.clone(), login()));
    door.ask_as(account.clone());
    (door, account)
}

#[tokio::test]
async fn a_token_is_turned_into_its_bearer() {
    let identity = Identity::new();
    let (door, _) = door(&identity);
    let caller = door.authenticate("alice").await.unwrap();
    assert_eq!((caller.user_id.as_str(), caller.project()), ("alice", "p1"));
    assert!(caller.has_role("Member") && !caller.unrestricted);
    let rules = caller.access_rules.as_ref().unwrap();
    assert!(rules[0].fits("compute", "GET", "/v2.1/servers"));
}

#[tokio::test]
async fn an_answer_is_believed_for_a_moment() {
    let identity = Identity::new();
    let (door, _) = door(&identity);
    for _ in 0..10 {
        door.authenticate("alice").await.unwrap();
    }
    assert_eq!(identity.questions(), 1);
}

#[tokio::test]
async fn a_bad_token_is_invalid_and_costs_the_service_user_nothing() {
    let identity = Identity::new();
    let (door, _) = door(&identity);
    for _ in 0..3 {
        assert!(matches!(door.authenticate("nobody").await, Err(AuthError::Invalid)));
    }
    assert_eq!(identity.log_ins(), 1);
}

#[tokio::test]
async fn an_expired_token_of_the_service_user_is_not_blamed_on_others() {
    let identity = Identity::new();
    let (door, account) = door(&identity);
    account.token().await.unwrap();
    identity.revoke("service-1");
    assert_eq!(door.authenticate("alice").await.unwrap().user_id, "alice");
    assert_eq!(identity.log_ins(), 2);
}

#[tokio::test]
async fn a_service_user_who_is_refused_for_good_makes_identity_unreachable_not_tokens_invalid() {
    for status in [401, 403, 500, 503] {
        let identity = Identity::new();
        identity.answer(status);
        let (door, _) = door(&identity);
        let answer = door.authenticate("alice").await;
        assert!(matches!(answer, Err(AuthError::Unreachable(_))), "{status}: {answer:?}");
    }
}

#[tokio::test]
async fn the_account_behind_the_door_may_go_through_it() {
    let identity = Identity::new();
    let (_, account) = door(&identity);
    assert_eq!(account.caller().await.unwrap().user_id, "service-1");
    identity.revoke("service-1");
    account.forget().await;
    assert_eq!(account.caller().await.unwrap().user_id, "service-2");
}

#[tokio::test]
async fn many_tokens_at_once_do_not_wait_for_each_other_forever() {
    let identity = Identity::new();
    let (door, account) = door(&identity);
    let mut asking = tokio::task::JoinSet::new();
    for place in 0..50 {
        let (door, account) = (door.clone(), account.clone());
        asking.spawn(async move {
            match place % 3 {
                0 => door.authenticate("alice").await.is_ok(),
                1 => door.authenticate("nobody").await.is_err(),
                _ => account.caller().await.is_ok(),
            }
        });
    }
    assert_eq!(asking.join_all().await, vec![true; 50]);
}
