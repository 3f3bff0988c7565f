//! A fresh database and a fresh bus for one test, on the engines that the environment names.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Once, OnceLock};

use anyhow::{Context, bail};

use crate::keeper::fast_place;
use crate::{MariaDb, Postgres, RabbitMq, rabbitmq};

/// An empty database; dropping it removes it.
#[derive(Debug)]
pub struct TestDb {
    url: String,
    place: Place,
}

#[derive(Debug)]
enum Place {
    File { _directory: tempfile::TempDir },
    Server { server: String, name: String },
}

impl TestDb {
    /// As `[database] connection` has it.
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// A new, empty database on the engine that `FERROSTACK_TEST_DB` names.
pub fn test_db() -> TestDb {
    match std::env::var("FERROSTACK_TEST_DB").as_deref() {
        Err(_) | Ok("" | "sqlite") => file(),
        Ok("mariadb") => on_server(mariadb_server()),
        Ok("postgres") => on_server(postgres_server()),
        Ok(other) => panic!("FERROSTACK_TEST_DB is {other:?}, and none of sqlite, mariadb and postgres"),
    }
}

fn file() -> TestDb {
    static SWEPT: Once = Once::new();
    SWEPT.call_once(sweep);
    let prefix = format!("db-{}-", std::process::id());
    let directory = tempfile::Builder::new().prefix(&prefix).tempdir_in(fast_place());
    let directory = directory.expect("memory has room for files");
    let url = format!("sqlite:///{}", directory.path().join("test.db").display());
    TestDb { url, place: Place::File { _directory: directory } }
}

/// Removes what test processes left that were killed; the name of a directory says whose it is.
fn sweep() {
    for entry in std::fs::read_dir(fast_place()).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix("db-")?.split('-').next()?.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

fn on_server(server: &str) -> TestDb {
    let name = format!("t{}", uuid::Uuid::new_v4().simple());
    order(server, &format!("CREATE DATABASE {name}")).expect("the server makes databases");
    TestDb { url: with_database(server, &name), place: Place::Server { server: server.to_string(), name } }
}

impl Drop for TestDb {
    fn drop(&mut self) {
        if let Place::Server { server, name } = &self.place {
            let force = if server.starts_with("postgres") { " WITH (FORCE)" } else { "" };
            let drop = format!("DROP DATABASE {name}{force}");
            let server = server.clone();
            // Nobody waits for it; what is not dropped goes with the server.
            std::thread::spawn(move || order(&server, &drop));
        }
    }
}

/// The URL of a server that runs already, or of the one this process shares among its tests.
fn mariadb_server() -> &'static str {
    static SERVER: OnceLock<(String, Option<MariaDb>)> = OnceLock::new();
    let server = SERVER.get_or_init(|| match std::env::var("FERROSTACK_TEST_DB_SERVER") {
        Ok(url) if !url.is_empty() => (url, None),
        _ => {
            let own = MariaDb::start().expect("MariaDB starts");
            (own.url(""), Some(own))
        }
    });
    &server.0
}

fn postgres_server() -> &'static str {
    static SERVER: OnceLock<(String, Option<Postgres>)> = OnceLock::new();
    let server = SERVER.get_or_init(|| match std::env::var("FERROSTACK_TEST_DB_SERVER") {
        Ok(url) if !url.is_empty() => (url, None),
        _ => {
            let own = Postgres::start().expect("PostgreSQL starts");
            (own.url(""), Some(own))
        }
    });
    &server.0
}

/// Puts a database into the URL of its server.
fn with_database(server: &str, name: &str) -> String {
    let (place, options) = server.split_once('?').unwrap_or((server, ""));
    let separator = if options.is_empty() { "" } else { "?" };
    format!("{}/{name}{separator}{options}", place.trim_end_matches('/'))
}

/// Has a server carry out one statement, through the client that comes with it.
fn order(server: &str, statement: &str) -> anyhow::Result<()> {
    let mut command = if server.starts_with("postgres") {
        let mut command = Command::new("psql");
        command.args(["-X", "-q", "-d", &with_database(server, "postgres"), "-c", statement]);
        command
    } else {
        let mut command = Command::new("mariadb");
        command.arg("--no-defaults").args(mariadb_options(server)?).args(["-e", statement]);
        command
    };
    let done = command.stdin(Stdio::null()).output().context("starting the client")?;
    if !done.status.success() {
        bail!("{statement} failed: {}", String::from_utf8_lossy(&done.stderr));
    }
    Ok(())
}

