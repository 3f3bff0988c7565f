//! `cargo xtask bench`: a fake cloud, built for speed, measured against its physical floors in one run.

use std::process::Command;

use anyhow::Result;
use clap::Args;

use crate::cloud::Cloud;
use crate::{process, tree};

/// As many as have room for a thousand servers.
const HOSTS: u32 = 8;

#[derive(Args)]
pub struct Choice {
    /// Seconds for each rate
    #[arg(long, default_value_t = 5)]
    seconds: u32,
}

pub fn run(choice: &Choice) -> Result<bool> {
    let build = ["build", "--quiet", "--release", "--package", "ferrostack", "--package", "benches"];
    process::must(process::cargo().args(build), "cargo build --release")?;
    let cloud = Cloud::fake_with(tree::target().join("release/ferrostack"), HOSTS)?;
    let mut measure = Command::new(tree::target().join("release/benches"));
    measure.args(["all", "--seconds", &choice.seconds.to_string()]);
    measure.arg("--data-dir").arg(cloud.data_dir()).arg("--program").arg(cloud.program());
    Ok(process::shown(&mut measure)?.success)
}
