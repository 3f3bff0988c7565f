//! VMDK: a sparse file with its description inside, the only kind that names no other file.
//!
//! ```text
//! 0 "KDMV" header │ 512 descriptor, text │ grains … │ (streamOptimized) marker, footer, end-of-stream
//! ```

use super::field::{le_u32, le_u64};
use super::{Danger, Seen, cut_off, danger};

const MAGIC: &[u8] = b"KDMV";
const SECTOR: u64 = 512;
const DISK_SECTORS: usize = 12;
const DESCRIPTOR_SECTOR: usize = 28;
const DESCRIPTOR_SECTORS: usize = 36;
const GRAIN_DIRECTORY: usize = 56;
const HEADER_BYTES: usize = 64;
/// The grain directory is not at a fixed place but in a footer.
const AT_END: u64 = u64::MAX;
const MARKER_END_OF_STREAM: u32 = 0;
const MARKER_FOOTER: u32 = 3;
/// Limit: a descriptor with one extent takes about a kilobyte; writers reserve ten.
const DESCRIPTOR_BYTES_MAX: u64 = 64 * 1024;

pub fn looks_like(seen: &Seen) -> bool {
    seen.head.starts_with(MAGIC) || seen.head.starts_with(b"COWD") || is_bare_descriptor(&seen.head)
}

/// How much of the file's start must be kept to read its descriptor.
pub fn head_bytes(head: &[u8]) -> usize {
    if !head.starts_with(MAGIC) {
        return 0;
    }
    let sectors = le_u64(head, DESCRIPTOR_SECTORS).unwrap_or(0);
    (SECTOR + sectors.saturating_mul(SECTOR).min(DESCRIPTOR_BYTES_MAX)) as usize
}

/// A text that describes extents in other files.
fn is_bare_descriptor(head: &[u8]) -> bool {
    let start = &head[..head.len().min(4096)];
    let text: String = start.iter().take_while(|byte| byte.is_ascii() && **byte != 0).map(|b| *b as char).collect();
    let text = text.to_ascii_lowercase();
    let first = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    text.starts_with("# disk descriptorfile")
        || text.contains("createtype=\"")
        || first.is_some_and(|line| ["version=1", "version=2", "version=3"].contains(&line))
}

pub fn disk_size(seen: &Seen) -> Result<u64, Danger> {
    let head = &seen.head;
    if !head.starts_with(MAGIC) {
        return danger("the image only describes extents in other files");
    }
    let header = Header::read(head)?;
    if !(1..=3).contains(&header.version) {
        return danger("unsupported vmdk version");
    }
    if header.descriptor_sector != 1 {
        return danger("the image's descriptor is out of place");
    }
    if header.grain_directory == AT_END {
        check_footer(&header, &seen.tail)?;
    }
    check_descriptor(descriptor(head, header.descriptor_sectors)?)?;
    header.disk_sectors.checked_mul(SECTOR).ok_or(Danger("the image's disk is too large".into()))
}

#[derive(PartialEq)]
struct Header {
    version: u32,
    disk_sectors: u64,
    descriptor_sector: u64,
    descriptor_sectors: u64,
    grain_directory: u64,
}

impl Header {
    fn read(bytes: &[u8]) -> Result<Header, Danger> {
        Ok(Header {
            version: le_u32(bytes, 4).ok_or_else(cut_off)?,
            disk_sectors: le_u64(bytes, DISK_SECTORS).ok_or_else(cut_off)?,
            descriptor_sector: le_u64(bytes, DESCRIPTOR_SECTOR).ok_or_else(cut_off)?,
            descriptor_sectors: le_u64(bytes, DESCRIPTOR_SECTORS).ok_or_else(cut_off)?,
            grain_directory: le_u64(bytes, GRAIN_DIRECTORY).ok_or_else(cut_off)?,
        })
    }
}

