//! A client that asks the same thing over and over, on a few connections, as fast as it is answered.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// As many as keep a server of two processors busy.
const CONNECTIONS: usize = 8;

/// One thing that can be asked again and again.
#[derive(Clone)]
pub struct Ask {
    pub method: Method,
    /// `host:port`
    pub at: String,
    pub path: String,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
}

/// What a while of asking came to.
pub struct Load {
    /// Answers per second.
    pub rate: f64,
    pub median_ms: f64,
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: hyper::HeaderMap,
    pub body: Bytes,
}

impl Ask {
    pub fn get(at: &str, path: &str) -> Ask {
        Ask { method: Method::GET, at: at.into(), path: path.into(), headers: Vec::new(), body: String::new() }
    }

    fn request(&self) -> Result<Request<Full<Bytes>>> {
        let mut request = Request::builder().method(&self.method).uri(&self.path).header("host", &self.at);
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        Ok(request.body(Full::new(Bytes::from(self.body.clone())))?)
    }

    /// Asks once, on a connection of its own.
    pub async fn answer(&self) -> Result<Answer> {
        let mut connection = connect(&self.at).await?;
        answer(&mut connection, self).await
    }
}

/// The size of one good answer.
pub async fn once(ask: &Ask) -> Result<usize> {
    let answer = ask.answer().await?;
    if !answer.status.is_success() {
        bail!("{} {} gives {}: {}", ask.method, ask.path, answer.status, String::from_utf8_lossy(&answer.body));
    }
    Ok(answer.body.len())
}

impl Load {
    pub async fn run(ask: &Ask, time: Duration) -> Result<Load> {
        let started = Instant::now();
        let clients: Vec<_> = (0..CONNECTIONS).map(|_| tokio::spawn(one_client(ask.clone(), started + time))).collect();
        let mut times = Vec::new();
        for client in clients {
            times.extend(client.await??);
        }
        let rate = times.len() as f64 / started.elapsed().as_secs_f64();
        times.sort_unstable();
        let median = times.get(times.len() / 2).context("nothing was answered")?;
        Ok(Load { rate, median_ms: median.as_secs_f64() * 1_000.0 })
    }
}

async fn one_client(ask: Ask, until: Instant) -> Result<Vec<Duration>> {
    let mut connection = connect(&ask.at).await?;
    let mut times = Vec::new();
    while Instant::now() < until {
        let asked = Instant::now();
        let answer = answer(&mut connection, &ask).await?;
        if !answer.status.is_success() {
            bail!("{} {} gives {} under load", ask.method, ask.path, answer.status);
        }
        times.push(asked.elapsed());
    }
    Ok(times)
}

async fn connect(at: &str) -> Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(at).await.with_context(|| format!("cannot connect to {at}"))?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn answer(connection: &mut SendRequest<Full<Bytes>>, ask: &Ask) -> Result<Answer> {
    connection.ready().await?;
    let (head, body) = connection.send_request(ask.request()?).await?.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(Answer { status: head.status, headers: head.headers, body })
}