/// `scheme://user:password@host:port/?unix_socket=/path`, as MariaDB's client wants it.
fn mariadb_options(server: &str) -> anyhow::Result<Vec<String>> {
    let (_, rest) = server.split_once("://").context("the server's URL has no scheme")?;
    let (place, options) = rest.split_once('?').unwrap_or((rest, ""));
    let place = place.split('/').next().unwrap_or_default();
    let (login, host) = place.rsplit_once('@').unwrap_or(("root", place));
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let (host, port) = host.split_once(':').unwrap_or((host, "3306"));
    let mut words = vec![format!("--user={user}")];
    if !password.is_empty() {
        words.push(format!("--password={password}"));
    }
    match options.split('&').find_map(|option| option.strip_prefix("unix_socket=")) {
        Some(socket) => words.push(format!("--socket={socket}")),
        None => words.extend([format!("--host={host}"), format!("--port={port}"), "--protocol=tcp".into()]),
    }
    Ok(words)
}

/// A bus that nobody else is on; dropping it removes it.
#[derive(Debug)]
pub struct TestBus {
    url: String,
    /// The broker's directory and our virtual host.
    vhost: Option<(PathBuf, String)>,
}

impl TestBus {
    /// As `[DEFAULT] transport_url` has it; `fake://` is the bus inside this process, as in oslo.messaging.
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// A new bus on the engine that `FERROSTACK_TEST_BUS` names.
pub fn test_bus() -> TestBus {
    match std::env::var("FERROSTACK_TEST_BUS").as_deref() {
        Err(_) | Ok("" | "local") => TestBus { url: "fake://".into(), vhost: None },
        Ok("rabbitmq") => on_broker(rabbitmq_server()),
        Ok(other) => panic!("FERROSTACK_TEST_BUS is {other:?}, and neither local nor rabbitmq"),
    }
}

fn on_broker(server: &str) -> TestBus {
    let (place, directory) = server.split_once("?engine=").expect("the broker was started by RabbitMq::start");
    let name = format!("t{}", uuid::Uuid::new_v4().simple());
    rabbitmq::tell(Path::new(directory), &format!("add {name}")).expect("the broker makes virtual hosts");
    let url = format!("{}/{name}", place.trim_end_matches('/'));
    TestBus { url, vhost: Some((directory.into(), name)) }
}

impl Drop for TestBus {
    fn drop(&mut self) {
        if let Some((directory, name)) = self.vhost.take() {
            std::thread::spawn(move || rabbitmq::tell(&directory, &format!("delete {name}")));
        }
    }
}

fn rabbitmq_server() -> &'static str {
    static SERVER: OnceLock<(String, Option<RabbitMq>)> = OnceLock::new();
    let server = SERVER.get_or_init(|| match std::env::var("FERROSTACK_TEST_BUS_SERVER") {
        Ok(url) if !url.is_empty() => (url, None),
        _ => {
            let own = RabbitMq::start().expect("RabbitMQ starts");
            (own.url(""), Some(own))
        }
    });
    &server.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_of_a_server_becomes_that_of_a_database() {
        assert_eq!(with_database("mysql://r@h/?unix_socket=/s", "t1"), "mysql://r@h/t1?unix_socket=/s");
        assert_eq!(with_database("postgresql://r:p@h:5/", "t1"), "postgresql://r:p@h:5/t1");
    }

    #[test]
    fn the_client_is_told_what_the_url_says() {
        assert_eq!(mariadb_options("mysql://r@h/?unix_socket=/s").unwrap(), ["--user=r", "--socket=/s"]);
        let wanted = ["--user=r", "--password=p", "--host=h", "--port=3307", "--protocol=tcp"];
        assert_eq!(mariadb_options("mysql+pymysql://r:p@h:3307/").unwrap(), wanted);
    }
}
