//! Asking another service: whose rights, which words, and what happens to a token that is refused.

use std::sync::Arc;

use api::{
    Answer, Call, Caller, Content, Document, Endpoint, Envelope, Method, NoInput, Policy, Request, Secret, Service,
    Shape, get, json,
};
use clients::{Late, Peer, PeerError, Rights};

use crate::stand_in::{Identity, Other, account};

fn alice() -> Arc<Caller> {
    Arc::new(Caller { user_id: "alice".into(), token: Secret("alice".into()), ..Caller::default() })
}

#[tokio::test]
async fn inside_the_process_rights_go_without_a_token() {
    let identity = Identity::new();
    let other = Other::new(&identity);
    let peer = Peer::local("other", other.clone(), account(&identity)).at_version("other 1.9");
    peer.get(Rights::User(&alice()), "/x").await.unwrap();
    peer.get(Rights::Service, "/x").await.unwrap();
    let asked = other.asked();
    assert_eq!((asked[0].caller.as_deref(), asked[0].token.as_str()), (Some("alice"), ""));
    assert_eq!((asked[1].caller.as_deref(), asked[1].token.as_str()), (Some("service-1"), ""));
    assert_eq!(asked[0].version, "other 1.9");
}

#[tokio::test]
async fn between_processes_rights_are_a_token() {
    let identity = Identity::new();
    let other = Other::new(&identity);
    let peer = Peer::remote("other", other.clone(), account(&identity));
    peer.get(Rights::User(&alice()), "/x").await.unwrap();
    peer.post(Rights::Service, "/x", &json!({"a": 1})).await.unwrap();
    let asked = other.asked();
    assert_eq!((asked[0].caller.as_deref(), asked[0].token.as_str()), (None, "alice"));
    assert_eq!((asked[1].token.as_str(), asked[1].body.as_str()), ("service-1", "{\"a\":1}"));
}

#[tokio::test]
async fn a_refused_service_token_is_fetched_anew_and_the_request_repeated_once() {
    let identity = Identity::new();
    let other = Other::new(&identity);
    let peer = Peer::remote("other", other.clone(), account(&identity));
    peer.get(Rights::Service, "/x").await.unwrap();
    identity.revoke("service-1");
    peer.post(Rights::Service, "/x", &json!({"a": 1})).await.unwrap();
    let tokens: Vec<String> =
        other.asked().into_iter().map(|asked| format!("{} {}", asked.token, asked.body)).collect();
    assert_eq!(tokens, ["service-1 ", "service-1 {\"a\":1}", "service-2 {\"a\":1}"]);
}

#[tokio::test]
async fn a_user_token_that_is_refused_is_not_replaced_by_the_services() {
    let identity = Identity::new();
    identity.revoke("alice");
    let other = Other::new(&identity);
    let peer = Peer::remote("other", other.clone(), account(&identity));
    let error = peer.get(Rights::User(&alice()), "/x").await.unwrap_err();
    assert_eq!((error.status(), other.asked().len(), identity.log_ins()), (401, 1, 0));
}

#[tokio::test]
async fn a_body_that_can_be_read_once_is_sent_once() {
    let identity = Identity::new();
    let other = Other::new(&identity);
    let peer = Peer::remote("other", other.clone(), account(&identity));
    peer.get(Rights::Service, "/x").await.unwrap();
    identity.revoke("service-1");
    let chunks = Box::pin(futures_util::stream::iter([Ok("abc".into())]));
    let content = Content::Chunks { length: None, chunks };
    let request = || Request { content: Content::Empty, ..Request::new(Method::PUT, "/x") };
    let reply = peer.send(Rights::Service, Request { content, ..request() }).await;
    assert_eq!((reply.status.as_u16(), other.asked().len()), (401, 2));
    // The token has been forgotten all the same.
    assert_eq!(peer.send(Rights::Service, request()).await.status, 200);
    assert_eq!(other.asked().len(), 3);
}

#[tokio::test]
async fn a_refusal_and_a_failure_are_two_things_and_keep_their_words() {
    let identity = Identity::new();
    let peer = Peer::local("other", Other::new(&identity), account(&identity));
    let error = peer.get(Rights::Service, "/missing").await.unwrap_err();
    assert!(error.is_missing() && error.message() == "No such thing.", "{error}");
    let error = peer.get(Rights::Service, "/full").await.unwrap_err();
    assert!(matches!(&error, PeerError::Refused { status: 409, .. }) && error.message() == "It is full.", "{error}");
    let error = peer.get(Rights::Service, "/broken").await.unwrap_err();
    assert!(matches!(error, PeerError::Failed { status: 500, .. }), "{error}");
}

#[tokio::test]
async fn a_service_that_has_not_started_yet_is_503() {
    let identity = Identity::new();
    let late = Late::new();
    let peer = Peer::local("other", late.clone(), account(&identity));
    assert_eq!(peer.get(Rights::Service, "/x").await.unwrap_err().status(), 503);
    late.set(Other::new(&identity));
    peer.get(Rights::Service, "/x").await.unwrap();
}

/// A service whose only operation asks another service.
struct Between(Peer);

impl Service for Between {
    const SHAPE: Shape =
        Shape { name: "network", envelope: Envelope::Network, versions: None, mounts: &[""], project_in_path: false };
}

async fn pass_on(call: Call<Between>, _: NoInput) -> Answer<Document> {
    let answer = call.0.get(Rights::User(&call.caller), "/x").await.unwrap();
    Ok(Document::new(call.allow()?, answer))
}

#[tokio::test]
async fn a_request_id_goes_along_from_service_to_service() {
    let identity = Identity::new();
    let other = Other::new(&identity);
    let between = Arc::new(Between(Peer::local("other", other.clone(), account(&identity))));
    let policy = Policy::new("", None).unwrap();
    let app = api::App::new(between, vec![get("/pass", pass_on).open()], "", policy, identity);
    let request = || Request::new(Method::GET, "/pass").header("x-auth-token", "alice");
    let reply = app.call(request()).await;
    assert_eq!(other.asked()[0].request_id, reply.headers["x-openstack-request-id"].to_str().unwrap());

    let users = "req-2b5f6c1e-7a3d-4b1c-9a8e-5d4c3b2a1f00";
    app.call(request().header("x-openstack-request-id", users)).await;
    assert_eq!(other.asked()[1].request_id, users);
}
