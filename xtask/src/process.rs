//! Running other programs: what they print is passed on, and can be read afterwards.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::tree;

/// What a program left behind.
pub struct Finished {
    pub success: bool,
    pub lines: Vec<String>,
}

/// Runs a program in the root of the tree and shows what it prints, line by line.
pub fn shown(command: &mut Command) -> Result<Finished> {
    follow(command, |line| println!("{line}"))
}

/// Runs a program and shows nothing, unless it fails.
pub fn quiet(command: &mut Command) -> Result<Finished> {
    let finished = follow(command, |_| ())?;
    if !finished.success {
        finished.lines.iter().for_each(|line| println!("{line}"));
    }
    Ok(finished)
}

/// Runs a program that must succeed; its last lines are in the error when it does not.
pub fn must(command: &mut Command, doing: &str) -> Result<Vec<String>> {
    let finished = follow(command, |_| ())?;
    if !finished.success {
        let from = finished.lines.len().saturating_sub(20);
        bail!("{doing} failed:\n{}", finished.lines[from..].join("\n"));
    }
    Ok(finished.lines)
}

fn follow(command: &mut Command, mut each: impl FnMut(&str)) -> Result<Finished> {
    let program = command.get_program().to_string_lossy().into_owned();
    let (reader, writer) = std::io::pipe()?;
    if command.get_current_dir().is_none() {
        command.current_dir(tree::root());
    }
    command.stdin(std::process::Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn().with_context(|| format!("cannot start {program}"))?;
    // The command keeps our ends of the pipe; they must go, or the reader would never see the end.
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());

    let mut lines = Vec::new();
    let mut reader = BufReader::new(reader);
    let mut bytes = Vec::new();
    while reader.read_until(b'\n', &mut bytes)? > 0 {
        let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
        each(&line);
        lines.push(line);
        bytes.clear();
    }
    let success = child.wait()?.success();
    Ok(Finished { success, lines })
}

/// Cargo, as the one that started us.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.env("CARGO_TERM_COLOR", "never");
    command
}

/// Where a program lies, looking also where a user's search path does not.
pub fn find(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let beyond = ["/usr/sbin", "/sbin", "/usr/local/sbin"].map(std::path::PathBuf::from);
    std::env::split_paths(&path).chain(beyond).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// Are we the super-user?
pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(Path::new("/proc/self")).is_ok_and(|it| it.uid() == 0)
}
