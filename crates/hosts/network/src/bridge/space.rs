//! A network namespace and what is done inside one: programs with a time limit, kernel settings, sockets.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket as raw;
use nix::unistd::Pid;

/// Limit: a healthy `ip` or `nft` answers in milliseconds; a starved machine may need seconds.
const PROGRAM_TIME: Duration = Duration::from_secs(30);
const NAMESPACES: &str = "/run/netns";

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{program}: {said}")]
    Refused { program: String, said: String },
    #[error("{program} did not answer within {} s", PROGRAM_TIME.as_secs())]
    Slow { program: String },
    #[error("{program} answered something else than JSON")]
    NotJson { program: String, source: serde_json::Error },
    #[error("{what}")]
    Io { what: String, source: std::io::Error },
}

impl Error {
    pub(crate) fn io(what: impl Into<String>, source: impl Into<std::io::Error>) -> Error {
        Error::Io { what: what.into(), source: source.into() }
    }
}

/// Where something lives: the namespace of this process, or one that has a name under `/run/netns`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Space {
    Machine,
    Named(String),
}

impl Space {
    pub(crate) fn named(name: impl Into<String>) -> Space {
        Space::Named(name.into())
    }

    pub(crate) fn of_host(netns: Option<&str>) -> Space {
        netns.map_or(Space::Machine, Space::named)
    }

    fn path(&self) -> PathBuf {
        match self {
            Space::Machine => "/proc/self/ns/net".into(),
            Space::Named(name) => Path::new(NAMESPACES).join(name),
        }
    }

    pub(crate) fn exists(&self) -> bool {
        self.identity().is_some()
    }

    /// What the kernel knows the namespace by; a namespace that was deleted and made again has another one.
    pub(crate) fn identity(&self) -> Option<(u64, u64)> {
        identity(&self.path())
    }

    /// Does `work` inside, on a thread of its own: a thread that has changed its namespace is never used again.
    pub(crate) fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
        let Space::Named(name) = self else { return Ok(work()) };
        let space = std::fs::File::open(self.path()).map_err(|e| Error::io(format!("open namespace {name}"), e))?;
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(&space, CloneFlags::CLONE_NEWNET).map_err(|e| Error::io(format!("enter namespace {name}"), e))?;
                Ok(work())
            });
            inside.join().expect("what is done inside a namespace does not panic")
        })
    }

    /// Runs a program inside and returns what it prints; an exit status other than 0 is an error.
    pub(crate) fn run(&self, program: &str, args: &[&str], input: &str) -> Result<String, Error> {
        let done = self.run_to_end(program, args, input)?;
        match done.failed {
            true => Err(Error::Refused { program: program.into(), said: clipped(&done.complaint) }),
            false => Ok(done.answer),
        }
    }

    /// Like [`Space::run`], but tells what was said when the program failed, for batches that go on after a failure.
    pub(crate) fn run_to_end(&self, program: &str, args: &[&str], input: &str) -> Result<Done, Error> {
        let child = self.enter(|| spawn(program, args, !input.is_empty()))??;
        tracing::trace!(program, ?args, input, "run");
        finish(child, program, input)
    }

    /// Sets a kernel parameter, for example `net/ipv4/ip_forward`, unless it has the value already.
    pub(crate) fn set(&self, values: &[(String, &str)]) -> Result<(), Error> {
        if values.is_empty() {
            return Ok(());
        }
        self.enter(|| {
            for (key, value) in values {
                set_one(&Path::new("/proc/sys").join(key), value)?;
            }
            Ok(())
        })?
    }

    pub(crate) fn setting(&self, key: &str) -> Option<String> {
        let path = Path::new("/proc/sys").join(key);
        let read = self.enter(|| std::fs::read_to_string(path).ok()).ok().flatten();
        read.map(|text| text.trim().to_string())
    }

    pub(crate) fn listen(&self, at: SocketAddr) -> Result<TcpListener, Error> {
        self.enter(|| TcpListener::bind(at))?.map_err(|e| Error::io(format!("listen on {at}"), e))
    }

    /// A TCP socket that will connect from inside, whoever connects it.
    pub(crate) fn stream(&self, to: SocketAddr) -> Result<std::net::TcpStream, Error> {
        let family = if to.is_ipv4() { raw::AddressFamily::Inet } else { raw::AddressFamily::Inet6 };
        let flags = raw::SockFlag::SOCK_NONBLOCK | raw::SockFlag::SOCK_CLOEXEC;
        let made = self.enter(|| raw::socket(family, raw::SockType::Stream, flags, None))?;
        made.map(Into::into).map_err(|e| Error::io("make a socket", e))
    }

    /// A netlink socket that hears of every network device that comes, changes or goes.
    pub(crate) fn link_events(&self) -> Result<OwnedFd, Error> {
        const LINK_GROUP: u32 = 1;
        let flags = raw::SockFlag::SOCK_NONBLOCK | raw::SockFlag::SOCK_CLOEXEC;
        let made = self.enter(|| {
            let kind = raw::SockType::Raw;
            let socket = raw::socket(raw::AddressFamily::Netlink, kind, flags, raw::SockProtocol::NetlinkRoute)?;
            raw::bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &raw::NetlinkAddr::new(0, LINK_GROUP))?;
            Ok::<OwnedFd, nix::Error>(socket)
        })?;
        made.map_err(|e| Error::io("listen for network devices", e))
    }

    /// Sends one datagram as if it came in over `device`.
    pub(crate) fn send_over(&self, device: &str, to: (Ipv4Addr, u16), bytes: &[u8]) -> Result<(), Error> {
        let sent = self.enter(|| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            raw::setsockopt(&socket, raw::sockopt::BindToDevice, &device.into())?;
            socket.send_to(bytes, to).map(drop)
        })?;
        sent.map_err(|e| Error::io(format!("send to {}", to.0), e))
    }
}

