//! The head of a request: its first line and its headers.

use tokio::io::{AsyncRead, AsyncReadExt};

/// Limit: bytes of a head.
const BYTES: usize = 16 << 10;

pub(super) struct Head {
    pub method: String,
    /// Percent-encoded, without the query.
    pub path: String,
    pub query: String,
    headers: Vec<(String, String)>,
}

impl Head {
    /// The first value of a header; names are in small letters.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The console's token: in the query, as noVNC sends it, or in a cookie.
    pub fn token(&self) -> Option<String> {
        let query = api::Query::parse(&self.query);
        // noVNC may put the whole of its `path` setting into the query once more.
        let nested = || api::Query::parse(query.get("path")?.trim_start_matches('?')).get("token").map(String::from);
        let cookie = || {
            let cookies = self.header("cookie")?.split(';');
            cookies.filter_map(|pair| pair.trim().strip_prefix("token=")).next().map(String::from)
        };
        query.get("token").map(String::from).or_else(nested).or_else(cookie)
    }
}

/// Reads a head and nothing beyond it. None: it is none, or too long.
pub(super) async fn read(from: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Option<Head>> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        if bytes.len() >= BYTES {
            return Ok(None);
        }
        match from.read_u8().await {
            Ok(byte) => bytes.push(byte),
            Err(error) if bytes.is_empty() => return Err(error),
            Err(_) => return Ok(None),
        }
    }
    Ok(parse(&String::from_utf8_lossy(&bytes)))
}

fn parse(text: &str) -> Option<Head> {
    let mut lines = text.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?, first.next()?);
    if !first.next()?.starts_with("HTTP/1.") || !target.starts_with('/') {
        return None;
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let headers = lines.filter_map(|line| line.split_once(':'));
    let headers = headers.map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_string()));
    Some(Head {
        method: method.to_string(),
        path: path.to_string(),
        query: query.to_string(),
        headers: headers.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_where_clients_put_it() {
        let head = |text: &str| parse(text).unwrap();
        assert_eq!(head("GET /?token=a-b HTTP/1.1\r\n\r\n").token().as_deref(), Some("a-b"));
        assert_eq!(head("GET /websockify?path=%3Ftoken%3Da HTTP/1.1\r\n\r\n").token().as_deref(), Some("a"));
        assert_eq!(head("GET / HTTP/1.1\r\nCookie: x=1; token=c\r\n\r\n").token().as_deref(), Some("c"));
        assert_eq!(head("GET / HTTP/1.1\r\n\r\n").token(), None);
        assert!(parse("nonsense\r\n\r\n").is_none());
    }
}
