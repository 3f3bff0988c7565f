//! QEMU's command line for one guest.
//!
//! Everything that comes from an order is checked here before it becomes a word of the command line; devices and disks
//! are given as JSON, where nothing needs to be escaped.

use std::path::Path;

use base::{Json, json};
use contract::HostError;
use contract::guest::{Disk, Guest, Nic};

use super::disks::{CONFIG_DRIVE, Place};
use super::probe::Qemu;
use super::{Accel, Owner};
use crate::limits::DEVICES;

/// The sockets and logs of a guest, by their names in its directory, which is QEMU's working directory.
pub(crate) const MONITOR: &str = "qmp";
pub(crate) const SCREEN: &str = "vnc";
pub(crate) const CONSOLE_LOG: &str = "console.log";
pub(crate) const QEMU_LOG: &str = "qemu.log";

/// Limit: what virtio shows of a disk's serial.
const SERIAL_BYTES: usize = 20;
/// Limit: QEMU's default of 1 GiB of translated code would let a small guest grow by 70 MB.
const TCG_BUFFER_MB: u32 = 32;

/// One start of a guest.
pub(crate) struct Start<'a> {
    pub(crate) guest: &'a Guest,
    pub(crate) dir: &'a Path,
    pub(crate) places: &'a [Place],
    pub(crate) machine: &'a str,
    pub(crate) accel: Accel,
    pub(crate) qemu: &'a Qemu,
    pub(crate) netns: Option<&'a str>,
    pub(crate) owner: Option<Owner>,
    /// Memory will come over the monitor: the guest was suspended.
    pub(crate) loading: bool,
}

/// Refuses an order that no start could carry out, before anything is made for it.
pub(crate) fn check(guest: &Guest) -> Result<(), HostError> {
    let never = |what: String| Err(HostError::never(what));
    let plain = |text: &str, extra: &str, length: usize| {
        (1..=length).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || extra.contains(c))
    };
    if !is_guest_id(&guest.id) {
        return never(format!("{:?} is not the id of a server", guest.id));
    }
    if guest.vcpus == 0 || guest.memory_mb == 0 {
        return never("a server needs a processor and memory".into());
    }
    if guest.disks.len() + guest.nics.len() > DEVICES {
        return never(format!("a server has at most {DEVICES} disks and interfaces together"));
    }
    if let Some(disk) = guest.disks.iter().find(|disk| !plain(&disk.id, "-_", 64)) {
        return never(format!("{:?} is not the id of a disk", disk.id));
    }
    for Nic { tap, mac, .. } in &guest.nics {
        if !plain(tap, "-", 15) || !plain(mac, ":", 17) {
            return never(format!("{tap:?} with address {mac:?} is no interface"));
        }
    }
    disk_device(guest, "").and(nic_device(guest)).map(|_| ())
}

/// Guest ids become names of directories.
pub(crate) fn is_guest_id(id: &str) -> bool {
    id.len() == 36 && base::id::is_uuid(id)
}

