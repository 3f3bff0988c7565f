//! The floors of tests, from the cheapest to the dearest. A floor stands in the list from the day it works.

use std::ops::Add;

use anyhow::Result;

use crate::{cloud, golden, guest, kill, packages, process, tempest, tidy, tree};

/// What came out of a floor.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    pub passed: usize,
    pub failed: usize,
}

impl Tally {
    /// The floor could not be run at all.
    pub fn broken() -> Tally {
        Tally { passed: 0, failed: 1 }
    }

    fn one(passed: bool) -> Tally {
        Tally { passed: usize::from(passed), failed: usize::from(!passed) }
    }
}

impl Add for Tally {
    type Output = Tally;

    fn add(self, other: Tally) -> Tally {
        Tally { passed: self.passed + other.passed, failed: self.failed + other.failed }
    }
}

pub struct Floor {
    pub name: &'static str,
    pub about: &'static str,
    /// Part of `cargo xtask check`.
    pub quick: bool,
    pub run: fn() -> Result<Tally>,
}

const fn quick(name: &'static str, about: &'static str, run: fn() -> Result<Tally>) -> Floor {
    Floor { name, about, quick: true, run }
}

const fn whole(name: &'static str, about: &'static str, run: fn() -> Result<Tally>) -> Floor {
    Floor { name, about, quick: false, run }
}

pub const FLOORS: &[Floor] = &[
    quick("format", "the source is formatted", format),
    quick("clippy", "the compiler and clippy have nothing to say", clippy),
    quick("tidy", "the house style, as far as a program sees it", house_style),
    quick("ratchet", "every operation is served, or listed as missing", golden::ratchet::check),
    quick("goldens", "docs/api is what the operations say", golden::documents::check),
    quick("tests", "unit, API and torture tests on SQLite and the bus in process", tests),
    whole("mariadb", "the tests that keep rows, on MariaDB", mariadb),
    whole("postgres", "the tests that keep rows, on PostgreSQL", postgres),
    whole("rabbitmq", "the tests that send messages, on RabbitMQ", rabbitmq),
    whole("cli", "recorded commands of the stock clients, against fake hosts", commands),
    whole("tempest", "upstream's own tests that have passed before, against fake hosts", tempest::floor),
    whole("kill", "the controller dies at random moments, and nothing is lost", kill::floor),
    whole("host", "real guests and real packets, in network namespaces of their own", host),
];

fn format() -> Result<Tally> {
    let done = process::shown(process::cargo().args(["fmt", "--all", "--", "--check"]))?;
    Ok(Tally::one(done.success))
}

fn clippy() -> Result<Tally> {
    packages::ensure(&[packages::BUILD])?;
    let arguments = ["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"];
    let done = process::shown(process::cargo().args(arguments))?;
    Ok(Tally::one(done.success))
}

fn house_style() -> Result<Tally> {
    Ok(Tally::one(tidy::run()?))
}

fn tests() -> Result<Tally> {
    packages::ensure(&[packages::BUILD, packages::HOST])?;
    cargo_tests(&[], &[])
}

fn mariadb() -> Result<Tally> {
    packages::ensure(&[packages::BUILD, packages::ENGINES])?;
    let server = engines::MariaDb::start()?;
    let url = server.url("");
    let environment = [("FERROSTACK_TEST_DB", "mariadb"), ("FERROSTACK_TEST_DB_SERVER", &url)];
    cargo_tests(&crates_with("db"), &environment)
}

fn postgres() -> Result<Tally> {
    packages::ensure(&[packages::BUILD, packages::ENGINES])?;
    let server = engines::Postgres::start()?;
    let url = server.url("");
    let environment = [("FERROSTACK_TEST_DB", "postgres"), ("FERROSTACK_TEST_DB_SERVER", &url)];
    cargo_tests(&crates_with("db"), &environment)
}

fn rabbitmq() -> Result<Tally> {
    packages::ensure(&[packages::BUILD, packages::ENGINES])?;
    let server = engines::RabbitMq::start()?;
    let url = server.url("");
    let environment = [("FERROSTACK_TEST_BUS", "rabbitmq"), ("FERROSTACK_TEST_BUS_SERVER", &url)];
    cargo_tests(&crates_with("bus"), &environment)
}

fn commands() -> Result<Tally> {
    golden::cli::replay(None)
}

