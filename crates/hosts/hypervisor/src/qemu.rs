//! Guests as QEMU processes: one per server, spoken to over QMP.
//!
//! QEMU outlives us: everything that must be known about a guest lies in its directory or can be asked from its process.
//!
//! ```text
//! <data-dir>/qemu.json          what QEMU here can do                    (probe)
//! <data-dir>/cache/<image>      base images, mode 0444                   (images)
//! <data-dir>/guests/<id>/
//!     guest.json                order, applied generation, phase         (record)
//!     root.qcow2 config.iso …   disks                                    (disks, iso9660)
//!     memory                    of a suspended guest                     (memory)
//!     qmp vnc serial agent      QEMU's sockets        pid                (command)
//!     console.log qemu.log      what the guest, and QEMU, said           (console)
//! ```

mod command;
mod console;
mod converge;
mod diagnostics;
mod disks;
mod facts;
mod images;
mod iso9660;
mod leaks;
mod memory;
mod probe;
pub mod process;
mod qcow2;
mod qmp;
mod record;
mod seat;
mod start;
mod taps;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base::Json;
use contract::HostError;
use contract::guest::{Guest, Host, Report};
use tokio::sync::{Semaphore, broadcast};

use crate::hypervisor::{Hypervisor, Identity, Images, Vnc, Work};
use crate::limits::{BOOTS, CHANGES, SHUTDOWN};
use images::Cache;
use seat::Seat;

/// How this host runs its guests.
#[derive(Debug, Clone)]
pub struct QemuConfig {
    pub data_dir: PathBuf,
    /// The network namespace in which taps and guests live; none is the one we run in.
    pub netns: Option<String>,
    pub virt_type: VirtType,
    /// The user that QEMU runs as when we are root. Without a name, `ferrostack-qemu` is taken if it exists, else QEMU
    /// runs as we do.
    pub user: Option<String>,
    pub binary: String,
    pub shutdown_timeout: Duration,
    /// Guests that boot at once.
    pub boots: usize,
}

impl QemuConfig {
    pub fn new(data_dir: impl Into<PathBuf>) -> QemuConfig {
        QemuConfig {
            data_dir: data_dir.into(),
            netns: None,
            virt_type: VirtType::Auto,
            user: None,
            binary: format!("qemu-system-{}", std::env::consts::ARCH),
            shutdown_timeout: SHUTDOWN,
            boots: BOOTS,
        }
    }
}

/// `[libvirt] virt_type`: `qemu` is emulation, and `Auto` is KVM where a probe guest boots with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum VirtType {
    #[default]
    Auto,
    Kvm,
    Qemu,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accel {
    Tcg,
    Kvm,
}

/// The user that QEMU runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// The driver. Dropping it leaves the guests running; a new one finds them.
pub struct Qemu {
    shared: Arc<Shared>,
}

/// What the driver and the tasks that follow its guests have in common.
pub(crate) struct Shared {
    config: QemuConfig,
    guests_dir: PathBuf,
    qemu: probe::Qemu,
    accel: Accel,
    owner: Option<Owner>,
    images: Cache,
    boots: Semaphore,
    seats: Mutex<BTreeMap<String, Arc<Seat>>>,
    changes: broadcast::Sender<String>,
}

impl Qemu {
    /// Prepares this host and finds the guests that are already here. `images` is asked for base images that the host
    /// does not have yet.
    pub async fn open(config: QemuConfig, images: Arc<dyn Images>) -> Result<Qemu, HostError> {
        let failed = |error: std::io::Error| HostError::again("preparing the data directory").because(error);
        let guests_dir = config.data_dir.join("guests");
        std::fs::create_dir_all(&guests_dir).map_err(failed)?;
        // The marker on QEMU's command line must be the same however the directory was named.
        let data_dir = config.data_dir.canonicalize().map_err(failed)?;
        let config = QemuConfig { data_dir: data_dir.clone(), ..config };

        let qemu = probe::ask(&config.binary, &data_dir, config.virt_type == VirtType::Auto).await?;
        let accel = match (config.virt_type, qemu.kvm) {
            (VirtType::Kvm, _) | (VirtType::Auto, Some(true)) => Accel::Kvm,
            _ => Accel::Tcg,
        };
        let owner = Owner::find(config.user.as_deref(), &data_dir)?;
        let (guests_dir, cache_dir) = (data_dir.join("guests"), data_dir.join("cache"));
        let images = Cache::open(cache_dir.clone(), images).map_err(failed)?;
        for dir in [&guests_dir, &cache_dir] {
            keep_to_ourselves(dir, owner).map_err(failed)?;
        }
        if let Some(name) = &config.netns
            && !Path::new("/run/netns").join(name).exists()
        {
            return Err(HostError::never(format!("there is no network namespace {name}")));
        }
        let shared = Arc::new(Shared {
            guests_dir,
            images,
            owner,
            boots: Semaphore::new(config.boots.max(1)),
            seats: Mutex::default(),
            changes: broadcast::channel(CHANGES).0,
            qemu,
            accel,
            config,
        });
        shared.find_guests().await?;
        tokio::spawn(console::housekeeping(Arc::downgrade(&shared)));
        Ok(Qemu { shared })
    }
}

