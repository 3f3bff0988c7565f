//! What the QEMU of this host can do: asked once per QEMU and kernel, and kept in `<data-dir>/qemu.json`.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use base::{Json, json};
use contract::HostError;
use serde::{Deserialize, Serialize};
use tokio::process::Command;
use tokio::time::timeout;

use super::process;
use crate::limits::KVM_PROBE;

/// The boot sector of `probe/guest.s`.
const GUEST: &str = "\
    fa31c08ed88ec08ed0bc007cfbb82e0ecd10fa0f0116dc7c0f20c00c010f22c0ea257c080066b810008ed88ed0ea347c00001800\
    b820008ed88ed00f20c024fe0f22c0ea487c000031c08ed88ec08ed0fbb80102bb007eb90100ba8000cd137272813efe7f55aa75\
    6afa66bf001000000f22df6631c0b9000cfc66f3abc70600100320c70600200330c706003083000f20e00c200f22e066b9800000\
    c00f3280cc010f300f20c0660d010000800f22c0eab57c280066b810008ed88ed0bc007c00000f011c25e27c0000cd0066ba0105\
    b010eef4ebfd31c00fa248cf2f00f07c00000f00207d0000000000000f1f40000000000000000000ffff0000009acf00ffff0000\
    0092cf00ffff0000009a0000ffff000000920000ffff0000009aaf00d67c2800008e";
/// What QEMU's debug device makes of the 0x10 that the probe guest writes.
const ALIVE: i32 = 0x10 << 1 | 1;
/// The BIOS finds no cylinders on a smaller disk.
const PROBE_DISK_BYTES: usize = 64 << 10;

/// The QEMU of this host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Qemu {
    pub(crate) binary: String,
    /// 10.0.2 is 10000002.
    pub(crate) version: u64,
    pub(crate) machines: Vec<Machine>,
    /// It can confine itself by seccomp.
    pub(crate) sandbox: bool,
    /// A guest really boots with KVM; none: nobody has tried yet.
    pub(crate) kvm: Option<bool>,
    /// What the answers hold for: another QEMU or another kernel is asked again.
    pub(crate) stamp: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    name: String,
    alias: Option<String>,
}

/// Asks `binary`, or recalls what it said last time. KVM is tried only when `try_kvm`.
pub(crate) async fn ask(binary: &str, data_dir: &Path, try_kvm: bool) -> Result<Qemu, HostError> {
    let kept = data_dir.join("qemu.json");
    let stamp = stamp(binary)?;
    let known = fs::read(&kept).ok().and_then(|text| serde_json::from_slice::<Qemu>(&text).ok());
    let mut qemu = match known {
        Some(known) if known.stamp == stamp => known,
        _ => Qemu { stamp, ..question(binary).await? },
    };
    if try_kvm && qemu.kvm.is_none() {
        qemu.kvm = Some(boots_with_kvm(binary, data_dir).await);
    }
    let text = serde_json::to_vec_pretty(&qemu).unwrap_or_default();
    fs::write(kept, text).map_err(|error| HostError::again("keeping what QEMU can do").because(error))?;
    Ok(qemu)
}

impl Qemu {
    /// The full name of the machine type that `hint` (`hw_machine_type`) asks for. Never an alias: an alias means
    /// another machine after an upgrade of QEMU.
    pub(crate) fn machine(&self, hint: Option<&str>) -> Result<String, HostError> {
        let wanted = hint.unwrap_or("pc");
        let known = |machine: &&Machine| machine.name == wanted || machine.alias.as_deref() == Some(wanted);
        let pc = |machine: &&Machine| machine.name.starts_with("pc-i440fx-") || machine.name.starts_with("pc-q35-");
        match self.machines.iter().filter(pc).find(known) {
            Some(machine) => Ok(machine.name.clone()),
            None => Err(HostError::never(format!("this host has no machine type {wanted} (hw_machine_type)"))),
        }
    }
}

/// The size and time of the program, the kernel, and whether there is a KVM device.
fn stamp(binary: &str) -> Result<String, HostError> {
    let path = std::env::var("PATH").unwrap_or_default();
    let dirs = path.split(':').chain(["/usr/bin", "/usr/local/bin", "/usr/libexec"]);
    let file = dirs.map(|dir| PathBuf::from(dir).join(binary)).find(|file| file.is_file());
    let Some(file) = file else {
        return Err(HostError::never(format!("{binary} is not installed")));
    };
    let file = fs::metadata(file).map_err(|error| HostError::again("looking at QEMU").because(error))?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kvm = Path::new("/dev/kvm").exists();
    Ok(format!("{binary} {} {} {} kvm={kvm}", file.len(), file.mtime(), kernel.trim()))
}

