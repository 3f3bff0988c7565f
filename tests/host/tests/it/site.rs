//! Namespaces as hosts, and the underlay between them. Everything is removed when the site is dropped.

use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Runs a command line, which must succeed.
pub fn run(line: &str) -> String {
    let mut words = line.split_whitespace();
    let done = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(done.status.success(), "{line}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).into_owned()
}

pub struct Site {
    underlay: String,
    hosts: Vec<String>,
}

impl Site {
    pub fn new(count: usize) -> Site {
        let name = |kind: &str| format!("fs{}{kind}", std::process::id());
        let site = Site { underlay: name("u"), hosts: (1..=count).map(|host| name(&format!("h{host}"))).collect() };
        let underlay = &site.underlay;
        run(&format!("ip netns add {underlay}"));
        run(&format!("ip -n {underlay} link add wire type bridge"));
        run(&format!("ip -n {underlay} link set wire up"));
        for (index, host) in site.hosts.iter().enumerate() {
            run(&format!("ip netns add {host}"));
            run(&format!("ip -n {host} link set lo up"));
            run(&format!("ip -n {underlay} link add to{index} type veth peer name eth0 netns {host}"));
            run(&format!("ip -n {underlay} link set to{index} master wire up"));
            run(&format!("ip -n {host} addr add {}/24 dev eth0", Site::address(index)));
            run(&format!("ip -n {host} link set eth0 up"));
        }
        site
    }

    /// Where a host sends its tunnels from.
    pub fn address(host: usize) -> String {
        format!("10.99.0.{}", host + 1)
    }

    pub fn netns(&self, host: usize) -> &str {
        &self.hosts[host]
    }

    /// What a cloud has left behind: processes in hosts, devices beside the underlay's, namespaces.
    pub fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        for host in &self.hosts {
            left.extend(run(&format!("ip netns pids {host}")).lines().map(|pid| format!("process {pid} in {host}")));
            let links = run(&format!("ip -n {host} -o link"));
            let names = links.lines().filter_map(|line| line.split(':').nth(1)).map(str::trim);
            left.extend(names.filter(|name| *name != "lo" && !name.starts_with("eth0")).map(String::from));
        }
        left.extend(self.nested());
        left
    }

    /// Namespaces of routers and DHCP servers: they end in the name of their host's.
    fn nested(&self) -> Vec<String> {
        let all = run("ip netns list");
        let names = all.lines().filter_map(|line| line.split_whitespace().next());
        let nested = |name: &&str| self.hosts.iter().any(|host| name.ends_with(&format!("-{host}")));
        names.filter(nested).map(String::from).collect()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let nested = self.nested();
        for space in nested.iter().chain(&self.hosts).chain([&self.underlay]) {
            let Ok(found) = Command::new("ip").args(["netns", "pids", space]).output() else { continue };
            for pid in String::from_utf8_lossy(&found.stdout).lines().filter_map(|pid| pid.parse().ok()) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            let _ = Command::new("ip").args(["netns", "del", space]).status();
        }
    }
}
