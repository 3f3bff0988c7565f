//! DHCP of a network: one dnsmasq in a namespace of its own, with one fixed lease for every port.
//!
//! The same address and MAC answer on every host; the filter keeps them from meeting on the wire. Files and process
//! outlive the agent: dnsmasq is found again by its process id file and its command line.

use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use contract::network::{Dhcp, Network, Subnet};
use ipnet::{IpNet, Ipv4Net};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::space::{Error, Space};
use super::{kept, names, space};

pub(crate) const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// Upstream: `dhcp_lease_duration`.
const LEASE_SECONDS: u32 = 86_400;
/// Limit: dnsmasq ends within milliseconds of being asked.
const STOP_TIME: Duration = Duration::from_secs(5);
const RELEASE_FROM_SERVER_PORT: u16 = 67;

/// Whether a network needs DHCP on the wire here. Later: IPv6 subnets have rows only, no DHCPv6 and no advertisements.
pub(crate) fn serves(network: &Network) -> Option<&Dhcp> {
    network.dhcp.as_ref().filter(|dhcp| subnets(dhcp).next().is_some())
}

/// The IPv4 subnets that want DHCP and in which the DHCP port has an address.
fn subnets(dhcp: &Dhcp) -> impl Iterator<Item = (&Subnet, Ipv4Net, Ipv4Addr)> {
    dhcp.subnets.iter().filter(|subnet| subnet.dhcp).filter_map(|subnet| {
        let IpNet::V4(cidr) = subnet.cidr else { return None };
        let own = dhcp.addresses.iter().find_map(|address| match address.addr() {
            IpAddr::V4(own) if cidr.contains(&own) => Some(own),
            _ => None,
        });
        Some((subnet, cidr, own?))
    })
}

/// The addresses that answer DHCP, DNS and metadata, for the filter.
pub(crate) fn answered(dhcp: &Dhcp) -> Vec<Ipv4Addr> {
    subnets(dhcp).map(|(_, _, own)| own).chain([METADATA]).collect()
}

/// A dnsmasq and its folder.
pub(crate) struct Server<'a> {
    folder: PathBuf,
    space: Space,
    network: &'a Network,
    dhcp: &'a Dhcp,
}

