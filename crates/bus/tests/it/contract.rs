//! One suite for both transports.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base::{Json, json};
use bus::{Bus, Error, Message, Refusal};
use engines::RabbitMq;
use tokio::sync::mpsc;

pub const SOON: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(300);

/// Makes buses that meet each other.
type Meet<'a> = &'a (dyn Fn() -> Bus + Sync);

macro_rules! contract {
    ($($name:ident)*) => {
        mod in_process {
            $(#[tokio::test]
            async fn $name() {
                let bus = bus::Bus::local();
                super::$name(&|| bus.clone()).await;
            })*
        }

        /// One broker for the whole suite: it takes seconds to start.
        #[tokio::test]
        async fn rabbitmq_keeps_the_same_promises() {
            let broker = RabbitMq::start().unwrap();
            let url = broker.url("/");
            $(
                eprintln!("{}", stringify!($name));
                $name(&|| Bus::connect(&url).unwrap()).await;
            )*
        }
    };
}

contract! {
    a_request_is_answered
    a_refusal_carries_its_code_and_message
    a_poke_arrives
    the_request_id_travels_with_the_message
    servers_of_one_subject_share_its_messages
    requests_are_handled_side_by_side
    a_request_waits_for_a_server_that_starts_later
    a_request_that_nobody_serves_is_unreachable
    a_dropped_subscription_takes_no_more_messages
    a_handler_that_fails_is_reported_and_serves_on
    a_large_body_travels_and_one_above_the_limit_is_refused
}

pub async fn echo(message: Message) -> Result<Json, Refusal> {
    match message.kind.as_str() {
        "echo" => Ok(message.body),
        other => Err(Refusal::unknown_kind(other)),
    }
}

async fn a_request_is_answered(meet: Meet<'_>) {
    let (asker, server) = (meet(), meet());
    let _served = server.serve("answered", echo);
    let answer = asker.request("answered", "echo", json!({"guest": "g1", "text": "ä\n"}), SOON).await;
    assert_eq!(answer, Ok(json!({"guest": "g1", "text": "ä\n"})));
}

async fn a_refusal_carries_its_code_and_message(meet: Meet<'_>) {
    let bus = meet();
    let _served = bus.serve("refused", |_| async { Err(Refusal::new("missing", "guest g1 is not here")) });
    let error = bus.request("refused", "console_log", json!({}), SOON).await.unwrap_err();
    assert_eq!(error, Error::Refused { code: "missing".into(), message: "guest g1 is not here".into() });
}

async fn a_poke_arrives(meet: Meet<'_>) {
    let (heard, mut hears) = mpsc::unbounded_channel();
    let server = meet();
    let _served = server.serve("poked", move |message| {
        heard.send(message.kind).unwrap();
        async { Ok(Json::Null) }
    });
    meet().poke("poked", "poke", Json::Null);
    assert_eq!(tokio::time::timeout(SOON, hears.recv()).await.unwrap().as_deref(), Some("poke"));
}

async fn the_request_id_travels_with_the_message(meet: Meet<'_>) {
    let bus = meet();
    let _served = bus.serve("request-id", |message| async move { Ok(json!(message.request_id)) });
    let answer = bus.on_behalf_of("req-7").request("request-id", "k", Json::Null, SOON).await;
    assert_eq!(answer, Ok(json!("req-7")));
    let answer = bus.request("request-id", "k", Json::Null, SOON).await.unwrap();
    assert!(answer.as_str().unwrap().starts_with("req-"));
}

async fn servers_of_one_subject_share_its_messages(meet: Meet<'_>) {
    let counts = [Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0))];
    let serve = |count: &Arc<AtomicUsize>| {
        let count = count.clone();
        meet().serve("shared", move |message| {
            count.fetch_add(1, Ordering::SeqCst);
            echo(message)
        })
    };
    let _served = [serve(&counts[0]), serve(&counts[1])];
    let bus = meet();
    // The second server may still be on its way to the broker.
    let mut sent = 0;
    while sent < 100 || counts.iter().any(|count| count.load(Ordering::SeqCst) == 0) {
        assert!(sent < 10_000, "one of the two servers never gets a message");
        bus.request("shared", "echo", json!(sent), SOON).await.unwrap();
        sent += 1;
    }
    assert_eq!(counts.iter().map(|count| count.load(Ordering::SeqCst)).sum::<usize>(), sent);
}

async fn requests_are_handled_side_by_side(meet: Meet<'_>) {
    let bus = meet();
    let together = Arc::new(tokio::sync::Barrier::new(8));
    let _served = bus.serve("side-by-side", move |message| {
        let together = together.clone();
        async move {
            together.wait().await;
            Ok(message.body)
        }
    });
    let ask = |number: usize| bus.request("side-by-side", "k", json!(number), SOON);
    let answers = futures_util::future::join_all((0..8).map(ask)).await;
    let expected: Vec<_> = (0..8).map(|number| Ok(json!(number))).collect();
    assert_eq!(answers, expected);
}

async fn a_request_waits_for_a_server_that_starts_later(meet: Meet<'_>) {
    let bus = meet();
    let asked = bus.clone();
    let asking = tokio::spawn(async move { asked.request("later", "echo", json!(1), SOON).await });
    tokio::task::yield_now().await;
    let _served = meet().serve("later", echo);
    assert_eq!(asking.await.unwrap(), Ok(json!(1)));
}

async fn a_request_that_nobody_serves_is_unreachable(meet: Meet<'_>) {
    let error = meet().request("nobody", "echo", json!(1), SHORT).await.unwrap_err();
    assert_eq!(error.to_string(), "nobody did not answer 'echo' within 300 ms");
    assert!(matches!(error, Error::Unreachable { .. }));
}

async fn a_dropped_subscription_takes_no_more_messages(meet: Meet<'_>) {
    let bus = meet();
    let served = bus.serve("dropped", echo);
    bus.request("dropped", "echo", json!(1), SOON).await.unwrap();
    drop(served);
    let second = bus.serve("dropped", |_| async { Ok(json!("second")) });
    // What the first one had already taken it may still answer.
    let mut last = json!(1);
    for _ in 0..1000 {
        last = bus.request("dropped", "echo", json!(1), SOON).await.unwrap();
        if last == json!("second") {
            break;
        }
    }
    assert_eq!(last, json!("second"));
    for _ in 0..20 {
        assert_eq!(bus.request("dropped", "echo", json!(1), SOON).await, Ok(json!("second")));
    }
    drop(second);
}

async fn a_handler_that_fails_is_reported_and_serves_on(meet: Meet<'_>) {
    let bus = meet();
    let _served = bus.serve("fails", |message| async move {
        assert_ne!(message.body, json!("bad"), "a bad message");
        Ok(message.body)
    });
    let error = bus.request("fails", "k", json!("bad"), SOON).await.unwrap_err();
    assert_eq!(error, Error::Refused { code: "failure".into(), message: "'k' failed on fails".into() });
    assert_eq!(bus.request("fails", "k", json!("good"), SOON).await, Ok(json!("good")));
}

async fn a_large_body_travels_and_one_above_the_limit_is_refused(meet: Meet<'_>) {
    let bus = meet();
    let _served = bus.serve("large", echo);
    let large = json!("x".repeat(bus::MESSAGE_BYTES - 200));
    assert_eq!(bus.request("large", "echo", large.clone(), SOON).await, Ok(large));
    let error = bus.request("large", "echo", json!("x".repeat(bus::MESSAGE_BYTES)), SOON).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }));
}
