//! The metadata service: the documents over HTTP, for the metadata proxies of hosts, usually on port 8775.
//!
//! A proxy says who asks (`X-Instance-ID`, `X-Tenant-ID`) and signs it with the secret that it shares with us.

use std::sync::Arc;

use api::message::{BoxFuture, HeaderMap};
use api::{Content, Endpoint, Method, Reply, Request};
use db::sql;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::documents::{Documents, Found};
use super::{EC2_VERSIONS, LATEST};
use crate::Compute;
use crate::servers::store::{self, Server};

/// Limit: bytes of the password that a guest posts. Upstream keeps four columns of 255.
const PASSWORD_BYTES: usize = 4 * 255;
const PLAIN: &str = "text/plain; charset=UTF-8";

/// Answers what the proxies of hosts forward.
pub struct Service {
    compute: Arc<Compute>,
    /// Upstream's `[neutron] metadata_proxy_shared_secret`.
    secret: String,
}

impl Service {
    pub fn new(compute: Arc<Compute>, shared_secret: &str) -> Service {
        Service { compute, secret: shared_secret.to_string() }
    }

    async fn answer(&self, request: Request) -> Result<Reply, Reply> {
        let path = api::message::decode(&request.path);
        if path.trim_matches('/').is_empty() {
            // Upstream: the versions are no secret.
            let text = format!("{}\n{LATEST}", EC2_VERSIONS.join("\n"));
            return Ok(Reply::text(200, PLAIN, text));
        }
        if path == "/healthcheck" {
            return Ok(Reply::text(200, PLAIN, "OK"));
        }
        let server = self.server(&request.headers).await?;
        if is_password(&path) && request.method == Method::POST {
            return self.keep_password(&server, request.content).await;
        }
        if !matches!(request.method, Method::GET | Method::HEAD) {
            return Err(refusal(405, "Metadata can only be read."));
        }
        match Documents::new(&server).find(&path) {
            Some(Found::Json(bytes)) => Ok(Reply::text(200, "application/json", bytes)),
            Some(Found::Plain(bytes)) => Ok(Reply::text(200, PLAIN, bytes)),
            None => Err(missing()),
        }
    }

    /// The server that asks, if the proxy's signature says so.
    async fn server(&self, headers: &HeaderMap) -> Result<Server, Reply> {
        let id = one(headers, "X-Instance-ID").map_err(|text| refusal(400, &text))?;
        let signature = one(headers, "X-Instance-ID-Signature").map_err(|text| refusal(400, &text))?;
        let project = one(headers, "X-Tenant-ID").map_err(|text| refusal(400, &text))?;
        if !self.is_signed(id, signature) {
            tracing::warn!(server = id, "a metadata request has a wrong signature");
            return Err(refusal(403, "Invalid proxy request signature."));
        }
        let found = store::find(&self.compute.db, id).await.map_err(|error| broken(&error))?;
        found.filter(|server| server.project_id == project).ok_or_else(missing)
    }

    fn is_signed(&self, id: &str, signature: &str) -> bool {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.secret.as_bytes()).expect("a key of any length will do");
        mac.update(id.as_bytes());
        unhex(signature).is_some_and(|bytes| mac.verify_slice(&bytes).is_ok())
    }

    /// Keeps the password that a guest has made and encrypted: once.
    async fn keep_password(&self, server: &Server, content: Content) -> Result<Reply, Reply> {
        let Some(bytes) = content.bytes(PASSWORD_BYTES).await else {
            return Err(refusal(400, "Request is too large."));
        };
        let text = String::from_utf8(bytes.to_vec()).map_err(|_| refusal(400, "A password is text."))?;
        let change = sql("UPDATE servers SET guest_password = ? WHERE id = ? AND guest_password IS NULL");
        match self.compute.db.run(change.bind(text).bind(&server.id)).await {
            Ok(0) => Err(refusal(409, "The password has been set already.")),
            Ok(_) => Ok(Reply::text(200, PLAIN, "")),
            Err(error) => Err(broken(&error)),
        }
    }
}

impl Endpoint for Service {
    fn call(&self, request: Request) -> BoxFuture<'_, Reply> {
        Box::pin(async move {
            let head = request.method == Method::HEAD;
            let mut reply = self.answer(request).await.unwrap_or_else(|refusal| refusal);
            if head {
                reply.content = Content::Empty;
            }
            reply
        })
    }
}

/// The value of a header that must be there once.
fn one<'a>(headers: &'a HeaderMap, name: &str) -> Result<&'a str, String> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().and_then(|value| value.to_str().ok());
    let value = value.ok_or_else(|| format!("{name} header is missing from request."))?;
    match values.next() {
        Some(_) => Err(format!("Multiple {name} headers found within request.")),
        None => Ok(value),
    }
}

/// Whether this is `/openstack/<date>/password`, whatever the date: `latest` and every date since 2013-04-04 have it.
fn is_password(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    matches!(parts.as_slice(), ["openstack", date, "password"]
        if *date == LATEST || (super::DATES.contains(date) && *date >= "2013-04-04"))
}

fn refusal(status: u16, text: &str) -> Reply {
    Reply::text(status, PLAIN, text.to_string())
}

fn missing() -> Reply {
    refusal(404, "The resource could not be found.")
}

fn broken(error: &db::Error) -> Reply {
    tracing::error!(%error, "a metadata request failed");
    refusal(500, "An unknown error has occurred. Please try your request again.")
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).ok();
    (0..text.len()).step_by(2).map(byte).collect()
}
