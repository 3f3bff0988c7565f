//! The socket side: bad requests, slow clients, clients that go away, stopping.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use api::server::{Patience, serve_with};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::toy::{COMPUTE, Stage};

struct Served {
    stage: Stage<COMPUTE>,
    address: SocketAddr,
    stop: watch::Sender<bool>,
    listener: JoinHandle<()>,
}

impl Served {
    async fn new() -> Served {
        Served::with(Patience::default()).await
    }

    /// With little patience.
    async fn hasty() -> Served {
        let short = Duration::from_millis(50);
        Served::with(Patience { header: short, read_pause: short, write_pause: short, drain: short }).await
    }

    async fn with(patience: Patience) -> Served {
        let stage = Stage::bare();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = watch::Sender::new(false);
        let listener = tokio::spawn(serve_with(listener, stage.app.clone(), stop.subscribe(), patience));
        Served { stage, address, stop, listener }
    }

    async fn connect(&self) -> Client {
        Client(TcpStream::connect(self.address).await.unwrap())
    }
}

/// A client that writes its requests by hand.
struct Client(TcpStream);

impl Client {
    async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    /// What comes until the other side closes.
    async fn rest(&mut self) -> String {
        let mut text = Vec::new();
        let _ = self.0.read_to_end(&mut text).await;
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Reads until `wanted` has come.
    async fn until(&mut self, wanted: &str) -> String {
        let mut text = String::new();
        while !text.contains(wanted) {
            let mut some = [0; 4096];
            let count = self.0.read(&mut some).await.unwrap();
            assert!(count > 0, "closed after {text:?}");
            text.push_str(&String::from_utf8_lossy(&some[..count]));
        }
        text
    }
}

const WHOAMI: &str = "GET /v2.1/whoami HTTP/1.1\r\nhost: cloud\r\nx-auth-token: alice\r\n\r\n";

#[tokio::test]
async fn a_connection_carries_one_request_after_another() {
    let served = Served::new().await;
    let mut client = served.connect().await;
    for _ in 0..3 {
        client.send(WHOAMI).await;
        let text = client.until("\"user\":\"alice\"}").await;
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
        assert!(text.contains("x-openstack-request-id: req-"), "{text}");
        assert!(text.contains("content-length: "), "{text}");
    }
}

#[tokio::test]
async fn links_name_the_host_that_the_client_asked_for() {
    let served = Served::new().await;
    let mut client = served.connect().await;
    client.send("GET / HTTP/1.1\r\nhost: cloud.example:8774\r\nconnection: close\r\n\r\n").await;
    assert!(client.rest().await.ends_with("{\"base\":\"http://cloud.example:8774\"}"));
    let mut client = served.connect().await;
    let forwarded = "x-forwarded-proto: https\r\nx-forwarded-host: cloud.example\r\nx-forwarded-prefix: /compute";
    client.send(&format!("GET / HTTP/1.1\r\nhost: inside\r\n{forwarded}\r\nconnection: close\r\n\r\n")).await;
    assert!(client.rest().await.ends_with("{\"base\":\"https://cloud.example/compute\"}"));
}

#[tokio::test]
async fn what_is_too_long_is_refused() {
    let served = Served::new().await;
    let mut client = served.connect().await;
    client.send(&format!("GET /{} HTTP/1.1\r\nhost: c\r\n\r\n", "x".repeat(api::limits::URI_BYTES))).await;
    assert!(client.until("\r\n\r\n").await.starts_with("HTTP/1.1 414 "));

    let mut client = served.connect().await;
    let headers: String = (0..=api::limits::HEADERS).map(|index| format!("h{index}: x\r\n")).collect();
    client.send(&format!("GET / HTTP/1.1\r\nhost: c\r\n{headers}\r\n")).await;
    assert!(client.until("\r\n\r\n").await.starts_with("HTTP/1.1 431 "));

    for times in [1, 3] {
        let mut client = served.connect().await;
        let long = "x".repeat(api::limits::HEADER_BYTES * times);
        let text = format!("GET / HTTP/1.1\r\nhost: c\r\nlong: {long}\r\n\r\n");
        let _ = client.0.write_all(text.as_bytes()).await;
        let _ = client.0.shutdown().await;
        // The answer may be lost, because the server does not read the rest.
        let text = client.rest().await;
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 431 "), "{text}");
    }
}

#[tokio::test]
async fn what_is_no_http_is_refused() {
    let served = Served::new().await;
    let nowhere = "GET nowhere HTTP/1.1\r\nconnection: close\r\n\r\n";
    for odd in ["\u{16}\u{3}\u{1}\r\n\r\n", nowhere, "GET / HTTP/1.1\r\nhost c\r\n\r\n"] {
        let mut client = served.connect().await;
        client.send(odd).await;
        let text = client.rest().await;
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 400 "), "{odd:?} got {text}");
    }
    // A length and chunks at once is how requests are smuggled.
    let mut client = served.connect().await;
    let both = "content-length: 5\r\ntransfer-encoding: chunked";
    client
        .send(&format!(
            "POST /v2.1/upload HTTP/1.1\r\nhost: c\r\nx-auth-token: alice\r\n{both}\r\n\r\n0\r\n\r\n{WHOAMI}"
        ))
        .await;
    client.0.shutdown().await.unwrap();
    let text = client.rest().await;
    assert!(!text.contains("\"bytes\":5"), "{text}");
}

#[tokio::test]
async fn a_client_that_never_ends_its_headers_is_let_go() {
    let served = Served::hasty().await;
    let mut client = served.connect().await;
    client.send("GET / HTTP/1.1\r\nhost: c\r\n").await;
    let text = client.rest().await;
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 408"), "{text}");
}

#[tokio::test]
async fn a_client_that_never_ends_its_body_is_let_go() {
    let served = Served::hasty().await;
    let mut client = served.connect().await;
    let head =
        "POST /v2.1/widgets HTTP/1.1\r\nhost: c\r\nx-auth-token: alice\r\ncontent-length: 100\r\n\r\n{\"widget\"";
    client.send(head).await;
    let text = client.rest().await;
    assert!(text.starts_with("HTTP/1.1 4"), "{text}");

    let mut client = served.connect().await;
    client.send("POST /v2.1/upload HTTP/1.1\r\nhost: c\r\nx-auth-token: alice\r\ncontent-length: 100\r\n\r\nabc").await;
    served.stage.app.service().gate.arrived.notified().await;
    assert!(client.rest().await.contains("{\"broken\":true,\"bytes\":3}"));
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_let_go() {
    let served = Served::hasty().await;
    let mut client = served.connect().await;
    client.send("GET /v2.1/big HTTP/1.1\r\nhost: c\r\nx-auth-token: alice\r\n\r\n").await;
    served.stage.app.service().gate.arrived.notified().await;
    // The connection is the only one, and stopping waits for it: it must have been given up.
    served.stop.send_replace(true);
    served.listener.await.unwrap();
    let mut taken = 0;
    let mut some = vec![0; 1 << 20];
    while let Ok(count @ 1..) = client.0.read(&mut some).await {
        taken += count;
    }
    assert!(taken < 64 << 20, "all of it came");
}

#[tokio::test]
async fn a_request_whose_client_goes_away_is_carried_out_to_its_end() {
    let served = Served::new().await;
    let gate = &served.stage.app.service().gate;
    let mut client = served.connect().await;
    client.send("POST /v2.1/slow HTTP/1.1\r\nhost: c\r\nx-auth-token: alice\r\ncontent-length: 0\r\n\r\n").await;
    gate.arrived.notified().await;
    drop(client);
    // The server has noticed: it answers others meanwhile.
    let mut other = served.connect().await;
    other.send(WHOAMI).await;
    other.until("alice").await;
    gate.open.notify_one();
    gate.arrived.notified().await;
    assert_eq!(gate.finished.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_upload_whose_client_goes_away_is_known_to_be_broken() {
    let served = Served::new().await;
    let gate = &served.stage.app.service().gate;
    let mut client = served.connect().await;
    client.send("PUT /v2.1/upload HTTP/1.1\r\nhost: c\r\nx-auth-token: alice\r\ncontent-length: 9\r\n\r\nabc").await;
    drop(client);
    gate.arrived.notified().await;
    assert_eq!(gate.finished.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_stop_lets_requests_finish_and_takes_no_new_ones() {
    let served = Served::new().await;
    let Served { stage, address, stop, listener } = served;
    let gate = &stage.app.service().gate;
    let mut busy = Client(TcpStream::connect(address).await.unwrap());
    busy.send("POST /v2.1/slow HTTP/1.1\r\nhost: c\r\nx-auth-token: alice\r\ncontent-length: 0\r\n\r\n").await;
    gate.arrived.notified().await;
    let mut idle = Client(TcpStream::connect(address).await.unwrap());
    idle.send(WHOAMI).await;
    idle.until("alice").await;

    stop.send_replace(true);
    assert_eq!(idle.rest().await, "", "an idle connection is closed");
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!listener.is_finished());
    gate.open.notify_one();
    assert!(busy.rest().await.starts_with("HTTP/1.1 204 "));
    listener.await.unwrap();
}

#[tokio::test]
async fn a_stop_does_not_wait_forever() {
    let served = Served::hasty().await;
    let mut busy = served.connect().await;
    busy.send("POST /v2.1/slow HTTP/1.1\r\nhost: c\r\nx-auth-token: alice\r\ncontent-length: 0\r\n\r\n").await;
    served.stage.app.service().gate.arrived.notified().await;
    served.stop.send_replace(true);
    served.listener.await.unwrap();
    assert_eq!(served.stage.app.service().gate.finished.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_panic_in_one_request_leaves_the_others_alone() {
    let served = Served::new().await;
    let mut client = served.connect().await;
    client.send("GET /v2.1/panic HTTP/1.1\r\nhost: c\r\nx-auth-token: alice\r\n\r\n").await;
    assert!(client.until("computeFault").await.starts_with("HTTP/1.1 500 "));
    client.send(WHOAMI).await;
    client.until("\"user\":\"alice\"}").await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_a_while() {
    let served = Served::hasty().await;
    let mut client = served.connect().await;
    client.send(WHOAMI).await;
    client.until("alice").await;
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn one_port_serves_all_under_their_prefixes() {
    let stage = Stage::<COMPUTE>::bare();
    let front = api::front::Front::default().with("compute", stage.app.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = watch::Sender::new(false);
    tokio::spawn(api::server::serve(listener, Arc::new(front), stop.subscribe()));
    let ask = async |path: &str| {
        let mut client = Client(TcpStream::connect(address).await.unwrap());
        client
            .send(&format!("GET {path} HTTP/1.1\r\nhost: cloud\r\nx-auth-token: alice\r\nconnection: close\r\n\r\n"))
            .await;
        client.rest().await
    };
    assert!(ask("/compute/v2.1/echo/a/b").await.contains("http://cloud/compute/v2.1/here"));
    assert!(ask("/compute").await.contains("http://cloud/compute"));
    assert!(ask("/computer/v2.1/whoami").await.starts_with("HTTP/1.1 404 "));
}
