//! The client side of a socket: connections are kept, renewed when they have gone stale, and never lost.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use api::client::Remote;
use api::{Content, Endpoint, Json, Method, Reply, Request, json};
use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::toy::{COMPUTE, Got, Stage};

struct Far {
    stage: Stage<COMPUTE>,
    remote: Remote,
    _stop: watch::Sender<bool>,
}

impl Far {
    async fn new() -> Far {
        let stage = Stage::bare();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let stop = watch::Sender::new(false);
        tokio::spawn(api::server::serve(listener, stage.app.clone(), stop.subscribe()));
        Far { stage, remote: Remote::new(&url).unwrap(), _stop: stop }
    }
}

fn alice(method: Method, target: &str) -> Request {
    Request::new(method, target).header("x-auth-token", "alice")
}

#[tokio::test]
async fn a_far_service_answers_like_a_near_one() {
    let far = Far::new().await;
    let target = "/v2.1/echo/a%2Fb/c?x=1&x=%26";
    let near = Got::read(far.stage.app.call(alice(Method::GET, target)).await).await;
    let got = Got::read(far.remote.call(alice(Method::GET, target)).await).await;
    let names = |body: Json| (body["names"].clone(), body["query"].clone());
    assert_eq!(names(got.is(200)), names(near.is(200)));
    assert_eq!(got.header("openstack-api-version"), "compute 2.1");
    let body = json!({"paint": {"color": "red"}});
    let got = Got::read(far.remote.call(alice(Method::POST, "/v2.1/widgets/1/action").json(&body)).await).await;
    assert_eq!(got.is(200)["color"], "red");
    let got = Got::read(far.remote.call(alice(Method::HEAD, "/v2.1/whoami")).await).await;
    assert_eq!((got.status, got.text.as_str()), (200, ""));
}

#[tokio::test]
async fn a_body_arrives_while_it_is_still_being_made() {
    let far = Far::new().await;
    let reply = far.remote.call(alice(Method::GET, "/v2.1/stream")).await;
    let mut chunks = reply.content.chunks();
    assert_eq!(chunks.next().await.unwrap().unwrap(), "first");
    far.stage.app.service().gate.open.notify_one();
    assert_eq!(chunks.next().await.unwrap().unwrap(), "second");
    assert!(chunks.next().await.is_none());
}

#[tokio::test]
async fn a_body_is_sent_while_it_is_still_being_made() {
    let far = Far::new().await;
    let chunks = futures_util::stream::iter((0..100).map(|_| Ok(vec![7; 10_000].into())));
    let content = Content::Chunks { length: None, chunks: Box::pin(chunks) };
    let request = Request { content, ..alice(Method::POST, "/v2.1/upload") };
    let got = Got::read(far.remote.call(request).await).await;
    assert_eq!(got.is(200), json!({"bytes": 1_000_000, "broken": false}));
}

#[tokio::test]
async fn nobody_listening_is_503() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    Got::read(Remote::new(&url).unwrap().call(alice(Method::GET, "/")).await).await.is(503);
}

#[tokio::test]
async fn a_path_that_is_none_is_not_sent_anywhere() {
    let far = Far::new().await;
    Got::read(far.remote.call(alice(Method::DELETE, "/v2.1/wid gets/1")).await).await.is(503);
}

#[test]
fn only_plain_urls_are_taken() {
    for odd in ["https://a", "a:80", "http://", "http:///x", "ftp://a", "http://user:word@host"] {
        assert!(Remote::new(odd).is_err(), "{odd}");
    }
    for fine in ["http://a", "http://a:80/", "http://[::1]:9696/network", "http://[::1]"] {
        assert!(Remote::new(fine).is_ok(), "{fine}");
    }
}

/// A server that answers so many requests on each connection and hangs up at the next one, without a word.
struct Moody {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
}