impl<'a> Server<'a> {
    pub(crate) fn of(network: &'a Network, dhcp: &'a Dhcp, data_dir: &Path, space: Space) -> Server<'a> {
        Server { folder: folder(data_dir, &network.id), space, network, dhcp }
    }

    /// Makes files and process what they should be: nothing where nothing changed, a signal where only leases or
    /// options did, else a new process.
    pub(crate) fn ensure(&self) -> Result<(), Error> {
        make_folder(&self.folder)?;
        let hosts = self.folder.join("hosts");
        let before = std::fs::read_to_string(&hosts).unwrap_or_default();
        let mut changed = write_changed(&hosts, &self.hosts())?;
        changed |= write_changed(&self.folder.join("opts"), &self.options())?;
        changed |= write_changed(&self.folder.join("names"), &self.names())?;

        let arguments = self.arguments();
        match running(&self.folder) {
            Some(process) if process.is(&arguments) && process.is_in(&self.space) => {
                if changed {
                    kill(process.id(), Signal::SIGHUP).ok();
                    self.release_gone(&before);
                }
                Ok(())
            }
            Some(process) => {
                process.stop();
                self.start(&arguments)
            }
            None => self.start(&arguments),
        }
    }

    fn start(&self, arguments: &[String]) -> Result<(), Error> {
        // Leases are fixed: a stored one could only keep an address from its new owner.
        std::fs::remove_file(self.folder.join("leases")).ok();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        self.space.run("dnsmasq", &arguments, "").map(drop)
    }

    fn arguments(&self) -> Vec<String> {
        let path = |name: &str| self.folder.join(name).display().to_string();
        let leases: u64 = subnets(self.dhcp).map(|(_, cidr, _)| 1_u64 << (32 - cidr.prefix_len())).sum();
        let mut arguments = vec![
            "--no-hosts".to_string(),
            "--no-resolv".into(),
            "--conf-file=/dev/null".into(),
            "--bind-dynamic".into(),
            "--except-interface=lo".into(),
            format!("--interface={}", names::dhcp_interface(&self.dhcp.port)),
            format!("--dhcp-hostsfile={}", path("hosts")),
            format!("--dhcp-optsfile={}", path("opts")),
            format!("--addn-hosts={}", path("names")),
            format!("--dhcp-leasefile={}", path("leases")),
            format!("--pid-file={}", path("pid")),
            format!("--log-facility={}", path("log")),
            "--quiet-dhcp".into(),
            "--dhcp-authoritative".into(),
            // Limit: dnsmasq gives 1000 leases unless told otherwise.
            format!("--dhcp-lease-max={}", leases.min(1 << 24)),
            format!("--dhcp-option-force=option:mtu,{}", self.network.mtu),
        ];
        let domain = self.dhcp.domain.trim_end_matches('.');
        if !domain.is_empty() {
            arguments.push(format!("--domain={domain}"));
        }
        if !others_may_read(&self.folder) {
            arguments.push("--user=root".into());
        }
        for (subnet, cidr, _) in subnets(self.dhcp) {
            let (network, mask) = (cidr.network(), cidr.netmask());
            arguments.push(format!("--dhcp-range=set:subnet-{},{network},static,{mask},{LEASE_SECONDS}s", subnet.id));
        }
        arguments
    }

    /// One line for each address of each port: MAC, name, address.
    fn hosts(&self) -> String {
        let mut text = String::new();
        for (mac, name, address) in self.leases() {
            text += &format!("{mac},{name},{address}\n");
        }
        text
    }

    fn names(&self) -> String {
        let domain = self.dhcp.domain.trim_end_matches('.');
        let mut text = String::new();
        for lease in self.dhcp.leases.iter().filter(|lease| !lease.hostname.is_empty()) {
            let name = lease.hostname.trim_end_matches('.');
            for address in &lease.addresses {
                text += &match domain.is_empty() {
                    true => format!("{address}\t{name}\n"),
                    false => format!("{address}\t{name}.{domain} {name}\n"),
                };
            }
        }
        text
    }

    fn leases(&self) -> impl Iterator<Item = (String, String, Ipv4Addr)> + '_ {
        self.dhcp.leases.iter().flat_map(|lease| {
            lease.addresses.iter().filter_map(|address| {
                let IpAddr::V4(address) = address else { return None };
                let name = match lease.hostname.trim_end_matches('.') {
                    "" => format!("host-{}", address.to_string().replace('.', "-")),
                    name => name.to_string(),
                };
                Some((lease.mac.to_lowercase(), name, *address))
            })
        })
    }

    /// Options for each subnet, by the tag that its range sets.
    fn options(&self) -> String {
        let mut text = String::new();
        for (subnet, cidr, own) in subnets(self.dhcp) {
            let mut option = |words: String| text += &format!("tag:subnet-{},{words}\n", subnet.id);
            let dns: Vec<String> = subnet.dns.iter().filter(|dns| dns.is_ipv4()).map(IpAddr::to_string).collect();
            let dns = if dns.is_empty() { own.to_string() } else { dns.join(",") };
            option(format!("option:dns-server,{dns}"));
            let routes = self.routes(subnet, cidr, own);
            option(format!("option:classless-static-route,{routes}"));
            // Upstream: the same routes once more, for guests that only know Microsoft's number.
            option(format!("249,{routes}"));
            match subnet.gateway {
                Some(IpAddr::V4(gateway)) => option(format!("option:router,{gateway}")),
                // Named without a value, dnsmasq does not offer itself.
                _ => option("option:router".into()),
            }
        }
        text
    }

    /// A client that takes classless routes ignores the router option, so the default route stands in here too.
    fn routes(&self, subnet: &Subnet, cidr: Ipv4Net, own: Ipv4Addr) -> String {
        let mut routes = vec![format!("{METADATA}/32,{own}")];
        for route in &subnet.routes {
            if let (IpNet::V4(to), IpAddr::V4(via)) = (route.destination, route.nexthop) {
                routes.push(format!("{to},{via}"));
            }
        }
        let others = self.dhcp.subnets.iter().filter_map(|other| match other.cidr {
            IpNet::V4(other) if other != cidr => Some(format!("{other},0.0.0.0")),
            _ => None,
        });
        routes.extend(others);
        if let Some(IpAddr::V4(gateway)) = subnet.gateway {
            routes.push(format!("0.0.0.0/0,{gateway}"));
        }
        routes.join(",")
    }

    /// Tells dnsmasq that ports which are gone have let go of their addresses: a new port may have one of them.
    fn release_gone(&self, before: &str) {
        let kept: Vec<(String, Ipv4Addr)> = self.leases().map(|(mac, _, address)| (mac, address)).collect();
        let pairs = before.lines().filter_map(|line| {
            let mut words = line.split(',');
            Some((words.next()?.to_string(), words.nth(1)?.parse::<Ipv4Addr>().ok()?))
        });
        for (mac, address) in pairs.filter(|pair| !kept.contains(pair)) {
            let server = subnets(self.dhcp).find(|(_, cidr, _)| cidr.contains(&address)).map(|(_, _, own)| own);
            let (Some(server), Some(packet)) = (server, server.and_then(|own| release(&mac, address, own))) else {
                continue;
            };
            let device = names::dhcp_interface(&self.dhcp.port);
            if let Err(error) = self.space.send_over(&device, (server, RELEASE_FROM_SERVER_PORT), &packet) {
                tracing::warn!(network = self.network.id, %address, %error, "could not release a lease");
            }
        }
    }
}

