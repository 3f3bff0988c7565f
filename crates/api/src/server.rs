//! The socket side: HTTP/1.1 connections in front of an [`Endpoint`].

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::limits;
use crate::message::{Chunks, Content, Endpoint, HeaderMap, Reply, Request};

/// Answers connections of `listener` until `stop` turns true, then lets requests in progress finish within
/// [`limits::DRAIN_TIME`].
pub async fn serve(listener: TcpListener, endpoint: Arc<dyn Endpoint>, mut stop: watch::Receiver<bool>) {
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
                let (endpoint, stop) = (endpoint.clone(), stop.clone());
                connections.spawn(async move {
                    connection(stream, peer, endpoint, stop).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(limits::DRAIN_TIME, drained).await.is_err() {
        tracing::warn!("requests were still in progress when the time to finish them ran out");
    }
}

async fn connection(
    stream: tokio::net::TcpStream,
    peer: SocketAddr,
    endpoint: Arc<dyn Endpoint>,
    mut stop: watch::Receiver<bool>,
) {
    let local = stream.local_addr().map(|address| address.to_string()).unwrap_or_default();
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let (endpoint, local) = (endpoint.clone(), local.clone());
        async move { Ok::<_, Infallible>(answer(request, &*endpoint, &local).await) }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(limits::HEADER_TIME)
        .max_headers(limits::HEADERS)
        .max_buf_size(limits::HEADER_BYTES)
        .half_close(true);
    let connection = http.serve_connection(TokioIo::new(stream), service);
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

async fn answer(request: hyper::Request<Incoming>, endpoint: &dyn Endpoint, local: &str) -> hyper::Response<Outgoing> {
    let (parts, body) = request.into_parts();
    if parts.uri.path_and_query().is_some_and(|target| target.as_str().len() > limits::URI_BYTES) {
        return outgoing(Reply::new(414));
    }
    let base_url = base_url(&parts.headers, local);
    let length = body.size_hint().exact();
    let content = match length {
        Some(0) => Content::Empty,
        _ => Content::Chunks { length, chunks: incoming(body) },
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
    outgoing(endpoint.call(request).await)
}

/// What the client thinks it talks to. A proxy in front says so.
fn base_url(headers: &HeaderMap, local: &str) -> String {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).filter(|text| !text.is_empty());
    let first = |text: &str| text.split(',').next().unwrap_or_default().trim().to_string();
    let scheme = header("x-forwarded-proto").map(first).filter(|scheme| scheme == "https");
    let host = header("x-forwarded-host").or(header("host")).map(first).filter(|host| is_host(host));
    let prefix = header("x-forwarded-prefix").map(|prefix| prefix.trim_end_matches('/')).unwrap_or_default();
    format!("{}://{}{prefix}", scheme.unwrap_or_else(|| "http".into()), host.unwrap_or_else(|| local.to_string()))
}

/// Links must not carry what a client smuggles into its host header.
fn is_host(text: &str) -> bool {
    text.len() <= 260
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']' | b'_'))
}

fn incoming(body: Incoming) -> Chunks {
    let data = body.into_data_stream();
    Box::pin(data.map(|chunk| chunk.map_err(std::io::Error::other)))
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