async fn question(binary: &str) -> Result<Qemu, HostError> {
    let commands = ["qmp_capabilities", "query-version", "query-machines", "quit"];
    let script: String =
        commands.iter().map(|command| format!("{}\n", json!({ "execute": command, "id": command }))).collect();
    let words = [binary, "-nodefaults", "-no-user-config", "-machine", "none", "-display", "none", "-qmp", "stdio"];
    let confined = [&words[..], &["-sandbox", "on,spawn=deny"]].concat();
    let (sandbox, said) = match process::tool(&confined, Some(&script)).await {
        Ok(said) => (true, said),
        Err(_) => (false, process::tool(&words, Some(&script)).await?),
    };
    let answers: Vec<Json> = said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let answer = |id: &str| answers.iter().find(|line| line["id"] == id).map(|line| &line["return"]);
    let number = |part: &str| answer("query-version").and_then(|version| version["qemu"][part].as_u64());
    let (Some(major), Some(minor), Some(micro)) = (number("major"), number("minor"), number("micro")) else {
        return Err(HostError::never(format!("{binary} does not say its version")));
    };
    let machines = answer("query-machines").cloned().unwrap_or_default();
    let machines: Vec<Machine> = serde_json::from_value(machines).unwrap_or_default();
    let version = major * 1_000_000 + minor * 1_000 + micro;
    Ok(Qemu { binary: binary.into(), version, machines, sandbox, ..Qemu::default() })
}

/// Boots the probe guest. A host inside another cloud may have the device and yet hang or crash.
async fn boots_with_kvm(binary: &str, data_dir: &Path) -> bool {
    if !Path::new("/dev/kvm").exists() {
        return false;
    }
    let works = probe(binary, data_dir, &["-accel", "kvm", "-cpu", "host"]).await == Some(ALIVE);
    match works {
        true => tracing::info!("KVM boots guests on this host"),
        false => tracing::warn!("there is a KVM device, but a guest does not boot with it: guests will be emulated"),
    }
    works
}

/// The probe guest's exit code; none when it hung or crashed.
async fn probe(binary: &str, data_dir: &Path, accel: &[&str]) -> Option<i32> {
    let disk = data_dir.join("probe.raw");
    fs::write(&disk, boot_disk()).ok()?;
    let node = json!({ "driver": "raw", "node-name": "probe", "file": { "driver": "file", "filename": disk } });
    let child = Command::new(binary)
        .args(["-nodefaults", "-no-user-config", "-no-reboot", "-machine", "pc,usb=off", "-m", "32"])
        .args(accel)
        .args(["-display", "none", "-vga", "none", "-device", "isa-debug-exit,iobase=0x501,iosize=1"])
        .args(["-blockdev", &node.to_string(), "-device", "ide-hd,drive=probe,bootindex=1"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn();
    let exit = timeout(KVM_PROBE, child.ok()?.wait_with_output()).await;
    let _ = fs::remove_file(disk);
    exit.ok()?.ok()?.status.code()
}

fn boot_disk() -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&GUEST[at..at + 2], 16).expect("the boot sector is written in hex");
    let mut disk: Vec<u8> = (0..GUEST.len()).step_by(2).map(digit).collect();
    disk.resize(PROBE_DISK_BYTES, 0);
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk
}

#[cfg(test)]
mod tests {
    use super::*;

    fn qemu() -> Qemu {
        let machine = |name: &str, alias: Option<&str>| Machine { name: name.into(), alias: alias.map(String::from) };
        let machines = vec![
            machine("pc-i440fx-10.0", Some("pc")),
            machine("pc-q35-10.0", Some("q35")),
            machine("pc-i440fx-7.2", None),
            machine("microvm", None),
        ];
        Qemu { machines, ..Qemu::default() }
    }

    #[test]
    fn an_alias_becomes_the_machine_it_stands_for_today() {
        assert_eq!(qemu().machine(None).unwrap(), "pc-i440fx-10.0");
        assert_eq!(qemu().machine(Some("q35")).unwrap(), "pc-q35-10.0");
        assert_eq!(qemu().machine(Some("pc-i440fx-7.2")).unwrap(), "pc-i440fx-7.2");
        assert!(qemu().machine(Some("microvm")).is_err());
        assert!(qemu().machine(Some("pc,accel=kvm")).is_err());
    }

    #[tokio::test]
    async fn the_probe_guest_boots_where_a_processor_works() {
        let dir = tempfile::tempdir().unwrap();
        let binary = "qemu-system-x86_64";
        if stamp(binary).is_err() {
            println!("QEMU is not installed: not tested");
            return;
        }
        assert_eq!(probe(binary, dir.path(), &["-accel", "tcg"]).await, Some(ALIVE));
        let asked = ask(binary, dir.path(), false).await.unwrap();
        assert!(asked.version > 7_000_000 && asked.machine(None).unwrap().starts_with("pc-i440fx-"));
        assert_eq!(ask(binary, dir.path(), false).await.unwrap(), asked);
    }
}
