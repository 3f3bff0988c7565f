//! How long a start takes until the first answer, and how much memory an idle cloud holds.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Limit: a start that takes longer is broken.
const PATIENCE: Duration = Duration::from_secs(60);
const ASK_EVERY: Duration = Duration::from_millis(1);
/// Far from the ports of the cloud under measurement.
const PORT_OFFSET: u16 = 9_100;
const IDENTITY: u16 = 5_000;

/// Starts a cloud on a fresh and then on an existing data directory.
pub fn measure(program: &Path) -> Result<()> {
    let data_dir = std::env::temp_dir().join(format!("ferrostack-start-{}", std::process::id()));
    let fresh = one(program, &data_dir);
    let again = one(program, &data_dir);
    let _ = Command::new(program).args(["down", "--purge", "--data-dir"]).arg(&data_dir).output();
    let _ = fs::remove_dir_all(&data_dir);
    println!("start to the first 200, fresh data directory {:>8.2} s", fresh?.as_secs_f64());
    println!("start to the first 200, existing one         {:>8.2} s", again?.as_secs_f64());
    Ok(())
}

fn one(program: &Path, data_dir: &Path) -> Result<Duration> {
    let started = Instant::now();
    let mut up = Command::new(program);
    up.args(["up", "--fake", "--bind", "127.0.0.1", "--port-offset", &PORT_OFFSET.to_string(), "--data-dir"]);
    let mut child = up.arg(data_dir).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let time = loop {
        if answers(IDENTITY + PORT_OFFSET) {
            break Ok(started.elapsed());
        }
        if let Some(status) = child.try_wait()? {
            break Err(anyhow::anyhow!("ferrostack up ended: {status}"));
        }
        if started.elapsed() > PATIENCE {
            break Err(anyhow::anyhow!("no answer after {} s", PATIENCE.as_secs()));
        }
        std::thread::sleep(ASK_EVERY);
    };
    Command::new(program).args(["down", "--data-dir"]).arg(data_dir).output()?;
    let _ = child.kill();
    child.wait()?;
    time
}

fn answers(port: u16) -> bool {
    let ask = || -> Result<bool> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.write_all(b"GET /v3 HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text.starts_with("HTTP/1.1 200"))
    };
    ask().unwrap_or(false)
}

/// What the processes of a cloud hold, shared pages counted once.
pub fn memory_mb(data_dir: &Path) -> Result<f64> {
    let pid: u32 = fs::read_to_string(data_dir.join("lock"))?.trim().parse().context("no process holds the lock")?;
    let mut kilobytes = 0.0;
    for process in family(pid) {
        kilobytes += proportional(process).unwrap_or(0.0);
    }
    if kilobytes == 0.0 {
        bail!("process {pid} is gone");
    }
    Ok(kilobytes / 1_024.0)
}

/// A process and all below it.
fn family(root: u32) -> Vec<u32> {
    let mut found = vec![root];
    let mut at = 0;
    while at < found.len() {
        let children = format!("/proc/{}/task/{}/children", found[at], found[at]);
        let children = fs::read_to_string(children).unwrap_or_default();
        found.extend(children.split_whitespace().filter_map(|it| it.parse::<u32>().ok()));
        at += 1;
    }
    found
}

fn proportional(pid: u32) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}
