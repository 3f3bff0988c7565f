//! Virtual environments for other people's Python programs, made from pinned lists and kept below the target folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::{packages, process, tree};

/// The file in an environment that says from which list it was made.
const STAMP: &str = "made-from.txt";

/// The stock clients, as the recorded sessions used them.
pub fn clients() -> Result<PathBuf> {
    environment("venv-client", &tree::root().join("tests/upstream/requirements-client.txt"))
}

/// An environment with exactly what the list names; made when it is not there yet or the list has changed.
pub fn environment(name: &str, list: &Path) -> Result<PathBuf> {
    let folder = tree::target().join(name);
    let wanted = fs::read_to_string(list).with_context(|| format!("cannot read {}", list.display()))?;
    if fs::read_to_string(folder.join(STAMP)).is_ok_and(|made| made == wanted) {
        return Ok(folder);
    }
    packages::ensure(&[packages::PYTHON])?;
    println!("making a Python environment in {}", folder.display());
    let _ = fs::remove_dir_all(&folder);
    if process::find("uv").is_some() {
        process::must(Command::new("uv").args(["venv", "--quiet"]).arg(&folder), "uv venv")?;
        let mut install = Command::new("uv");
        install.args(["pip", "install", "--quiet", "--python"]).arg(folder.join("bin/python")).arg("-r").arg(list);
        process::must(&mut install, "uv pip install")?;
    } else {
        process::must(Command::new("python3").args(["-m", "venv"]).arg(&folder), "python3 -m venv")?;
        let mut install = Command::new(folder.join("bin/pip"));
        install.args(["install", "--quiet", "--disable-pip-version-check", "-r"]).arg(list);
        process::must(&mut install, "pip install")?;
    }
    fs::write(folder.join(STAMP), wanted)?;
    Ok(folder)
}
