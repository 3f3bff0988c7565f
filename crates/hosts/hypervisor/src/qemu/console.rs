//! What the guest wrote to its serial console, bounded in size.
//!
//! QEMU appends to the log itself, so that nothing is lost while we do not run. We cut its beginning off; QEMU goes on
//! writing at the end.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Weak;

use contract::HostError;
use nix::fcntl::{FallocateFlags, fallocate};

use super::command::{CONSOLE_LOG, QEMU_LOG};
use super::seat::Seat;
use super::{Shared, process};
use crate::limits::{CONSOLE_BYTES, HOUSEKEEPING, QEMU_LOG_BYTES};

/// The last `bytes` of the console, without the zeros that a cut may leave.
pub(crate) fn tail(dir: &Path, bytes: u64) -> Result<String, HostError> {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = match File::open(dir.join(CONSOLE_LOG)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            file => file?,
        };
        let length = file.metadata()?.len();
        let mut tail = Vec::new();
        file.seek(SeekFrom::Start(length.saturating_sub(bytes.min(CONSOLE_BYTES))))?;
        file.take(CONSOLE_BYTES).read_to_end(&mut tail)?;
        Ok(tail)
    };
    let mut tail = read().map_err(|error| HostError::again("reading the console log").because(error))?;
    tail.retain(|byte| *byte != 0);
    Ok(String::from_utf8_lossy(&tail).into_owned())
}

/// Cuts logs back and looks again at guests whose monitor did not answer, until the driver is dropped.
pub(crate) async fn housekeeping(shared: Weak<Shared>) {
    let mut tick = tokio::time::interval(HOUSEKEEPING);
    loop {
        tick.tick().await;
        let Some(shared) = shared.upgrade() else { return };
        for seat in shared.all_seats() {
            cut_logs(&seat);
            if let Some(pid) = seat.stray_pid()
                && process::is_alive(pid, &shared.guests_dir, &seat.id)
                && let Ok(_turn) = seat.turn.try_lock()
                && seat.adopt(pid, &shared).await.is_ok()
            {
                shared.changed(&seat.id);
            }
        }
    }
}

fn cut_logs(seat: &Seat) {
    let Some(record) = seat.record() else { return };
    for (name, keep) in [(CONSOLE_LOG, record.order.console.log_bytes), (QEMU_LOG, QEMU_LOG_BYTES)] {
        match cut(&seat.dir.join(name), keep.max(4096)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(server = seat.id, "{name} cannot be cut back: {error}");
            }
            _ => {}
        }
    }
}

/// Removes the beginning of a file that is more than twice as long as `keep`.
fn cut(path: &Path, keep: u64) -> io::Result<()> {
    let file = File::options().write(true).open(path)?;
    let found = file.metadata()?;
    // Whole blocks can be taken out without touching what is being appended.
    let surplus = found.len().saturating_sub(keep) / found.blksize() * found.blksize();
    if found.len() <= 2 * keep || surplus == 0 || found.blocks() * 512 <= 2 * keep {
        return Ok(());
    }
    let shorten = fallocate(&file, FallocateFlags::FALLOC_FL_COLLAPSE_RANGE, 0, surplus as i64);
    if shorten.is_err() {
        // Not every file system can: then the beginning stays as a hole that takes no space.
        let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        fallocate(&file, hole, 0, surplus as i64)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_console_that_never_stops_keeps_its_last_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(CONSOLE_LOG);
        let mut writer = File::options().create(true).append(true).open(&path).unwrap();
        for number in 0..20_000 {
            writeln!(writer, "line {number}").unwrap();
        }
        cut(&path, 16384).unwrap();
        writeln!(writer, "the end").unwrap();
        let found = std::fs::metadata(&path).unwrap();
        assert!(found.blocks() * 512 <= 3 * 16384, "{found:?}");
        let tail = tail(dir.path(), 8192).unwrap();
        assert!(tail.ends_with("line 19999\nthe end\n"), "{tail}");
    }

    #[test]
    fn a_guest_without_a_console_log_has_an_empty_one() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(tail(dir.path(), 100).unwrap(), "");
    }
}
