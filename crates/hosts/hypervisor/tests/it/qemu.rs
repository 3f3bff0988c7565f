//! What only a real guest can show.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use contract::HostError;
use contract::guest::{Disk, DiskSource, Guest, Power, State};
use host_hypervisor::Vnc;
use tokio::io::AsyncReadExt;
use tokio::time::sleep;

use crate::stage::{Real, Stage, host_tests};

fn real(stage: &mut Stage) -> &mut Real {
    match stage {
        Stage::Qemu(real) => real,
        Stage::Fake(_) => panic!("a real host is needed"),
    }
}

fn then(guest: &Guest, power: Power) -> Guest {
    Guest { generation: guest.generation + 1, power, ..guest.clone() }
}

#[tokio::test]
async fn a_restart_of_ours_finds_guests_as_they_are() {
    if !host_tests() {
        return;
    }
    let mut stage = Stage::qemu().await;
    let (running, held) = (stage.guest(), Guest { power: Power::Held, ..stage.guest() });
    stage.driver().ensure(&running).await.unwrap();
    stage.driver().ensure(&held).await.unwrap();
    let pid = real(&mut stage).pid(&running.id);

    real(&mut stage).restart().await;
    assert_eq!(stage.state(&running.id).await, Some(State::Running));
    assert_eq!(stage.state(&held.id).await, Some(State::Held));
    assert_eq!(real(&mut stage).pid(&running.id), pid);

    // Orders go on where they were, and older ones are still refused.
    assert!(matches!(
        stage.driver().ensure(&Guest { generation: 0, ..running.clone() }).await,
        Err(HostError::Never { .. })
    ));
    stage.driver().ensure(&then(&running, Power::Paused)).await.unwrap();
    assert_eq!(stage.state(&running.id).await, Some(State::Paused));
    stage.kill(&running.id).await;
    stage.becomes(&running.id, State::Crashed).await;
}