pub(crate) fn line(start: &Start) -> Result<Vec<String>, HostError> {
    let Start { guest, qemu, accel, .. } = start;
    let mut line = wrapper(start);
    let mut put = |words: &[&str]| line.extend(words.iter().map(|word| word.to_string()));
    let name: String = guest.name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).take(40).collect();
    let smbios = format!(
        "type=1,manufacturer=OpenStack Foundation,product=OpenStack Nova,version={},serial={id},uuid={id},\
         family=Virtual Machine",
        env!("CARGO_PKG_VERSION"),
        id = guest.id
    );

    put(&[&qemu.binary, "-name", &format!("guest={name}"), "-uuid", &guest.id]);
    // The marker by which the process is found again.
    put(&["-pidfile", &start.dir.join("pid").display().to_string()]);
    put(&["-no-user-config", "-nodefaults", "-no-shutdown", "-S", "-msg", "timestamp=on"]);
    if qemu.sandbox {
        put(&["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]);
    }
    put(&["-machine", &format!("{},usb=off,dump-guest-core=off", start.machine)]);
    match accel {
        Accel::Kvm => put(&["-accel", "kvm", "-cpu", "host"]),
        Accel::Tcg => put(&["-accel", &format!("tcg,tb-size={TCG_BUFFER_MB}"), "-cpu", "max"]),
    }
    put(&["-smp", &format!("cpus={n},sockets={n},cores=1,threads=1", n = guest.vcpus)]);
    put(&["-m", &format!("size={}M", guest.memory_mb)]);
    // Upstream: cloud-init knows an OpenStack server by the product name; `tests/it/qemu.rs` boots one.
    put(&["-smbios", &smbios, "-rtc", "base=utc,driftfix=slew", "-boot", "strict=on"]);
    put(&["-object", "rng-random,id=entropy,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=entropy"]);
    put(&["-qmp", &format!("unix:{MONITOR},server=on,wait=off")]);
    put(&["-chardev", &format!("socket,id=serial,path=serial,server=on,wait=off,logfile={CONSOLE_LOG},logappend=on")]);
    put(&["-serial", "chardev:serial", "-device", "virtio-serial-pci,id=ports"]);
    put(&["-chardev", "socket,id=agent,path=agent,server=on,wait=off"]);
    put(&["-device", "virtserialport,bus=ports.0,chardev=agent,name=org.qemu.guest_agent.0"]);
    put(&["-display", "none"]);
    match guest.console.vnc {
        true => put(&["-vga", "std", "-vnc", &format!("unix:{SCREEN}")]),
        false => put(&["-vga", "none"]),
    }
    put_disks(start, &mut line)?;
    put_nics(start, &mut line)?;
    if start.loading {
        line.extend(["-incoming".to_string(), "defer".to_string()]);
    }
    Ok(line)
}

/// What runs QEMU: in the network namespace, then as its own user. Each replaces itself by the next.
fn wrapper(start: &Start) -> Vec<String> {
    let mut line = Vec::new();
    if let Some(name) = start.netns {
        line.extend(["ip", "netns", "exec", name].map(String::from));
    }
    if let Some(Owner { uid, gid }) = start.owner {
        line.extend(["setpriv".into(), "--reuid".into(), uid.to_string(), "--regid".into(), gid.to_string()]);
        line.extend(["--init-groups".into(), "--".into()]);
    }
    line
}

fn put_disks(start: &Start, line: &mut Vec<String>) -> Result<(), HostError> {
    let mut put = |option: &str, value: Json| line.extend([option.to_string(), value.to_string()]);
    let (bus, driver) = disk_device(start.guest, start.machine)?;
    if bus == "scsi" {
        put("-device", json!({ "driver": "virtio-scsi-pci", "id": "scsi" }));
    }
    let guest = start.guest;
    let bootable = guest.disks.iter().any(|disk| disk.boot_index.is_some());
    for (number, (disk, place)) in guest.disks.iter().zip(start.places).enumerate() {
        let node = format!("disk{number}");
        put("-blockdev", blockdev(&node, place)?);
        let mut device = json!({ "driver": driver, "drive": node, "id": format!("{node}-device") });
        device["serial"] = json!(serial(disk));
        // A disk without an index hangs the BIOS less than a guest without any.
        if let Some(index) = disk.boot_index.or((!bootable && number == 0).then_some(0)) {
            device["bootindex"] = json!(index + 1);
        }
        put("-device", device);
    }
    if guest.config_drive.is_some() {
        let file = json!({ "driver": "file", "filename": CONFIG_DRIVE, "read-only": true });
        put("-blockdev", json!({ "driver": "raw", "node-name": "config", "read-only": true, "file": file }));
        put("-device", json!({ "driver": "ide-cd", "drive": "config", "id": "config-device" }));
    }
    Ok(())
}

fn blockdev(node: &str, place: &Place) -> Result<Json, HostError> {
    let (format, file) = match place {
        Place::File { path, format } => {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            (*format, json!({ "driver": "file", "filename": name, "discard": "unmap" }))
        }
        Place::Nbd { address, export, format } => {
            let server = match (address.strip_prefix("unix:"), address.rsplit_once(':')) {
                (Some(path), _) => json!({ "type": "unix", "path": path }),
                (None, Some((host, port))) => {
                    json!({ "type": "inet", "host": host.trim_matches(['[', ']']), "port": port })
                }
                (None, None) => return Err(HostError::never(format!("{address:?} is no address of a volume"))),
            };
            // Without a delay the guest would see an error at once when the server restarts.
            let node = json!({ "driver": "nbd", "server": server, "export": export, "reconnect-delay": 30 });
            (if format == "qcow2" { "qcow2" } else { "raw" }, node)
        }
    };
    Ok(json!({ "driver": format, "node-name": node, "file": file, "discard": "unmap" }))
}

fn put_nics(start: &Start, line: &mut Vec<String>) -> Result<(), HostError> {
    let driver = nic_device(start.guest)?;
    // Later: vhost-net for KVM, when QEMU runs as root or gets its descriptor from us.
    for (number, Nic { tap, mac, mtu, .. }) in start.guest.nics.iter().enumerate() {
        let mut device = json!({ "driver": driver, "netdev": format!("nic{number}"), "mac": mac, "romfile": "" });
        device["id"] = json!(format!("nic{number}-device"));
        if driver == "virtio-net-pci" && (68..=65535).contains(mtu) {
            device["host_mtu"] = json!(mtu);
        }
        let netdev = format!("tap,id=nic{number},ifname={tap},script=no,downscript=no");
        line.extend(["-netdev".into(), netdev, "-device".into(), device.to_string()]);
    }
    Ok(())
}

/// The bus and the device of the guest's disks, from the image's properties.
fn disk_device(guest: &Guest, machine: &str) -> Result<(&'static str, &'static str), HostError> {
    match guest.hints.get("hw_disk_bus").map(String::as_str) {
        None | Some("virtio") => Ok(("virtio", "virtio-blk-pci")),
        Some("scsi") => Ok(("scsi", "scsi-hd")),
        Some("ide") if !machine.contains("q35") => Ok(("ide", "ide-hd")),
        Some("sata") if !machine.contains("i440fx") => Ok(("sata", "ide-hd")),
        Some(other) => Err(HostError::never(format!("this host has no disk bus {other} (hw_disk_bus)"))),
    }
}

fn nic_device(guest: &Guest) -> Result<&'static str, HostError> {
    match guest.hints.get("hw_vif_model").map(String::as_str) {
        None | Some("virtio") => Ok("virtio-net-pci"),
        Some("e1000") => Ok("e1000"),
        Some("e1000e") => Ok("e1000e"),
        Some("rtl8139") => Ok("rtl8139"),
        Some(other) => Err(HostError::never(format!("this host has no interface model {other} (hw_vif_model)"))),
    }
}

