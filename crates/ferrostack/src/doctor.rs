//! `ferrostack doctor`: checks this host and the cloud, says what is wrong and how to mend it.

use anyhow::Result;

use crate::command::Place;
use crate::control;
use crate::hosts;
use crate::layout::Layout;

/// One finding: what is wrong, and what helps.
struct Finding {
    what: String,
    remedy: String,
}

pub fn run(place: Place) -> Result<()> {
    let layout = Layout::at(place.data_dir)?;
    let mut findings = Vec::new();
    host(&mut findings);
    match layout.holder()? {
        None => println!("No cloud runs in {}; only this host is checked.", layout.root.display()),
        Some(_) => {
            for line in control::ask(&layout, "check")?.lines() {
                findings
                    .push(Finding { what: line.to_string(), remedy: "see «ferrostack explain» and the log".into() });
            }
        }
    }
    if findings.is_empty() {
        println!("All is well.");
        return Ok(());
    }
    for finding in &findings {
        println!("- {}\n  {}", finding.what, finding.remedy);
    }
    std::process::exit(1)
}

fn host(findings: &mut Vec<Finding>) {
    if let Err(error) = hosts::must_be_possible(None) {
        findings.push(Finding { what: "this host cannot run guests".into(), remedy: format!("{error:#}") });
    }
    let forwarding = std::fs::read_to_string("/proc/sys/net/bridge/bridge-nf-call-iptables");
    if forwarding.is_err() {
        let what = "packets on bridges do not pass the filter, so security groups have no effect".to_string();
        findings.push(Finding { what, remedy: "load the kernel module: modprobe br_netfilter".into() });
    }
    if !std::path::Path::new("/dev/net/tun").exists() {
        let what = "there is no /dev/net/tun, so guests have no network".to_string();
        findings.push(Finding { what, remedy: "load the kernel module: modprobe tun".into() });
    }
    if !is_clock_kept() {
        let what = "nothing keeps this host's clock; tokens of several hosts may look expired".to_string();
        findings.push(Finding { what, remedy: "apt-get install chrony".into() });
    }
}

/// Whether the kernel says that somebody disciplines the clock.
fn is_clock_kept() -> bool {
    ["chronyd", "ntpd", "systemd-timesyncd"].iter().any(|name| is_running(name)) || in_container()
}

/// Inside a container or a guest without an init of its own, the clock is somebody else's.
fn in_container() -> bool {
    !std::path::Path::new("/run/systemd/system").exists()
}

fn is_running(name: &str) -> bool {
    let Ok(processes) = std::fs::read_dir("/proc") else { return false };
    let named =
        |path: std::path::PathBuf| std::fs::read_to_string(path.join("comm")).is_ok_and(|text| text.trim() == name);
    processes.flatten().any(|process| named(process.path()))
}
