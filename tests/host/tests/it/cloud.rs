//! Controllers and agents as processes of their own, on MariaDB and RabbitMQ.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use engines::{MariaDb, RabbitMq};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::site::Site;

pub const PASSWORD: &str = "a-password-of-tests";
/// Limit: until a process has ended that was asked to.
const END: Duration = Duration::from_secs(20);
const SERVICES: &str = "identity,image,placement,network,compute,metadata";
const DATABASES: &[(&str, &str)] = &[
    ("keystone", "keystone/keystone.conf"),
    ("glance", "glance/glance-api.conf"),
    ("placement", "placement/placement.conf"),
    ("nova", "nova/nova.conf"),
    ("neutron", "neutron/neutron.conf"),
];

/// A process of the program, which ends with its owner.
struct Process(Child);

impl Process {
    fn start(arguments: &[&str], log: &Path) -> Process {
        let log_file = std::fs::File::create(log).unwrap();
        let mut command = Command::new(binary());
        let mut child = command.args(arguments).stdout(Stdio::piped()).stderr(log_file).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let ready = output.lines().map_while(Result::ok).any(|line| line == "ready");
        let process = Process(child);
        assert!(ready, "{arguments:?}: {}", std::fs::read_to_string(log).unwrap_or_default());
        process
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGTERM);
        let asked = Instant::now();
        while asked.elapsed() < END && matches!(self.0.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A cloud with one controller process and an agent process for each host. Fields go in this order.
pub struct Cloud {
    agents: Vec<Process>,
    _controllers: Process,
    pub site: Site,
    pub offset: u16,
    _rabbit: RabbitMq,
    _mariadb: MariaDb,
    files: TempDir,
}

impl Cloud {
    /// The controllers run; there are no hosts yet.
    pub fn start(hosts: usize) -> Cloud {
        let (mariadb, rabbit) = (MariaDb::start().unwrap(), RabbitMq::start().unwrap());
        rabbit.add("cloud").unwrap();
        let files = tempfile::Builder::new().prefix("fsh").tempdir().unwrap();
        let (site, offset) = (Site::new(hosts), free_offset());
        let etc = files.path().join("etc");
        configure(&etc, &mariadb, &rabbit, offset);
        synchronise(&etc, offset);
        let offset_text = offset.to_string();
        let data = files.path().join("controller");
        let controllers = Process::start(
            &[
                "serve",
                "--services",
                SERVICES,
                "--config-dir",
                etc.to_str().unwrap(),
                "--data-dir",
                data.to_str().unwrap(),
                "--port-offset",
                &offset_text,
            ],
            &files.path().join("controller.log"),
        );
        let cloud = Cloud {
            agents: Vec::new(),
            _controllers: controllers,
            site,
            offset,
            _rabbit: rabbit,
            _mariadb: mariadb,
            files,
        };
        for host in 0..hosts {
            cloud.configure_host(host);
        }
        cloud
    }

    /// Starts the agents of all hosts: `host1`, `host2`, …
    pub fn start_agents(&mut self, hosts: usize) {
        for host in 0..hosts {
            let name = format!("host{}", host + 1);
            let (etc, data) = (self.files.path().join(format!("etc{host}")), self.home(host));
            let log = self.files.path().join(format!("{name}.log"));
            let offset = self.offset.to_string();
            let agent = Process::start(
                &[
                    "agent",
                    "--netns",
                    self.site.netns(host),
                    "--host",
                    &name,
                    "--config-dir",
                    etc.to_str().unwrap(),
                    "--data-dir",
                    data.to_str().unwrap(),
                    "--port-offset",
                    &offset,
                ],
                &log,
            );
            self.agents.push(agent);
        }
    }

    fn home(&self, host: usize) -> PathBuf {
        self.files.path().join(format!("h{host}"))
    }

    /// The serial line of a guest on a host.
    pub fn serial(&self, host: usize, server: &str) -> PathBuf {
        self.home(host).join("host/guests").join(server).join("serial")
    }

    fn configure_host(&self, host: usize) {
        let etc = self.files.path().join(format!("etc{host}"));
        let address = Site::address(host);
        let nova = std::fs::read_to_string(self.files.path().join("etc/nova/nova.conf")).unwrap();
        write(&etc, "nova/nova.conf", &nova.replace("[DEFAULT]\n", &format!("[DEFAULT]\nmy_ip = {address}\n")));
        write(&etc, "neutron/plugins/ml2/linuxbridge_agent.ini", &format!("[vxlan]\nlocal_ip = {address}\n"));
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for entry in std::fs::read_dir(self.files.path()).unwrap().flatten().map(|entry| entry.path()) {
                if entry.extension().is_some_and(|kind| kind == "log") {
                    eprintln!("--- {}\n{}", entry.display(), std::fs::read_to_string(&entry).unwrap_or_default());
                }
            }
        }
    }
}

fn binary() -> PathBuf {
    // …/debug/deps/it-0123 lies beside …/debug/ferrostack.
    let beside = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().join("ferrostack");
    std::env::var_os("FERROSTACK").map_or(beside, PathBuf::from)
}

fn configure(etc: &Path, mariadb: &MariaDb, rabbit: &RabbitMq, offset: u16) {
    let keys = etc.parent().unwrap().join("keys");
    let socket = mariadb.url("").split_once("unix_socket=").unwrap().1.to_string();
    for (name, file) in DATABASES {
        let mut client = Command::new("mariadb");
        client.args(["-uroot", "-S", &socket, "-e"]).arg(format!("CREATE DATABASE {name}"));
        assert!(client.status().unwrap().success(), "the database {name} is made");
        let more = match *name {
            "keystone" => format!(
                "[fernet_tokens]\nkey_repository = {0}/fernet-keys\n[credential]\nkey_repository = {0}/credential-keys\n",
                keys.display()
            ),
            "nova" => format!(
                "[DEFAULT]\ntransport_url = {}\n[neutron]\nmetadata_proxy_shared_secret = secret\n\
                 [keystone_authtoken]\nauth_url = http://127.0.0.1:{}/v3\nusername = nova\npassword = {PASSWORD}\n",
                rabbit.url("cloud"),
                5000 + offset
            ),
            _ => String::new(),
        };
        write(etc, file, &format!("{more}[database]\nconnection = {}\n", mariadb.url(name)));
    }
    std::fs::create_dir_all(&keys).unwrap();
}

/// What an operator does before the first start.
fn synchronise(etc: &Path, offset: u16) {
    let manage = |line: &str| {
        let (name, words) = line.split_once(' ').unwrap();
        let mut command = Command::new(binary());
        command.args([name, "--config-dir"]).arg(etc).args(words.split_whitespace());
        let done = command.output().unwrap();
        assert!(done.status.success(), "{line}: {}", String::from_utf8_lossy(&done.stderr));
    };
    manage("keystone-manage db_sync");
    manage("keystone-manage fernet_setup");
    manage("keystone-manage credential_setup");
    let url = format!("http://127.0.0.1:{}/v3", 5000 + offset);
    manage(&format!(
        "keystone-manage bootstrap --bootstrap-password {PASSWORD} --bootstrap-region-id RegionOne \
         --bootstrap-public-url {url} --bootstrap-internal-url {url} --bootstrap-admin-url {url}"
    ));
    manage("glance-manage db_sync");
    manage("placement-manage db sync");
    manage("nova-manage api_db sync");
    manage("nova-manage db sync");
    manage("neutron-db-manage upgrade head");
}

fn write(etc: &Path, file: &str, text: &str) {
    let path = etc.join(file);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// What to add to every port so that all are free.
fn free_offset() -> u16 {
    let first = 6000 + u16::try_from(std::process::id() % 700).unwrap() * 20;
    let free = |offset: &u16| {
        let ports = [5000, 6080, 8774, 8775, 8778, 9292, 9696];
        ports.iter().all(|port| TcpListener::bind(("127.0.0.1", port + offset)).is_ok())
    };
    (first..22_000).find(free).expect("some ports of this machine are free")
}
