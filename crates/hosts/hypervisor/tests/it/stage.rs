//! Where a test plays: a host with a driver, and hands to do to its guests what the driver does not.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use base::Json;
use bytes::Bytes;
use contract::HostError;
use contract::guest::{Console, Disk, DiskSource, Guest, Nic, Power, Report, Restart, State};
use host_hypervisor::{Fake, Hypervisor, Images, Qemu, QemuConfig, VirtType, Work};
use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest, Sha512};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

/// Limit: a starved host boots a guest under TCG in a minute.
const PATIENCE: Duration = Duration::from_secs(120);

pub enum Stage {
    Fake(Arc<Fake>),
    Qemu(Box<Real>),
}

pub struct Real {
    pub driver: Option<Qemu>,
    pub config: QemuConfig,
    pub image: PathBuf,
    pub netns: String,
    _dir: tempfile::TempDir,
    _lock: Flock<std::fs::File>,
}

/// Whether real guests may be booted here; says so when not.
pub fn host_tests() -> bool {
    let on = std::env::var("FERROSTACK_HOST_TESTS").is_ok_and(|value| value == "1");
    if !on {
        println!("NOT RUN: real guests need FERROSTACK_HOST_TESTS=1");
    }
    on
}

impl Stage {
    pub fn fake() -> Stage {
        Stage::Fake(Arc::new(Fake::new(Default::default(), Default::default())))
    }

    pub async fn qemu() -> Stage {
        Stage::Qemu(Box::new(Real::new().await))
    }

    pub fn driver(&self) -> &dyn Hypervisor {
        match self {
            Stage::Fake(fake) => &**fake,
            Stage::Qemu(real) => real.driver(),
        }
    }

    /// A server that boots the tiny guest from a disk of 1 GiB.
    pub fn guest(&self) -> Guest {
        let source = match self {
            Stage::Fake(_) => DiskSource::Blank,
            Stage::Qemu(real) => real.source(),
        };
        let id = base::id::uuid();
        let tap = format!("tap{}", &id[..11]);
        Guest {
            generation: 1,
            name: "a server, with a comma".into(),
            project_id: base::id::hex(),
            power: Power::Running,
            restarts: 0,
            restart: Restart::Hard,
            disk_generation: 0,
            vcpus: 1,
            memory_mb: 128,
            disks: vec![Disk {
                id: "root".into(),
                size_bytes: 1 << 30,
                source,
                boot_index: Some(0),
                serial: id.clone(),
            }],
            nics: vec![Nic { port: base::id::uuid(), mac: "fa:16:3e:00:00:01".into(), tap, mtu: 1450 }],
            config_drive: None,
            console: Console { vnc: true, log_bytes: 65536 },
            hints: [("os_shutdown_timeout".to_string(), "60".to_string())].into(),
            id,
        }
    }

    pub async fn report(&self, id: &str) -> Option<Report> {
        self.driver().guests().await.unwrap().into_iter().find(|report| report.id == id)
    }

    pub async fn state(&self, id: &str) -> Option<State> {
        self.report(id).await.map(|report| report.state)
    }

    /// Waits for a state that comes without an order.
    pub async fn becomes(&self, id: &str, wanted: State) {
        let mut changes = self.driver().changes();
        let reached = async {
            while self.state(id).await != Some(wanted) {
                let _ = changes.recv().await;
            }
        };
        timeout(PATIENCE, reached).await.unwrap_or_else(|_| panic!("guest {id} never became {wanted:?}"));
    }

    /// Waits until the guest has written `text` to its console.
    pub async fn says(&self, id: &str, text: &str) -> String {
        let said = async {
            loop {
                let log = self.driver().console_log(id, 65536).await.unwrap();
                if log.contains(text) {
                    return log;
                }
                sleep(Duration::from_millis(50)).await;
            }
        };
        match timeout(PATIENCE, said).await {
            Ok(log) => log,
            Err(_) => panic!("no {text:?} in {}", self.driver().console_log(id, 65536).await.unwrap()),
        }
    }

    /// Waits until the guest can hear its power button.
    pub async fn booted(&self, id: &str) {
        match self {
            Stage::Fake(_) => {}
            Stage::Qemu(_) => drop(self.says(id, "guest-done").await),
        }
    }

    /// Kills the guest's process.
    pub async fn kill(&self, id: &str) {
        match self {
            Stage::Fake(fake) => fake.crash(id),
            Stage::Qemu(real) => {
                let pid = nix::unistd::Pid::from_raw(real.pid(id).expect("the guest has a process"));
                nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
            }
        }
    }

    /// Somebody inside the guest turns it off.
    pub async fn power_off(&self, id: &str) {
        match self {
            Stage::Fake(fake) => fake.power_off(id),
            Stage::Qemu(real) => real.type_in(id, "poweroff").await,
        }
    }
}

