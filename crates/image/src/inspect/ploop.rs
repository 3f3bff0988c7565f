//! Ploop, Virtuozzo's format, which QEMU calls parallels.

use super::field::le_u64;
use super::{Danger, Seen, cut_off};

const DISK_SECTORS: usize = 36;

pub fn looks_like(seen: &Seen) -> bool {
    seen.head.starts_with(b"WithoutFreeSpace") || seen.head.starts_with(b"WithouFreSpacExt")
}

pub fn disk_size(seen: &Seen) -> Result<u64, Danger> {
    let sectors = le_u64(&seen.head, DISK_SECTORS).ok_or_else(cut_off)?;
    sectors.checked_mul(512).ok_or(Danger("the image's disk is too large".into()))
}
