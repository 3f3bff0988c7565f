//! Requests and replies in the manners of this service: media types, times in headers, links.

use api::message::BoxFuture;
use api::wire::{At, Problem, Wire};
use api::{Answer, Call, Input, Json, Refusal, Reply, Version, v};
use base::Time;

use crate::Placement;

/// The client takes JSON, which is all there is.
pub struct AcceptsJson;

impl Input<Placement> for AcceptsJson {
    fn read<'a>(call: &'a mut Call<Placement>) -> BoxFuture<'a, Answer<Self>> {
        Box::pin(async {
            let accept = call.header("accept").unwrap_or_default();
            let takes = |kind: &str| accept.contains(kind);
            if accept.is_empty() || takes("application/json") || takes("application/*") || takes("*/*") {
                return Ok(AcceptsJson);
            }
            Err(Refusal::new(406, "", "Only application/json is provided"))
        })
    }
}

/// A JSON body. What is wrong with it is said by [`Sent::body`], after the caller's rights have been looked at.
pub struct Sent<T>(Answer<T>);

impl<T> Sent<T> {
    pub fn body(self) -> Answer<T> {
        self.0
    }
}

impl<T: Wire> Input<Placement> for Sent<T> {
    fn read<'a>(call: &'a mut Call<Placement>) -> BoxFuture<'a, Answer<Self>> {
        Box::pin(async { Ok(Sent(sent_json(call).await?.and_then(|json| checked(json, call.version)))) })
    }

    fn schema() -> Option<fn(Version) -> Json> {
        Some(T::schema)
    }
}

/// A JSON body whose form depends on the version; the handler checks it.
pub struct SentJson(Answer<Json>);

impl SentJson {
    pub fn body(self) -> Answer<Json> {
        self.0
    }
}

impl Input<Placement> for SentJson {
    fn read<'a>(call: &'a mut Call<Placement>) -> BoxFuture<'a, Answer<Self>> {
        Box::pin(async { Ok(SentJson(sent_json(call).await?)) })
    }
}

/// Outside: no JSON at all, said before anything else. Inside: JSON that cannot be read.
async fn sent_json(call: &mut Call<Placement>) -> Answer<Answer<Json>> {
    let kind = call.header("content-type").unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if kind.is_empty() && call.header("content-length").is_some_and(|length| length != "0") {
        return Err(Refusal::bad_request("content-type header required when content-length > 0"));
    }
    if !kind.eq_ignore_ascii_case("application/json") {
        let kind = if kind.is_empty() { "None" } else { kind };
        let message = format!(
            "The request media type {kind} is not supported by this server. \n\n The media type {kind} is not \
             supported, use application/json"
        );
        return Err(Refusal::new(415, "", message));
    }
    match call.json().await {
        Ok(Json::Null) => Ok(Err(Refusal::bad_request("Malformed JSON: Expecting value: line 1 column 1 (char 0)"))),
        json => Ok(json),
    }
}

/// Checks JSON against what `T` may look like at `version`.
pub fn checked<T: Wire>(json: Json, version: Version) -> Answer<T> {
    T::read_body(json, &mut At::top(version)).map_err(|Problem { path, message, .. }| {
        let place: String = path.iter().map(|key| format!("['properties']['{key}']")).collect();
        Refusal::bad_request(format!("JSON does not validate: {}", reasoned(&message, &place)))
    })
}

/// A body that no table describes is wrong.
pub fn invalid(why: impl std::fmt::Display) -> Refusal {
    Refusal::bad_request(format!("JSON does not validate: {}", reasoned(&why.to_string(), "")))
}

/// Adds which word of the schema it was, as the library below upstream does.
fn reasoned(message: &str, place: &str) -> String {
    const WORDS: [(&str, &str); 13] = [
        ("does not match any of the regexes", "additionalProperties"),
        ("Additional properties", "additionalProperties"),
        ("is a required property", "required"),
        ("is not of type", "type"),
        ("is not one of", "enum"),
        ("is not a '", "format"),
        ("does not match", "pattern"),
        ("is less than the minimum", "minimum"),
        ("is greater than the maximum", "maximum"),
        ("non-unique", "uniqueItems"),
        ("should be non-empty", "min"),
        ("is too short", "min"),
        ("is too long", "max"),
    ];
    let Some((_, word)) = WORDS.iter().find(|(part, _)| message.contains(part)) else {
        return message.to_string();
    };
    let what = match (*word, message.chars().next()) {
        ("min" | "max", Some('[')) => "Items",
        ("min" | "max", Some('{')) => "Properties",
        ("min" | "max", _) => "Length",
        _ => "",
    };
    format!("{message}  Failed validating '{word}{what}' in schema{place}")
}

/// 200 with a body, and from 1.15 the time of its last change.
pub fn shown(call: &Call<Placement>, body: &Json, modified: Time) -> Reply {
    dated(call, Reply::json(200, body), modified)
}

/// Adds the headers that every answer with content has from 1.15.
pub fn dated(call: &Call<Placement>, reply: Reply, modified: Time) -> Reply {
    match call.version >= v(1, 15) {
        true => reply.header("last-modified", &modified.http()).header("cache-control", "no-cache"),
        false => reply,
    }
}

/// A link inside a body: a path, with the prefix under which the client sees this service.
pub fn path_link(call: &Call<Placement>, path: &str) -> String {
    let base = &call.reader.base_url;
    let host = base.find("://").map_or(0, |at| at + 3);
    let prefix = base[host..].find('/').map_or("", |at| &base[host + at..]);
    format!("{prefix}{path}")
}

/// Checks that the query has no other names than `known`, as upstream words it.
pub fn only_queries(call: &Call<Placement>, known: &[(&str, Version)]) -> Answer<()> {
    let serves = |name: &str| known.iter().any(|(known, since)| *known == name && call.version >= *since);
    match call.query.0.iter().find(|(name, _)| !serves(name)) {
        None => Ok(()),
        Some((name, _)) => Err(bad_query(format!("Additional properties are not allowed ('{name}' was unexpected)"))),
    }
}

pub fn bad_query(why: impl std::fmt::Display) -> Refusal {
    Refusal::bad_request(format!("Invalid query string parameters: {}", reasoned(&why.to_string(), "")))
}
