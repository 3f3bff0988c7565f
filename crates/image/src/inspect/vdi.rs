//! VDI, VirtualBox's format: little-endian numbers in the first sector.

use super::field::{le_u32, le_u64};
use super::{Danger, Seen, cut_off, danger};

const MAGIC: usize = 0x40;
const KIND: usize = 0x4c;
const DISK_SIZE: usize = 0x170;
const LINK_AND_PARENT: std::ops::Range<usize> = 0x1a8..0x1c8;

pub fn looks_like(seen: &Seen) -> bool {
    le_u32(&seen.head, MAGIC) == Some(0xbeda_107f)
}

pub fn disk_size(seen: &Seen) -> Result<u64, Danger> {
    let head = &seen.head;
    // 1 grows as it is written, 2 is preallocated; the others are layers on top of another image.
    if !matches!(le_u32(head, KIND).ok_or_else(cut_off)?, 1 | 2) {
        return danger("the image has a parent image");
    }
    let links = head.get(LINK_AND_PARENT).ok_or_else(cut_off)?;
    if links.iter().any(|byte| *byte != 0) {
        return danger("the image has a parent image");
    }
    le_u64(head, DISK_SIZE).ok_or_else(cut_off)
}
