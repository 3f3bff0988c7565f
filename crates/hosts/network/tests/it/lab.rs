//! Hosts and guests out of namespaces, and what may be asked of them. Everything is removed when the lab is dropped.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use contract::network::*;
use host_network::{Bridge, Look, Settings};
use nix::sched::{CloneFlags, setns};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Whether tests may change this machine.
pub fn allowed() -> bool {
    let allowed = std::env::var("FERROSTACK_HOST_TESTS").is_ok_and(|value| value == "1");
    if !allowed {
        eprintln!("skipped: FERROSTACK_HOST_TESTS is not 1");
    }
    allowed
}

/// A name or id nobody else uses.
pub fn number() -> u32 {
    NEXT.fetch_add(1, Ordering::Relaxed)
}

pub fn uuid() -> String {
    // Devices are named after the first eleven characters.
    format!("{:08x}-0000-4000-8000-{:012x}", number(), std::process::id())
}

pub fn mac() -> String {
    let pid = std::process::id().to_be_bytes();
    let number = u16::try_from(number()).unwrap().to_be_bytes();
    format!("fa:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", pid[1], pid[2], pid[3], number[0], number[1])
}

/// Runs a command line, which must succeed.
pub fn run(line: &str) -> String {
    let done = attempt(line);
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{line}: {said}");
    String::from_utf8_lossy(&done.stdout).into_owned()
}

pub fn attempt(line: &str) -> Output {
    let mut words = line.split_whitespace();
    Command::new(words.next().unwrap()).args(words).output().unwrap()
}

/// A namespace that goes away with its owner.
pub struct Space(pub String);

impl Space {
    pub fn new(kind: &str) -> Space {
        let name = format!("t{}-{kind}{}", std::process::id(), number());
        run(&format!("ip netns add {name}"));
        run(&format!("ip -n {name} link set lo up"));
        Space(name)
    }

    pub fn run(&self, line: &str) -> String {
        run(&format!("ip netns exec {} {line}", self.0))
    }

    pub fn attempt(&self, line: &str) -> Output {
        attempt(&format!("ip netns exec {} {line}", self.0))
    }

    /// Does something on a thread that is inside.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let space = File::open(Path::new("/run/netns").join(&self.0)).unwrap();
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(&space, CloneFlags::CLONE_NEWNET).unwrap();
                work()
            });
            inside.join().unwrap()
        })
    }

    pub fn pings(&self, to: &str) -> bool {
        self.attempt(&format!("ping -n -c 3 -i 0.2 -W 2 {to}")).status.success()
    }

    /// Whether nothing comes back. A reply needs less than a millisecond here.
    pub fn cannot_ping(&self, to: &str) -> bool {
        !self.attempt(&format!("ping -n -c 2 -i 0.2 -W 0.5 {to}")).status.success()
    }

    pub fn connects(&self, to: &str) -> bool {
        let to: SocketAddr = to.parse().unwrap();
        self.enter(|| TcpStream::connect_timeout(&to, Duration::from_millis(700)).is_ok())
    }

    /// Sends a request and returns the whole answer.
    pub fn http(&self, to: &str, request: &str) -> std::io::Result<String> {
        let to: SocketAddr = to.parse().unwrap();
        self.enter(|| {
            let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(2))?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            stream.write_all(request.as_bytes())?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        })
    }

    /// Accepts connections and answers each with what it heard first, until the process ends.
    pub fn serve(&self, at: &str, answer: impl Fn(&str, SocketAddr) -> String + Send + 'static) {
        let listener = self.enter(|| TcpListener::bind(at).unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let (mut heard, from) = (vec![0; 65536], stream.peer_addr().unwrap());
                stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
                let length = stream.read(&mut heard).unwrap_or(0);
                let text = answer(&String::from_utf8_lossy(&heard[..length]), from);
                stream.write_all(text.as_bytes()).ok();
            }
        });
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        attempt(&format!("ip netns del {}", self.0));
    }
}

