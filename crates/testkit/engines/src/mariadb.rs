//! A MariaDB of one's own, on a Unix socket.

use std::os::unix::net::UnixStream;

use crate::keeper::{Keeper, Order, Runner, words};

/// A running MariaDB; dropping it stops it.
#[derive(Debug)]
pub struct MariaDb {
    keeper: Keeper,
}

/// Nothing needs to survive a power cut, and nothing is measured.
const FAST: &[&str] = &[
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-flush-method=nosync",
    "--innodb-doublewrite=0",
    "--innodb-log-file-size=32M",
    "--innodb-buffer-pool-size=64M",
    "--innodb-stats-persistent=0",
    "--innodb-lock-wait-timeout=5",
    "--performance-schema=0",
    "--skip-log-bin",
    "--skip-name-resolve",
    "--max-connections=600",
];

impl MariaDb {
    pub fn start() -> anyhow::Result<MariaDb> {
        let runner = Runner::new("mysql")?;
        let directory = runner.directory()?;
        let data = format!("--datadir={}", directory.join("data").display());
        let mut init = words(&["--no-defaults", &data, "--auth-root-authentication-method=normal", "--skip-test-db"]);
        init.extend(words(FAST));
        if let Err(error) = runner.run("mariadb-install-db", &init) {
            let _ = std::fs::remove_dir_all(&directory);
            return Err(error);
        }

        let socket = directory.join("sock");
        let mut arguments = words(&["--no-defaults", &data, "--skip-networking", "--character-set-server=utf8mb4"]);
        arguments.push(format!("--socket={}", socket.display()));
        arguments.push(format!("--pid-file={}", directory.join("mariadbd.pid").display()));
        arguments.extend(words(FAST));
        let program = "mariadbd";
        let order = Order { runner: &runner, directory, program, arguments, environment: Vec::new(), signal: "KILL" };
        let keeper = Keeper::start(order, |_| UnixStream::connect(&socket).is_ok())?;
        Ok(MariaDb { keeper })
    }

    /// The URL of a database, as `[database] connection` has it; that of the server for `""`.
    pub fn url(&self, database: &str) -> String {
        let socket = self.keeper.directory.join("sock");
        format!("mysql+pymysql://root@localhost/{database}?unix_socket={}", socket.display())
    }
}
