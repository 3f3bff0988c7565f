//! What a client gets to see: one function per resource, and the answers that carry it.

use std::collections::BTreeMap;
use std::sync::Arc;

use base::{Json, json};
use db::Page;
use serde_json::Map;

use crate::caller::Caller;
use crate::fault::Envelope;
use crate::listing::Listing;
use crate::message::{Query, Reply, encode_form};
use crate::permit::{Own, Permitted};
use crate::policy::{Policy, Target};
use crate::version::Version;

/// How a resource looks on the wire.
pub trait View {
    /// The key around one: `keypair`. Empty for services that have no envelope.
    const ONE: &'static str;
    /// The key around many: `keypairs`.
    const MANY: &'static str;

    fn view(&self, to: &Reader) -> Json;

    /// One item of a list, where it is smaller than, or wrapped differently from, the thing shown alone.
    fn item(&self, to: &Reader) -> Json {
        self.view(to)
    }
}

/// Who reads the answer: its version, its rights and where its links must point.
#[derive(Clone)]
pub struct Reader {
    pub caller: Arc<Caller>,
    pub version: Version,
    /// Scheme, host and prefix as the client sees them, without a trailing slash.
    pub base_url: String,
    /// `/v2.1`, with the project where the client's URL has one.
    pub mount: String,
    /// The path of the request below the mount.
    pub path: String,
    pub query: Query,
    /// The query as it came.
    pub(crate) raw_query: String,
    pub page: Page,
    pub listing: Option<&'static Listing>,
    pub(crate) policy: Arc<Policy>,
    pub(crate) envelope: Envelope,
}

impl Reader {
    pub fn since(&self, version: Version) -> bool {
        self.version >= version
    }

    /// An absolute link below the mount: `/servers/…`.
    pub fn link(&self, path: &str) -> String {
        format!("{}{}{path}", self.base_url, self.mount)
    }

    /// An absolute link without the version: compute's bookmarks.
    pub fn bookmark(&self, path: &str) -> String {
        format!("{}{path}", self.base_url)
    }

    /// Whether the reader passes another rule about `target`. A rule that does not exist refuses.
    pub fn may(&self, rule: &str, target: &dyn Target) -> bool {
        self.policy.rule(rule).is_some_and(|rule| self.policy.allows(rule, &self.caller, target))
    }

    /// Whether the reader passes another rule about things of its own.
    pub fn may_own(&self, rule: &str) -> bool {
        self.may(rule, &Own(&self.caller))
    }

    /// The request's own path with this query.
    fn page_link<'a>(&self, pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
        let text: Vec<String> =
            pairs.map(|(name, value)| format!("{}={}", encode_form(name), encode_form(value))).collect();
        let mark = if text.is_empty() { "" } else { "?" };
        format!("{}{mark}{}", self.link(&self.path), text.join("&"))
    }

    /// The query without the names in `drop`.
    fn query_without<'a>(&'a self, drop: &'a [&str]) -> impl Iterator<Item = (&'a str, &'a str)> {
        let pairs = self.query.0.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        pairs.filter(|(name, _)| !drop.contains(name))
    }
}

/// What a handler's answer becomes.
pub trait Output: Send {
    /// `status` is the operation's; `None` means the usual one.
    fn reply(self, status: Option<u16>, to: &Reader) -> Reply;
}

/// One resource: 200.
#[derive(Debug)]
pub struct Show<T>(pub Permitted<T>);
/// One new resource: 201.
#[derive(Debug)]
pub struct Created<T>(pub Permitted<T>);
/// One resource that work goes on for: 202.
#[derive(Debug)]
pub struct Accepted<T>(pub Permitted<T>);
/// A page of resources: 200, with the links to the other pages.
#[derive(Debug)]
pub struct Listed<T>(pub Vec<Permitted<T>>);
/// Done, and nothing to say: 204.
#[derive(Debug)]
pub struct Done(Permitted<()>);
/// A body that is no resource: 200.
#[derive(Debug)]
pub struct Document(Permitted<Json>);

