//! What the distribution has to bring, in one list, and how it is installed when it is missing.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;

/// Something on the machine that a package of Debian or Ubuntu brings.
pub struct Need {
    /// A program, or a path with `*` for one part of it.
    probe: &'static str,
    package: &'static str,
}

const fn need(probe: &'static str, package: &'static str) -> Need {
    Need { probe, package }
}

/// To run guests and their networks.
pub const HOST: &[Need] = &[
    need("qemu-system-x86_64", "qemu-system-x86"),
    need("qemu-img", "qemu-utils"),
    need("dnsmasq", "dnsmasq-base"),
    need("nft", "nftables"),
    need("ip", "iproute2"),
    need("conntrack", "conntrack"),
];

/// To build the test guest and to log in to it.
pub const GUEST: &[Need] = &[
    need("syslinux", "syslinux"),
    need("mcopy", "mtools"),
    need("mkfs.vfat", "dosfstools"),
    need("mkfs.ext4", "e2fsprogs"),
    need("cpio", "cpio"),
    need("ssh", "openssh-client"),
];

/// To build a virtual environment for the stock clients.
pub const PYTHON: &[Need] =
    &[need("python3", "python3"), need("/usr/lib/python3*/ensurepip", "python3-venv"), need("curl", "curl")];

/// The engines that tests start on private ports and in private folders.
pub const ENGINES: &[Need] = &[
    need("mariadbd", "mariadb-server"),
    need("/usr/lib/postgresql/*/bin/postgres", "postgresql"),
    need("rabbitmq-server", "rabbitmq-server"),
    need("memcached", "memcached"),
];

/// The linker and the C compiler that the SQLite library is built with.
pub const BUILD: &[Need] = &[need("cc", "build-essential")];

/// Installs what is missing of these lists; says what to type when it may not.
pub fn ensure(lists: &[&[Need]]) -> Result<()> {
    let mut missing: Vec<&str> =
        lists.iter().copied().flatten().filter(|need| !is_there(need.probe)).map(|need| need.package).collect();
    missing.sort_unstable();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    let wanted = missing.join(" ");
    if process::find("apt-get").is_none() {
        bail!("missing on this machine: {wanted}\n(names of Debian's packages) install them and run this again");
    }
    if !process::is_root() {
        bail!(
            "missing on this machine: {wanted}\ninstall them with: sudo apt-get install --no-install-recommends {wanted}"
        );
    }
    println!("installing from the distribution: {wanted}");
    install(&missing).with_context(|| format!("cannot install {wanted}"))
}

fn install(packages: &[&str]) -> Result<()> {
    // Upstream: a server package starts its daemon on the standard port; tests start their own instead.
    let _closed = NoDaemons::new();
    let mut update = apt();
    update.args(["update", "-q"]);
    process::must(&mut update, "apt-get update")?;
    let mut install = apt();
    install.args(["install", "-q", "-y", "--no-install-recommends"]).args(packages);
    process::must(&mut install, "apt-get install").map(|_| ())
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// While it lives, installing a package starts no daemon.
struct NoDaemons(Option<PathBuf>);

impl NoDaemons {
    fn new() -> NoDaemons {
        use std::os::unix::fs::PermissionsExt;
        let file = PathBuf::from("/usr/sbin/policy-rc.d");
        if file.exists() || std::fs::write(&file, "#!/bin/sh\nexit 101\n").is_err() {
            return NoDaemons(None);
        }
        let _ = std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755));
        NoDaemons(Some(file))
    }
}

impl Drop for NoDaemons {
    fn drop(&mut self) {
        if let Some(file) = &self.0 {
            let _ = std::fs::remove_file(file);
        }
    }
}

fn is_there(probe: &str) -> bool {
    match probe.strip_prefix('/') {
        None => process::find(probe).is_some(),
        Some(path) => matches(Path::new("/"), &path.split('/').collect::<Vec<_>>()),
    }
}

/// Is there a file below the folder whose path is these parts, each with at most one `*`?
fn matches(folder: &Path, parts: &[&str]) -> bool {
    let Some((part, rest)) = parts.split_first() else { return folder.exists() };
    let Some((before, after)) = part.split_once('*') else { return matches(&folder.join(part), rest) };
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    entries.flatten().any(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        name.starts_with(before) && name.ends_with(after) && matches(&entry.path(), rest)
    })
}
