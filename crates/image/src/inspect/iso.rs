//! ISO 9660 and UDF: a volume descriptor after sixteen sectors.

use super::field::{le_u16, le_u32};
use super::{Danger, Seen, cut_off};

const DESCRIPTOR: usize = 16 * 2048;
const PRIMARY: u8 = 1;

pub fn looks_like(seen: &Seen) -> bool {
    seen.head
        .get(DESCRIPTOR + 1..DESCRIPTOR + 6)
        .is_some_and(|name| [b"CD001", b"NSR02", b"NSR03"].contains(&&name_of(name)))
}

fn name_of(name: &[u8]) -> [u8; 5] {
    name.try_into().expect("the range above has five bytes")
}

/// Only a primary descriptor says how large the volume is; others leave it unknown.
pub fn disk_size(seen: &Seen) -> Result<u64, Danger> {
    let descriptor = &seen.head[DESCRIPTOR..];
    if descriptor[0] != PRIMARY {
        return Ok(0);
    }
    let blocks = le_u32(descriptor, 80).ok_or_else(cut_off)?;
    let block_bytes = le_u16(descriptor, 128).ok_or_else(cut_off)?;
    Ok(u64::from(blocks) * u64::from(block_bytes))
}
