//! The floor of HTTP: a server that answers a body of fixed size and does nothing else, in a process of its own.

use std::convert::Infallible;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::load::{Ask, Load};

/// Answers until it is killed; the port is the first line that it prints.
pub async fn serve(size: usize) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?.port());
    let body = Bytes::from(vec![b'x'; size]);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let body = body.clone();
        let service = service_fn(move |_| {
            let body = body.clone();
            async move { Ok::<_, Infallible>(Response::new(Full::new(body))) }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

/// Answers per second with bodies of this size.
pub async fn rate(size: usize, time: Duration) -> Result<f64> {
    let mut command = Command::new(std::env::current_exe()?);
    let mut server = command.args(["echo", &size.to_string()]).stdout(Stdio::piped()).spawn()?;
    let out = server.stdout.take().context("the echo has a standard output")?;
    let mut port = String::new();
    BufReader::new(out).read_line(&mut port)?;
    let load = Load::run(&Ask::get(&format!("127.0.0.1:{}", port.trim()), "/"), time).await;
    server.kill()?;
    server.wait()?;
    Ok(load?.rate)
}
