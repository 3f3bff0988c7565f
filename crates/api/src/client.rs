//! An endpoint behind a socket: the same requests, over HTTP/1.1.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base::json;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::message::{BoxFuture, Content, Endpoint, HeaderMap, Method, Reply, Request};
use crate::server::unpaused;

/// Limit: connections kept open to one peer.
const IDLE: usize = 32;
/// Limit: how long a connection is kept without use. Shorter than servers keep theirs: Apache's 5 s are the least.
const IDLE_TIME: Duration = Duration::from_secs(3);
/// Limit: until a peer accepts a connection.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// Limit: until a peer begins to answer a request that it has, and the longest pause inside of a body.
const ANSWER_TIME: Duration = Duration::from_secs(120);

type Outgoing = UnsyncBoxBody<Bytes, std::io::Error>;

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("the URL {0} is not one that we can call: http://host[:port][/prefix]")]
    Url(String),
    #[error("{authority} cannot be asked for what is no path")]
    Path { authority: String },
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
    idle: Mutex<Vec<(Instant, SendRequest<Outgoing>)>>,
    answer_time: Duration,
}

/// What went wrong with one attempt, and what may be sent again on another connection.
enum Attempt {
    /// The connection turned out to be closed before anything was sent on it.
    Unsent(Box<hyper::Request<Outgoing>>),
    /// It broke; how far the request got is unknown.
    Broken(ClientError),
    Failed(ClientError),
}

impl Remote {
    /// `url` is `http://host[:port][/prefix]`.
    pub fn new(url: &str) -> Result<Remote, ClientError> {
        let refused = || ClientError::Url(url.to_string());
        let rest = url.strip_prefix("http://").ok_or_else(refused)?;
        let (authority, prefix) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if authority.is_empty() || authority.contains('@') {
            return Err(refused());
        }
        let authority = if authority.rsplit(']').next().is_some_and(|end| end.contains(':')) {
            authority.to_string()
        } else {
            format!("{authority}:80")
        };
        let prefix = prefix.trim_end_matches('/').to_string();
        Ok(Remote { authority, prefix, idle: Mutex::default(), answer_time: ANSWER_TIME })
    }

    /// How long the peer may take to begin an answer, and to pause inside of one.
    pub fn answer_within(mut self, time: Duration) -> Remote {
        self.answer_time = time;
        self
    }

    /// Sends a request. What is lost on a connection that was kept for too long is sent once more on a new one, if
    /// sending it twice is the same as once.
    async fn send(&self, request: Request) -> Result<Reply, ClientError> {
        let again = repeatable(&request);
        let is_head = request.method == Method::HEAD;
        let progress = Arc::new(Mutex::new(Instant::now()));
        let mut message = self.message(request, &progress)?;
        if let Some(sender) = self.kept() {
            match self.attempt(sender, message, is_head, &progress).await {
                Ok(reply) => return Ok(reply),
                Err(Attempt::Failed(error)) => return Err(error),
                Err(Attempt::Unsent(unsent)) => message = *unsent,
                Err(Attempt::Broken(error)) => match again {
                    Some(request) => message = self.message(request, &progress)?,
                    None => return Err(error),
                },
            }
        }
        let sender = self.connect().await?;
        self.attempt(sender, message, is_head, &progress).await.map_err(|attempt| match attempt {
            Attempt::Failed(error) | Attempt::Broken(error) => error,
            Attempt::Unsent(_) => {
                let source = std::io::ErrorKind::ConnectionReset.into();
                ClientError::Connect { authority: self.authority.clone(), source }
            }
        })
    }

