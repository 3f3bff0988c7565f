//! What the kernel of this host can do, tried in a namespace that nobody sees.

use nix::sched::{CloneFlags, unshare};

use super::space::{Error, Space};

/// What a kernel may lack: how it is tried, and what to say.
const TRIED: [(&str, &str); 3] = [
    ("link add dev b0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0", "no bridges"),
    ("link add dev x0 type vxlan id 1 local 127.0.0.1 dstport 4789 nolearning", "no VXLAN devices"),
    ("link add link p0 name p0.1 type vlan id 1", "no 802.1Q devices"),
];
const BRIDGED_CALLS: [&str; 2] = ["net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables"];

pub(crate) fn lacks(host: &Space) -> Result<Vec<String>, Error> {
    let mut lacks = std::thread::scope(|scope| {
        let tried = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).map_err(|e| Error::io("make a namespace", e))?;
            tried()
        });
        tried.join().expect("the probe does not panic")
    })?;
    if !filters_bridged_frames(host) {
        lacks.push("no br_netfilter: ports with security groups cannot be wired".into());
    }
    Ok(lacks)
}

fn tried() -> Result<Vec<String>, Error> {
    Space::Machine.run("ip", &["link", "add", "dev", "p0", "type", "veth", "peer", "name", "p1"], "")?;
    let mut lacks = Vec::new();
    for (line, what) in TRIED {
        let words: Vec<&str> = line.split(' ').collect();
        if Space::Machine.run_to_end("ip", &words, "")?.failed {
            lacks.push(what.to_string());
        }
    }
    Ok(lacks)
}

/// Makes bridged frames pass the inet filter; false where the kernel cannot.
pub(crate) fn filters_bridged_frames(host: &Space) -> bool {
    if host.setting(BRIDGED_CALLS[0]).is_none() {
        // Where br_netfilter is a module, nobody may have asked for it yet.
        Space::Machine.run("modprobe", &["br_netfilter"], "").ok();
    }
    host.set(&BRIDGED_CALLS.map(|key| (key.to_string(), "1"))).is_ok()
}
