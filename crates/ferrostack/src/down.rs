//! `ferrostack down` and `status`.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use api::Json;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::command::{Down, Place};
use crate::layout::Layout;
use crate::purge;

/// Limit: until a cloud that was told to stop is gone.
const PATIENCE: Duration = Duration::from_secs(30);

pub fn down(options: Down) -> Result<()> {
    let layout = Layout::at(options.place.data_dir)?;
    match layout.holder()? {
        None => println!("No cloud runs in {}.", layout.root.display()),
        Some(pid) => {
            stop(&layout, pid)?;
            println!("The cloud is stopped. Guests, if there are any, go on.");
        }
    }
    if options.purge {
        purge::everything(&layout)?;
        println!("Nothing of it is left.");
    }
    Ok(())
}

fn stop(layout: &Layout, pid: i32) -> Result<()> {
    kill(Pid::from_raw(pid), Signal::SIGTERM).with_context(|| format!("telling process {pid} to stop"))?;
    let begun = Instant::now();
    while layout.holder()?.is_some() {
        if begun.elapsed() > PATIENCE {
            bail!("process {pid} has not stopped within {} s; look at {}", PATIENCE.as_secs(), layout.log().display());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

pub fn status(place: Place) -> Result<()> {
    let layout = Layout::at(place.data_dir)?;
    let Some(pid) = layout.holder()? else {
        println!("No cloud runs in {}.", layout.root.display());
        std::process::exit(3);
    };
    let running: Json = std::fs::read_to_string(layout.running())
        .ok()
        .and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default();
    println!("The cloud runs as process {pid}.");
    println!("  identity   {}", running["auth_url"].as_str().unwrap_or("(still starting)"));
    println!("  data       {}", layout.root.display());
    let kind = if running["fake"] == Json::Bool(true) { "simulated" } else { "real" };
    println!("  hosts      {} ({kind})", running["hosts"]);
    if let Some(kilobytes) = resident(pid) {
        println!("  memory     {} MB", kilobytes / 1024);
    }
    Ok(())
}

/// Resident memory of a process, in KiB.
fn resident(pid: i32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