impl Moody {
    async fn new(answers_each: usize) -> Moody {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (seen, counted) = (connections.clone(), requests.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                seen.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(hold(stream, answers_each, counted.clone()));
            }
        });
        Moody { address, connections, requests }
    }

    fn remote(&self) -> Remote {
        Remote::new(&format!("http://{}", self.address)).unwrap()
    }
}

async fn hold(mut stream: TcpStream, answers: usize, requests: Arc<AtomicUsize>) {
    for served in 0.. {
        let mut text = String::new();
        while !text.ends_with("\r\n\r\n") {
            let mut some = [0; 4096];
            match stream.read(&mut some).await {
                Ok(count @ 1..) => text.push_str(&String::from_utf8_lossy(&some[..count])),
                _ => return,
            }
        }
        requests.fetch_add(1, Ordering::SeqCst);
        if served == answers {
            return;
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
    }
}

async fn text(reply: Reply) -> (u16, String) {
    let got = Got::read(reply).await;
    (got.status, got.text)
}

#[tokio::test]
async fn a_stale_connection_does_not_lose_a_request_that_may_be_sent_twice() {
    let moody = Moody::new(1).await;
    let remote = moody.remote();
    for method in [Method::GET, Method::PUT, Method::DELETE, Method::GET] {
        assert_eq!(text(remote.call(Request::new(method, "/")).await).await, (200, "ok".to_string()));
    }
    assert_eq!(moody.connections.load(Ordering::SeqCst), 4);
    assert_eq!(moody.requests.load(Ordering::SeqCst), 7, "each but the first was sent twice");
}

#[tokio::test]
async fn a_request_that_must_not_be_sent_twice_is_not() {
    let moody = Moody::new(1).await;
    let remote = moody.remote();
    remote.call(Request::new(Method::GET, "/")).await.content.bytes(10).await.unwrap();
    let (status, _) = text(remote.call(Request::new(Method::POST, "/")).await).await;
    assert_eq!(status, 503);
    assert_eq!(moody.requests.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_server_that_always_hangs_up_is_asked_twice_at_most() {
    let moody = Moody::new(0).await;
    let remote = moody.remote();
    assert_eq!(text(remote.call(Request::new(Method::GET, "/")).await).await.0, 503);
    assert_eq!(moody.requests.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn requests_in_turn_share_one_connection() {
    let moody = Moody::new(usize::MAX).await;
    let remote = moody.remote();
    for _ in 0..50 {
        assert_eq!(text(remote.call(Request::new(Method::GET, "/")).await).await.0, 200);
    }
    assert_eq!(moody.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn requests_at_once_keep_only_so_many_connections() {
    let moody = Moody::new(usize::MAX).await;
    let remote = Arc::new(moody.remote());
    for _ in 0..3 {
        let mut asking = tokio::task::JoinSet::new();
        for _ in 0..60 {
            let remote = remote.clone();
            asking.spawn(async move { text(remote.call(Request::new(Method::GET, "/")).await).await.0 });
        }
        assert_eq!(asking.join_all().await, vec![200; 60]);
    }
    let opened = moody.connections.load(Ordering::SeqCst);
    assert!(opened <= 60 + 2 * 28, "{opened} connections for three rounds");
}

#[tokio::test]
async fn an_answer_that_nobody_reads_does_not_block_the_next_request() {
    let far = Far::new().await;
    let unread = far.remote.call(alice(Method::GET, "/v2.1/stream")).await;
    Got::read(far.remote.call(alice(Method::GET, "/v2.1/whoami")).await).await.is(200);
    drop(unread);
    Got::read(far.remote.call(alice(Method::GET, "/v2.1/whoami")).await).await.is(200);
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let remote = Remote::new(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let remote = remote.answer_within(Duration::from_millis(50));
    let (status, words) = text(remote.call(Request::new(Method::GET, "/")).await).await;
    assert_eq!(status, 503);
    assert!(words.contains("did not answer within"), "{words}");
}
