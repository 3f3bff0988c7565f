//! LUKS, version 1: an encrypted disk behind a header.

use super::field::{be_u16, be_u32};
use super::{Danger, Seen, cut_off, danger};

const VERSION: usize = 6;
const PAYLOAD_SECTOR: usize = 104;

pub fn looks_like(seen: &Seen) -> bool {
    seen.head.starts_with(b"LUKS\xba\xbe")
}

/// The disk is what follows the header.
pub fn disk_size(seen: &Seen) -> Result<u64, Danger> {
    if be_u16(&seen.head, VERSION).ok_or_else(cut_off)? != 1 {
        return danger("only version 1 of LUKS is supported");
    }
    let payload = u64::from(be_u32(&seen.head, PAYLOAD_SECTOR).ok_or_else(cut_off)?) * 512;
    seen.size.checked_sub(payload).ok_or_else(cut_off)
}
