//! The host of the demo: a network namespace, so that nothing on the machine's own network changes.
//!
//! ```text
//! namespace ferrostack-demo
//!   demo-out 203.0.113.1/24 ── demo-in ── bridge of the external network ── routers, floating IPs
//!   (the outside world)        (the interface that the network agent gets)
//! ```

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::process;

const NAMESPACE: &str = "ferrostack-demo";
const OUTSIDE: &str = "demo-out";
const UPLINK: &str = "demo-in";
/// The gateway of the external network, as the outside world sees it.
const GATEWAY: &str = "203.0.113.1/24";
/// The name that the uplink's network has in the API, and the uplink.
const UPLINK_OF_PROVIDER: &str = "provider:demo-in";
const PORTS: [u16; 7] = [5000, 6080, 8774, 8775, 8778, 9292, 9696];

pub struct Place {
    on_host: bool,
}

impl Place {
    pub fn new(on_host: bool) -> Place {
        Place { on_host }
    }

    /// A program that runs where the cloud's addresses can be reached.
    pub fn command(&self, program: &Path) -> Command {
        if self.on_host {
            return Command::new(program);
        }
        let mut command = Command::new("ip");
        command.args(["netns", "exec", NAMESPACE]).arg(program);
        command
    }

    /// What a person types before such a program.
    pub fn prefix(&self) -> String {
        if self.on_host { String::new() } else { format!("ip netns exec {NAMESPACE} ") }
    }

    /// What `ferrostack up` has to know.
    pub fn arguments(&self) -> Vec<&str> {
        let uplink = ["--physical-interface", UPLINK_OF_PROVIDER];
        let inside = if self.on_host { Vec::new() } else { vec!["--netns", NAMESPACE] };
        [inside, uplink.to_vec()].concat()
    }

    /// Is the place free, or ours from an earlier run?
    pub fn look(&self) -> Result<()> {
        let taken = PORTS.iter().find(|port| std::net::TcpListener::bind(("127.0.0.1", **port)).is_err());
        if let Some(port) = taken
            && !self.exists()
        {
            bail!(
                "port {port} is taken by another program\nstop it (ss -tlnp shows which one it is) and run this again"
            );
        }
        Ok(())
    }

    fn exists(&self) -> bool {
        let mut show = self.ip();
        process::quiet(show.args(["-o", "link", "show", "dev", OUTSIDE]).stderr(std::process::Stdio::null()))
            .is_ok_and(|it| it.success)
    }

    fn ip(&self) -> Command {
        let mut command = Command::new("ip");
        if !self.on_host {
            command.args(["-n", NAMESPACE]);
        }
        command
    }

    pub fn make(&self) -> Result<()> {
        if self.exists() {
            return Ok(());
        }
        if !self.on_host && !Path::new("/run/netns").join(NAMESPACE).exists() {
            process::must(Command::new("ip").args(["netns", "add", NAMESPACE]), "ip netns add")?;
        }
        let steps: [&[&str]; 5] = [
            &["link", "set", "lo", "up"],
            &["link", "add", OUTSIDE, "type", "veth", "peer", "name", UPLINK],
            &["address", "add", GATEWAY, "dev", OUTSIDE],
            &["link", "set", OUTSIDE, "up"],
            &["link", "set", UPLINK, "up"],
        ];
        for arguments in steps {
            process::must(self.ip().args(arguments), "ip")?;
        }
        Ok(())
    }

    pub fn remove(&self) -> Result<()> {
        if self.on_host && self.exists() {
            process::must(Command::new("ip").args(["link", "del", OUTSIDE]), "ip link del")?;
        }
        if !self.on_host && Path::new("/run/netns").join(NAMESPACE).exists() {
            process::must(Command::new("ip").args(["netns", "del", NAMESPACE]), "ip netns del")?;
        }
        Ok(())
    }
}