#[tokio::test]
async fn what_happened_while_we_were_away_is_seen() {
    if !host_tests() {
        return;
    }
    let mut stage = Stage::qemu().await;
    let (killed, orphan) = (stage.guest(), stage.guest());
    stage.driver().ensure(&killed).await.unwrap();
    stage.driver().ensure(&orphan).await.unwrap();
    let real = real(&mut stage);
    real.driver = None;
    let pid = nix::unistd::Pid::from_raw(real.pid(&killed.id).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    // As if we had died between starting the process and noting it.
    let record = real.dir(&orphan.id).join("guest.json");
    let text = std::fs::read_to_string(&record).unwrap();
    std::fs::write(&record, text.replace("\"phase\":\"up\"", "\"phase\":\"off\"")).unwrap();
    real.restart().await;
    assert_eq!(real.pid(&orphan.id), None);
    assert_eq!(stage.state(&killed.id).await, Some(State::Crashed));
    assert_eq!(stage.state(&orphan.id).await, Some(State::Stopped));
}

/// Work is dropped at moments spread over its length, half of the time together with the driver.
#[tokio::test]
async fn work_that_was_abandoned_at_any_moment_is_made_good() {
    if !host_tests() {
        return;
    }
    let mut stage = Stage::qemu().await;
    for moment in 0..24 {
        let guest = stage.guest();
        let patience = Duration::from_millis(moment * 8);
        let finished = tokio::time::timeout(patience, stage.driver().ensure(&guest)).await.is_ok();
        if moment % 2 == 0 {
            real(&mut stage).restart().await;
        }
        let suspended = then(&guest, Power::Suspended);
        stage.driver().ensure(&guest).await.unwrap_or_else(|error| panic!("after {patience:?}: {error:?}"));
        assert_eq!(stage.state(&guest.id).await, Some(State::Running), "after {patience:?}, {finished}");

        let _ = tokio::time::timeout(patience / 2, stage.driver().ensure(&suspended)).await;
        if moment % 4 == 1 {
            real(&mut stage).restart().await;
        }
        stage.driver().ensure(&suspended).await.unwrap_or_else(|error| panic!("after {patience:?}: {error:?}"));
        assert_eq!(stage.state(&guest.id).await, Some(State::Suspended), "after {patience:?}");
        let _ = tokio::time::timeout(patience / 16, stage.driver().ensure_gone(&guest.id)).await;
        stage.driver().ensure_gone(&guest.id).await.unwrap();
        assert_eq!(stage.driver().leaks(&[]).await.unwrap(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_guest_reads_its_config_drive_and_grows_to_its_disk() {
    if !host_tests() {
        return;
    }
    let stage = Stage::qemu().await;
    let guest = stage.guest();
    let metadata = format!("{{\"uuid\": \"{}\", \"hostname\": \"one.novalocal\"}}", guest.id);
    let script = b"#!/bin/sh\necho the script ran\n".to_vec();
    let files = [
        ("openstack/latest/meta_data.json".to_string(), metadata.into_bytes()),
        ("openstack/latest/user_data".to_string(), script),
    ];
    let guest = Guest { config_drive: Some(files.into()), ..guest };
    stage.driver().ensure(&guest).await.unwrap();
    let log = stage.says(&guest.id, "guest-done").await;
    let ready = format!("source=config-drive instance-id={} hostname=one ", guest.id);
    assert!(log.contains(&ready) && log.contains("user-data: the script ran"), "{log}");
    // 1 GiB without the boot partition and the file system's own tables.
    assert!(log.contains("root=97"), "{log}");

    let counters = stage.driver().diagnostics(&guest.id).await.unwrap();
    assert!(counters["disk_details"][0]["read_bytes"].as_u64().unwrap() > 1 << 20, "{counters}");
    assert!(counters["nic_details"][0]["rx_octets"].is_u64(), "{counters}");
    assert!(counters["cpu_details"][0]["time"].as_u64().unwrap() > 0, "{counters}");
    let report = stage.report(&guest.id).await.unwrap();
    assert!(report.memory_bytes.unwrap() > 50 << 20 && report.cpu_ns.unwrap() > 0, "{report:?}");
}

#[tokio::test]
async fn a_screen_is_served_on_a_socket() {
    if !host_tests() {
        return;
    }
    let stage = Stage::qemu().await;
    let guest = stage.guest();
    stage.driver().ensure(&guest).await.unwrap();
    let Vnc::Socket(path) = stage.driver().vnc(&guest.id).await.unwrap() else { panic!("a socket is expected") };
    let mut socket = host_hypervisor::qemu::process::connect(&path).await.unwrap();
    let mut greeting = [0; 4];
    socket.read_exact(&mut greeting).await.unwrap();
    assert_eq!(&greeting, b"RFB ");
}

#[tokio::test]
async fn an_image_that_does_not_fit_is_refused_in_words() {
    if !host_tests() {
        return;
    }
    let stage = Stage::qemu().await;
    let mut guest = stage.guest();
    guest.disks[0].size_bytes = 64 << 20;
    let error = stage.driver().ensure(&guest).await.unwrap_err();
    assert!(matches!(error, HostError::Never { .. }), "{error}");
    assert!(error.to_string().contains("needs a disk of 117440512 bytes, and the server's has 67108864"), "{error}");
}

#[tokio::test]
async fn a_base_image_is_fetched_once_and_never_written() {
    if !host_tests() {
        return;
    }
    let mut stage = Stage::qemu().await;
    let (one, two) = (stage.guest(), stage.guest());
    stage.driver().ensure(&one).await.unwrap();
    let cache = real(&mut stage).config.data_dir.join("cache");
    let image = std::fs::read_dir(&cache).unwrap().next().unwrap().unwrap().path();
    let before = std::fs::metadata(&image).unwrap();
    assert_eq!(before.permissions().mode() & 0o777, 0o444);
    stage.driver().ensure(&two).await.unwrap();
    let after = std::fs::metadata(&image).unwrap();
    assert_eq!((before.ino(), before.mtime(), before.len()), (after.ino(), after.mtime(), after.len()));
    assert_eq!(std::fs::read_dir(&cache).unwrap().count(), 1);
}

#[tokio::test]
async fn a_rebuilt_guest_has_a_new_disk_of_the_new_size() {
    if !host_tests() {
        return;
    }
    let mut stage = Stage::qemu().await;
    let guest = stage.guest();
    stage.driver().ensure(&guest).await.unwrap();
    let disk = real(&mut stage).dir(&guest.id).join("root.qcow2");
    let first = std::fs::metadata(&disk).unwrap().ino();

    let mut rebuilt = Guest { disk_generation: 1, ..then(&guest, Power::Running) };
    rebuilt.disks[0].size_bytes = 2 << 30;
    stage.driver().ensure(&rebuilt).await.unwrap();
    assert_ne!(std::fs::metadata(&disk).unwrap().ino(), first);
    let report = stage.report(&guest.id).await.unwrap();
    assert_eq!((report.state, report.disk_generation), (State::Running, 1));
    let header = std::fs::read(&disk).unwrap();
    assert_eq!(u64::from_be_bytes(header[24..32].try_into().unwrap()), 2 << 30);
}

#[tokio::test]
async fn a_guest_has_blank_disks_and_volumes_from_the_network() {
    if !host_tests() {
        return;
    }
    let mut stage = Stage::qemu().await;
    let mut guest = stage.guest();
    let dir = real(&mut stage).config.data_dir.clone();
    let socket = dir.join("volume.socket");
    let _server = serve(&dir.join("volume.raw"), &socket).await;
    let disk =
        |id: &str, source| Disk { id: id.into(), size_bytes: 64 << 20, source, boot_index: None, serial: id.into() };
    let address = format!("unix:{}", socket.display());
    guest.disks.push(disk("ephemeral0", DiskSource::Blank));
    guest.disks.push(disk(
        "0d3f6e0a-55a6-4b0e-8d34-5b1c7d0a9b12",
        DiskSource::Nbd { address, export: String::new(), format: "raw".into() },
    ));
    stage.driver().ensure(&guest).await.unwrap();
    let counters = stage.driver().diagnostics(&guest.id).await.unwrap();
    assert_eq!(counters["num_disks"], 3);
    assert_eq!(std::fs::metadata(real(&mut stage).dir(&guest.id).join("ephemeral0.raw")).unwrap().len(), 64 << 20);
}

#[tokio::test]
async fn qemu_runs_as_its_own_user() {
    let tun = std::fs::metadata("/dev/net/tun").map_or(0, |file| file.permissions().mode());
    if !host_tests() {
        return;
    }
    if tun & 0o006 != 0o006 {
        println!("NOT RUN: /dev/net/tun is open to root only");
        return;
    }
    let mut stage = Stage::qemu().await;
    real(&mut stage).run_as("nobody").await;
    let guest = stage.guest();
    stage.driver().ensure(&guest).await.unwrap();
    let pid = real(&mut stage).pid(&guest.id).unwrap();
    let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap().uid.as_raw();
    assert_eq!(std::fs::metadata(format!("/proc/{pid}")).unwrap().uid(), nobody);

    let suspended = then(&guest, Power::Suspended);
    stage.driver().ensure(&suspended).await.unwrap();
    let resumed = then(&suspended, Power::Running);
    stage.driver().ensure(&resumed).await.unwrap();
    stage.says(&guest.id, "guest-done").await;
    stage.driver().ensure(&then(&resumed, Power::Stopped)).await.unwrap();
    assert_eq!(stage.state(&guest.id).await, Some(State::Stopped));
    stage.driver().ensure_gone(&guest.id).await.unwrap();
    assert_eq!(stage.driver().leaks(&[]).await.unwrap(), Vec::<String>::new());
}

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Serves a volume until dropped.
async fn serve(file: &std::path::Path, socket: &std::path::Path) -> Server {
    std::fs::File::create(file).unwrap().set_len(64 << 20).unwrap();
    let mut nbd = Command::new("qemu-nbd");
    let server = Server(nbd.args(["-t", "-f", "raw", "-k"]).arg(socket).arg(file).spawn().unwrap());
    while !socket.exists() {
        sleep(Duration::from_millis(5)).await;
    }
    server
}

/// What a start costs beside QEMU's own. The numbers are printed; the bound only catches accidents.
#[tokio::test]
async fn a_start_costs_little_more_than_qemus_own() {
    if !host_tests() {
        return;
    }
    let mut stage = Stage::qemu().await;
    let warm = stage.guest();
    stage.driver().ensure(&warm).await.unwrap();
    let line = std::fs::read(format!("/proc/{}/cmdline", real(&mut stage).pid(&warm.id).unwrap())).unwrap();
    let dir = real(&mut stage).dir(&warm.id);
    stage.driver().ensure(&then(&warm, Power::Stopped)).await.unwrap();

    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let guest = stage.guest();
        let begun = Instant::now();
        stage.driver().ensure(&guest).await.unwrap();
        ours.push(begun.elapsed());
        stage.driver().ensure_gone(&guest.id).await.unwrap();
        bare.push(bare_start(&line, &dir, &real(&mut stage).netns).await);
    }
    let (ours, bare) = (median(ours), median(bare));
    println!("from the order to a running guest: {ours:?}; the same QEMU started bare: {bare:?}");
    assert!(ours < bare * 4 + Duration::from_secs(1), "{ours:?} against {bare:?}");
}

/// Starts the same QEMU by hand until its monitor is open.
async fn bare_start(line: &[u8], dir: &std::path::Path, netns: &str) -> Duration {
    let line = String::from_utf8(line.to_vec()).unwrap();
    let mut words: Vec<&str> = line.trim_end_matches('\0').split('\0').collect();
    // Without the tap, which has gone with its guest.
    let nic = words.iter().position(|word| *word == "-netdev").unwrap();
    words.drain(nic..nic + 4);
    let monitor = dir.join("qmp");
    let _ = std::fs::remove_file(&monitor);
    let begun = Instant::now();
    let mut command = Command::new("ip");
    let mut server = Server(command.args(["netns", "exec", netns]).args(words).current_dir(dir).spawn().unwrap());
    while host_hypervisor::qemu::process::connect(&monitor).await.is_err() {
        assert_eq!(server.0.try_wait().unwrap(), None, "QEMU runs");
        sleep(Duration::from_millis(1)).await;
    }
    begun.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
