//! Messages between controllers and hosts: in process, or through RabbitMQ.
//!
//! A *request* is answered or fails; a *poke* may be lost. Whoever serves a subject shares its messages with the others
//! that serve it. Both transports carry the same bytes and keep the same promises; one suite of tests holds them to it.
//!
//! - [`Bus`]      the public face
//! - `envelope`   what travels: kind, version, request id, body
//! - `local`      queues in this process
//! - `rabbit`     queues on RabbitMQ; the only place that names the AMQP library
//! - `address`    oslo's `[DEFAULT] transport_url`
//!
//! ```
//! # use base::json; use std::time::Duration;
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let bus = bus::Bus::local();
//! let served = bus.serve("compute", |message: bus::Message| async move {
//!     match message.kind.as_str() {
//!         "hello" => Ok(json!({"welcome": message.body["host"]})),
//!         other => Err(bus::Refusal::unknown_kind(other)),
//!     }
//! });
//! let answer = bus.request("compute", "hello", json!({"host": "h1"}), Duration::from_secs(5)).await;
//! assert_eq!(answer.unwrap(), json!({"welcome": "h1"}));
//! drop(served);
//! # });
//! ```

mod address;
mod envelope;
mod limits;
mod local;
mod pending;
mod rabbit;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use base::Json;
use tokio::sync::oneshot;
use tokio::time::Instant;

pub use envelope::{Message, Refusal};
pub use limits::MESSAGE_BYTES;

use envelope::Reply;
use pending::Pending;

/// Why a request has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No answer came in time. Whether the other side did the work is unknown.
    #[error("{subject} did not answer '{kind}' within {} ms", waited.as_millis())]
    Unreachable { subject: String, kind: String, waited: Duration },
    /// The other side answered no; `code` is for programs and `message` for people.
    #[error("{message} ({code})")]
    Refused { code: String, message: String },
    /// The body must be split by the caller.
    #[error("the message '{kind}' to {subject} has {bytes} bytes, more than {MESSAGE_BYTES}")]
    TooLarge { subject: String, kind: String, bytes: usize },
    #[error("the transport_url cannot be used: {why}")]
    Address { why: String },
}

/// A connection to everybody else. Clones share it.
#[derive(Clone)]
pub struct Bus {
    transport: Arc<dyn Transport>,
    pending: Arc<Pending>,
    request_id: Option<Arc<str>>,
}

impl Bus {
    /// A bus inside this process: only clones of this value meet on it.
    pub fn local() -> Bus {
        let pending = Arc::new(Pending::default());
        Bus { transport: Arc::new(local::Local::new(pending.clone())), pending, request_id: None }
    }

    /// A bus on RabbitMQ, at upstream's `rabbit://user:password@host:port[,…]/virtual_host`.
    /// Returns at once: the connection is made, and made again, in the background.
    pub fn connect(transport_url: &str) -> Result<Bus, Error> {
        let brokers = address::parse(transport_url)?;
        let pending = Arc::new(Pending::default());
        Ok(Bus { transport: Arc::new(rabbit::Rabbit::start(brokers, pending.clone())), pending, request_id: None })
    }

    /// The same bus, sending on behalf of the API request `id`, which then shows in the logs of the other side.
    pub fn on_behalf_of(&self, id: &str) -> Bus {
        Bus { request_id: Some(id.into()), ..self.clone() }
    }

    /// Asks whoever serves `subject` and waits for the answer, at most `timeout`. A request for a subject that nobody
    /// serves yet waits too, so that a restart of the other side goes unnoticed.
    pub async fn request(&self, subject: &str, kind: &str, body: Json, timeout: Duration) -> Result<Json, Error> {
        let payload = self.message(subject, kind, body)?;
        let deadline = Instant::now() + timeout;
        let (ticket, answer) = self.pending.open();
        let correlation = Some(ticket.id().to_string());
        let unreachable =
            || Error::Unreachable { subject: subject.to_string(), kind: kind.to_string(), waited: timeout };

        let parcel = Parcel { subject: subject.to_string(), payload, deadline, correlation };
        self.transport.send(parcel).map_err(|Full| unreachable())?;
        let reply = tokio::time::timeout_at(deadline, answer).await;
        let reply = reply.ok().and_then(Result::ok).ok_or_else(unreachable)?;
        Reply::read(&reply).map_err(|refusal| Error::Refused { code: refusal.code, message: refusal.message })
    }

