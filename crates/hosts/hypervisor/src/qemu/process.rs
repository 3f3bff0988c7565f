//! QEMU as a process: starting it, finding it again, ending it, and running the small tools beside it.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use contract::HostError;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::limits::{PROCESS_END, TOOL};

/// Limit: Linux refuses longer paths of sockets (108 bytes with the final zero).
const SOCKET_PATH_BYTES: usize = 107;
/// Kernel clock ticks per second, as /proc counts processor time; fixed at 100 on x86-64.
const TICKS: u64 = 100;

/// Starts `argv` in `dir` so that it outlives us: its own process group, nothing of our environment, output to `log`.
pub(crate) fn spawn(argv: &[String], dir: &Path, log: &Path) -> io::Result<Child> {
    let log = File::options().create(true).append(true).open(log)?;
    Command::new(&argv[0])
        .args(&argv[1..])
        .current_dir(dir)
        .env_clear()
        .env("PATH", tool_path())
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .spawn()
}

/// Runs a small tool to its end and returns what it printed. Its complaint becomes the cause of the error.
pub(crate) async fn tool(argv: &[&str], input: Option<&str>) -> Result<String, HostError> {
    let what = || format!("running {}", argv.first().copied().unwrap_or_default());
    let output = timeout(TOOL, run(argv, input)).await.map_err(|_| HostError::again(what()))?;
    let output = output.map_err(|error| HostError::again(what()).because(error))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr).trim().to_string();
    Err(HostError::again(what()).because(format!("{}: {complaint}", argv.join(" "))))
}

async fn run(argv: &[&str], input: Option<&str>) -> io::Result<Output> {
    let mut child = Command::new(argv[0])
        .args(&argv[1..])
        .env("PATH", tool_path())
        .env("LC_ALL", "C")
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    if let (Some(mut pipe), Some(text)) = (child.stdin.take(), input) {
        pipe.write_all(text.as_bytes()).await?;
    }
    child.wait_with_output().await
}

/// An ordinary user's path lacks `ip`.
fn tool_path() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{path}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
}

/// The QEMU processes of the guests under `guests`, by guest id. They are known by their command line, so that a
/// process is found even if we died between starting it and noting it.
pub(crate) fn find_all(guests: &Path) -> HashMap<String, i32> {
    let pids = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str().and_then(|name| name.parse().ok()));
    pids.filter_map(|pid| Some((guest_of(pid, guests)?, pid))).collect()
}

pub(crate) fn find(guests: &Path, id: &str) -> Option<i32> {
    find_all(guests).remove(id)
}

/// Whether `pid` (still) is the QEMU of this guest. A zombie has no command line and is not.
pub(crate) fn is_alive(pid: i32, guests: &Path, id: &str) -> bool {
    guest_of(pid, guests).is_some_and(|found| found == id)
}

/// Reads the marker that [`super::command`] puts on the command line: `-pidfile <guests>/<id>/pid`.
fn guest_of(pid: i32, guests: &Path) -> Option<String> {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let mut words = line.split(|byte| *byte == 0).skip_while(|word| *word != b"-pidfile");
    let file = PathBuf::from(String::from_utf8(words.nth(1)?.to_vec()).ok()?);
    let inside = file.strip_prefix(guests).ok()?;
    inside.parent()?.to_str().filter(|id| !id.is_empty()).map(String::from)
}

/// Kills the process of this guest if there is one, and waits until it is gone.
pub(crate) async fn end(pid: i32, guests: &Path, id: &str, patience: Duration) -> Result<(), HostError> {
    if wait_gone(pid, guests, id, patience).await {
        return Ok(());
    }
    if is_alive(pid, guests, id) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    match wait_gone(pid, guests, id, PROCESS_END).await {
        true => Ok(()),
        false => Err(HostError::again(format!("ending the process of guest {id}"))),
    }
}

async fn wait_gone(pid: i32, guests: &Path, id: &str, patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    while is_alive(pid, guests, id) || is_exiting(pid) {
        if Instant::now() >= deadline {
            return false;
        }
        sleep(Duration::from_millis(5)).await;
    }
    true
}

