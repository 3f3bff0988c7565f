//! A cloud to run something against: started in a folder and on ports of its own, and gone afterwards.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::{process, tree};

/// The ports of a cloud without an offset.
const PORTS: [u16; 7] = [5000, 6080, 8774, 8775, 8778, 9292, 9696];
/// Limit: how many offsets are tried before we give up.
const OFFSETS: u16 = 200;

/// A cloud of fake hosts that stops and vanishes with this value.
pub struct Cloud {
    program: PathBuf,
    folder: TempDir,
    _kept: TempDir,
    hosts: u32,
    port_offset: u16,
}

impl Cloud {
    /// Builds the program, unless `FERROSTACK` names one, and starts a cloud of fake hosts.
    pub fn fake() -> Result<Cloud> {
        Cloud::fake_with(program()?, 1)
    }

    /// Starts a cloud of that many fake hosts with this program.
    pub fn fake_with(program: PathBuf, hosts: u32) -> Result<Cloud> {
        let folder = tempfile::Builder::new().prefix("ferrostack-").tempdir()?;
        // A link of our own: a build that goes on meanwhile does not change the program under our feet.
        let kept = tempfile::Builder::new().prefix("program-").tempdir_in(tree::target())?;
        let own = kept.path().join("ferrostack");
        fs::hard_link(&program, &own).or_else(|_| fs::copy(&program, &own).map(drop))?;
        let cloud = Cloud { program: own, folder, _kept: kept, hosts, port_offset: free_offset()? };
        cloud.up()?;
        Ok(cloud)
    }

    /// Starts it, also when it has been started before.
    pub fn up(&self) -> Result<()> {
        self.up_with(&[])
    }

    /// The same, with variables in its environment.
    pub fn up_with(&self, environment: &[(&str, &str)]) -> Result<()> {
        let mut up = self.command("up");
        up.envs(environment.iter().copied());
        up.args([
            "--fake",
            "--fake-hosts",
            &self.hosts.to_string(),
            "--detach",
            "--bind",
            "127.0.0.1",
            "--port-offset",
            &self.port_offset.to_string(),
        ]);
        process::must(&mut up, "ferrostack up --fake").map(|_| ())
    }

    /// The process that a kill must hit.
    pub fn controller(&self) -> Result<u32> {
        let lock = fs::read_to_string(self.folder.path().join("lock"))?;
        lock.trim().parse().context("no process holds the lock of the data directory")
    }

    pub fn program(&self) -> &Path {
        &self.program
    }

    pub fn data_dir(&self) -> &Path {
        self.folder.path()
    }

    /// A verb of the program, about this cloud.
    pub fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(verb).arg("--data-dir").arg(self.folder.path());
        command
    }

    /// The file with the credentials of `admin` or `demo`.
    pub fn keystonerc(&self, who: &str) -> PathBuf {
        self.folder.path().join(format!("keystonerc_{who}"))
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        let mut down = self.command("down");
        down.arg("--purge");
        if let Err(error) = process::must(&mut down, "ferrostack down --purge") {
            println!("the cloud in {} may still run: {error:#}", self.folder.path().display());
        }
    }
}

/// The program to test: the one that `FERROSTACK` names, else a fresh build.
pub fn program() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os("FERROSTACK") {
        return Ok(PathBuf::from(named));
    }
    process::must(process::cargo().args(["build", "--quiet", "--package", "ferrostack"]), "cargo build")?;
    Ok(tree::target().join("debug/ferrostack"))
}

/// The variables that a keystonerc file exports.
pub fn credentials(keystonerc: &Path) -> Result<Vec<(String, String)>> {
    let text = fs::read_to_string(keystonerc).with_context(|| format!("cannot read {}", keystonerc.display()))?;
    let words = text.lines().filter_map(|line| line.trim().strip_prefix("export "));
    let pairs = words.filter_map(|word| word.split_once('='));
    Ok(pairs.map(|(name, value)| (name.to_owned(), value.trim_matches(['"', '\'']).to_owned())).collect())
}

/// How far all ports must move for none of them to be taken.
fn free_offset() -> Result<u16> {
    // Processes that look at the same moment begin at different places.
    let start = 10_000 + u16::try_from(std::process::id() % 300).expect("below 300") * 100;
    for step in 0..OFFSETS {
        let offset = 10_000 + (start - 10_000 + step * 100) % 40_000;
        if PORTS.iter().all(|port| TcpListener::bind(("127.0.0.1", port + offset)).is_ok()) {
            return Ok(offset);
        }
    }
    bail!("no {} free ports in a row of offsets: something on this machine takes them all", PORTS.len())
}
