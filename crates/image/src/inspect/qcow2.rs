//! QCOW2, versions 2 and 3: big-endian numbers in the first 104 bytes.

use super::field::{be_u32, be_u64};
use super::{Danger, Seen, cut_off, danger};

const BACKING_FILE_OFFSET: usize = 8;
const CLUSTER_BITS: usize = 20;
const DISK_SIZE: usize = 24;
const CRYPT_METHOD: usize = 32;
const L1_ENTRIES: usize = 36;
const INCOMPATIBLE_FEATURES: usize = 72;

const DATA_FILE: u64 = 1 << 2;
const EXTENDED_L2: u64 = 1 << 4;
/// Dirty, corrupt, data file, compression type, extended L2 entries: QEMU knows no others.
const KNOWN_FEATURES: u64 = 0b1_1111;

/// Limit: QEMU opens no larger L1 table (32 MiB), which keeps a hostile header from making it allocate at will.
const L1_BYTES_MAX: u64 = 32 << 20;

pub fn looks_like(seen: &Seen) -> bool {
    seen.head.starts_with(b"QFI\xfb")
}

pub fn disk_size(seen: &Seen) -> Result<u64, Danger> {
    let head = &seen.head;
    let features = match be_u32(head, 4).ok_or_else(cut_off)? {
        2 => 0,
        3 => be_u64(head, INCOMPATIBLE_FEATURES).ok_or_else(cut_off)?,
        _ => return danger("unsupported qcow2 version"),
    };
    if be_u64(head, BACKING_FILE_OFFSET).ok_or_else(cut_off)? != 0 {
        return danger("the image has a backing file");
    }
    if features & DATA_FILE != 0 {
        return danger("the image has an external data file");
    }
    if features & !KNOWN_FEATURES != 0 {
        return danger("the image uses unknown qcow2 features");
    }
    if be_u32(head, CRYPT_METHOD).ok_or_else(cut_off)? != 0 {
        return danger("the image is encrypted");
    }
    let size = be_u64(head, DISK_SIZE).ok_or_else(cut_off)?;
    check_l1(head, size, features)?;
    Ok(size)
}

/// The first-level table must cover the disk, and may not be absurd.
fn check_l1(head: &[u8], size: u64, features: u64) -> Result<(), Danger> {
    let cluster_bits = be_u32(head, CLUSTER_BITS).ok_or_else(cut_off)?;
    let l1_entries = u64::from(be_u32(head, L1_ENTRIES).ok_or_else(cut_off)?);
    if !(9..=21).contains(&cluster_bits) {
        return danger("the image's cluster size is out of range");
    }
    if size > i64::MAX as u64 {
        return danger("the image's disk is too large");
    }
    let l2_entry_bits = if features & EXTENDED_L2 != 0 { 4 } else { 3 };
    let covered_bits = 2 * cluster_bits - l2_entry_bits;
    if l1_entries * 8 > L1_BYTES_MAX {
        return danger("the image's L1 table is too large");
    }
    if l1_entries < size.div_ceil(1 << covered_bits) {
        return danger("the image's L1 table is too small for its disk");
    }
    Ok(())
}
