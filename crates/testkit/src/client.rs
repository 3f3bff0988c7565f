//! Requests to one service, and what comes back.

use api::message::HeaderMap;
use api::{Content, Endpoint, Json, Method, Request};
use bytes::Bytes;
use expect_test::Expect;

/// One service, seen by somebody.
pub struct Client<'a> {
    pub(crate) endpoint: &'a dyn Endpoint,
    pub(crate) service: Service,
    pub(crate) token: &'a str,
}

pub(crate) struct Service {
    pub(crate) name: &'static str,
    pub(crate) mount: &'static str,
    /// As the microversion header has it.
    pub(crate) version: Option<String>,
}

impl Client<'_> {
    /// `path` is below the version of the API: `/servers?limit=1`.
    pub async fn get(&self, path: &str) -> Reply {
        self.send(self.request(Method::GET, path)).await
    }

    pub async fn head(&self, path: &str) -> Reply {
        self.send(self.request(Method::HEAD, path)).await
    }

    pub async fn post(&self, path: &str, body: &Json) -> Reply {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    pub async fn put(&self, path: &str, body: &Json) -> Reply {
        self.send(self.request(Method::PUT, path).json(body)).await
    }

    pub async fn patch(&self, path: &str, body: &Json) -> Reply {
        self.send(self.request(Method::PATCH, path).json(body)).await
    }

    pub async fn delete(&self, path: &str) -> Reply {
        self.send(self.request(Method::DELETE, path)).await
    }

    /// `PUT` of bytes.
    pub async fn upload(&self, path: &str, bytes: impl Into<Bytes>) -> Reply {
        let content = Content::Bytes(bytes.into());
        let request = Request { content, ..self.request(Method::PUT, path) };
        self.send(request.header("content-type", "application/octet-stream")).await
    }

    /// A request to this service with this person's token, for what the other verbs cannot say.
    pub fn request(&self, method: Method, path: &str) -> Request {
        let request = Request::new(method, &format!("{}{path}", self.service.mount));
        let request = request.header("x-auth-token", self.token).header("accept", "application/json");
        match &self.service.version {
            Some(version) => request.header("openstack-api-version", version),
            None => request,
        }
    }

    pub async fn send(&self, request: Request) -> Reply {
        Reply::read(self.endpoint.call(request).await).await
    }
}

/// A reply, read to its end.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    pub async fn read(reply: api::Reply) -> Reply {
        let body = reply.content.bytes(usize::MAX).await.expect("replies inside the process do not break off");
        Reply { status: reply.status.as_u16(), headers: reply.headers, body }
    }

    /// The body, null when it is none.
    pub fn json(&self) -> Json {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The body of a reply with this status.
    #[track_caller]
    pub fn ok(self, status: u16) -> Json {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        self.json()
    }

    /// This status, and a sentence like this in the body: `reply.is(404, expect!["No such thing."])`.
    #[track_caller]
    pub fn is(self, status: u16, sentence: Expect) {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        sentence.assert_eq(&sentence_in(&self.json()));
    }
}

/// The sentence in an error body, whatever its shape.
fn sentence_in(body: &Json) -> String {
    let direct = ["message", "detail"].iter().find_map(|key| body.get(key)?.as_str());
    match (direct, body) {
        (Some(text), _) => text.to_string(),
        (None, Json::Object(map)) => map.values().map(sentence_in).find(|text| !text.is_empty()).unwrap_or_default(),
        (None, Json::Array(items)) => items.iter().map(sentence_in).find(|text| !text.is_empty()).unwrap_or_default(),
        _ => String::new(),
    }
}
