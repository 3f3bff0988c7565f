//! An endpoint behind a socket: the same requests, over HTTP/1.1.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use base::json;
use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::message::{BoxFuture, Content, Endpoint, Reply, Request};

/// Limit: connections kept open to one peer.
const IDLE: usize = 32;
/// Limit: until a peer accepts a connection.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// Limit: until a peer begins to answer.
const ANSWER_TIME: Duration = Duration::from_secs(120);

type Outgoing = UnsyncBoxBody<Bytes, std::io::Error>;

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("the URL {0} is not one that we can call: http://host[:port][/prefix]")]
    Url(String),
    #[error("connecting to {authority}")]
    Connect { authority: String, source: std::io::Error },
    #[error("talking to {authority}")]
    Talk { authority: String, source: hyper::Error },
    #[error("{authority} did not answer within {seconds} s")]
    Silent { authority: String, seconds: u64 },
}

/// A service at a URL. Unreachable peers answer 503, so that callers see one kind of outcome.
pub struct Remote {
    authority: String,
    prefix: String,
    idle: Mutex<HashMap<u64, SendRequest<Outgoing>>>,
    /// Connects here instead of resolving the authority's name.
    via: Option<SocketAddr>,
}

impl Remote {
    /// `url` is `http://host[:port][/prefix]`.
    pub fn new(url: &str) -> Result<Remote, ClientError> {
        let refused = || ClientError::Url(url.to_string());
        let rest = url.strip_prefix("http://").ok_or_else(refused)?;
        let (authority, prefix) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if authority.is_empty() {
            return Err(refused());
        }
        let authority = if authority.rsplit(']').next().is_some_and(|end| end.contains(':')) {
            authority.to_string()
        } else {
            format!("{authority}:80")
        };
        let prefix = prefix.trim_end_matches('/').to_string();
        Ok(Remote { authority, prefix, idle: Mutex::default(), via: None })
    }

    async fn send(&self, request: Request) -> Result<Reply, ClientError> {
        let mut sender = match self.kept() {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        let talk = |source| ClientError::Talk { authority: self.authority.clone(), source };
        let silent = |_| ClientError::Silent { authority: self.authority.clone(), seconds: ANSWER_TIME.as_secs() };
        let message = self.message(request);
        let answered = tokio::time::timeout(ANSWER_TIME, sender.send_request(message)).await.map_err(silent)?;
        let (parts, body) = answered.map_err(talk)?.into_parts();
        self.keep(sender);
        let length = parts.headers.get("content-length").and_then(|value| value.to_str().ok()?.parse().ok());
        let data = body.into_data_stream().map(|chunk| chunk.map_err(std::io::Error::other));
        let content = match length {
            Some(0) => Content::Empty,
            length => Content::Chunks { length, chunks: Box::pin(data) },
        };
        Ok(Reply { status: parts.status, headers: parts.headers, content })
    }

    async fn connect(&self) -> Result<SendRequest<Outgoing>, ClientError> {
        let failed = |source| ClientError::Connect { authority: self.authority.clone(), source };
        let stream = async {
            match self.via {
                Some(address) => TcpStream::connect(address).await,
                None => TcpStream::connect(&self.authority).await,
            }
        };
        let stream = tokio::time::timeout(CONNECT_TIME, stream).await;
        let stream = stream.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())).map_err(failed)?;
        let _ = stream.set_nodelay(true);
        let talk = |source| ClientError::Talk { authority: self.authority.clone(), source };
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(talk)?;
        tokio::spawn(async move {
            // Its end shows at the sender.
            let _ = connection.await;
        });
        Ok(sender)
    }

    fn message(&self, request: Request) -> hyper::Request<Outgoing> {
        let query = if request.query.is_empty() { String::new() } else { format!("?{}", request.query) };
        let uri = format!("{}{}{query}", self.prefix, request.path);
        let length = match &request.content {
            Content::Empty => Some(0),
            Content::Bytes(bytes) => Some(bytes.len() as u64),
            Content::Chunks { length, .. } => *length,
        };
        let frames = request.content.chunks().map(|chunk| chunk.map(Frame::data));
        let mut message = hyper::Request::new(UnsyncBoxBody::new(StreamBody::new(frames)));
        *message.method_mut() = request.method;
        *message.uri_mut() = uri.parse().unwrap_or_default();
        *message.headers_mut() = request.headers;
        let headers = message.headers_mut();
        if let Ok(host) = self.authority.parse() {
            headers.insert("host", host);
        }
        if let Some(length) = length {
            headers.insert("content-length", length.into());
        }
        message
    }

    fn kept(&self) -> Option<SendRequest<Outgoing>> {
        let mut idle = self.idle.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        idle.retain(|_, sender| !sender.is_closed());
        let ready = idle.iter().find(|(_, sender)| sender.is_ready()).map(|(key, _)| *key)?;
        idle.remove(&ready)
    }

    fn keep(&self, sender: SendRequest<Outgoing>) {
        let mut idle = self.idle.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if idle.len() < IDLE {
            let next = idle.keys().max().map_or(0, |key| key + 1);
            idle.insert(next, sender);
        }
    }
}

impl Endpoint for Remote {
    fn call(&self, request: Request) -> BoxFuture<'_, Reply> {
        Box::pin(async move {
            self.send(request).await.unwrap_or_else(|error| {
                let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                tracing::warn!(%error, cause, "a service cannot be reached");
                Reply::json(503, &json!({"error": {"code": 503, "message": error.to_string()}}))
            })
        })
    }
}
