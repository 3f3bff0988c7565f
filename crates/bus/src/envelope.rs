//! What travels: `{"version": 1, "kind": …, "request": …, "body": …}`, and the answers `{"version": 1, "body": …}` or
//! `{"version": 1, "refused": {"code": …, "message": …}}`.

use std::ops::RangeInclusive;

use base::{Json, json};

use crate::limits::MESSAGE_BYTES;

/// The version we write, and those we read: this release's and the previous one's.
const VERSION: u64 = 1;
const READABLE: RangeInclusive<u64> = 1..=1;

/// A message as its handler sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    pub kind: String,
    /// The API request behind this message, for the logs.
    pub request_id: String,
    pub body: Json,
}

/// A handler's no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// A stable word that the other side may branch on.
    pub code: String,
    pub message: String,
}

impl Refusal {
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Refusal {
        Refusal { code: code.into(), message: message.into() }
    }

    /// For a kind that the handler does not serve.
    pub fn unknown_kind(kind: &str) -> Refusal {
        Refusal::new("unknown_kind", format!("messages of the kind '{kind}' are not served here"))
    }
}

impl Message {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let Message { kind, request_id, body } = self;
        json!({"version": VERSION, "kind": kind, "request": request_id, "body": body}).to_string().into_bytes()
    }

    pub(crate) fn read(payload: &[u8]) -> Result<Message, Refusal> {
        let mut json = opened(payload)?;
        let text = |json: &Json, key: &str| json[key].as_str().map(str::to_string);
        let (kind, request_id) = (text(&json, "kind"), text(&json, "request"));
        match (kind, request_id) {
            (Some(kind), Some(request_id)) => Ok(Message { kind, request_id, body: json["body"].take() }),
            _ => Err(unreadable("it has no kind or no request id")),
        }
    }
}

pub(crate) struct Reply(pub(crate) Result<Json, Refusal>);

impl Reply {
    pub(crate) fn bytes(self) -> Vec<u8> {
        let json = match self.0 {
            Ok(body) => json!({"version": VERSION, "body": body}),
            Err(Refusal { code, message }) => {
                json!({"version": VERSION, "refused": {"code": code, "message": message}})
            }
        };
        let bytes = json.to_string().into_bytes();
        if bytes.len() <= MESSAGE_BYTES {
            return bytes;
        }
        let why = format!("the answer has {} bytes, more than {MESSAGE_BYTES}", bytes.len());
        Reply(Err(Refusal::new("too_large", why))).bytes()
    }

    pub(crate) fn read(payload: &[u8]) -> Result<Json, Refusal> {
        let mut json = opened(payload)?;
        let refused = &json["refused"];
        match (refused["code"].as_str(), refused["message"].as_str()) {
            (Some(code), Some(message)) => Err(Refusal::new(code, message)),
            _ => Ok(json["body"].take()),
        }
    }
}

fn opened(payload: &[u8]) -> Result<Json, Refusal> {
    if payload.len() > MESSAGE_BYTES {
        return Err(unreadable("it is too large"));
    }
    let json: Json = serde_json::from_slice(payload).map_err(|error| unreadable(&error.to_string()))?;
    match json["version"].as_u64() {
        Some(version) if READABLE.contains(&version) => Ok(json),
        _ => {
            let (from, to) = (READABLE.start(), READABLE.end());
            let why = format!("message version {} is not spoken here, only {from} to {to}", json["version"]);
            Err(Refusal::new("unknown_version", why))
        }
    }
}

fn unreadable(why: &str) -> Refusal {
    Refusal::new("unreadable", format!("the message cannot be read: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_another_version_is_refused_by_number() {
        let refusal = Message::read(br#"{"version": 9, "kind": "k", "request": "r", "body": null}"#).unwrap_err();
        assert_eq!(refusal.code, "unknown_version");
        assert_eq!(refusal.message, "message version 9 is not spoken here, only 1 to 1");
        assert_eq!(Message::read(b"[]").unwrap_err().code, "unknown_version");
        assert_eq!(Message::read(b"\xff").unwrap_err().code, "unreadable");
    }

    #[test]
    fn an_answer_that_is_too_large_becomes_a_refusal() {
        let answer = Reply(Ok(Json::String("x".repeat(MESSAGE_BYTES)))).bytes();
        assert_eq!(Reply::read(&answer).unwrap_err().code, "too_large");
    }
}
