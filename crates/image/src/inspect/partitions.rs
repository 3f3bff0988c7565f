//! Partition tables: GPT, and the MBR that it wraps.

use super::field::{le_u16, le_u32};
use super::{Danger, Seen, danger};

const ENTRIES: usize = 446;
const ENTRY_BYTES: usize = 16;
const GPT_PROTECTIVE: u8 = 0xee;
const FIXED_DISK: u8 = 0xf8;

pub fn looks_like(seen: &Seen) -> bool {
    le_u16(&seen.head, 510) == Some(0xaa55) && !is_fat(&seen.head)
}

/// A FAT file system's first sector ends with the same two bytes; its count of tables and its media byte tell it.
fn is_fat(head: &[u8]) -> bool {
    head.get(0x10) == Some(&2) && head.get(0x15) == Some(&FIXED_DISK)
}

pub fn disk_size(seen: &Seen) -> Result<u64, Danger> {
    let entries: Vec<&[u8]> = seen.head[ENTRIES..510].chunks_exact(ENTRY_BYTES).collect();
    if entries.iter().any(|entry| !matches!(entry[0], 0 | 0x80)) {
        return danger("a partition has an invalid boot flag");
    }
    let used: Vec<usize> = (0..entries.len()).filter(|i| entries[*i][4] != 0).collect();
    if used.is_empty() {
        return danger("the partition table has no partitions");
    }
    if let Some(protective) = entries.iter().find(|entry| entry[4] == GPT_PROTECTIVE) {
        if used != [0] {
            return danger("the GPT's protective table names other partitions");
        }
        if protective[1..4] != [0, 2, 0] || le_u32(protective, 8) != Some(1) {
            return danger("the GPT's protective partition begins at the wrong place");
        }
    }
    Ok(seen.size)
}
