//! The one binary: reads the command line, picks roles, wires the crates together.
//!
//! - [`up`], [`down`], [`purge`]  the all-in-one cloud
//! - [`serve`]                    chosen services; the agents of a host
//! - [`cloud`], [`doors`]         services wired together; [`agents`], [`hosts`] the same for hosts
//! - [`bootstrap`], [`runonce`]   what a cloud has from the first start, and what a first user needs
//! - [`manage`]                   upstream's administration commands, under their own names
//! - [`control`], [`leaks`], [`doctor`] the operator's questions to a running cloud

mod agents;
mod bootstrap;
mod cloud;
mod command;
mod configuration;
mod control;
mod credentials;
mod doctor;
mod doors;
mod down;
mod hosts;
mod layout;
mod leaks;
mod manage;
mod operations;
mod ports;
mod purge;
mod runonce;
mod secrets;
mod serve;
mod sockets;
mod up;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use command::{Command, Place, Verb};
use layout::Layout;

fn main() -> ExitCode {
    if let Some(code) = manage::by_name() {
        return code;
    }
    base::logging::start(std::env::var_os("FERROSTACK_DEBUG").is_some(), false);
    match run(Command::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ferrostack: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<()> {
    match verb {
        Verb::Up(options) => up::run(options),
        Verb::Down(options) => down::down(options),
        Verb::Status(place) => down::status(place),
        Verb::Doctor(place) => doctor::run(place),
        Verb::Leaks(place) => asked(place, "leaks"),
        Verb::Explain(options) => asked(options.place, &format!("explain {}", options.server)),
        Verb::InitRunonce(options) => runonce::run(options),
        Verb::Serve(options) => serve::services(options),
        Verb::Agent(options) => serve::agent(options),
        Verb::Operations => operations::list(),
        Verb::Documents { into } => operations::documents(&into),
        Verb::Version => {
            println!("ferrostack {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
    }
}

/// Puts a question to the running cloud and prints the answer, when there is one to print.
fn asked(place: Place, question: &str) -> Result<()> {
    let answer = control::ask(&Layout::at(place.data_dir)?, question)?;
    if !answer.is_empty() {
        println!("{}", answer.trim_end());
    }
    Ok(())
}
