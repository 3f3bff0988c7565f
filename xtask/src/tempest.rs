//! Upstream's own test suite, run against a cloud as a black box.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::cloud::{self, Cloud};
use crate::floors::Tally;
use crate::{process, python, tree};

const HARNESS: &str = "tests/upstream/tempest";
/// The tests of the smoke list that pass; the list may only grow.
const PASSING: &str = "tests/upstream/passing-smoke.txt";
/// What a fake cloud offers as the outside world; the addresses are reserved for documentation.
const EXTERNAL: &str = "203.0.113.0/24,type=flat,physnet=provider,gateway=203.0.113.1,pool=203.0.113.10-203.0.113.250";
/// Limit: the whole smoke list against a fake cloud.
const DEADLINE_SECONDS: &str = "1800";

#[derive(Args)]
pub struct Choice {
    /// A list of tests/upstream/tempest/lists, or a file
    #[arg(long, default_value = "smoke")]
    list: String,
    /// Only tests whose name matches
    #[arg(long)]
    regex: Option<String>,
    /// Credentials of the admin of a running cloud, instead of a fresh fake one
    #[arg(long, value_name = "KEYSTONERC")]
    cloud: Option<PathBuf>,
    /// With --cloud: a guest image to boot, and to log in to
    #[arg(long, value_name = "FILE", requires = "cloud")]
    image: Option<PathBuf>,
    /// How many tests run at a time
    #[arg(long, default_value_t = 2)]
    concurrency: u8,
    /// Add what passes by now to tests/upstream/passing-smoke.txt
    #[arg(long)]
    record: bool,
}

pub fn run(choice: &Choice) -> Result<bool> {
    let folder = tree::root().join(HARNESS).join("lists");
    let named = folder.join(format!("{}.txt", choice.list));
    let list = if named.is_file() { named } else { PathBuf::from(&choice.list) };
    let fresh = if choice.cloud.is_none() { Some(Cloud::fake()?) } else { None };
    let keystonerc = choice.cloud.clone().or_else(|| fresh.as_ref().map(|cloud| cloud.keystonerc("admin")));
    let keystonerc = keystonerc.expect("a cloud is given or started");

    let results = harness(&list, choice, &keystonerc)?;
    let passed = passed(&results)?;
    let known = known()?;
    if choice.record {
        let all: BTreeSet<String> = known.union(&passed).cloned().collect();
        fs::write(tree::root().join(PASSING), all.iter().map(|test| format!("{test}\n")).collect::<String>())?;
    }
    let new = passed.difference(&known).count();
    println!("{new} tests pass that {PASSING} does not name{}", if choice.record { "; they are added" } else { "" });
    println!("{}", last_line(&results)?);
    Ok(true)
}

/// Every test that has passed before must pass again.
pub fn floor() -> Result<Tally> {
    let known = known()?;
    let cloud = Cloud::fake()?;
    let choice = Choice { list: PASSING.into(), regex: None, cloud: None, image: None, concurrency: 2, record: false };
    let results = harness(&tree::root().join(PASSING), &choice, &cloud.keystonerc("admin"))?;
    let passed = passed(&results)?;
    let lost: Vec<&String> = known.difference(&passed).collect();
    lost.iter().for_each(|test| println!("passed once, and does not now: {test}"));
    Ok(Tally { passed: known.len() - lost.len(), failed: lost.len() })
}

/// Runs the harness; gives the folder with the results.
fn harness(list: &Path, choice: &Choice, keystonerc: &Path) -> Result<PathBuf> {
    let here = tree::root().join(HARNESS);
    let tempest = python::environment("venv-tempest", &here.join("requirements.txt"))?;
    let work = tree::target().join("tempest");
    let results = work.join("results");
    let _ = fs::remove_dir_all(&work);
    fs::create_dir_all(&results)?;

    let mut command = Command::new(tempest.join("bin/python"));
    command.arg(here.join("tempest_harness.py")).arg("--list").arg(list);
    command.arg("--workspace").arg(work.join("workspace")).arg("--out").arg(&results);
    command.args(["--concurrency", &choice.concurrency.to_string(), "--deadline", DEADLINE_SECONDS]);
    if let Some(regex) = &choice.regex {
        command.args(["--regex", regex]);
    }
    match &choice.image {
        Some(image) => command.arg("--image").arg(image),
        None => command.arg("--image").arg(small_image(&work)?).arg("--overlay").arg(here.join("features-no-ssh.ini")),
    };
    if choice.cloud.is_none() {
        command.args(["--create-public", EXTERNAL]);
    }
    command.envs(cloud::credentials(keystonerc)?).env("PYTHONDONTWRITEBYTECODE", "1");
    if !process::shown(&mut command)?.success {
        bail!("the harness did not run to its end");
    }
    Ok(results)
}

/// Fake hosts boot anything; the image service only wants a header that is what it claims to be.
fn small_image(folder: &Path) -> Result<PathBuf> {
    let image = folder.join("small.qcow2");
    let mut create = Command::new("qemu-img");
    create.args(["create", "-q", "-f", "qcow2"]).arg(&image).arg("16M");
    process::must(&mut create, "qemu-img create")?;
    Ok(image)
}

fn passed(results: &Path) -> Result<BTreeSet<String>> {
    let file = results.join("results.tsv");
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let rows = text.lines().map(|line| line.split('\t').collect::<Vec<_>>());
    Ok(rows.filter(|row| row.get(1) == Some(&"pass")).map(|row| row[0].to_owned()).collect())
}

fn known() -> Result<BTreeSet<String>> {
    let text = fs::read_to_string(tree::root().join(PASSING)).with_context(|| format!("cannot read {PASSING}"))?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// `N passed, N failed, N skipped` of the whole list.
fn last_line(results: &Path) -> Result<String> {
    let summary: serde_json::Value = serde_json::from_str(&fs::read_to_string(results.join("summary.json"))?)?;
    let number = |key: &str| summary[key].as_u64().unwrap_or(0);
    Ok(format!("{} passed, {} failed, {} skipped", number("passed"), number("failed"), number("skipped")))
}
