//! A PostgreSQL of one's own, on a Unix socket.

use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::Context;

use crate::keeper::{Keeper, Order, Runner, words};

/// A running PostgreSQL; dropping it stops it.
#[derive(Debug)]
pub struct Postgres {
    keeper: Keeper,
}

/// Nothing needs to survive a power cut. Shared memory lives in the data directory, so that it goes with it.
const FAST: &[&str] = &[
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "wal_level=minimal",
    "max_wal_senders=0",
    "autovacuum=off",
    "jit=off",
    "shared_buffers=64MB",
    "max_connections=400",
    "dynamic_shared_memory_type=mmap",
    "deadlock_timeout=50ms",
    "listen_addresses=",
];

impl Postgres {
    pub fn start() -> anyhow::Result<Postgres> {
        let runner = Runner::new("postgres")?;
        let directory = runner.directory()?;
        let data = directory.join("data").display().to_string();
        // A language's order of letters, as many sites have it: ours must not depend on it.
        let line = ["-D", &data, "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8"];
        let mut init = words(&line);
        init.extend(words(&["--locale-provider=icu", "--icu-locale=en", "--no-sync", "--no-instructions"]));
        if let Err(error) = runner.run(&program("initdb")?, &init) {
            let _ = std::fs::remove_dir_all(&directory);
            return Err(error);
        }

        let mut arguments = words(&["-D", &data, "-k"]);
        arguments.push(directory.display().to_string());
        arguments.extend(FAST.iter().flat_map(|setting| ["-c".to_string(), setting.to_string()]));
        let program = program("postgres")?;
        // An immediate shutdown: no checkpoint, but the shared memory is given back.
        let (environment, signal) = (Vec::new(), "QUIT");
        let order = Order { runner: &runner, directory, program: &program, arguments, environment, signal };
        let keeper = Keeper::start(order, is_ready)?;
        Ok(Postgres { keeper })
    }

    /// The URL of a database, as `[database] connection` has it; that of the server for `""`.
    pub fn url(&self, database: &str) -> String {
        format!("postgresql://postgres@localhost/{database}?host={}", self.keeper.directory.display())
    }
}

/// It listens before it serves, but says so in its pid file.
fn is_ready(directory: &Path) -> bool {
    let status = std::fs::read_to_string(directory.join("data/postmaster.pid")).unwrap_or_default();
    status.lines().any(|line| line.trim() == "ready") && UnixStream::connect(directory.join(".s.PGSQL.5432")).is_ok()
}

/// Debian keeps the servers of each version apart; the newest is taken.
fn program(name: &str) -> anyhow::Result<String> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").context("PostgreSQL is not installed")?;
    let versions = versions.filter_map(|version| version.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let newest = versions.max().context("PostgreSQL is not installed")?;
    Ok(format!("/usr/lib/postgresql/{newest}/bin/{name}"))
}
