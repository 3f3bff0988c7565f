//! VHDX: a region table in the first 256 KiB says where the metadata is, and the metadata says where its items are.
//!
//! ```text
//! 0 "vhdxfile" … 192 KiB "regi": {guid, offset}… → offset "metadata": {guid, offset}… → offset the item itself
//! ```
//! The file passes by once, so each step must point forward; writers of VHDX always lay it out so.

use super::field::{le_u16, le_u32, le_u64};
use super::{Danger, Seen, Window, cut_off, danger};

/// Up to the end of the first region table.
pub const HEAD_BYTES: usize = 256 * 1024;

const REGION_TABLE: usize = 192 * 1024;
/// Limit: the format's own, 2047 entries of 32 bytes in 64 KiB.
const ENTRIES_MAX: u32 = 2047;
const ENTRY_BYTES: usize = 32;

// GUIDs as they lie in the file.
const METADATA_REGION: [u8; 16] =
    [0x06, 0xa2, 0x7c, 0x8b, 0x90, 0x47, 0x9a, 0x4b, 0xb8, 0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e];
const DISK_SIZE: [u8; 16] =
    [0x24, 0x42, 0xa5, 0x2f, 0x1b, 0xcd, 0x76, 0x48, 0xb2, 0x11, 0x5d, 0xbe, 0xd8, 0x3b, 0xf4, 0xb8];
const FILE_PARAMETERS: [u8; 16] =
    [0x37, 0x67, 0xa1, 0xca, 0x36, 0xfa, 0x43, 0x4d, 0xb3, 0xb6, 0x33, 0xf0, 0xaa, 0x44, 0xe7, 0x6b];
const HAS_PARENT: u32 = 1 << 1;

pub fn looks_like(seen: &Seen) -> bool {
    seen.head.starts_with(b"vhdxfile")
}

pub fn disk_size(seen: &Seen) -> Result<u64, Danger> {
    seen.vhdx.as_ref().ok_or_else(cut_off)?.disk_size()
}

/// Follows the tables through the file.
#[derive(Clone)]
pub struct Walk(Result<Step, Danger>);

#[derive(Clone)]
enum Step {
    /// Waiting for the metadata table.
    Table(Window),
    /// Waiting for two of its items.
    Items { disk_size: Window, parameters: Window },
}

impl Walk {
    pub fn start(head: &[u8]) -> Walk {
        Walk(metadata_region(head).map(Step::Table))
    }

    pub fn offer(&mut self, at: u64, chunk: &[u8]) {
        let Ok(step) = &mut self.0 else { return };
        if let Step::Table(table) = step {
            table.offer(at, chunk);
            if !table.is_full() {
                return;
            }
            match items(table) {
                Ok(next) => *step = next,
                Err(danger) => return self.0 = Err(danger),
            }
        }
        if let Step::Items { disk_size, parameters } = step {
            disk_size.offer(at, chunk);
            parameters.offer(at, chunk);
        }
    }

    pub fn held_bytes(&self) -> usize {
        match &self.0 {
            Ok(Step::Table(table)) => table.data.len(),
            Ok(Step::Items { disk_size, parameters }) => disk_size.data.len() + parameters.data.len(),
            Err(_) => 0,
        }
    }

    fn disk_size(&self) -> Result<u64, Danger> {
        let Step::Items { disk_size, parameters } = self.0.as_ref().map_err(Clone::clone)? else {
            return Err(cut_off());
        };
        // The parameters are two numbers: the block size, and the flags.
        if le_u32(&parameters.data, 4).ok_or_else(cut_off)? & HAS_PARENT != 0 {
            return danger("the image has a parent image");
        }
        le_u64(&disk_size.data, 0).ok_or_else(cut_off)
    }
}

fn metadata_region(head: &[u8]) -> Result<Window, Danger> {
    let table = head.get(REGION_TABLE..).ok_or_else(cut_off)?;
    if !table.starts_with(b"regi") {
        return danger("the image's region table is missing");
    }
    let count = le_u32(table, 8).ok_or_else(cut_off)?.min(ENTRIES_MAX) as usize;
    let entry = entry_of(&table[16..], count, &METADATA_REGION);
    let offset = entry.and_then(|entry| le_u64(entry, 16)).ok_or(Danger("the image has no metadata region".into()))?;
    if offset < HEAD_BYTES as u64 || offset > i64::MAX as u64 {
        return danger("the image's metadata region is out of place");
    }
    Ok(Window::new(offset, 64 * 1024))
}

fn items(table: &Window) -> Result<Step, Danger> {
    if !table.data.starts_with(b"metadata") {
        return danger("the image's metadata table is missing");
    }
    let count = u32::from(le_u16(&table.data, 10).ok_or_else(cut_off)?).min(ENTRIES_MAX) as usize;
    let item = |guid| {
        let entry = entry_of(&table.data[32..], count, guid);
        let offset = entry.and_then(|entry| le_u32(entry, 16)).ok_or(Danger("the image lacks metadata".into()))?;
        if (offset as usize) < table.data.len() {
            return danger("the image's metadata is out of place");
        }
        Ok(Window::new(table.offset + u64::from(offset), 8))
    };
    Ok(Step::Items { disk_size: item(&DISK_SIZE)?, parameters: item(&FILE_PARAMETERS)? })
}

fn entry_of<'a>(entries: &'a [u8], count: usize, guid: &[u8; 16]) -> Option<&'a [u8]> {
    entries.chunks_exact(ENTRY_BYTES).take(count).find(|entry| entry.starts_with(guid))
}