fn serial(disk: &Disk) -> String {
    disk.serial.chars().filter(|c| c.is_ascii_graphic()).take(SERIAL_BYTES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qemu::record::tests::order;
    use contract::guest::DiskSource;
    use std::path::PathBuf;

    fn disk(id: &str, boot_index: Option<u32>) -> Disk {
        let serial = "0a1b2c3d-0000-4000-8000-000000000000".into();
        Disk { id: id.into(), size_bytes: 1 << 30, source: DiskSource::Blank, boot_index, serial }
    }

    fn words(guest: &Guest, netns: Option<&str>, owner: Option<Owner>) -> Vec<String> {
        let qemu = Qemu { binary: "qemu-system-x86_64".into(), sandbox: true, ..Qemu::default() };
        let places = guest
            .disks
            .iter()
            .map(|disk| Place::File { path: PathBuf::from(format!("/d/{}.qcow2", disk.id)), format: "qcow2" });
        let places: Vec<_> = places.collect();
        let start = Start {
            guest,
            dir: Path::new("/d"),
            places: &places,
            machine: "pc-i440fx-7.2",
            accel: Accel::Tcg,
            qemu: &qemu,
            netns,
            owner,
            loading: false,
        };
        line(&start).unwrap()
    }

    #[test]
    fn the_root_disk_boots_first_and_the_machine_is_pinned() {
        let guest = Guest { disks: vec![disk("root", Some(0)), disk("ephemeral0", None)], ..order() };
        let line = words(&guest, None, None);
        assert_eq!(line[0], "qemu-system-x86_64");
        assert!(line.contains(&"pc-i440fx-7.2,usb=off,dump-guest-core=off".to_string()));
        let boots: Vec<_> = line.iter().filter(|word| word.contains("bootindex")).collect();
        assert_eq!(boots.len(), 1);
        assert!(boots[0].contains("\"drive\":\"disk0\"") && boots[0].contains("\"serial\":\"0a1b2c3d-0000-4000-8\""));
    }

    #[test]
    fn qemu_runs_in_the_namespace_as_its_own_user() {
        let line = words(&order(), Some("cn1"), Some(Owner { uid: 990, gid: 991 }));
        let start = "ip netns exec cn1 setpriv --reuid 990 --regid 991 --init-groups -- qemu-system-x86_64 -name";
        assert!(line.join(" ").starts_with(start));
    }

    #[test]
    fn nothing_from_an_order_becomes_an_option() {
        let name = words(&order(), None, None)[2].clone();
        assert_eq!(name, "guest=one___two_");
        let tap = |tap: &str| Nic { port: "p".into(), mac: "fa:16:3e:00:00:01".into(), tap: tap.into(), mtu: 1450 };
        assert!(check(&Guest { nics: vec![tap("tap0a1b2c3d-00")], ..order() }).is_ok());
        for bad in ["tap0,script=/x", "", "tap0123456789abcdef"] {
            assert!(check(&Guest { nics: vec![tap(bad)], ..order() }).is_err(), "{bad}");
        }
        assert!(check(&Guest { id: "../../etc".into(), ..order() }).is_err());
        assert!(check(&Guest { disks: vec![disk("../root", None)], ..order() }).is_err());
    }

    #[test]
    fn a_device_that_this_host_lacks_is_refused_by_name() {
        let hints = [("hw_vif_model".to_string(), "ne2k_pci".to_string())].into();
        let error = check(&Guest { hints, ..order() }).unwrap_err();
        assert_eq!(error.to_string(), "this host has no interface model ne2k_pci (hw_vif_model)");
    }

    #[test]
    fn a_volume_is_reached_over_a_socket_or_an_address() {
        let nbd = |address: &str| Place::Nbd { address: address.into(), export: "v".into(), format: "raw".into() };
        assert_eq!(blockdev("disk0", &nbd("unix:/s")).unwrap()["file"]["server"]["path"], "/s");
        assert_eq!(blockdev("disk0", &nbd("[fd00::1]:10809")).unwrap()["file"]["server"]["port"], "10809");
        assert!(blockdev("disk0", &nbd("nowhere")).is_err());
    }
}