/// A host: a namespace on a shared underlay, with a driver.
pub struct TestHost {
    pub space: Space,
    pub driver: Bridge,
    pub folder: tempfile::TempDir,
    pub address: IpAddr,
    pub order: Desired,
}

/// Hosts that reach each other.
pub struct Lab {
    pub hosts: Vec<TestHost>,
    /// Where the physical network `physnet1` of all hosts leads, with the address 198.51.100.1.
    pub outside: Space,
    _underlay: Space,
}

pub fn lab(hosts: u8) -> Lab {
    let underlay = Space::new("u");
    run(&format!("ip -n {} link add br0 type bridge stp_state 0 forward_delay 0", underlay.0));
    run(&format!("ip -n {} link set br0 up", underlay.0));
    let outside = Space::new("o");
    run(&format!("ip -n {} link add world type bridge stp_state 0 forward_delay 0", outside.0));
    run(&format!("ip -n {} address add 198.51.100.1/24 dev world", outside.0));
    run(&format!("ip -n {} link set world up", outside.0));
    let made = (1..=hosts).map(|at| {
        let space = Space::new("h");
        join(&space, "up0", &underlay, "br0", at);
        join(&space, "ext0", &outside, "world", at);
        let address: IpAddr = format!("172.31.0.{at}").parse().unwrap();
        run(&format!("ip -n {} address add {address}/24 dev up0", space.0));
        let folder = tempfile::tempdir().unwrap();
        // So that dnsmasq can give up root, as it does on a real host.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let driver = driver(&space, &folder, address);
        TestHost { space, driver, folder, address, order: Desired { generation: 1, ..Desired::default() } }
    });
    Lab { hosts: made.collect(), outside, _underlay: underlay }
}

/// A cable from a host to a bridge.
fn join(host: &Space, interface: &str, to: &Space, bridge: &str, at: u8) {
    run(&format!("ip -n {} link add {interface} type veth peer name {interface}-{at} netns {}", host.0, to.0));
    run(&format!("ip -n {} link set {interface}-{at} master {bridge} up", to.0));
    run(&format!("ip -n {} link set {interface} up", host.0));
}

fn driver(space: &Space, folder: &tempfile::TempDir, address: IpAddr) -> Bridge {
    let settings = Settings {
        netns: Some(space.0.clone()),
        physical_interface_mappings: BTreeMap::from([("physnet1".into(), "ext0".into())]),
        tunnel_address: address,
        data_dir: folder.path().into(),
        uuid: uuid(),
        name: space.0.clone(),
    };
    Bridge::new(settings).unwrap()
}

impl TestHost {
    pub async fn apply(&mut self) -> Report {
        self.order.generation += 1;
        let report = self.driver.apply(&self.order, Look::Changes).await.unwrap();
        assert_eq!(report.errors, [], "nothing fails");
        report
    }

    pub async fn repair(&mut self) -> Report {
        let report = self.driver.apply(&self.order, Look::Everything).await.unwrap();
        assert_eq!(report.errors, [], "nothing fails");
        report
    }

    /// As if the agent had been killed and started again.
    pub fn restart(&mut self) {
        self.driver = driver(&self.space, &self.folder, self.address);
    }

    /// A port in the order and a guest on its wire.
    pub fn add(&mut self, port: Port) -> Guest {
        let guest = self.plug(&port);
        self.order.ports.push(port);
        guest
    }

    /// The guest's end, which a hypervisor would make.
    pub fn plug(&self, port: &Port) -> Guest {
        let space = Space::new("g");
        let mac = &port.mac;
        let peer = format!("peer name eth0 address {mac} netns {}", space.0);
        run(&format!("ip -n {} link add {} type veth {peer}", self.space.0, port.tap));
        run(&format!("ip -n {} link set eth0 mtu 1450 up", space.0));
        Guest { space, port: port.clone() }
    }
}

impl Drop for TestHost {
    fn drop(&mut self) {
        // Namespaces and processes of the host are its driver's.
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async { self.driver.purge().await }).unwrap();
        });
    }
}

