//! The servers start, answer, and are gone afterwards.

// Tests may unwrap; clippy does not know that what they share is a test, too.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use engines::{MariaDb, Memcached, Postgres, RabbitMq};

/// The directory of a server, out of its URL.
fn directory(url: &str) -> String {
    let start = url.rfind("/engine-").unwrap();
    let end = url[start + 1..].find('/').map_or(url.len(), |end| start + 1 + end);
    let place = url[..start].rfind('=').unwrap();
    url[place + 1..end].to_string()
}

#[test]
fn nothing_is_left_of_a_mariadb() {
    let server = MariaDb::start().unwrap();
    let directory = directory(&server.url("x"));
    assert!(Path::new(&directory).join("data/mysql").is_dir());
    drop(server);
    assert!(!Path::new(&directory).exists());
}

#[test]
fn nothing_is_left_of_a_postgres() {
    let server = Postgres::start().unwrap();
    let directory = directory(&server.url("x"));
    assert!(Path::new(&directory).join("data/PG_VERSION").is_file());
    drop(server);
    assert!(!Path::new(&directory).exists());
}

#[test]
fn a_memcached_answers() {
    let server = Memcached::start().unwrap();
    let mut stream = TcpStream::connect(server.url()).unwrap();
    stream.write_all(b"version\r\n").unwrap();
    let mut answer = [0; 7];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"VERSION");
}

#[test]
fn a_rabbitmq_makes_virtual_hosts() {
    let server = RabbitMq::start().unwrap();
    let directory = directory(&server.url(""));
    assert!(server.url("here").ends_with("/here"));
    server.add("here").unwrap();
    drop(server);
    assert!(!Path::new(&directory).exists());
}

#[test]
fn every_test_gets_a_database_of_its_own() {
    let (one, other) = (engines::test_db(), engines::test_db());
    assert_ne!(one.url(), other.url());
}

#[test]
fn every_test_gets_a_bus_of_its_own() {
    let (one, other) = (engines::test_bus(), engines::test_bus());
    let local = one.url() == "fake://";
    assert!(local || one.url() != other.url());
}
