//! The console proxy: a browser's WebSocket on one side, a guest's VNC server on the other, usually on port 6080.
//!
//! ```text
//! noVNC ── GET /?token=… (WebSocket, binary frames) ──► token's row ──► bytes ⇄ VNC server
//! browser ── GET /vnc_lite.html ──► the distribution's noVNC files, when they are there
//! ```
//!
//! - `head`      reads a request's head; a browser sends nothing that needs more
//! - `websocket` the handshake and the frames
//! - `files`     noVNC's own pages

mod files;
mod head;
mod websocket;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{Semaphore, watch};

use crate::Compute;
use crate::consoles::{self, ConsoleToken};
use head::Head;

/// Limit: connections at once.
const CONNECTIONS: usize = 1024;
/// Limit: until a client has sent its request, and until a VNC server has been reached.
const PATIENCE: Duration = Duration::from_secs(10);
/// Where Debian's package `novnc` puts its files.
const NOVNC: &str = "/usr/share/novnc";

/// Anything that carries bytes both ways.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Answers connections of `listener` until `stop` turns true. Open consoles end with the process.
pub async fn serve(listener: TcpListener, compute: Arc<Compute>, mut stop: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    // Until told to stop.
    loop {
        let accepted = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((client, peer)) = accepted else {
            // Out of file descriptors is the usual cause, and goes away.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let Ok(place) = places.clone().try_acquire_owned() else { continue };
        let compute = compute.clone();
        tokio::spawn(async move {
            if let Err(error) = answer(client, &compute).await {
                tracing::debug!(%peer, %error, "a console connection ended early");
            }
            drop(place);
        });
    }
}

async fn answer(mut client: TcpStream, compute: &Compute) -> std::io::Result<()> {
    let _ = client.set_nodelay(true);
    let head = match tokio::time::timeout(PATIENCE, head::read(&mut client)).await {
        Ok(Ok(Some(head))) => head,
        Ok(Ok(None)) => return refuse(&mut client, 400, "Bad Request").await,
        Ok(Err(error)) => return Err(error),
        Err(_) => return refuse(&mut client, 408, "Request Timeout").await,
    };
    if head.method != "GET" {
        return refuse(&mut client, 405, "Method Not Allowed").await;
    }
    match websocket::key(&head) {
        None => files::answer(&mut client, &head, &PathBuf::from(NOVNC)).await,
        Some(_) if !is_same_site(&head) => refuse(&mut client, 403, "Forbidden").await,
        Some(key) => watch_console(client, compute, &head, &key).await,
    }
}

/// Upstream: a page of another site must not open consoles with a token that it has seen.
fn is_same_site(head: &Head) -> bool {
    let name = |authority: &str| match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name.to_ascii_lowercase(),
        _ => authority.to_ascii_lowercase(),
    };
    let Some(origin) = head.header("origin") else { return true };
    let origin = origin.split_once("://").map_or(origin, |(_, rest)| rest);
    head.header("host").is_some_and(|host| name(host) == name(origin))
}

async fn watch_console(mut client: TcpStream, compute: &Compute, head: &Head, key: &str) -> std::io::Result<()> {
    let token = head.token();
    let row = match &token {
        Some(token) => consoles::find(&compute.db, token).await.map_err(std::io::Error::other)?,
        None => None,
    };
    let Some(row) = row else {
        return refuse(&mut client, 403, "Forbidden").await;
    };
    let screen = match tokio::time::timeout(PATIENCE, reach(&row)).await {
        Ok(Ok(screen)) => screen,
        _ => {
            tracing::warn!(server = row.server_id, host = row.host, port = row.port, "a guest's screen is not reached");
            return refuse(&mut client, 502, "Bad Gateway").await;
        }
    };
    tracing::info!(server = row.server_id, "a console is opened");
    websocket::accept(&mut client, head, key).await?;
    websocket::carry(client, screen).await
}

/// Connects to the VNC server behind a token.
async fn reach(row: &ConsoleToken) -> std::io::Result<Box<dyn Stream>> {
    match &row.socket {
        Some(path) => Ok(Box::new(UnixStream::connect(path).await?)),
        None => {
            let port = u16::try_from(row.port).map_err(std::io::Error::other)?;
            Ok(Box::new(TcpStream::connect((row.host.as_str(), port)).await?))
        }
    }
}

/// Without a body: a client that expects frames would take it for one.
async fn refuse(client: &mut TcpStream, status: u16, reason: &str) -> std::io::Result<()> {
    let text = format!("HTTP/1.1 {status} {reason}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    client.write_all(text.as_bytes()).await?;
    client.shutdown().await
}
