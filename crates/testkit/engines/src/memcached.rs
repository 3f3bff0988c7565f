//! A memcached of one's own.

use std::path::Path;

use anyhow::Context;

use crate::keeper::{Keeper, Order, Runner, words};

/// A running memcached; dropping it stops it.
#[derive(Debug)]
pub struct Memcached {
    port: u16,
    _keeper: Keeper,
}

impl Memcached {
    pub fn start() -> anyhow::Result<Memcached> {
        let runner = Runner::new("memcache")?;
        let directory = runner.directory()?;
        let file = directory.join("port");
        // Port -1 is one that the kernel picks.
        let arguments = words(&["-l", "127.0.0.1", "-p", "-1", "-U", "0", "-m", "32"]);
        let environment = vec![("MEMCACHED_PORT_FILENAME", file.display().to_string())];
        let order = Order { runner: &runner, directory, program: "memcached", arguments, environment, signal: "KILL" };
        let keeper = Keeper::start(order, |_| port(&file).is_some())?;
        Ok(Memcached { port: port(&file).context("memcached forgot its port")?, _keeper: keeper })
    }

    /// `host:port`, as `[cache] memcache_servers` has it.
    pub fn url(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

/// The port in a file whose first line is `TCP INET: 40123`.
fn port(file: &Path) -> Option<u16> {
    let text = std::fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix("TCP INET: ")?.trim().parse().ok())
}