/// All namespaces that have a name.
pub(crate) fn all() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(NAMESPACES) else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// The namespace a process is in.
pub(crate) fn of_process(pid: i32) -> Option<(u64, u64)> {
    identity(Path::new(&format!("/proc/{pid}/ns/net")))
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let found = std::fs::metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

/// Programs such as `nft` repeat a complaint for every line that follows.
fn clipped(complaint: &str) -> String {
    const LONGEST_COMPLAINT: usize = 300;
    complaint.trim().chars().take(LONGEST_COMPLAINT).collect()
}

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Done {
    pub failed: bool,
    pub answer: String,
    pub complaint: String,
}

fn spawn(program: &str, args: &[&str], with_input: bool) -> Result<Child, Error> {
    let input = if with_input { Stdio::piped() } else { Stdio::null() };
    let mut command = Command::new(program);
    command.args(args).stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().map_err(|e| Error::io(format!("start {program}"), e))
}

fn finish(mut child: Child, program: &str, input: &str) -> Result<Done, Error> {
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("process ids are positive 32-bit numbers"));
    if let Some(mut pipe) = child.stdin.take() {
        let input = input.to_string();
        // A program that stops reading says why on its error output; the broken pipe says nothing more.
        std::thread::spawn(move || pipe.write_all(input.as_bytes()).ok());
    }
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || tell.send(child.wait_with_output()));
    let Ok(output) = told.recv_timeout(PROGRAM_TIME) else {
        kill(pid, Signal::SIGKILL).ok();
        return Err(Error::Slow { program: program.into() });
    };
    let output = output.map_err(|e| Error::io(format!("wait for {program}"), e))?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(Done { failed: !output.status.success(), answer: text(output.stdout), complaint: text(output.stderr) })
}

fn set_one(path: &Path, value: &str) -> Result<(), Error> {
    let failed = |e| Error::io(format!("set {}", path.display()), e);
    if std::fs::read_to_string(path).map_err(failed)?.trim() == value {
        return Ok(());
    }
    std::fs::write(path, value).map_err(failed)
}
