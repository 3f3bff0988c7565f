//! How fast the kit is: in memory, and through a socket beside a bare HTTP server on the same machine.
//!
//! `cargo run --release -p api --example speed`

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use api::message::BoxFuture;
use api::*;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

struct Things;

impl Service for Things {
    const SHAPE: Shape = Shape {
        name: "compute",
        envelope: Envelope::Compute,
        versions: Some(Versions {
            word: "compute",
            older_header: Some("x-openstack-nova-api-version"),
            min: v(2, 1),
            max: v(2, 104),
        }),
        mounts: &["/v2.1", "/v2"],
        project_in_path: true,
    };
}

struct Thing(usize);

impl Target for Thing {
    fn attribute(&self, name: &str) -> Option<std::borrow::Cow<'_, str>> {
        (name == "project_id").then_some("p".into())
    }
}

impl View for Thing {
    const ONE: &'static str = "thing";
    const MANY: &'static str = "things";

    fn view(&self, to: &Reader) -> Json {
        let id = format!("{:08}-9a3e-4a3a-8f0c-0a4cf7d9a001", self.0);
        let link = to.link(&format!("/things/{id}"));
        json!({"id": id, "name": "a thing of some length", "links": [{"rel": "self", "href": link}], "status": "ACTIVE"})
    }
}

async fn show(call: Call<Things>, _: Path<String>) -> Answer<Show<Thing>> {
    Ok(Show(call.permit(Thing(7))?))
}

const THINGS: Listing = Listing { sort: &["name", "id"], filter: &[listing::text("name")], ..Listing::PLAIN };

async fn list(call: Call<Things>, _: NoInput) -> Answer<Listed<Thing>> {
    Ok(Listed(call.permit_all((0..1000).map(Thing).collect())?))
}

struct Everybody(Arc<Caller>);

impl Authenticator for Everybody {
    fn authenticate<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Arc<Caller>, AuthError>> {
        Box::pin(async { Ok(self.0.clone()) })
    }
}

fn app() -> Arc<App<Things>> {
    let roles = vec!["member".to_string(), "reader".to_string()];
    let caller = Caller { user_id: "u".into(), project_id: Some("p".into()), roles, ..Caller::default() };
    let operations =
        vec![get("/things", list).rule("things:list").paged(&THINGS), get("/things/{id}", show).rule("things:show")];
    let rules = "things:list\trole:reader and project_id:%(project_id)s\tproject\t-\n\
                 things:show\trole:admin or (role:reader and project_id:%(project_id)s)\tproject\t-\n";
    let policy = Policy::new(rules, None).expect("the rules can be read");
    Arc::new(App::new(Arc::new(Things), operations, "", policy, Arc::new(Everybody(Arc::new(caller)))))
}

fn request(target: &str) -> Request {
    Request::new(Method::GET, target)
        .header("x-auth-token", "gAAAAABl")
        .header("accept", "application/json")
        .header("openstack-api-version", "compute 2.90")
        .header("user-agent", "openstacksdk/4.22.0 keystoneauth1/5.18.1")
}

async fn in_memory(app: &App<Things>, target: &str, time: Duration) -> f64 {
    let (started, mut count) = (Instant::now(), 0u64);
    while started.elapsed() < time {
        for _ in 0..16 {
            let reply = app.call(request(target)).await;
            assert_eq!(reply.status, 200);
            count += 1;
        }
    }
    count as f64 / started.elapsed().as_secs_f64()
}

/// Requests a second over this many connections, each one request after another.
async fn through(address: SocketAddr, target: &str, connections: usize, time: Duration) -> f64 {
    let stop = Arc::new(AtomicBool::new(false));
    let count = Arc::new(AtomicU64::new(0));
    let text = format!(
        "GET {target} HTTP/1.1\r\nhost: cloud\r\nx-auth-token: gAAAAABl\r\naccept: application/json\r\n\
         openstack-api-version: compute 2.90\r\nuser-agent: openstacksdk/4.22.0 keystoneauth1/5.18.1\r\n\r\n"
    );
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..connections {
        let (stop, count, text) = (stop.clone(), count.clone(), text.clone());
        tasks.spawn(async move {
            let mut stream = TcpStream::connect(address).await.expect("the server listens");
            stream.set_nodelay(true).expect("a socket has the option");
            let mut some = vec![0; 1 << 20];
            while !stop.load(Ordering::Relaxed) {
                stream.write_all(text.as_bytes()).await.expect("the server reads");
                let mut held = 0;
                let whole = loop {
                    held += stream.read(&mut some[held..]).await.expect("the server answers");
                    if let Some(whole) = length(&some[..held]) {
                        break whole;
                    }
                };
                while held < whole {
                    held += stream.read(&mut some[..]).await.expect("the server answers");
                }
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let started = Instant::now();
    tokio::time::sleep(time).await;
    stop.store(true, Ordering::Relaxed);
    while tasks.join_next().await.is_some() {}
    count.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64()
}

/// How long the reply is whose head is in `bytes`.
fn length(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&bytes[..end]).ok()?.to_ascii_lowercase();
    let body = head.split("content-length: ").nth(1)?.split("\r\n").next()?.parse::<usize>().ok()?;
    Some(end + body)
}

async fn bare(listener: TcpListener) {
    const BODY: &[u8] = br#"{"thing":{"id":"00000007-9a3e-4a3a-8f0c-0a4cf7d9a001","links":[{"href":"http://cloud/v2.1/things/00000007-9a3e-4a3a-8f0c-0a4cf7d9a001","rel":"self"}],"name":"a thing of some length","status":"ACTIVE"}}"#;
    loop {
        let (stream, _) = listener.accept().await.expect("the listener stays");
        let _ = stream.set_nodelay(true);
        let service = service_fn(|_| async {
            Ok::<_, Infallible>(hyper::Response::new(Full::new(bytes::Bytes::from_static(BODY))))
        });
        tokio::spawn(async move {
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("a listener has an address");
    (listener, address)
}

#[tokio::main(flavor = "multi_thread")]
async fn main() {
    let time = Duration::from_secs(3);
    let app = app();
    let (listener, bare_address) = listen().await;
    tokio::spawn(bare(listener));
    let (listener, address) = listen().await;
    let stop = watch::Sender::new(false);
    tokio::spawn(api::server::serve(listener, app.clone(), stop.subscribe()));
    for round in 1..=2 {
        println!("round {round}");
        println!("  in memory, one thing      {:>9.0} /s", in_memory(&app, "/v2.1/things/7", time).await);
        println!("  in memory, 1000 things    {:>9.0} /s", in_memory(&app, "/v2.1/things?limit=1000", time).await);
        println!("  socket, bare HTTP         {:>9.0} /s", through(bare_address, "/v2.1/things/7", 16, time).await);
        println!("  socket, one thing         {:>9.0} /s", through(address, "/v2.1/things/7", 16, time).await);
        println!("  socket, 1000 things       {:>9.0} /s", through(address, "/v2.1/things", 16, time).await);
    }
}