    async fn attempt(
        &self,
        mut sender: SendRequest<Outgoing>,
        message: hyper::Request<Outgoing>,
        is_head: bool,
        progress: &Mutex<Instant>,
    ) -> Result<Reply, Attempt> {
        let answer = sender.try_send_request(message);
        tokio::pin!(answer);
        let answered = loop {
            // While the body is being sent, the peer has time.
            let since = *progress.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            let deadline = tokio::time::Instant::from_std(since + self.answer_time);
            match tokio::time::timeout_at(deadline, &mut answer).await {
                Ok(answered) => break answered,
                Err(_) if *progress.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) > since => {}
                Err(_) => return Err(Attempt::Failed(self.silent())),
            }
        };
        let response = answered.map_err(|mut error| match error.take_message() {
            Some(unsent) => Attempt::Unsent(Box::new(unsent)),
            None => Attempt::Broken(self.talk(error.into_error())),
        })?;
        self.keep(sender);
        Ok(reply(response, is_head, self.answer_time))
    }

    async fn connect(&self) -> Result<SendRequest<Outgoing>, ClientError> {
        let failed = |source| ClientError::Connect { authority: self.authority.clone(), source };
        let stream = tokio::time::timeout(CONNECT_TIME, TcpStream::connect(&self.authority)).await;
        let stream = stream.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())).map_err(failed)?;
        let _ = stream.set_nodelay(true);
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| self.talk(error))?;
        tokio::spawn(async move {
            // Its end shows at the sender.
            let _ = connection.await;
        });
        Ok(sender)
    }

    fn message(
        &self,
        request: Request,
        progress: &Arc<Mutex<Instant>>,
    ) -> Result<hyper::Request<Outgoing>, ClientError> {
        let query = if request.query.is_empty() { String::new() } else { format!("?{}", request.query) };
        let uri = format!("{}{}{query}", self.prefix, request.path);
        let length = match &request.content {
            Content::Empty => Some(0),
            Content::Bytes(bytes) => Some(bytes.len() as u64),
            Content::Chunks { length, .. } => *length,
        };
        *progress.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Instant::now();
        let frames = noted(request.content.chunks(), progress.clone()).map(|chunk| chunk.map(Frame::data));
        let mut message = hyper::Request::new(UnsyncBoxBody::new(StreamBody::new(frames)));
        *message.method_mut() = request.method;
        let uri = uri.parse().map_err(|_| ClientError::Path { authority: self.authority.clone() })?;
        *message.uri_mut() = uri;
        *message.headers_mut() = request.headers;
        let headers = message.headers_mut();
        if let Ok(host) = self.authority.parse() {
            headers.insert("host", host);
        }
        if let Some(length) = length {
            headers.insert("content-length", length.into());
        }
        Ok(message)
    }

    /// The connection that was used last: the others may then grow old and go.
    fn kept(&self) -> Option<SendRequest<Outgoing>> {
        let mut idle = self.idle.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        // One that is not ready yet still carries an answer; its clock runs from when somebody asked last.
        idle.retain(|(since, sender)| !sender.is_closed() && (!sender.is_ready() || since.elapsed() < IDLE_TIME));
        let ready = idle.iter().rposition(|(_, sender)| sender.is_ready())?;
        Some(idle.remove(ready).1)
    }

    fn keep(&self, sender: SendRequest<Outgoing>) {
        let mut idle = self.idle.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if idle.len() < IDLE {
            idle.push((Instant::now(), sender));
        }
    }

    fn talk(&self, source: hyper::Error) -> ClientError {
        ClientError::Talk { authority: self.authority.clone(), source }
    }

    fn silent(&self) -> ClientError {
        ClientError::Silent { authority: self.authority.clone(), seconds: self.answer_time.as_secs() }
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

/// The request once more, where twice is the same as once.
fn repeatable(request: &Request) -> Option<Request> {
    let content = match &request.content {
        Content::Empty => Content::Empty,
        Content::Bytes(bytes) => Content::Bytes(bytes.clone()),
        Content::Chunks { .. } => return None,
    };
    let same = matches!(request.method, Method::GET | Method::HEAD | Method::PUT | Method::DELETE | Method::OPTIONS);
    same.then(|| Request {
        method: request.method.clone(),
        path: request.path.clone(),
        query: request.query.clone(),
        headers: HeaderMap::clone(&request.headers),
        content,
        caller: None,
        base_url: String::new(),
    })
}

/// The same chunks; notes when the last one was taken.
fn noted<S>(chunks: S, progress: Arc<Mutex<Instant>>) -> impl Stream<Item = std::io::Result<Bytes>> + Send
where
    S: Stream<Item = std::io::Result<Bytes>> + Send,
{
    chunks.inspect(move |_| {
        *progress.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Instant::now();
    })
}

fn reply(response: hyper::Response<hyper::body::Incoming>, is_head: bool, pause: Duration) -> Reply {
    let (parts, body) = response.into_parts();
    let length = parts.headers.get("content-length").and_then(|value| value.to_str().ok()?.parse().ok());
    let data = body.into_data_stream().map(|chunk| chunk.map_err(std::io::Error::other));
    let content = match length {
        _ if is_head => Content::Empty,
        Some(0) => Content::Empty,
        length => Content::Chunks { length, chunks: Box::pin(unpaused(data, pause)) },
    };
    Reply { status: parts.status, headers: parts.headers, content }
}
