//! Every limit of this crate, with its reason.

use std::time::Duration;

/// Limit: guests that boot at once on a host. A booting guest burns a core; more of them only starve each other.
pub const BOOTS: usize = 2;
/// Limit: guests that the agent works on at once. Each may hold a QEMU start, a download or a wait for a shutdown.
pub const WORKERS: usize = 8;
/// Limit: how often a step that failed for the moment is tried for one order.
pub const ATTEMPTS: u32 = 5;
/// Limit: pause before the first repetition; doubled each time, up to [`BACKOFF_MAX`].
pub const BACKOFF: Duration = Duration::from_millis(500);
pub const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// Limit: how long a guest may take to shut down before its plug is pulled; upstream's default.
pub const SHUTDOWN: Duration = Duration::from_secs(60);
/// Limit: the longest timeout that an image may ask for (`os_shutdown_timeout`).
pub const SHUTDOWN_MAX: Duration = Duration::from_secs(600);
/// Limit: the power button is pressed again after this, because a guest that is still booting ignores it.
pub const BUTTON_AGAIN: Duration = Duration::from_secs(10);
/// Limit: from starting QEMU to its answer on the monitor; 0.2 s on an idle host, tens of seconds on a starved one.
pub const QEMU_START: Duration = Duration::from_secs(60);
/// Limit: a monitor command's answer; the slowest are job starts of some 100 ms.
pub const QMP_ANSWER: Duration = Duration::from_secs(20);
/// Limit: one line from the monitor; the longest answer, the list of CPU models, has 0.3 MB.
pub const QMP_LINE_BYTES: usize = 4 << 20;
/// Limit: a process that was told to end is killed after this, and given up after as much again.
pub const PROCESS_END: Duration = Duration::from_secs(10);
/// Limit: saving or loading a suspended guest's memory.
pub const MEMORY_COPY: Duration = Duration::from_secs(600);
/// Limit: the probe guest that shows whether KVM works needs 0.5 s where it does.
pub const KVM_PROBE: Duration = Duration::from_secs(5);
/// Limit: one run of a small tool (`ip`, `qemu-img`).
pub const TOOL: Duration = Duration::from_secs(60);
/// Limit: pieces of an image on their way from the image service to the disk.
pub const IMAGE_CHUNKS: usize = 16;
/// Limit: how long an image service may send nothing.
pub const IMAGE_STALL: Duration = Duration::from_secs(60);
/// Limit: a guest's record on disk, which holds its order without the config drive.
pub const RECORD_BYTES: u64 = 1 << 20;
/// Limit: all files of one config drive; user data is at most 64 KiB, personality and vendor data a few times that.
pub const CONFIG_DRIVE_BYTES: usize = 8 << 20;
/// Limit: how often logs are cut back, and half-known guests are looked at again.
pub const HOUSEKEEPING: Duration = Duration::from_secs(5);
/// Limit: bytes of QEMU's own messages to keep per guest.
pub const QEMU_LOG_BYTES: u64 = 256 << 10;
/// Limit: disks and NICs of one guest; the i440fx bus has 32 slots.
pub const DEVICES: usize = 24;
/// Limit: changes that wait for a slow listener; one that lags behind looks at everything again.
pub const CHANGES: usize = 1024;
/// Limit: guests that the agent remembers as gone, so that a late order does not bring them back.
pub const TOMBSTONES: usize = 4096;
/// Limit: how often the agent compares without being poked, and how often it reports every guest.
pub const COMPARE: Duration = Duration::from_secs(30);
pub const REPORT: Duration = Duration::from_secs(60);
/// Limit: pause before a request to the controllers is repeated.
pub const CONTROLLERS_AGAIN: Duration = Duration::from_secs(1);
/// Limit: reports in one message; the rest follows in the next.
pub const REPORTS: usize = 500;
/// Limit: console log that one request may ask for.
pub const CONSOLE_BYTES: u64 = 1 << 20;
