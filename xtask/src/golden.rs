//! What upstream did, kept as files, compared with what we do.

pub mod cli;
pub mod documents;
pub mod ratchet;

use anyhow::{Result, bail};
use clap::Args;

/// What to compare or to write anew.
#[derive(Args)]
pub struct Choice {
    /// Replay the recorded commands of the stock clients and compare
    #[arg(long)]
    cli: bool,
    /// With --cli: credentials of the admin of a running cloud, instead of a fresh fake one
    #[arg(long, value_name = "KEYSTONERC", requires = "cli", requires = "demo")]
    admin: Option<std::path::PathBuf>,
    /// With --admin: credentials of the demo user of that cloud
    #[arg(long, value_name = "KEYSTONERC", requires = "admin")]
    demo: Option<std::path::PathBuf>,
    /// Take what is served by now out of tests/ratchet
    #[arg(long)]
    ratchet: bool,
    /// Write docs/api anew
    #[arg(long)]
    docs: bool,
}

pub fn run(choice: &Choice) -> Result<bool> {
    if choice.ratchet {
        ratchet::tighten()?;
    }
    if choice.docs {
        documents::write()?;
    }
    if choice.cli {
        let given = choice.admin.clone().zip(choice.demo.clone());
        return Ok(cli::replay(given)?.failed == 0);
    }
    if !choice.ratchet && !choice.docs {
        bail!("say what: --cli, --docs, --ratchet (bodies and lists of tests: UPDATE_EXPECT=1 cargo test -p CRATE)");
    }
    Ok(true)
}
