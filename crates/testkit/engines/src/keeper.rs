//! Keeps a server running for as long as its guard lives, and leaves nothing behind.
//!
//! A shell stands between us and the server: it reads a pipe that only we hold open. When the guard is dropped, or
//! this process ends in any way, the pipe closes; the shell stops the server and removes its directory. Should the
//! shell be killed too, the kernel stops the server.

use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// Limit: how long a server may take to start; a cold Erlang on a busy machine takes longest.
const START: Duration = Duration::from_secs(90);

/// How often it is asked whether it has started.
const ASK: Duration = Duration::from_millis(20);

const SHELL: &str = r#"
trap '' INT TERM HUP
signal=$1 dir=$2; shift 2
"$@" </dev/null >"$dir/log" 2>&1 &
server=$!
echo $server >"$dir/pid.new" && mv "$dir/pid.new" "$dir/pid"
read -r _
kill -"$signal" $server
wait $server
rm -rf "$dir"
"#;

/// Which Unix user a server runs as, if we may choose.
#[derive(Clone)]
pub(crate) struct Runner {
    user: Option<(String, u32, u32)>,
}

impl Runner {
    /// `user` if we are root, else ourselves: PostgreSQL refuses to run as root.
    pub(crate) fn new(user: &str) -> anyhow::Result<Runner> {
        if std::fs::metadata("/proc/self")?.uid() != 0 {
            return Ok(Runner { user: None });
        }
        let users = std::fs::read_to_string("/etc/passwd")?;
        let line = users.lines().find(|line| line.split(':').next() == Some(user));
        let line = line.with_context(|| format!("there is no user {user}; is the package installed?"))?;
        let field = |place: usize| line.split(':').nth(place).and_then(|field| field.parse().ok());
        let (uid, gid) = field(2).zip(field(3)).context("/etc/passwd is broken")?;
        Ok(Runner { user: Some((user.to_string(), uid, gid)) })
    }

    /// A new directory that belongs to the user, in memory where that can be had.
    pub(crate) fn directory(&self) -> anyhow::Result<PathBuf> {
        let directory = tempfile::Builder::new().prefix("engine-").tempdir_in(fast_place())?.keep();
        if let Some((_, uid, gid)) = &self.user {
            chown(&directory, Some(*uid), Some(*gid))?;
        }
        Ok(directory)
    }

    /// Hands a file in the directory to the user.
    pub(crate) fn give(&self, file: &Path) -> anyhow::Result<()> {
        if let Some((_, uid, gid)) = &self.user {
            chown(file, Some(*uid), Some(*gid))?;
        }
        Ok(())
    }

    /// The words that become the user and then `program`.
    fn words(&self, signal: &str, program: &str) -> Vec<String> {
        let mut words = vec!["setpriv".to_string(), format!("--pdeathsig={signal}")];
        if let Some((_, uid, gid)) = &self.user {
            words.extend([format!("--reuid={uid}"), format!("--regid={gid}"), "--clear-groups".into()]);
        }
        words.extend(["--".to_string(), program.to_string()]);
        words
    }

    /// Runs a program to its end.
    pub(crate) fn run(&self, program: &str, arguments: &[String]) -> anyhow::Result<()> {
        let words = self.words("KILL", program);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(arguments).current_dir("/").stdin(Stdio::null());
        let done = command.output().with_context(|| format!("running {program}"))?;
        if !done.status.success() {
            bail!("{program} failed:\n{}", String::from_utf8_lossy(&done.stderr));
        }
        Ok(())
    }
}

/// Where files live in memory, if there is such a place.
pub(crate) fn fast_place() -> PathBuf {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() }
}

/// What is to be started.
pub(crate) struct Order<'a> {
    pub(crate) runner: &'a Runner,
    pub(crate) directory: PathBuf,
    pub(crate) program: &'a str,
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: Vec<(&'a str, String)>,
    /// The signal that stops the server at once.
    pub(crate) signal: &'a str,
}

/// The guard of a running server.
#[derive(Debug)]
pub(crate) struct Keeper {
    shell: Child,
    pub(crate) directory: PathBuf,
}

impl Keeper {
    /// Starts a server and waits until `ready` says so.
    pub(crate) fn start(order: Order<'_>, mut ready: impl FnMut(&Path) -> bool) -> anyhow::Result<Keeper> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", SHELL, "keeper", order.signal]).arg(&order.directory);
        command.args(order.runner.words(order.signal, order.program)).args(&order.arguments);
        command.envs(order.environment).current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let shell = command.spawn().context("starting a shell")?;
        let keeper = Keeper { shell, directory: order.directory };

        let patience = Instant::now() + START;
        while !ready(&keeper.directory) {
            if keeper.is_dead() || Instant::now() > patience {
                bail!("{} did not start:\n{}", order.program, keeper.log());
            }
            std::thread::sleep(ASK);
        }
        Ok(keeper)
    }

    /// Whether the server has ended although nobody asked it to.
    fn is_dead(&self) -> bool {
        let Ok(pid) = std::fs::read_to_string(self.directory.join("pid")) else { return false };
        match std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())) {
            // The state stands after the name; the shell has not buried it yet.
            Ok(stat) => stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('Z')),
            Err(_) => true,
        }
    }

    /// The end of what the server said.
    fn log(&self) -> String {
        let mut text = Vec::new();
        if let Ok(mut file) = std::fs::File::open(self.directory.join("log")) {
            let length = file.metadata().map_or(0, |metadata| metadata.len());
            let _ = file.seek(SeekFrom::Start(length.saturating_sub(4_000)));
            let _ = file.read_to_end(&mut text);
        }
        String::from_utf8_lossy(&text).into_owned()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

/// A TCP port that nobody listens on right now.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// The words of a command line.
pub(crate) fn words(line: &[&str]) -> Vec<String> {
    line.iter().map(|word| word.to_string()).collect()
}