impl Done {
    /// Nothing to say about `what`, which the caller was permitted to have done.
    pub fn with<T>(what: Permitted<T>) -> Done {
        Done(what.map(|_| ()))
    }
}

impl Document {
    pub fn new(permitted: Permitted<()>, body: Json) -> Document {
        Document(permitted.map(|()| body))
    }

    pub fn of<T>(permitted: Permitted<T>, make: impl FnOnce(&T) -> Json) -> Document {
        Document(permitted.map(|value| make(&value)))
    }
}

fn one<T: View>(value: &T, to: &Reader) -> Json {
    let view = value.view(to);
    if T::ONE.is_empty() { view } else { json!({T::ONE: view}) }
}

impl<T: View + Send> Output for Show<T> {
    fn reply(self, status: Option<u16>, to: &Reader) -> Reply {
        Reply::json(status.unwrap_or(200), &one(&*self.0, to))
    }
}

impl<T: View + Send> Output for Created<T> {
    fn reply(self, status: Option<u16>, to: &Reader) -> Reply {
        Reply::json(status.unwrap_or(201), &one(&*self.0, to))
    }
}

impl<T: View + Send> Output for Accepted<T> {
    fn reply(self, status: Option<u16>, to: &Reader) -> Reply {
        Reply::json(status.unwrap_or(202), &one(&*self.0, to))
    }
}

impl Output for Done {
    fn reply(self, status: Option<u16>, _: &Reader) -> Reply {
        Reply::new(status.unwrap_or(204))
    }
}

impl Output for Document {
    fn reply(self, status: Option<u16>, _: &Reader) -> Reply {
        Reply::json(status.unwrap_or(200), &self.0)
    }
}

/// A reply that the handler has made whole, headers and all.
impl Output for Permitted<Reply> {
    fn reply(self, status: Option<u16>, _: &Reader) -> Reply {
        let mut reply = self.into_inner();
        if let Some(status) = status.and_then(|status| http::StatusCode::from_u16(status).ok()) {
            reply.status = status;
        }
        reply
    }
}

/// For operations that need no token, and so permit nothing: version documents and log-in.
impl Output for Reply {
    fn reply(self, _: Option<u16>, _: &Reader) -> Reply {
        self
    }
}

impl<T: View + Send> Output for Listed<T> {
    /// Each item is written and dropped before the next one is made: a long page is never in memory twice.
    fn reply(self, status: Option<u16>, to: &Reader) -> Reply {
        let rows = self.0;
        let (mut first, mut last) = (None, None);
        let mut text = Vec::with_capacity(128);
        text.push(b'{');
        write(&mut text, &T::MANY);
        text.extend_from_slice(b":[");
        for (place, row) in rows.iter().enumerate() {
            let item = row.item(to);
            if place == 0 {
                first = marker(Some(&item), to);
            } else {
                text.push(b',');
            }
            if place + 1 == rows.len() {
                last = marker(Some(&item), to);
            }
            write(&mut text, &item);
            if place == 0 {
                // The others are about as long.
                text.reserve(rows.len() * (text.len() + text.len() / 8));
            }
        }
        text.push(b']');
        for (key, value) in links(T::MANY, rows.len(), first, last, to) {
            text.push(b',');
            write(&mut text, &key);
            text.push(b':');
            write(&mut text, &value);
        }
        text.push(b'}');
        Reply::text(status.unwrap_or(200), "application/json", text)
    }
}

fn write(text: &mut Vec<u8>, value: &impl serde::Serialize) {
    serde_json::to_writer(text, value).expect("a vector takes everything, and JSON values can all be written");
}

/// The body of a list with its page links, for handlers that put it together themselves.
pub fn listed(many: &str, items: Vec<Json>, to: &Reader) -> Json {
    let (first, last) = (marker(items.first(), to), marker(items.last(), to));
    let mut body = links(many, items.len(), first, last, to);
    body.insert(many.to_string(), Json::Array(items));
    Json::Object(body)
}

