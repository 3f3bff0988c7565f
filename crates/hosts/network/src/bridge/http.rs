//! As much HTTP/1.1 as forwarding a metadata request needs: one request for each connection, everything bounded.

use std::io::{Error, ErrorKind};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Limit: a request's or an answer's head; metadata clients send a few hundred bytes.
const LONGEST_HEAD: usize = 16 * 1024;
/// Limit: headers of a request.
const MOST_HEADERS: usize = 64;
/// Limit: what a guest may post, such as its encrypted password.
const LONGEST_BODY: u64 = 64 * 1024;
/// Limit: user data and vendor data are far smaller.
const LONGEST_ANSWER: u64 = 16 * 1024 * 1024;

/// Meant for the connection only, or said anew by the proxy; a guest must not speak for itself about who it is.
const NOT_FORWARDED: [&str; 12] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "expect",
    "host",
    "content-length",
    "x-forwarded-for",
    "x-tenant-id",
];
const IDENTITY: [&str; 2] = ["x-instance-id", "x-metadata-"];

pub(crate) type Refusal = &'static str;
const BAD: Refusal = "400 Bad Request";
pub(crate) const NOT_FOUND: Refusal = "404 Not Found";
const NEEDS_LENGTH: Refusal = "411 Length Required";
const TOO_LARGE: Refusal = "413 Content Too Large";
const HEAD_TOO_LARGE: Refusal = "431 Request Header Fields Too Large";
pub(crate) const UNAVAILABLE: Refusal = "503 Service Unavailable";

/// A request whose body, but for its first bytes, is still to be read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    /// The part of the body that came with the head, and how long all of it is.
    body_start: Vec<u8>,
    body_length: u64,
    awaits_go_ahead: bool,
}

pub(crate) async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Result<Result<Request, Refusal>, Error> {
    let Some((head, rest)) = read_head(stream).await? else { return Ok(Err(HEAD_TOO_LARGE)) };
    Ok(parse(&head, rest))
}

