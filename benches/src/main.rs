//! Measures a cloud of fake hosts against its physical floors, and prints ratios taken in one run.
//!
//! - [`cloud`]   the cloud under measurement: its API, its processes
//! - [`load`]    a client that asks the same thing as fast as it can
//! - [`echo`]    the floor of HTTP: a server that answers a fixed body
//! - [`rows`]    the floor of SQL: the same rows, read and thrown away
//! - [`start`]   how long a start takes, and what an idle cloud weighs

mod cloud;
mod echo;
mod load;
mod rows;
mod start;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::{Parser, Subcommand};

use cloud::Cloud;
use load::Load;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// The floor of HTTP, as a process of its own; prints its port
    Echo { size: usize },
    /// Everything, against the cloud that runs in this data directory
    All {
        #[arg(long)]
        data_dir: PathBuf,
        /// The program, for the measurement of starts
        #[arg(long)]
        program: PathBuf,
        /// Seconds for each rate
        #[arg(long, default_value_t = 5)]
        seconds: u64,
    },
}

#[tokio::main]
async fn main() -> Result<()> {
    match Arguments::parse().what {
        What::Echo { size } => echo::serve(size).await,
        What::All { data_dir, program, seconds } => all(data_dir, program, Duration::from_secs(seconds)).await,
    }
}

async fn all(data_dir: PathBuf, program: PathBuf, time: Duration) -> Result<()> {
    let idle = start::memory_mb(&data_dir)?;
    println!("resident memory of the idle control plane   {idle:>9.1} MB");
    start::measure(&program)?;

    let cloud = Cloud::of(&data_dir).await?;
    validation(&cloud, time).await?;
    cloud.lift_quotas().await?;
    let mut servers = 0;
    for wanted in [100, 1_000] {
        let started = Instant::now();
        cloud.boot(wanted - servers).await?;
        let minutes = started.elapsed().as_secs_f64() / 60.0;
        println!(
            "fake servers booted ({:>4})                   {:>9.0} /min",
            wanted - servers,
            (wanted - servers) as f64 / minutes
        );
        servers = wanted;
        list(&cloud, servers, time).await?;
    }
    println!("resident memory with {servers} servers             {:>9.1} MB", start::memory_mb(&data_dir)?);
    Ok(())
}

async fn validation(cloud: &Cloud, time: Duration) -> Result<()> {
    let ask = cloud.ask_about_own_token();
    let size = load::once(&ask).await?;
    let ours = Load::run(&ask, time).await?;
    let echo = echo::rate(size, time).await?;
    let query = format!("SELECT * FROM users WHERE id = '{}'", cloud.user());
    let sql = rows::rate(cloud.data_dir(), "identity", &query, time).await?;
    report("token validation", &ours, echo, sql);
    Ok(())
}

async fn list(cloud: &Cloud, servers: usize, time: Duration) -> Result<()> {
    let ask = cloud.ask_for_servers();
    let size = load::once(&ask).await?;
    let ours = Load::run(&ask, time).await?;
    let echo = echo::rate(size, time).await?;
    let query = format!("SELECT * FROM servers LIMIT {servers}");
    let sql = rows::rate(cloud.data_dir(), "compute", &query, time).await?;
    report(&format!("GET /servers/detail, {servers} servers"), &ours, echo, sql);
    Ok(())
}

fn report(what: &str, ours: &Load, echo: f64, sql: f64) {
    println!("{what:<43} {:>9.0} /s, median {:.2} ms", ours.rate, ours.median_ms);
    println!("  of a bare HTTP echo ({echo:.0} /s)            {:>12.2}", ours.rate / echo);
    println!("  of the bare SQL ({sql:.0} /s)                 {:>12.2}", ours.rate / sql);
}