/// What stands beside the items of a list.
fn links(many: &str, count: usize, first: Option<String>, last: Option<String>, to: &Reader) -> Map<String, Json> {
    let full = to.page.limit.is_some_and(|limit| limit > 0 && count >= limit as usize);
    let mut body = Map::new();
    match to.envelope {
        Envelope::Compute => compute_links(many, last.filter(|_| full), to, &mut body),
        Envelope::Network => network_links(many, full, first, last, to, &mut body),
        Envelope::Identity => identity_links(last.filter(|_| full), to, &mut body),
        Envelope::Image => image_links(last.filter(|_| full), to, &mut body),
        Envelope::Placement => {}
    }
    body
}

/// What a page is continued after: the item's key, also where the item is wrapped once more.
fn marker(item: Option<&Json>, to: &Reader) -> Option<String> {
    let (item, key) = (item?, to.listing.map_or("id", Listing::marker_key));
    match item.get(key).or_else(|| item.as_object()?.values().next()?.get(key))? {
        Json::String(text) => Some(text.clone()),
        Json::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Upstream: the parameters are sorted, and of those given more than once the last one stays.
fn compute_links(many: &str, next: Option<String>, to: &Reader, body: &mut Map<String, Json>) {
    if let Some(last) = next {
        let mut pairs: BTreeMap<&str, &str> = to.query_without(&[]).collect();
        pairs.insert("marker", &last);
        let href = to.page_link(pairs.into_iter());
        body.insert(format!("{many}_links"), json!([{"rel": "next", "href": href}]));
    }
}

/// Upstream: the first page has a link to one before it, too.
fn network_links(
    many: &str,
    full: bool,
    first: Option<String>,
    last: Option<String>,
    to: &Reader,
    body: &mut Map<String, Json>,
) {
    if to.page.limit.is_none() || !to.query.has("limit") {
        return;
    }
    let link = |marker: Option<&str>, reverse: Option<&str>| {
        let marker = marker.map(|marker| ("marker", marker));
        let reverse = reverse.map(|flag| ("page_reverse", flag));
        let pairs: Vec<_> = to.query_without(&["marker", "page_reverse"]).chain(marker).chain(reverse).collect();
        to.page_link(pairs.into_iter())
    };
    let mut links = Vec::new();
    if full || to.page.reverse {
        links.push(json!({"rel": "next", "href": link(last.as_deref(), None)}));
    }
    if full || !to.page.reverse {
        links.push(json!({"rel": "previous", "href": link(first.as_deref(), Some("True"))}));
    }
    body.insert(format!("{many}_links"), Json::Array(links));
}

fn identity_links(next: Option<String>, to: &Reader, body: &mut Map<String, Json>) {
    let mark = if to.raw_query.is_empty() { "" } else { "?" };
    let this = format!("{}{mark}{}", to.link(&to.path), to.raw_query);
    // Upstream: where the service cut the list, not the client, that is said, and no link is given.
    if next.is_some() && !to.query.has("limit") {
        body.insert("truncated".into(), json!(true));
    }
    let next = next.filter(|_| to.query.has("limit")).map(|last| {
        let marker = std::iter::once(("marker", last.as_str()));
        to.page_link(to.query_without(&["marker"]).chain(marker))
    });
    body.insert("links".into(), json!({"self": this, "next": next, "previous": null}));
}

/// Upstream: image's links are paths without scheme and host.
fn image_links(next: Option<String>, to: &Reader, body: &mut Map<String, Json>) {
    let local = |link: String| link.replacen(&to.base_url, "", 1);
    let kept = || to.query_without(&["marker"]);
    body.insert("first".into(), json!(local(to.page_link(kept()))));
    if let Some(last) = next {
        let marker = std::iter::once(("marker", last.as_str()));
        body.insert("next".into(), json!(local(to.page_link(kept().chain(marker)))));
    }
}
