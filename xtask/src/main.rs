//! `cargo xtask`: everything around the product that a person or a machine asks of this tree.

mod bench;
mod check;
mod cloud;
mod demo;
mod floors;
mod golden;
mod guest;
mod http;
mod kill;
mod packages;
mod process;
mod python;
mod tempest;
mod tidy;
mod tree;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Everything around Ferrostack: checks, tests, the demo")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Read the tree and name every breach of the house style
    Tidy,
    /// The quick round: format, clippy, tidy, unit and API tests
    Check,
    /// Every floor of tests that this machine can run; what CI runs
    Test(check::Choice),
    /// Compare with what upstream did, or write such files anew
    Golden(golden::Choice),
    /// Run upstream's own test suite against a cloud
    Tempest(tempest::Choice),
    /// Kill the controller at random moments and look at what is left
    Kill(kill::Choice),
    /// From this machine to a server that answers SSH, in one command
    Demo(demo::Choice),
    /// Measure a fake cloud against its physical floors, as ratios
    Bench(bench::Choice),
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Says whether the task found everything in order.
fn run(task: Task) -> Result<bool> {
    match task {
        Task::Tidy => tidy::run(),
        Task::Check => check::quick(),
        Task::Test(choice) => check::every(&choice),
        Task::Golden(choice) => golden::run(&choice),
        Task::Tempest(choice) => tempest::run(&choice),
        Task::Kill(choice) => kill::run(&choice),
        Task::Demo(choice) => demo::run(&choice),
        Task::Bench(choice) => bench::run(&choice),
    }
}
