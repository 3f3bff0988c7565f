//! Database URLs, as upstream's `[database] connection` writes them.

use std::path::PathBuf;

use crate::error::Error;

/// Where a database is.
#[derive(Debug, PartialEq)]
pub(crate) enum Address {
    Sqlite(PathBuf),
    MariaDb(Server),
    Postgres(Server),
}

#[derive(Debug, Default, PartialEq)]
pub(crate) struct Server {
    pub(crate) host: String,
    pub(crate) port: Option<u16>,
    pub(crate) user: String,
    pub(crate) password: Option<String>,
    pub(crate) database: String,
    /// The socket (MariaDB) or the directory of the socket (PostgreSQL).
    pub(crate) socket: Option<String>,
}

/// Reads `sqlite:////abs`, `sqlite:///rel`, `mysql+pymysql://u:p@host:port/name?…` and `postgresql+psycopg2://…`.
pub(crate) fn read(url: &str) -> Result<Address, Error> {
    let refuse = |why: &str| Error::Url { shown: shown(url), why: why.to_string() };
    let (scheme, rest) = url.split_once("://").ok_or_else(|| refuse("it has no scheme"))?;
    let (place, options) = rest.split_once('?').unwrap_or((rest, ""));
    // The driver after the plus is Python's business.
    match scheme.split('+').next().unwrap_or_default() {
        "sqlite" => match place.strip_prefix('/').filter(|file| !file.is_empty() && *file != ":memory:") {
            Some(file) => Ok(Address::Sqlite(decoded(file).into())),
            None => Err(refuse("several connections cannot share a database in memory; name a file")),
        },
        "mysql" | "mariadb" => server(place, options).map(Address::MariaDb).map_err(refuse),
        "postgresql" | "postgres" => server(place, options).map(Address::Postgres).map_err(refuse),
        _ => Err(refuse("the scheme is none of sqlite, mysql and postgresql")),
    }
}

fn server(place: &str, options: &str) -> Result<Server, &'static str> {
    let (authority, database) = place.split_once('/').ok_or("it names no database")?;
    if database.is_empty() {
        return Err("it names no database");
    }
    let (login, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) = match login.split_once(':') {
        Some((user, password)) => (user, Some(decoded(password))),
        None => (login, None),
    };
    let (host, port) = host_and_port(host)?;
    let mut server =
        Server { host, port, user: decoded(user), password, database: decoded(database), ..Server::default() };
    for (name, value) in options.split('&').filter_map(|option| option.split_once('=')) {
        let value = decoded(value);
        match name {
            "unix_socket" => server.socket = Some(value),
            "host" if value.starts_with('/') => server.socket = Some(value),
            "host" => server.host = value,
            "port" => server.port = Some(value.parse().map_err(|_| "the port is not a number")?),
            "user" => server.user = value,
            "password" => server.password = Some(value),
            // Later: TLS to the database; refusing is better than talking in the clear where TLS was asked for.
            "ssl" | "ssl_ca" | "ssl_cert" | "ssl_key" | "sslrootcert" | "sslcert" => {
                return Err("TLS to the database is not supported yet");
            }
            "sslmode" if !matches!(value.as_str(), "disable" | "allow" | "prefer") => {
                return Err("TLS to the database is not supported yet");
            }
            // Drivers of Python have many more; `charset` is always utf8mb4 with us.
            _ => {}
        }
    }
    Ok(server)
}

fn host_and_port(text: &str) -> Result<(String, Option<u16>), &'static str> {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':')),
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let host = if host.is_empty() { "localhost" } else { host };
    let port = port.filter(|port| !port.is_empty()).map(str::parse).transpose();
    Ok((decoded(host), port.map_err(|_| "the port is not a number")?))
}

/// The URL without its password, for errors.
fn shown(url: &str) -> String {
    let Some((before, after)) = url.rsplit_once('@') else { return url.to_string() };
    let start = before.find("://").map_or(0, |at| at + 3);
    match before[start..].find(':') {
        Some(colon) => format!("{}:***@{after}", &before[..start + colon]),
        None => url.to_string(),
    }
}

/// Undoes `%41`; what is no such escape stays as it is.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = bytes.get(at + 1..at + 3).and_then(|two| std::str::from_utf8(two).ok());
        match (bytes[at], escape.and_then(|two| u8::from_str_radix(two, 16).ok())) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 3;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams_urls_are_understood() {
        assert_eq!(read("sqlite:////var/lib/x.db").unwrap(), Address::Sqlite("/var/lib/x.db".into()));
        assert_eq!(read("sqlite:///x.db").unwrap(), Address::Sqlite("x.db".into()));

        let server = Server {
            host: "db".into(),
            user: "nova".into(),
            password: Some("a@b:c".into()),
            database: "nova".into(),
            ..Server::default()
        };
        let read_back = read("mysql+pymysql://nova:a%40b%3Ac@db/nova?charset=utf8").unwrap();
        assert_eq!(read_back, Address::MariaDb(server));

        let server = Server {
            host: "localhost".into(),
            port: Some(6432),
            user: "p".into(),
            database: "d".into(),
            socket: Some("/run/pg".into()),
            ..Server::default()
        };
        assert_eq!(read("postgresql+psycopg2://p@:6432/d?host=/run/pg").unwrap(), Address::Postgres(server));
    }

    #[test]
    fn a_refused_url_does_not_show_its_password() {
        let error = read("mysql://nova:secret@db/nova?ssl_ca=/ca.pem").unwrap_err();
        assert_eq!(
            error.to_string(),
            "the database URL mysql://nova:***@db/nova?ssl_ca=/ca.pem: TLS to the database is not supported yet"
        );
    }
}