/// Whether a process has lost its memory, and with it its command line, but still holds files, locks and taps: it is no
/// zombie yet, or it is one whose threads go on.
fn is_exiting(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let words: Vec<&str> = stat.rsplit_once(") ").map(|(_, words)| words.split(' ').collect()).unwrap_or_default();
    let empty = std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.is_empty());
    match (words.first(), words.get(17)) {
        (Some(&"X"), _) | (Some(&"Z"), Some(&("0" | "1"))) => false,
        (Some(_), _) => empty,
        (None, _) => false,
    }
}

/// Resident bytes and processor nanoseconds.
pub(crate) fn usage(pid: i32) -> Option<(u64, u64)> {
    Some((resident_bytes(pid)?, cpu_ns(&PathBuf::from(format!("/proc/{pid}/stat")))?))
}

fn resident_bytes(pid: i32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1024)
}

/// Processor time of the process or thread whose `stat` file this is.
pub(crate) fn cpu_ns(stat: &Path) -> Option<u64> {
    let stat = std::fs::read_to_string(stat).ok()?;
    // The name in parentheses may hold anything; utime and stime are the 12th and 13th word after it.
    let mut words = stat.rsplit_once(") ")?.1.split(' ').skip(11);
    let ticks = words.next()?.parse::<u64>().ok()? + words.next()?.parse::<u64>().ok()?;
    Some(ticks * (1_000_000_000 / TICKS))
}

/// Seconds since the process began.
pub(crate) fn uptime_seconds(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let began: u64 = stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()?;
    Some(host_uptime_seconds().saturating_sub(began / TICKS))
}

pub(crate) fn host_uptime_seconds() -> u64 {
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    uptime.split('.').next().and_then(|seconds| seconds.parse().ok()).unwrap_or_default()
}

/// Connects to a socket of a guest, however deep its directory lies.
pub async fn connect(socket: &Path) -> io::Result<UnixStream> {
    if socket.as_os_str().len() <= SOCKET_PATH_BYTES {
        return UnixStream::connect(socket).await;
    }
    use std::os::fd::AsRawFd;
    let dir = File::open(socket.parent().unwrap_or(Path::new("/")))?;
    let name = socket.file_name().unwrap_or_default().to_string_lossy();
    UnixStream::connect(format!("/proc/self/fd/{}/{name}", dir.as_raw_fd())).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_is_known_by_its_marker_only() {
        let guests = tempfile::tempdir().unwrap();
        let dir = guests.path().join("a");
        std::fs::create_dir(&dir).unwrap();
        let marker = dir.join("pid").display().to_string();
        let argv = ["sh", "-c", "exec sleep 100 # $0 $@", "-pidfile", &marker];
        let mut stranger = Command::new("sleep").arg("100").kill_on_drop(true).spawn().unwrap();
        // The shell keeps its own command line because it waits for its child.
        let argv = argv.map(|word| word.replace("exec sleep 100", "sleep 100; true"));
        let mut child = spawn(&argv, &dir, &dir.join("log")).unwrap();
        let pid = child.id().unwrap() as i32;
        assert_eq!(find(guests.path(), "a"), Some(pid));
        assert!(!is_alive(stranger.id().unwrap() as i32, guests.path(), "a"));
        assert!(usage(pid).is_some());

        // The group goes, so that the shell's child does not stay behind.
        kill(Pid::from_raw(-pid), Signal::SIGKILL).unwrap();
        end(pid, guests.path(), "a", Duration::ZERO).await.unwrap();
        assert_eq!(find(guests.path(), "a"), None);
        child.wait().await.unwrap();
        stranger.kill().await.unwrap();
    }

    #[tokio::test]
    async fn a_tool_that_fails_says_why() {
        let error = tool(&["sh", "-c", "echo no space >&2; exit 1"], None).await.unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.ends_with("no space"), "{cause}");
        assert_eq!(tool(&["cat"], Some("text")).await.unwrap(), "text");
    }

    #[tokio::test]
    async fn a_socket_in_a_deep_directory_is_reached() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("d".repeat(60)).join("e".repeat(60));
        std::fs::create_dir_all(&deep).unwrap();
        let dir = File::open(&deep).unwrap();
        use std::os::fd::AsRawFd;
        let short = format!("/proc/self/fd/{}/s", dir.as_raw_fd());
        let _listener = tokio::net::UnixListener::bind(short).unwrap();
        connect(&deep.join("s")).await.unwrap();
    }
}