impl Hypervisor for Qemu {
    fn host<'a>(&'a self, who: &'a Identity) -> Work<'a, Host> {
        Box::pin(
            async move { Ok(facts::host(who, &self.shared.qemu, self.shared.accel, &self.shared.config.data_dir)) },
        )
    }

    fn guests(&self) -> Work<'_, Vec<Report>> {
        Box::pin(async move { Ok(self.shared.all_seats().iter().filter_map(|seat| seat.report()).collect()) })
    }

    fn ensure<'a>(&'a self, guest: &'a Guest) -> Work<'a, ()> {
        Box::pin(self.shared.ensure(guest))
    }

    fn ensure_gone<'a>(&'a self, id: &'a str) -> Work<'a, ()> {
        Box::pin(self.shared.ensure_gone(id))
    }

    fn console_log<'a>(&'a self, id: &'a str, bytes: u64) -> Work<'a, String> {
        Box::pin(async move { console::tail(&self.shared.known(id)?.dir, bytes) })
    }

    fn vnc<'a>(&'a self, id: &'a str) -> Work<'a, Vnc> {
        Box::pin(async move {
            let seat = self.shared.known(id)?;
            let socket = seat.dir.join(command::SCREEN);
            match seat.live().is_some() && socket.exists() {
                true => Ok(Vnc::Socket(socket)),
                false => Err(HostError::missing(format!("a screen of guest {id}"))),
            }
        })
    }

    fn nmi<'a>(&'a self, id: &'a str) -> Work<'a, ()> {
        Box::pin(async move {
            let live = self.shared.known(id)?.live().ok_or_else(|| not_running(id))?;
            live.order("inject-nmi", base::json!({})).await.map(|_| ())
        })
    }

    fn diagnostics<'a>(&'a self, id: &'a str) -> Work<'a, Json> {
        Box::pin(async move { diagnostics::of(&*self.shared.known(id)?).await })
    }

    fn leaks<'a>(&'a self, known: &'a [String]) -> Work<'a, Vec<String>> {
        Box::pin(leaks::find(&self.shared, known))
    }

    fn changes(&self) -> broadcast::Receiver<String> {
        self.shared.changes.subscribe()
    }
}

impl Shared {
    fn netns(&self) -> Option<&str> {
        self.config.netns.as_deref()
    }

    fn all_seats(&self) -> Vec<Arc<Seat>> {
        lock(&self.seats).values().cloned().collect()
    }

    /// The guest's seat, made if it is not there. Its id must have been checked.
    fn seat(&self, id: &str) -> Arc<Seat> {
        let mut seats = lock(&self.seats);
        seats.entry(id.to_string()).or_insert_with(|| Arc::new(Seat::new(id, &self.guests_dir))).clone()
    }

    fn known(&self, id: &str) -> Result<Arc<Seat>, HostError> {
        let seat = lock(&self.seats).get(id).cloned();
        seat.filter(|seat| seat.record().is_some()).ok_or_else(|| HostError::missing(format!("guest {id}")))
    }

    fn changed(&self, id: &str) {
        // Nobody listens: nobody needs to know.
        let _ = self.changes.send(id.to_string());
    }
}

impl Owner {
    fn find(name: Option<&str>, data_dir: &Path) -> Result<Option<Owner>, HostError> {
        if !nix::unistd::geteuid().is_root() {
            return Ok(None);
        }
        let user = nix::unistd::User::from_name(name.unwrap_or("ferrostack-qemu"));
        match (user.ok().flatten(), name) {
            (Some(user), _) if reachable(data_dir) => {
                Ok(Some(Owner { uid: user.uid.as_raw(), gid: user.gid.as_raw() }))
            }
            (Some(user), None) => {
                tracing::warn!(user = user.name, "QEMU runs as root: its user cannot reach {}", data_dir.display());
                Ok(None)
            }
            (Some(_), Some(name)) => {
                Err(HostError::never(format!("user {name} cannot reach {} or the taps", data_dir.display())))
            }
            (None, Some(name)) => Err(HostError::never(format!("there is no user {name} for QEMU"))),
            // Later: `up` makes the user itself.
            (None, None) => Ok(None),
        }
    }

    fn own(self, path: &Path) -> std::io::Result<()> {
        std::os::unix::fs::chown(path, Some(self.uid), Some(self.gid))
    }
}

/// Lets nobody into a directory but us and the user that QEMU runs as.
fn keep_to_ourselves(dir: &Path, owner: Option<Owner>) -> std::io::Result<()> {
    let mode = if owner.is_some() { 0o710 } else { 0o700 };
    std::os::unix::fs::chown(dir, None, owner.map(|owner| owner.gid))?;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(mode))
}

/// Whether an ordinary user may walk to `dir` and open taps.
fn reachable(dir: &Path) -> bool {
    let mode = |path: &Path| std::fs::metadata(path).map_or(0, |found| found.permissions().mode());
    dir.ancestors().all(|path| mode(path) & 0o001 != 0) && mode(Path::new("/dev/net/tun")) & 0o006 == 0o006
}

fn not_running(id: &str) -> HostError {
    HostError::missing(format!("a process of guest {id}"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
