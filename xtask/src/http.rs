//! A client of one plain HTTP API, just large enough for asking a cloud things: one connection per question.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value as Json, json};

use crate::cloud;

/// Limit: no question of ours takes longer to answer.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Reply {
    pub status: u16,
    head: String,
    pub body: Json,
}

impl Reply {
    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
    }
}

/// Somebody who has logged in to a cloud.
pub struct Session {
    catalog: Json,
    token: String,
    pub project: String,
}

impl Session {
    /// Logs in with the credentials of a keystonerc file.
    pub fn open(keystonerc: &Path) -> Result<Session> {
        let found = cloud::credentials(keystonerc)?;
        let value = |name: &str| {
            let pair = found.iter().find(|(key, _)| key == name);
            pair.map(|(_, value)| value.clone()).with_context(|| format!("{} has no {name}", keystonerc.display()))
        };
        let domain = json!({"name": "Default"});
        let user = json!({"name": value("OS_USERNAME")?, "domain": domain, "password": value("OS_PASSWORD")?});
        let scope = json!({"project": {"name": value("OS_PROJECT_NAME")?, "domain": domain}});
        let identity = json!({"methods": ["password"], "password": {"user": user}});
        let body = json!({"auth": {"identity": identity, "scope": scope}});
        let reply = exchange("POST", &format!("{}/auth/tokens", value("OS_AUTH_URL")?), &[], &body)?;
        let token = reply.header("x-subject-token").context("no token came back")?.to_owned();
        let project = reply.body["token"]["project"]["id"].as_str().context("the token is for no project")?.to_owned();
        Ok(Session { catalog: reply.body["token"]["catalog"].clone(), token, project })
    }

    /// Asks a service; the reply may be a refusal.
    pub fn ask(&self, method: &str, service: &str, path: &str, body: &Json) -> Result<Reply> {
        let services = self.catalog.as_array().into_iter().flatten();
        let endpoints = services.filter(|it| it["type"] == service).flat_map(|it| it["endpoints"].as_array());
        let public = endpoints.flatten().find(|it| it["interface"] == "public");
        let url = public.and_then(|it| it["url"].as_str()).with_context(|| format!("no {service} in the catalog"))?;
        let version = match service {
            "compute" => "compute 2.37",
            _ => "",
        };
        let headers = [("X-Auth-Token", self.token.as_str()), ("OpenStack-API-Version", version)];
        exchange(method, &format!("{}{path}", url.trim_end_matches('/')), &headers, body)
    }

    /// Asks a service for something that must be there.
    pub fn get(&self, service: &str, path: &str) -> Result<Json> {
        let reply = self.ask("GET", service, path, &Json::Null)?;
        if reply.status != 200 {
            bail!("GET {path} of {service} gives {}: {}", reply.status, reply.body);
        }
        Ok(reply.body)
    }
}

fn exchange(method: &str, url: &str, headers: &[(&str, &str)], body: &Json) -> Result<Reply> {
    let rest = url.strip_prefix("http://").with_context(|| format!("{url} is not a plain address"))?;
    let (at, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let address = at.to_socket_addrs()?.next().with_context(|| format!("{at} is no address"))?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;

    let text = if body.is_null() { String::new() } else { body.to_string() };
    let mut request =
        format!("{method} {path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\nAccept: application/json\r\n");
    for (name, value) in headers.iter().filter(|(_, value)| !value.is_empty()) {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    if !text.is_empty() || method != "GET" {
        request.push_str(&format!("Content-Type: application/json\r\nContent-Length: {}\r\n", text.len()));
    }
    stream.write_all(format!("{request}\r\n{text}").as_bytes())?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    read(&bytes).with_context(|| format!("{method} {url} got no whole answer"))
}

fn read(bytes: &[u8]) -> Result<Reply> {
    let end = bytes.windows(4).position(|it| it == b"\r\n\r\n").context("the head does not end")?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|it| it.parse().ok()).context("no status")?;
    let mut reply = Reply { status, head, body: Json::Null };
    let rest = &bytes[end + 4..];
    let chunked = reply.header("transfer-encoding").is_some_and(|it| it.eq_ignore_ascii_case("chunked"));
    let body = if chunked { join(rest)? } else { rest.to_vec() };
    reply.body = serde_json::from_slice(&body).unwrap_or(Json::Null);
    Ok(reply)
}

/// Puts the chunks of a body together.
fn join(mut rest: &[u8]) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|it| it == b"\r\n").context("a chunk without a size")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end])?.trim(), 16)?;
        if size == 0 {
            return Ok(body);
        }
        let start = end + 2;
        body.extend(rest.get(start..start + size).context("a chunk is cut off")?);
        rest = rest.get(start + size + 2..).context("the chunks do not end")?;
    }
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn whole_and_chunked_answers_are_read() {
        let whole = read(b"HTTP/1.1 201 Created\r\nX-Subject-Token: abc\r\n\r\n{\"a\": 1}").expect("complete");
        assert_eq!((whole.status, whole.header("x-subject-token"), &whole.body["a"]), (201, Some("abc"), &1.into()));
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n{\"a\"\r\n4\r\n: 1}\r\n0\r\n\r\n";
        assert_eq!(read(chunked).expect("complete").body["a"], 1);
        assert!(read(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{").is_err());
    }
}
