//! The socket side: HTTP/1.1 connections in front of an [`Endpoint`].

mod patient;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use crate::limits;
use crate::message::{Chunks, Content, Endpoint, HeaderMap, Reply, Request};
use patient::Patient;

/// Answers connections of `listener` until `stop` turns true, then lets requests in progress finish within
/// [`limits::DRAIN_TIME`].
///
/// A request whose client has gone away is carried out to its end: a handler is never cut off between two awaits.
pub async fn serve(listener: TcpListener, endpoint: Arc<dyn Endpoint>, stop: watch::Receiver<bool>) {
    serve_with(listener, endpoint, stop, Patience::default()).await;
}

/// How long clients are waited for.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    pub header: Duration,
    pub read_pause: Duration,
    pub write_pause: Duration,
    pub drain: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            header: limits::HEADER_TIME,
            read_pause: limits::READ_PAUSE,
            write_pause: limits::WRITE_PAUSE,
            drain: limits::DRAIN_TIME,
        }
    }
}

/// The same with another patience.
pub async fn serve_with(
    listener: TcpListener,
    endpoint: Arc<dyn Endpoint>,
    mut stop: watch::Receiver<bool>,
    patience: Patience,
) {
    let places = Arc::new(Semaphore::new(limits::CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let place = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            place = places.clone().acquire_owned() => place.expect("the semaphore is never closed"),
        };
        let accepted = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            accepted = listener.accept() => accepted,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, peer)) => {
                let _ = stream.set_nodelay(true);
                let room = Room { endpoint: endpoint.clone(), place: Arc::new(place), patience };
                connections.spawn(connection(stream, peer, room, stop.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    // A place is free again when its connection is closed and its last request has been carried out.
    let everybody = u32::try_from(limits::CONNECTIONS).expect("the limit is small");
    if tokio::time::timeout(patience.drain, places.acquire_many(everybody)).await.is_err() {
        tracing::warn!("requests were still in progress when the time to finish them ran out");
    }
}

/// What the requests of one connection have in common.
#[derive(Clone)]
struct Room {
    endpoint: Arc<dyn Endpoint>,
    /// Held until the connection and every request of it are done.
    place: Arc<OwnedSemaphorePermit>,
    patience: Patience,
}

async fn connection(stream: TcpStream, peer: SocketAddr, room: Room, mut stop: watch::Receiver<bool>) {
    let patience = room.patience;
    let local: Arc<str> = stream.local_addr().map(|address| address.to_string()).unwrap_or_default().into();
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let (room, local) = (room.clone(), local.clone());
        async move { Ok::<_, Infallible>(answer(request, room, &local).await) }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(patience.header)
        .max_headers(limits::HEADERS)
        .max_buf_size(limits::HEADER_BYTES)
        .half_close(true);
    let connection = http.serve_connection(TokioIo::new(Patient::new(stream, patience.write_pause)), service);
    tokio::pin!(connection);
    let mut stopping = false;
    loop {
        tokio::select! {
            result = &mut connection => {
                if let Err(error) = result {
                    tracing::debug!(%peer, %error, "a connection ended early");
                }
                return;
            }
            _ = stop.wait_for(|stop| *stop), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

async fn answer(request: hyper::Request<Incoming>, room: Room, local: &str) -> hyper::Response<Outgoing> {
    let (parts, body) = request.into_parts();
    if parts.uri.path_and_query().is_some_and(|target| target.as_str().len() > limits::URI_BYTES) {
        return outgoing(Reply::new(414));
    }
    let headers = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>();
    if headers > limits::HEADER_BYTES {
        return outgoing(Reply::new(431));
    }
    // The other forms are for proxies, and `*` for nobody.
    if !parts.uri.path().starts_with('/') {
        return outgoing(Reply::new(400));
    }
    let base_url = base_url(&parts.headers, local);
    let length = body.size_hint().exact();
    let content = match length {
        Some(0) => Content::Empty,
        _ => Content::Chunks { length, chunks: incoming(body, room.patience.read_pause) },
    };
    let request = Request {
        method: parts.method,
        path: parts.uri.path().to_string(),
        query: parts.uri.query().unwrap_or_default().to_string(),
        headers: parts.headers,
        content,
        caller: None,
        base_url,
    };
    let work = tokio::spawn(async move {
        let reply = room.endpoint.call(request).await;
        drop(room.place);
        reply
    });
    // Endpoints answer panics by themselves; this is for what is no service of ours.
    outgoing(work.await.unwrap_or_else(|_| Reply::new(500)))
}

/// What the client thinks it talks to. A proxy in front says so.
fn base_url(headers: &HeaderMap, local: &str) -> String {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).filter(|text| !text.is_empty());
    let first = |text: &str| text.split(',').next().unwrap_or_default().trim().to_string();
    let scheme = header("x-forwarded-proto").map(first).filter(|scheme| scheme == "https");
    let host = header("x-forwarded-host").or(header("host")).map(first).filter(|host| is_host(host));
    let prefix = header("x-forwarded-prefix").filter(|prefix| is_prefix(prefix));
    let prefix = prefix.map(|prefix| prefix.trim_end_matches('/')).unwrap_or_default();
    format!("{}://{}{prefix}", scheme.unwrap_or_else(|| "http".into()), host.unwrap_or_else(|| local.to_string()))
}

/// Links must not carry what a client smuggles into its host header.
fn is_host(text: &str) -> bool {
    text.len() <= 260
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']' | b'_'))
}

fn is_prefix(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.' | b'-' | b'_' | b'~');
    text.len() <= 260 && text.starts_with('/') && !text.starts_with("//") && text.bytes().all(plain)
}

fn incoming(body: Incoming, pause: Duration) -> Chunks {
    Box::pin(unpaused(body.into_data_stream().map(|chunk| chunk.map_err(std::io::Error::other)), pause))
}

/// The same chunks; a pause that is too long ends them with an error.
pub(crate) fn unpaused<S>(chunks: S, pause: Duration) -> impl Stream<Item = std::io::Result<Bytes>> + Send
where
    S: Stream<Item = std::io::Result<Bytes>> + Send + Unpin,
{
    futures_util::stream::unfold(Some(chunks), move |chunks| async move {
        let mut chunks = chunks?;
        match tokio::time::timeout(pause, chunks.next()).await {
            Ok(None) => None,
            Ok(Some(chunk)) => Some((chunk, Some(chunks))),
            Err(_) => Some((Err(std::io::ErrorKind::TimedOut.into()), None)),
        }
    })
}

fn outgoing(reply: Reply) -> hyper::Response<Outgoing> {
    let mut response = hyper::Response::new(Outgoing(match reply.content {
        Content::Empty => Out::Bytes(None),
        Content::Bytes(bytes) => Out::Bytes(Some(bytes)),
        Content::Chunks { length, chunks } => Out::Chunks { left: length, chunks },
    }));
    *response.status_mut() = reply.status;
    *response.headers_mut() = reply.headers;
    response
}

/// The body of a response.
struct Outgoing(Out);

enum Out {
    Bytes(Option<Bytes>),
    Chunks { left: Option<u64>, chunks: Chunks },
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match &mut self.0 {
            Out::Bytes(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Out::Chunks { left, chunks } => match chunks.as_mut().poll_next(cx) {
                Poll::Ready(Some(Ok(chunk))) => {
                    *left = left.map(|left| left.saturating_sub(chunk.len() as u64));
                    Poll::Ready(Some(Ok(Frame::data(chunk))))
                }
                Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.0, Out::Bytes(None))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Out::Bytes(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Out::Chunks { left: Some(left), .. } => SizeHint::with_exact(*left),
            Out::Chunks { left: None, .. } => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_do_not_carry_what_a_client_smuggles_in() {
        let url = |pairs: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            pairs.iter().for_each(|(name, value)| {
                headers.insert(*name, value.parse().unwrap());
            });
            base_url(&headers, "10.0.0.1:8774")
        };
        assert_eq!(url(&[]), "http://10.0.0.1:8774");
        assert_eq!(url(&[("host", "controller:8774")]), "http://controller:8774");
        assert_eq!(url(&[("host", "evil/<script>")]), "http://10.0.0.1:8774");
        let proxied =
            [("host", "inside"), ("x-forwarded-host", "cloud.example, inside"), ("x-forwarded-proto", "https")];
        assert_eq!(url(&proxied), "https://cloud.example");
        assert_eq!(url(&[("host", "c"), ("x-forwarded-prefix", "/compute/")]), "http://c/compute");
        assert_eq!(url(&[("host", "c"), ("x-forwarded-prefix", "//evil")]), "http://c");
        assert_eq!(url(&[("host", "c"), ("x-forwarded-prefix", "/a\"b")]), "http://c");
        assert_eq!(url(&[("host", "c"), ("x-forwarded-proto", "javascript")]), "http://c");
    }
}
