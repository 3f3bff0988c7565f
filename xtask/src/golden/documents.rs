//! `docs/api/`: the pages that the program writes about its own operations, kept in the tree and reviewed like code.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::floors::Tally;
use crate::{cloud, process, tree};

const PAGES: &str = "docs/api";

/// Writes the pages anew.
pub fn write() -> Result<()> {
    generate(&tree::root().join(PAGES))
}

/// Every page is one test: it is what the program would write.
pub fn check() -> Result<Tally> {
    let fresh = tempfile::tempdir()?;
    generate(fresh.path())?;
    let (kept, fresh) = (pages(&tree::root().join(PAGES))?, pages(fresh.path())?);
    let mut tally = Tally::default();
    for name in fresh.keys().chain(kept.keys().filter(|name| !fresh.contains_key(*name))) {
        if kept.get(name) == fresh.get(name) {
            tally.passed += 1;
        } else {
            println!("{PAGES}/{name} is not what the operations say: cargo xtask golden --docs, and read the diff");
            tally.failed += 1;
        }
    }
    Ok(tally)
}

fn generate(into: &Path) -> Result<()> {
    process::must(Command::new(cloud::program()?).arg("documents").arg(into), "ferrostack documents").map(|_| ())
}

fn pages(folder: &Path) -> Result<BTreeMap<String, String>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let files = entries.flatten().filter(|entry| entry.path().is_file());
    files.map(|it| Ok((it.file_name().to_string_lossy().into_owned(), fs::read_to_string(it.path())?))).collect()
}