/// A DHCPRELEASE (RFC 2131 §4.4.6).
fn release(mac: &str, address: Ipv4Addr, server: Ipv4Addr) -> Option<Vec<u8>> {
    let mac: Vec<u8> = mac.split(':').map(|part| u8::from_str_radix(part, 16)).collect::<Result<_, _>>().ok()?;
    let mut packet = vec![0_u8; 236];
    packet[..3].copy_from_slice(&[1, 1, 6]);
    packet[12..16].copy_from_slice(&address.octets());
    packet[28..34].copy_from_slice(mac.get(..6)?);
    packet.extend([0x63, 0x82, 0x53, 0x63, 53, 1, 7, 54, 4]);
    packet.extend(server.octets());
    packet.push(255);
    Some(packet)
}

pub(crate) fn folder(data_dir: &Path, network: &str) -> PathBuf {
    data_dir.join("dhcp").join(network)
}

/// The networks that have a folder, whether wanted or not.
pub(crate) fn folders(data_dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(data_dir.join("dhcp")) else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// Stops the dnsmasq of a network and removes its files.
pub(crate) fn remove(data_dir: &Path, network: &str) -> Result<(), Error> {
    let folder = folder(data_dir, network);
    if let Some(process) = running(&folder) {
        process.stop();
    }
    match std::fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io(format!("remove {}", folder.display()), error))
        }
        _ => Ok(()),
    }
}

/// Whether the process is there and in the right namespace.
pub(crate) fn is_alive(data_dir: &Path, network: &str, space: &Space) -> bool {
    running(&folder(data_dir, network)).is_some_and(|process| process.is_in(space))
}

struct Process {
    pid: i32,
    arguments: Vec<String>,
}

/// The dnsmasq of a folder, if its process id file names a process that was started for it.
fn running(folder: &Path) -> Option<Process> {
    let file = folder.join("pid");
    let pid: i32 = std::fs::read_to_string(&file).ok()?.trim().parse().ok()?;
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words = line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
    let arguments: Vec<String> = words.skip(1).filter(|word| !word.is_empty()).collect();
    let own = format!("--pid-file={}", file.display());
    arguments.contains(&own).then_some(Process { pid, arguments })
}

impl Process {
    fn id(&self) -> Pid {
        Pid::from_raw(self.pid)
    }

    fn is(&self, arguments: &[String]) -> bool {
        self.arguments == arguments
    }

    fn is_in(&self, space: &Space) -> bool {
        let own = space::of_process(self.pid);
        own.is_some() && own == space.identity()
    }