/// A footer takes precedence over the header, so it must not say anything else than the header said.
fn check_footer(header: &Header, tail: &[u8]) -> Result<(), Danger> {
    if tail.len() < 3 * 512 {
        return Err(cut_off());
    }
    let (marker, rest) = tail.split_at(512);
    let (footer, end) = rest.split_at(512);
    let is_marker = |sector: &[u8], kind| {
        le_u32(sector, 8) == Some(0) && le_u32(sector, 12) == Some(kind) && sector[16..].iter().all(|byte| *byte == 0)
    };
    if !is_marker(marker, MARKER_FOOTER) || !footer[..HEADER_BYTES].starts_with(MAGIC) {
        return danger("the image's footer is missing");
    }
    if !is_marker(end, MARKER_END_OF_STREAM) || le_u64(end, 0) != Some(0) {
        return danger("the image's end-of-stream marker is missing");
    }
    let footer = Header::read(footer)?;
    if footer.grain_directory == AT_END {
        return danger("the image's footer names another footer");
    }
    if (Header { grain_directory: AT_END, ..footer }) != *header {
        return danger("the image's footer and header differ");
    }
    Ok(())
}

/// The text, up to the zeros that fill its sectors.
fn descriptor(head: &[u8], sectors: u64) -> Result<&str, Danger> {
    if sectors == 0 || sectors.saturating_mul(SECTOR) > DESCRIPTOR_BYTES_MAX {
        return danger("the image's descriptor is missing or too large");
    }
    let bytes = head.get(512..512 + (sectors * SECTOR) as usize).ok_or_else(cut_off)?;
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    match std::str::from_utf8(&bytes[..end]) {
        Ok(text) if text.is_ascii() => Ok(text),
        _ => danger("the image's descriptor is not plain text"),
    }
}

/// Every line must be one that we understand; anything else could name a file.
fn check_descriptor(text: &str) -> Result<(), Danger> {
    let text = text.to_ascii_lowercase();
    let mut create_type = None;
    let mut extents = 0;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some((access, extent)) =
            line.split_once(' ').filter(|(word, _)| ["rw", "rdonly", "noaccess"].contains(word))
        {
            check_extent(access, extent)?;
            extents += 1;
            continue;
        }
        let Some((key, value)) = line.split_once('=').map(|(key, value)| (key.trim(), value.trim().trim_matches('"')))
        else {
            return danger("the image's descriptor has a line that means nothing");
        };
        match key {
            "createtype" if create_type.replace(value.to_owned()).is_some() => {
                return danger("the image's descriptor names two types");
            }
            "parentcid" if value != "ffffffff" => return danger("the image has a parent image"),
            "parentfilenamehint" => return danger("the image has a parent image"),
            _ if key.contains(' ') => return danger("the image's descriptor has a line that means nothing"),
            _ => {}
        }
    }
    if !matches!(create_type.as_deref(), Some("monolithicsparse" | "streamoptimized")) {
        return danger("only the vmdk types monolithicSparse and streamOptimized are allowed");
    }
    // The file itself is the extent, so a second one would be another file, or the same one over again.
    if extents != 1 {
        return danger("the image must have exactly one extent");
    }
    Ok(())
}

/// `20480 SPARSE "name.vmdk"`: the file itself, by the name it had when it was written.
fn check_extent(access: &str, extent: &str) -> Result<(), Danger> {
    let words: Vec<&str> = extent.splitn(3, ' ').map(str::trim).collect();
    let [sectors, kind, name] = words[..] else { return danger("the image's extent is malformed") };
    if access == "noaccess" || kind != "sparse" || sectors.parse::<u64>().is_err() {
        return danger("the image has an extent that is not sparse data of its own");
    }
    let plain = name.strip_prefix('"').and_then(|name| name.strip_suffix('"')).unwrap_or("");
    if plain.is_empty() || plain.contains(['/', '\\', '"', ':']) {
        return danger("the image has an extent in another file");
    }
    Ok(())
}
