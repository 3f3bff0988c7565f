//! Reads the header of a qcow2 file, so far as it decides whether we let QEMU open it.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Bit 2 of the incompatible features: the guest's data lies in another file.
const EXTERNAL_DATA: u64 = 1 << 2;

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) virtual_size: u64,
    /// The file names another one that QEMU would open: in an image from a user that is an attack.
    pub(crate) refers_elsewhere: bool,
}

/// None when the file is no qcow2.
pub(crate) fn read(path: &Path) -> io::Result<Option<Header>> {
    let mut bytes = Vec::with_capacity(104);
    File::open(path)?.take(104).read_to_end(&mut bytes)?;
    Ok(parse(&bytes))
}

fn parse(bytes: &[u8]) -> Option<Header> {
    let word = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let long = |at: usize| Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let version = word(4)?;
    if !bytes.starts_with(b"QFI\xfb") || !(2..=3).contains(&version) {
        return None;
    }
    let features = if version == 3 { long(72)? } else { 0 };
    Some(Header { virtual_size: long(24)?, refers_elsewhere: long(8)? != 0 || features & EXTERNAL_DATA != 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(backing: u64, features: u64) -> Vec<u8> {
        let mut bytes = vec![0; 104];
        bytes[..4].copy_from_slice(b"QFI\xfb");
        bytes[7] = 3;
        bytes[8..16].copy_from_slice(&backing.to_be_bytes());
        bytes[24..32].copy_from_slice(&(112u64 << 20).to_be_bytes());
        bytes[72..80].copy_from_slice(&features.to_be_bytes());
        bytes
    }

    #[test]
    fn an_image_that_refers_to_another_file_is_seen() {
        let refers = |bytes: Vec<u8>| parse(&bytes).unwrap().refers_elsewhere;
        assert!(!refers(header(0, 1)));
        assert!(refers(header(512, 0)));
        assert!(refers(header(0, EXTERNAL_DATA)));
        assert_eq!(parse(&header(0, 0)).unwrap().virtual_size, 112 << 20);
    }

    #[test]
    fn what_is_no_qcow2_is_not_taken_for_one() {
        assert_eq!(parse(b"QFI\xfb\0\0\0\x03"), None);
        assert_eq!(parse(&[0; 104]), None);
    }
}