    fn stop(&self) {
        kill(self.id(), Signal::SIGTERM).ok();
        let patience = Instant::now() + STOP_TIME;
        while kill(self.id(), None).is_ok() && !self.is_dead() {
            if Instant::now() > patience {
                kill(self.id(), Signal::SIGKILL).ok();
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// A process that ended and that nobody has waited for.
    fn is_dead(&self) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        status.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'))
    }
}

fn make_folder(folder: &Path) -> Result<(), Error> {
    let failed = |e| Error::io(format!("make {}", folder.display()), e);
    if folder.is_dir() {
        return Ok(());
    }
    std::fs::create_dir_all(folder).map_err(failed)?;
    // dnsmasq gives up root and reads its files again when told to.
    for made in folder.ancestors().take(2) {
        std::fs::set_permissions(made, std::fs::Permissions::from_mode(0o755)).map_err(failed)?;
    }
    Ok(())
}

/// Whether a process that is not root can reach what is in the folder.
fn others_may_read(folder: &Path) -> bool {
    const OTHERS_MAY_PASS: u32 = 0o001;
    let passes =
        |path: &Path| std::fs::metadata(path).is_ok_and(|found| found.permissions().mode() & OTHERS_MAY_PASS != 0);
    folder.ancestors().filter(|path| !path.as_os_str().is_empty()).all(passes)
}

fn write_changed(path: &Path, text: &str) -> Result<bool, Error> {
    if std::fs::read_to_string(path).is_ok_and(|found| found == text) {
        return Ok(false);
    }
    kept::replace(path, text.as_bytes())?;
    let readable = std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644));
    readable.map_err(|e| Error::io(format!("let dnsmasq read {}", path.display()), e))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::network::{Lease, Route, Segment};

    fn network() -> Network {
        let subnet = |id: &str, cidr: &str, dhcp: bool| Subnet {
            id: id.into(),
            cidr: cidr.parse().unwrap(),
            dhcp,
            gateway: Some("10.0.0.1".parse().unwrap()),
            dns: vec![],
            routes: vec![Route { destination: "10.9.0.0/16".parse().unwrap(), nexthop: "10.0.0.7".parse().unwrap() }],
            ipv6_address_mode: None,
            ipv6_ra_mode: None,
        };
        let dhcp = Dhcp {
            port: "0a1b2c3d-4e5f-6789-abcd-ef0123456789".into(),
            mac: "fa:16:3e:00:00:02".into(),
            addresses: vec!["10.0.0.2/24".parse().unwrap(), "fd00::2/64".parse().unwrap()],
            subnets: vec![subnet("four", "10.0.0.0/24", true), subnet("six", "fd00::/64", true)],
            leases: vec![Lease {
                port: "p".into(),
                mac: "FA:16:3E:00:00:05".into(),
                addresses: vec!["10.0.0.5".parse().unwrap(), "fd00::5".parse().unwrap()],
                hostname: "host-10-0-0-5".into(),
                device_id: "d".into(),
                project_id: "t".into(),
            }],
            domain: "openstacklocal.".into(),
        };
        let (peers, remote) = (vec![], vec![]);
        Network { id: "n".into(), segment: Segment::Local, mtu: 1450, peers, remote, dhcp: Some(dhcp) }
    }

    #[test]
    fn options_carry_metadata_and_default_route_and_ipv6_changes_nothing() {
        let network = network();
        let dhcp = serves(&network).unwrap();
        let server = Server::of(&network, dhcp, Path::new("/nowhere"), Space::Machine);
        assert_eq!(server.hosts(), "fa:16:3e:00:00:05,host-10-0-0-5,10.0.0.5\n");
        let routes = "169.254.169.254/32,10.0.0.2,10.9.0.0/16,10.0.0.7,0.0.0.0/0,10.0.0.1";
        assert!(server.options().contains(&format!("tag:subnet-four,option:classless-static-route,{routes}\n")));
        assert!(server.options().contains("tag:subnet-four,option:dns-server,10.0.0.2\n"));
        assert!(!server.options().contains("subnet-six"));
        assert!(server.names().contains("fd00::5\thost-10-0-0-5.openstacklocal host-10-0-0-5\n"));
        assert!(server.arguments().contains(&"--domain=openstacklocal".to_string()));
    }
}