impl Real {
    async fn new() -> Real {
        // Few guests may boot at once on one machine, whoever runs the tests.
        let file = std::fs::File::options().create(true).append(true).open("/tmp/boot.lock").unwrap();
        let wait = || Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error);
        let lock = tokio::task::spawn_blocking(wait).await.unwrap().unwrap();
        let image = std::env::var("FERROSTACK_GUEST_IMAGE").expect("FERROSTACK_GUEST_IMAGE names the tiny guest");
        let netns = format!("fs-hv-{}", &base::id::hex()[..8]);
        run(&["ip", "netns", "add", &netns]);
        let dir = tempfile::Builder::new().prefix("fs-hv").tempdir().unwrap();
        let config = QemuConfig {
            netns: Some(netns.clone()),
            virt_type: VirtType::Auto,
            ..QemuConfig::new(dir.path().join("data"))
        };
        let mut real = Real { driver: None, config, image: image.into(), netns, _dir: dir, _lock: lock };
        real.restart().await;
        real
    }

    pub fn driver(&self) -> &Qemu {
        self.driver.as_ref().expect("a driver is open")
    }

    /// What a restart of ours does: the driver goes, another comes.
    pub async fn restart(&mut self) {
        self.driver = None;
        let images = Arc::new(Directory(self.image.clone()));
        self.driver = Some(Qemu::open(self.config.clone(), images).await.unwrap());
    }

    /// Lets QEMU run as `user`, who must be able to walk to the data directory.
    pub async fn run_as(&mut self, user: &str) {
        std::fs::set_permissions(self._dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        self.config.user = Some(user.to_string());
        self.restart().await;
    }

    pub fn dir(&self, id: &str) -> PathBuf {
        self.config.data_dir.canonicalize().unwrap().join("guests").join(id)
    }

    /// The guest's process, found by its command line.
    pub fn pid(&self, id: &str) -> Option<i32> {
        processes(&self.dir(id).join("pid")).into_iter().next()
    }

    pub fn source(&self) -> DiskSource {
        let content = std::fs::read(&self.image).expect("the guest image can be read");
        let hash: String = Sha512::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
        DiskSource::Image {
            image: "3c0f7b36-0f1c-4a58-8f65-b2a0f9f0b1a9".into(),
            format: "qcow2".into(),
            size_bytes: content.len() as u64,
            os_hash_algo: "sha512".into(),
            os_hash_value: hash,
        }
    }

    pub fn taps(&self) -> Vec<String> {
        let text = run(&["ip", "-n", &self.netns, "-j", "link", "show"]);
        let links: Vec<Json> = serde_json::from_str(&text).unwrap();
        let names = links.iter().filter_map(|link| link["ifname"].as_str());
        names.filter(|name| *name != "lo").map(String::from).collect()
    }

    /// Logs in on the serial line, types a command that ends the guest, and stays until it has.
    async fn type_in(&self, id: &str, line: &str) {
        let socket = host_hypervisor::qemu::process::connect(&self.dir(id).join("serial")).await.unwrap();
        let (read, mut write) = socket.into_split();
        let mut read = BufReader::new(read);
        write.write_all(b"\n").await.unwrap();
        for (prompt, answer) in [("login: ", "cirros"), ("Password: ", "gocubsgo"), ("# ", line)] {
            let mut said = Vec::new();
            while !String::from_utf8_lossy(&said).ends_with(prompt) {
                let byte = timeout(PATIENCE, read.fill_buf()).await.unwrap().unwrap()[0];
                read.consume(1);
                said.push(byte);
            }
            // The shell swallows one line end while it asks the terminal for its size.
            write.write_all(format!("{answer}\n").as_bytes()).await.unwrap();
            if answer == line {
                write.write_all(b"\n").await.unwrap();
            }
        }
        let mut rest = Vec::new();
        let _ = timeout(PATIENCE, read.read_to_end(&mut rest)).await.expect("the guest ends");
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        self.driver = None;
        for pid in processes(&self.config.data_dir) {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
        let _ = Command::new("ip").args(["netns", "del", &self.netns]).status();
    }
}

/// QEMU processes whose command line names a path at or below `path`.
pub fn processes(path: &Path) -> Vec<i32> {
    let pids = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let path = path.to_str().unwrap().to_string();
    let ours = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        line.starts_with("qemu-system") && line.split('\0').any(|word| word.starts_with(&path))
    };
    pids.filter(ours).collect()
}

pub fn run(argv: &[&str]) -> String {
    let output = Command::new(argv[0]).args(&argv[1..]).output().unwrap();
    assert!(output.status.success(), "{argv:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// An image service with one image.
struct Directory(PathBuf);

impl Images for Directory {
    fn fetch<'a>(&'a self, _: &'a str, to: mpsc::Sender<Bytes>) -> Work<'a, ()> {
        Box::pin(async move {
            let content =
                Bytes::from(std::fs::read(&self.0).map_err(|error| HostError::again("reading").because(error))?);
            for from in (0..content.len()).step_by(65536) {
                let piece = content.slice(from..content.len().min(from + 65536));
                if to.send(piece).await.is_err() {
                    break;
                }
            }
            Ok(())
        })
    }
}
