//! VHD, which QEMU calls vpc: a 512-byte footer at the end, of which growing disks keep a copy at the start.

use super::field::{be_u32, be_u64};
use super::{Danger, Seen, cut_off, danger};

const COOKIE: &[u8] = b"conectix";
const CURRENT_SIZE: usize = 48;
const KIND: usize = 60;
const FIXED: u32 = 2;
const GROWING: u32 = 3;

pub fn looks_like(seen: &Seen) -> bool {
    has_header(seen) || is_fixed(seen)
}

/// A growing or layered disk; its copy of the footer is the first sector.
pub fn has_header(seen: &Seen) -> bool {
    seen.head.starts_with(COOKIE)
}

/// A fixed disk: raw bytes with nothing but a footer after them.
pub fn is_fixed(seen: &Seen) -> bool {
    !has_header(seen)
        && footer(seen).is_some_and(|footer| footer.starts_with(COOKIE) && be_u32(footer, KIND) == Some(FIXED))
}

fn footer(seen: &Seen) -> Option<&[u8]> {
    seen.tail.len().checked_sub(512).map(|start| &seen.tail[start..])
}

pub fn disk_size(seen: &Seen) -> Result<u64, Danger> {
    let footer = if has_header(seen) { &seen.head[..] } else { footer(seen).ok_or_else(cut_off)? };
    match be_u32(footer, KIND).ok_or_else(cut_off)? {
        FIXED | GROWING => be_u64(footer, CURRENT_SIZE).ok_or_else(cut_off),
        _ => danger("the image has a parent image"),
    }
}