fn host() -> Result<Tally> {
    if !process::is_root() {
        println!("not run: namespaces and bridges need root");
        return Ok(Tally::default());
    }
    packages::ensure(&[packages::BUILD, packages::HOST, packages::GUEST, packages::ENGINES])?;
    let image = guest::image()?.display().to_string();
    let program = cloud::program()?.display().to_string();
    let environment = [("FERROSTACK_HOST_TESTS", "1"), ("FERROSTACK_GUEST_IMAGE", &image), ("FERROSTACK", &program)];
    let names = ["host-hypervisor", "host-network", "host"].map(str::to_owned);
    cargo_tests(&names, &environment)
}

/// The library's own crate, and those that lean on it and whose tests start engines.
fn crates_with(library: &str) -> Vec<String> {
    let manifests = tree::sources().into_iter().filter(|source| source.path.ends_with("/Cargo.toml"));
    let named = manifests.filter_map(|source| {
        let name = source.text.lines().find_map(|line| line.strip_prefix("name = "))?.replace('"', "");
        Some((name, source.text))
    });
    let wanted = named.filter(|(name, text)| {
        let has = |line: &str| text.lines().any(|it| it == line);
        let engines = has("[dev-dependencies]") && (has("engines.workspace = true") || has("testkit.workspace = true"));
        name == library || (engines && has(&format!("{library}.workspace = true")))
    });
    wanted.map(|(name, _)| name).collect()
}

/// Runs the tests of these packages (all, when none is named) in this environment.
fn cargo_tests(names: &[String], environment: &[(&str, &str)]) -> Result<Tally> {
    let nextest = process::find("cargo-nextest").is_some() || cargo_home_has_nextest();
    let mut command = process::cargo();
    if nextest {
        command.args(["nextest", "run", "--no-fail-fast", "--no-tests", "pass", "--status-level", "slow"]);
        command.args(["--final-status-level", "fail", "--show-progress", "none"]);
        command.arg("--config-file").arg(tree::root().join("xtask/nextest.toml"));
    } else {
        command.args(["test", "--no-fail-fast", "--quiet"]);
    }
    match names {
        [] => command.arg("--workspace"),
        names => command.args(names.iter().flat_map(|name| ["--package", name.as_str()])),
    };
    command.envs(environment.iter().copied());
    let done = process::shown(&mut command)?;

    let tally = if nextest { read_nextest(&done.lines) } else { read_cargo_test(&done.lines) };
    // It may fail without a failed test: nothing was compiled, or a process was killed.
    let silent_failure = !done.success && tally.failed == 0;
    Ok(if silent_failure { tally + Tally::broken() } else { tally })
}

fn cargo_home_has_nextest() -> bool {
    std::env::var_os("CARGO_HOME").is_some_and(|home| std::path::Path::new(&home).join("bin/cargo-nextest").is_file())
}

/// `Summary [ 0.4s] 12 tests run: 10 passed (1 slow), 1 failed, 1 timed out, 0 skipped`
fn read_nextest(lines: &[String]) -> Tally {
    let summary = lines.iter().rev().find(|line| line.trim_start().starts_with("Summary ["));
    let Some((_, counts)) = summary.and_then(|line| line.split_once("run: ")) else { return Tally::default() };
    let mut tally = Tally::default();
    for part in counts.split(", ") {
        let (number, word) = part.trim().split_once(' ').unwrap_or(("0", ""));
        let number = number.parse().unwrap_or(0);
        match word.split(' ').next() {
            Some("passed") => tally.passed += number,
            Some("skipped") | None => (),
            Some(_) => tally.failed += number,
        }
    }
    tally
}

/// `test result: ok. 5 passed; 0 failed; …`, one line for each test program.
fn read_cargo_test(lines: &[String]) -> Tally {
    let count = |line: &str, word: &str| -> usize {
        let part = line.split(['.', ';']).map(str::trim).find_map(|part| part.strip_suffix(word));
        part.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
    };
    let results = lines.iter().filter(|line| line.starts_with("test result: "));
    results.fold(Tally::default(), |sum, line| {
        sum + Tally { passed: count(line, "passed"), failed: count(line, "failed") }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_test_runners_say_is_understood() {
        let nextest = "     Summary [   0.4s] 13 tests run: 10 passed (1 slow), 2 failed, 1 timed out, 4 skipped";
        assert_eq!(read_nextest(&[nextest.to_owned()]), Tally { passed: 10, failed: 3 });
        let cargo = "test result: FAILED. 5 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        assert_eq!(read_cargo_test(&[cargo.to_owned(), cargo.to_owned()]), Tally { passed: 10, failed: 4 });
    }
}
