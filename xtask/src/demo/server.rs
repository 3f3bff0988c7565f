//! The demo's server: asked for with the stock client, and waited for until it answers SSH.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::Stage;
use crate::{cloud, process};

const NAME: &str = "demo1";
const USER: &str = "cirros";
/// Limit: a guest without hardware virtualisation needs 10 to 30 s to its prompt.
const SSH: Duration = Duration::from_secs(180);
const ASK_EVERY: Duration = Duration::from_millis(500);

pub struct Server {
    address: String,
    ssh: Vec<String>,
}

/// The stock client, with the rights of the first user.
fn client(stage: &Stage, clients: &Path) -> Result<Command> {
    let mut command = stage.place.command(&clients.join("bin/openstack"));
    command.envs(cloud::credentials(&keystonerc(stage))?);
    Ok(command)
}

fn keystonerc(stage: &Stage) -> PathBuf {
    stage.data_dir.join("keystonerc_admin")
}

fn ask(stage: &Stage, clients: &Path, words: &[&str]) -> Result<Vec<String>> {
    process::must(client(stage, clients)?.args(words), &format!("openstack {}", words.join(" ")))
}

/// Boots a server and gives it a floating IP; one that is there already is taken as it is.
pub fn boot(stage: &Stage, clients: &Path) -> Result<Server> {
    let there = ask(stage, clients, &["server", "list", "--name", NAME, "-f", "value", "-c", "Name"])?;
    if there.is_empty() {
        let create = ["server", "create", "--image", "cirros", "--flavor", "m1.tiny", "--key-name", "mykey"];
        let rest = ["--network", "demo-net", "--wait", NAME];
        ask(stage, clients, &[create.as_slice(), rest.as_slice()].concat())?;
    }
    let list = ["floating", "ip", "list", "-f", "value", "-c", "Floating IP Address"];
    let mut addresses = ask(stage, clients, &list)?;
    if addresses.is_empty() {
        let create = ["floating", "ip", "create", "public1", "-f", "value", "-c", "floating_ip_address"];
        addresses = ask(stage, clients, &create)?;
    }
    let address = addresses.last().context("the client shows no floating IP")?.trim().to_owned();
    ask(stage, clients, &["server", "add", "floating", "ip", NAME, &address])?;
    Ok(Server { ssh: ssh(stage, &address), address })
}

fn ssh(stage: &Stage, address: &str) -> Vec<String> {
    let key = stage.data_dir.join("id_mykey").display().to_string();
    let options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"];
    let options = options.iter().flat_map(|option| ["-o".to_owned(), (*option).to_owned()]);
    ["-i".to_owned(), key].into_iter().chain(options).chain([format!("{USER}@{address}")]).collect()
}

impl Server {
    pub fn wait(&self, stage: &Stage) -> Result<()> {
        let until = Instant::now() + SSH;
        loop {
            let mut command = stage.place.command(Path::new("ssh"));
            command.args(["-o", "BatchMode=yes", "-o", "ConnectTimeout=5"]).args(&self.ssh).arg("true");
            match process::must(&mut command, "ssh") {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > until => {
                    bail!("{NAME} does not answer on {} after {} s: {error:#}", self.address, SSH.as_secs());
                }
                Err(_) => std::thread::sleep(ASK_EVERY),
            }
        }
    }

    /// Shows the end of the server's console and what can be done next.
    pub fn introduce(&self, stage: &Stage, clients: &Path) -> Result<()> {
        println!("\nthe last lines of its console:");
        let console = ask(stage, clients, &["console", "log", "show", "--lines", "8", NAME])?;
        console.iter().for_each(|line| println!("  | {line}"));
        let prefix = stage.place.prefix();
        println!("\nlog in:          {prefix}ssh {}", self.ssh.join(" "));
        println!("use the client:  . {}", keystonerc(stage).display());
        println!("                 {prefix}{} server list", clients.join("bin/openstack").display());
        println!("look around:     {} status --data-dir {}", stage.program.display(), stage.data_dir.display());
        println!("remove it all:   cargo xtask demo --down");
        Ok(())
    }
}
