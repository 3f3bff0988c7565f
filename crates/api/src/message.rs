//! Requests and replies: the same for a socket and for a call inside the process.

use std::pin::Pin;
use std::sync::Arc;

use base::Json;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
pub use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use crate::caller::Caller;

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Chunks of a body as they arrive. An error means that the sender went away.
pub type Chunks = Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send>>;

/// Limit: memory set aside for a body that has not come yet.
const RESERVED: usize = 64 << 10;

/// The body of a request or of a reply.
#[derive(Default)]
pub enum Content {
    #[default]
    Empty,
    Bytes(Bytes),
    /// `length` is known when the sender said so.
    Chunks {
        length: Option<u64>,
        chunks: Chunks,
    },
}

impl Content {
    /// The whole body, or `None` when it is longer than `limit` or breaks off.
    pub async fn bytes(self, limit: usize) -> Option<Bytes> {
        match self {
            Content::Empty => Some(Bytes::new()),
            Content::Bytes(bytes) => (bytes.len() <= limit).then_some(bytes),
            Content::Chunks { length, .. } if length.is_some_and(|length| length > limit as u64) => None,
            Content::Chunks { mut chunks, length } => {
                // The sender's word is no reason to set much memory aside.
                let expected = length.map_or(0, |length| usize::try_from(length).unwrap_or(limit));
                let mut whole = Vec::with_capacity(expected.min(RESERVED));
                while let Some(chunk) = chunks.next().await {
                    whole.extend_from_slice(&chunk.ok()?);
                    if whole.len() > limit {
                        return None;
                    }
                }
                Some(whole.into())
            }
        }
    }

    /// The body as chunks, whatever it is.
    pub fn chunks(self) -> Chunks {
        match self {
            Content::Empty => Box::pin(futures_util::stream::empty()),
            Content::Bytes(bytes) => Box::pin(futures_util::stream::once(async move { Ok(bytes) })),
            Content::Chunks { chunks, .. } => chunks,
        }
    }
}

/// One request to a service.
pub struct Request {
    pub method: Method,
    /// Percent-encoded, with a leading slash, without the query.
    pub path: String,
    /// Percent-encoded, without the question mark.
    pub query: String,
    pub headers: HeaderMap,
    pub content: Content,
    /// Set by a caller in this process that has already been authenticated; never by a socket.
    pub caller: Option<Arc<Caller>>,
    /// Scheme, host and prefix as the client sees them: `http://controller:8774`.
    pub base_url: String,
}

impl Request {
    /// A request from inside the process. `target` is a path with an optional query.
    pub fn new(method: Method, target: &str) -> Request {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Request {
            method,
            path: path.to_string(),
            query: query.to_string(),
            headers: HeaderMap::new(),
            content: Content::Empty,
            caller: None,
            base_url: "http://localhost".to_string(),
        }
    }

    /// Sets a header; a value that no header can carry is left out.
    pub fn header(mut self, name: &'static str, value: &str) -> Request {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    pub fn json(mut self, body: &Json) -> Request {
        self.content = Content::Bytes(body.to_string().into());
        self.header("content-type", "application/json")
    }
}

/// One reply of a service.
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub content: Content,
}

impl Reply {
    pub fn new(status: u16) -> Reply {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Reply { status, headers: HeaderMap::new(), content: Content::Empty }
    }

    pub fn json(status: u16, body: &Json) -> Reply {
        let text = serde_json::to_vec(body).unwrap_or_default();
        Reply { content: Content::Bytes(text.into()), ..Reply::new(status) }.header("content-type", "application/json")
    }

    pub fn text(status: u16, content_type: &str, body: impl Into<Bytes>) -> Reply {
        Reply { content: Content::Bytes(body.into()), ..Reply::new(status) }.header("content-type", content_type)
    }

    /// Sets a header; a value that no header can carry is left out.
    pub fn header(mut self, name: &'static str, value: &str) -> Reply {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    /// Adds a header beside those of the same name.
    pub fn another_header(mut self, name: &'static str, value: &str) -> Reply {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.append(name, value);
        }
        self
    }
}

/// Something that answers requests: a service in this process, or one behind a socket.
pub trait Endpoint: Send + Sync + 'static {
    fn call(&self, request: Request) -> BoxFuture<'_, Reply>;
}

/// The query of a request: names and values in order, decoded.
#[derive(Debug, Clone, Default)]
pub struct Query(pub Vec<(String, String)>);

impl Query {
    pub fn parse(text: &str) -> Query {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        Query(
            pairs
                .map(|pair| {
                    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (decode(&name.replace('+', " ")), decode(&value.replace('+', " ")))
                })
                .collect(),
        )
    }

    /// The last value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(key, _)| key == name)
    }
}

/// Undoes percent-encoding; a broken escape stands for itself.
pub fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = bytes.get(at + 1..at + 3).and_then(|two| std::str::from_utf8(two).ok());
        match escape.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(byte) if bytes[at] == b'%' => {
                plain.push(byte);
                at += 3;
            }
            _ => {
                plain.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

/// Percent-encodes everything but unreserved characters.
pub fn encode(text: &str) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut coded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => coded.push(byte as char),
            _ => coded.extend(['%', HEX[usize::from(byte >> 4)] as char, HEX[usize::from(byte & 15)] as char]),
        }
    }
    coded
}

/// The same as a form does it, for a query: a space becomes a plus.
pub fn encode_form(text: &str) -> String {
    encode(text).replace("%20", "+")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_decoded_in_order() {
        let query = Query::parse("a=1&a=2&name=x%20y+z&flag&%zz=%4");
        assert_eq!(query.get("a"), Some("2"));
        assert_eq!(query.all("a").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(query.get("name"), Some("x y z"));
        assert_eq!(query.get("flag"), Some(""));
        assert_eq!(query.get("%zz"), Some("%4"));
        assert_eq!(decode(&encode("ü/?&")), "ü/?&");
    }
}