/// Reads to the empty line; none if it does not come within the limit.
async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<(String, Vec<u8>)>, Error> {
    const END: &[u8] = b"\r\n\r\n";
    let mut bytes = Vec::with_capacity(1024);
    loop {
        if let Some(at) = bytes.windows(END.len()).position(|four| four == END) {
            let rest = bytes.split_off(at + END.len());
            let head = String::from_utf8(bytes).map_err(|error| Error::new(ErrorKind::InvalidData, error))?;
            return Ok(Some((head, rest)));
        }
        if bytes.len() >= LONGEST_HEAD {
            return Ok(None);
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
    }
}

fn parse(head: &str, body_start: Vec<u8>) -> Result<Request, Refusal> {
    let mut lines = head.trim_end_matches("\r\n").split("\r\n");
    let words: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
    let [method, target, "HTTP/1.1" | "HTTP/1.0"] = words[..] else { return Err(BAD) };
    // A client that takes us for a proxy names the host too.
    let target = target.strip_prefix("http://").map_or(target, |rest| rest.find('/').map_or("/", |at| &rest[at..]));
    let printable = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    if !method.bytes().all(|byte| byte.is_ascii_uppercase()) || !target.starts_with('/') || !printable(target) {
        return Err(BAD);
    }
    let headers: Vec<(String, String)> = lines.map(header).collect::<Option<_>>().ok_or(BAD)?;
    if headers.len() > MOST_HEADERS {
        return Err(HEAD_TOO_LARGE);
    }
    if value(&headers, "transfer-encoding").is_some() {
        return Err(NEEDS_LENGTH);
    }
    let body_length = match value(&headers, "content-length") {
        Some(text) => text.parse().map_err(|_| BAD)?,
        None => 0,
    };
    if body_length > LONGEST_BODY {
        return Err(TOO_LARGE);
    }
    let awaits_go_ahead = value(&headers, "expect").is_some() && body_start.is_empty();
    Ok(Request { method: method.into(), target: target.into(), headers, body_start, body_length, awaits_go_ahead })
}

fn header(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once(':')?;
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let sound = !name.is_empty() && name.bytes().all(token) && !value.chars().any(|c| c.is_control() && c != '\t');
    sound.then(|| (name.to_string(), value.trim().to_string()))
}

fn value<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// What the proxy says in the guest's place.
#[derive(Debug, Clone)]
pub(crate) struct Introduction {
    /// The `Host` of the service, and the path that comes before the guest's.
    pub authority: String,
    pub prefix: String,
    pub headers: Vec<(String, String)>,
}

/// Sends a request on and the answer back.
pub(crate) async fn forward<G, U>(
    guest: &mut G,
    upstream: &mut U,
    request: &Request,
    introduction: &Introduction,
) -> Result<(), Error>
where
    G: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    upstream.write_all(request_head(request, introduction).as_bytes()).await?;
    if request.awaits_go_ahead {
        guest.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    let start = request.body_start.len().min(usize::try_from(request.body_length).unwrap_or(usize::MAX));
    upstream.write_all(&request.body_start[..start]).await?;
    let rest = request.body_length - start as u64;
    tokio::io::copy(&mut guest.take(rest), upstream).await?;
    answer(guest, upstream).await
}

fn request_head(request: &Request, introduction: &Introduction) -> String {
    let Introduction { authority, prefix, headers } = introduction;
    let mut head = format!("{} {prefix}{} HTTP/1.1\r\nHost: {authority}\r\n", request.method, request.target);
    let passing = request.headers.iter().filter(|(name, _)| {
        let name = name.to_ascii_lowercase();
        !NOT_FORWARDED.contains(&name.as_str()) && !IDENTITY.iter().any(|mark| name.starts_with(mark))
    });
    for (name, value) in headers.iter().chain(passing) {
        head += &format!("{name}: {value}\r\n");
    }
    if value(&request.headers, "content-length").is_some() {
        head += &format!("Content-Length: {}\r\n", request.body_length);
    }
    head + "Connection: close\r\n\r\n"
}

/// The answer as it is, but that the connection ends after it.
async fn answer<G, U>(guest: &mut G, upstream: &mut U) -> Result<(), Error>
where
    G: AsyncWrite + Unpin,
    U: AsyncRead + Unpin,
{
    let (head, rest) = match read_head(upstream).await {
        Ok(Some(head)) => head,
        Ok(None) | Err(_) => return refuse(guest, UNAVAILABLE).await,
    };
    let mut lines = head.trim_end_matches("\r\n").split("\r\n");
    let mut text = format!("{}\r\n", lines.next().unwrap_or_default());
    for line in lines {
        let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
        if name != "connection" && name != "keep-alive" {
            text += &format!("{line}\r\n");
        }
    }
    guest.write_all((text + "Connection: close\r\n\r\n").as_bytes()).await?;
    guest.write_all(&rest).await?;
    tokio::io::copy(&mut upstream.take(LONGEST_ANSWER), guest).await?;
    guest.shutdown().await
}

pub(crate) async fn refuse(guest: &mut (impl AsyncWrite + Unpin), refusal: Refusal) -> Result<(), Error> {
    let length = refusal.len() + 1;
    let head = format!("HTTP/1.1 {refusal}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n");
    guest.write_all(format!("{head}Connection: close\r\n\r\n{refusal}\n").as_bytes()).await?;
    guest.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(head: &str) -> Result<Request, Refusal> {
        parse(head, Vec::new())
    }

    #[test]
    fn a_guest_cannot_say_who_it_is() {
        let said = "GET /openstack HTTP/1.1\r\nHost: 169.254.169.254\r\nX-Instance-ID: other\r\n\
            X-Instance-ID-Signature: 00\r\nX-Tenant-ID: p\r\nX-Forwarded-For: 10.0.0.9\r\nAccept: */*\r\n\r\n";
        let request = request(said).unwrap();
        let headers = vec![("X-Instance-ID".into(), "own".into())];
        let introduction = Introduction { authority: "127.0.0.1:8775".into(), prefix: String::new(), headers };
        let head = request_head(&request, &introduction);
        let wanted = "GET /openstack HTTP/1.1\r\nHost: 127.0.0.1:8775\r\nX-Instance-ID: own\r\nAccept: */*\r\n\
            Connection: close\r\n\r\n";
        assert_eq!(head, wanted);
    }

    #[test]
    fn what_is_too_much_or_not_http_is_refused() {
        assert_eq!(request("POST / HTTP/1.1\r\nContent-Length: 65537\r\n\r\n"), Err(TOO_LARGE));
        assert_eq!(request("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"), Err(NEEDS_LENGTH));
        assert_eq!(request("hello\r\n\r\n"), Err(BAD));
        assert_eq!(request("GET / HTTP/1.1\r\n folded: no\r\n\r\n"), Err(BAD));
        assert_eq!(request("GET http://169.254.169.254/latest HTTP/1.1\r\n\r\n").unwrap().target, "/latest");
    }
}