    /// Tells whoever serves `subject`, without waiting. The message may be lost.
    pub fn poke(&self, subject: &str, kind: &str, body: Json) {
        let payload = match self.message(subject, kind, body) {
            Ok(payload) => payload,
            Err(error) => return tracing::error!(subject, kind, %error, "a poke was not sent"),
        };
        let deadline = Instant::now() + limits::POKE_LIFETIME;
        let parcel = Parcel { subject: subject.to_string(), payload, deadline, correlation: None };
        if self.transport.send(parcel).is_err() {
            tracing::warn!(subject, kind, "a poke was dropped: too many messages wait");
        }
    }

    /// Serves `subject` until the subscription is dropped. Several servers of a subject share its messages; each runs
    /// at most [`limits::HANDLERS`] at once. A message whose server died goes to another one, so a handler may see it
    /// twice.
    pub fn serve<H, F>(&self, subject: &str, handler: H) -> Subscription
    where
        H: Fn(Message) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Json, Refusal>> + Send + 'static,
    {
        let handler = Arc::new(handler);
        let named = subject.to_string();
        let take: Take = Arc::new(move |payload| {
            let (handler, subject) = (handler.clone(), named.clone());
            Box::pin(async move { answer(&subject, &payload, &*handler).await })
        });
        let (stop, stopped) = oneshot::channel();
        self.transport.consume(subject.to_string(), take, stopped);
        Subscription { _bus: self.clone(), _stop: stop }
    }

    fn message(&self, subject: &str, kind: &str, body: Json) -> Result<Vec<u8>, Error> {
        let request_id = self.request_id.as_deref().map_or_else(base::id::request, str::to_string);
        let payload = Message { kind: kind.to_string(), request_id, body }.bytes();
        match payload.len() {
            bytes if bytes > MESSAGE_BYTES => {
                Err(Error::TooLarge { subject: subject.to_string(), kind: kind.to_string(), bytes })
            }
            _ => Ok(payload),
        }
    }
}

/// A subject being served; dropping it stops taking messages and lets those in hand finish.
pub struct Subscription {
    _bus: Bus,
    _stop: oneshot::Sender<()>,
}

/// What both ways of carrying messages must do. Payloads are opaque to them.
trait Transport: Send + Sync {
    /// Hands a message over without waiting.
    fn send(&self, parcel: Parcel) -> Result<(), Full>;

    /// Calls `take` for each message on `subject` and carries its result back, until `stopped` resolves.
    fn consume(&self, subject: String, take: Take, stopped: oneshot::Receiver<()>);
}

struct Parcel {
    subject: String,
    payload: Vec<u8>,
    /// After this moment nobody cares for the message any more.
    deadline: Instant,
    /// Set when an answer is wanted: the id under which [`Pending`] waits for it.
    correlation: Option<String>,
}

/// Too many messages wait already.
struct Full;

/// Handles one payload and says what to answer.
type Take = Arc<dyn Fn(Vec<u8>) -> Pin<Box<dyn Future<Output = Vec<u8>> + Send>> + Send + Sync>;

async fn answer<H, F>(subject: &str, payload: &[u8], handler: &H) -> Vec<u8>
where
    H: Fn(Message) -> F,
    F: Future<Output = Result<Json, Refusal>> + Send + 'static,
{
    let outcome = match Message::read(payload) {
        Err(refusal) => {
            tracing::warn!(subject, code = refusal.code, reason = refusal.message, "a message was refused");
            Err(refusal)
        }
        Ok(message) => {
            let kind = message.kind.clone();
            // Its own task, so that a panic ends the message and not the subscription.
            let handled = tokio::spawn(handler(message)).await;
            handled.unwrap_or_else(|panic| {
                tracing::error!(subject, kind, error = %panic, "a message handler failed");
                Err(Refusal::new("failure", format!("'{kind}' failed on {subject}")))
            })
        }
    };
    Reply(outcome).bytes()
}