pub struct Guest {
    pub space: Space,
    pub port: Port,
}

impl Guest {
    /// Takes the addresses of its port without asking.
    pub fn configure(&self, length: u8, gateway: Option<&str>) {
        for address in &self.port.addresses {
            let length = if address.is_ipv6() { 64 } else { length };
            let unchecked = if address.is_ipv6() { "nodad" } else { "" };
            run(&format!("ip -n {} address add {address}/{length} dev eth0 {unchecked}", self.space.0));
        }
        if let Some(gateway) = gateway {
            run(&format!("ip -n {} route add default via {gateway}", self.space.0));
        }
    }
}

pub fn network(segment: Segment) -> Network {
    Network { id: uuid(), segment, mtu: 1450, peers: vec![], remote: vec![], dhcp: None }
}

pub fn port(network: &Network, addresses: &[&str]) -> Port {
    let id = uuid();
    Port {
        network: network.id.clone(),
        mac: mac(),
        tap: format!("tap{}", &id[..11]),
        id,
        admin_state_up: true,
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        security: None,
    }
}

pub fn guarded(port: Port, groups: &[&Group]) -> Port {
    let groups = groups.iter().map(|group| group.id.clone()).collect();
    Port { security: Some(Security { groups, allowed_pairs: vec![] }), ..port }
}

pub fn group(rules: Vec<Rule>) -> Group {
    Group { id: uuid(), rules, members: vec![], stateful: true }
}

pub fn rule(direction: Direction, ethertype: Ethertype) -> Rule {
    let (protocol, port_min, port_max) = (None, None, None);
    Rule { id: uuid(), direction, ethertype, protocol, port_min, port_max, remote: RemoteEnd::Any }
}

/// What upstream puts into every new group.
pub fn all_out() -> Vec<Rule> {
    vec![rule(Direction::Egress, Ethertype::IPv4), rule(Direction::Egress, Ethertype::IPv6)]
}

pub fn dhcp(subnet: &str, own: &str, ports: &[&Port]) -> Dhcp {
    let cidr: ipnet::IpNet = subnet.parse().unwrap();
    Dhcp {
        port: uuid(),
        mac: mac(),
        addresses: vec![format!("{own}/{}", cidr.prefix_len()).parse().unwrap()],
        subnets: vec![Subnet {
            id: uuid(),
            cidr,
            dhcp: true,
            gateway: cidr.hosts().next(),
            dns: vec!["9.9.9.9".parse().unwrap()],
            routes: vec![],
            ipv6_address_mode: None,
            ipv6_ra_mode: None,
        }],
        leases: ports.iter().map(|port| lease(port)).collect(),
        domain: "openstacklocal.".into(),
    }
}

pub fn lease(port: &Port) -> Lease {
    Lease {
        port: port.id.clone(),
        mac: port.mac.clone(),
        addresses: port.addresses.clone(),
        hostname: format!("host-{}", port.addresses[0].to_string().replace('.', "-")),
        device_id: format!("server-of-{}", port.id),
        project_id: "project".into(),
    }
}

/// A router's leg with the address, in the network.
pub fn interface(network: &Network, address: &str) -> Interface {
    Interface { port: uuid(), network: network.id.clone(), mac: mac(), addresses: vec![address.parse().unwrap()] }
}

/// A router that leads outside through `physnet1`.
pub fn router(interfaces: Vec<Interface>, external: &Network) -> Router {
    let gateway = Gateway {
        port: uuid(),
        network: external.id.clone(),
        mac: mac(),
        addresses: vec!["198.51.100.10/24".parse().unwrap()],
        next_hops: vec!["198.51.100.1".parse().unwrap()],
        snat: true,
    };
    let (floating, routes, leases) = (vec![], vec![], vec![]);
    Router { id: uuid(), admin_state_up: true, interfaces, gateway: Some(gateway), floating, routes, leases }
}

pub fn external() -> Network {
    Network { mtu: 1500, ..network(Segment::Flat { physical: "physnet1".into() }) }
}
