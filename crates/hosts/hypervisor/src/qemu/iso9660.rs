//! Writes the config drive: an ISO 9660 file system with the real names twice, as Rock Ridge (Linux, BSD) and as
//! Joliet (Windows).
//!
//! ```text
//! sector 0…15   empty
//!       16      primary descriptor      17  Joliet descriptor      18  end of descriptors
//!       19…     path tables: primary little endian, big endian; Joliet little endian, big endian
//!               directories: primary (short names + Rock Ridge), Joliet
//!               files, shared by both
//! ```
//! Times are left empty, so that the same files give the same bytes.

use std::collections::{BTreeMap, BTreeSet};

use contract::HostError;

use crate::limits::CONFIG_DRIVE_BYTES;

const SECTOR: usize = 2048;
/// Limit: what Joliet can hold of one name.
const NAME: usize = 64;
/// Limit: the path table is kept to one sector; a config drive has some forty directories at most.
const DIRECTORIES: usize = 64;

/// The two trees of names over the same files.
#[derive(Clone, Copy, PartialEq)]
enum Names {
    Short,
    Joliet,
}

/// What lies below a directory: the rest of each path, and the file's content.
type Inside<'a> = Vec<(&'a str, &'a Vec<u8>)>;

#[derive(Default)]
struct Tree {
    /// In the order of the path table: by depth, then parent, then name. The first is the root.
    dirs: Vec<Dir>,
    files: Vec<File>,
}

#[derive(Default)]
struct Dir {
    parent: usize,
    name: String,
    short: String,
    dirs: Vec<usize>,
    files: Vec<usize>,
    /// Where its records lie, and how many bytes they have, in each tree of names.
    at: [(u32, u32); 2],
}

struct File {
    name: String,
    short: String,
    content: Vec<u8>,
    sector: u32,
}

/// An image with these files by path, labelled `label`.
pub(crate) fn image(label: &str, files: &BTreeMap<String, Vec<u8>>) -> Result<Vec<u8>, HostError> {
    if files.values().map(Vec::len).sum::<usize>() > CONFIG_DRIVE_BYTES {
        return Err(HostError::never(format!("a config drive holds at most {} MiB", CONFIG_DRIVE_BYTES >> 20)));
    }
    let mut tree = Tree::new(files)?;
    let tables = [Names::Short, Names::Joliet].map(|names| tree.path_table(names, false).len());
    let end = tree.place(19 + 4);

    let mut out = vec![0; 16 * SECTOR];
    for (names, kind, first) in [(Names::Short, 1, 19), (Names::Joliet, 2, 21)] {
        out.extend(tree.descriptor(names, kind, label, end, tables[names as usize], first));
    }
    let mut last = vec![255];
    last.extend(b"CD001\x01");
    out.extend(padded(last));
    for names in [Names::Short, Names::Joliet] {
        for big_endian in [false, true] {
            out.extend(padded(tree.path_table(names, big_endian)));
        }
    }
    for names in [Names::Short, Names::Joliet] {
        for dir in 0..tree.dirs.len() {
            out.extend(padded(tree.records(names, dir)));
        }
    }
    for file in tree.files {
        out.extend(padded(file.content));
    }
    assert_eq!(out.len(), end as usize * SECTOR, "every sector was planned");
    Ok(out)
}

impl Tree {
    fn new(files: &BTreeMap<String, Vec<u8>>) -> Result<Tree, HostError> {
        let mut tree = Tree { dirs: vec![Dir::default()], files: Vec::new() };
        let files: Inside = files.iter().map(|(path, content)| (path.trim_start_matches('/'), content)).collect();
        let mut level = vec![(0, files)];
        while !level.is_empty() {
            let mut next = Vec::new();
            for (dir, inside) in level {
                next.extend(tree.fill(dir, inside)?);
            }
            level = next;
        }
        match tree.dirs.len() {
            0..=DIRECTORIES => Ok(tree),
            _ => Err(HostError::never(format!("a config drive holds at most {DIRECTORIES} directories"))),
        }
    }

    /// Adds what lies in `dir` and returns its subdirectories with what lies in them.
    fn fill<'a>(&mut self, dir: usize, inside: Inside<'a>) -> Result<Vec<(usize, Inside<'a>)>, HostError> {
        let mut below: BTreeMap<&str, Inside> = BTreeMap::new();
        let mut taken = BTreeSet::new();
        for (path, content) in inside {
            if let Some((name, rest)) = path.split_once('/') {
                below.entry(checked(name)?).or_default().push((rest, content));
                continue;
            }
            let (name, short) = (checked(path)?.to_string(), short(path, &mut taken, ";1"));
            self.dirs[dir].files.push(self.files.len());
            self.files.push(File { name, short, content: content.clone(), sector: 0 });
        }
        let mut below: Vec<_> =
            below.into_iter().map(|(name, inside)| (short(name, &mut taken, ""), name, inside)).collect();
        below.sort();
        let mut next = Vec::new();
        for (short, name, inside) in below {
            let number = self.dirs.len();
            self.dirs[dir].dirs.push(number);
            self.dirs.push(Dir { parent: dir, name: name.into(), short, ..Dir::default() });
            next.push((number, inside));
        }
        Ok(next)
    }

    /// Gives every directory and file its sector, from `next` on; returns the first free one.
    fn place(&mut self, mut next: u32) -> u32 {
        for names in [Names::Short, Names::Joliet] {
            for dir in 0..self.dirs.len() {
                let sectors = self.records(names, dir).len().div_ceil(SECTOR) as u32;
                self.dirs[dir].at[names as usize] = (next, sectors * SECTOR as u32);
                next += sectors;
            }
        }
        for file in &mut self.files {
            file.sector = next;
            next += file.content.len().div_ceil(SECTOR) as u32;
        }
        next
    }

    fn descriptor(&self, names: Names, kind: u8, label: &str, end: u32, table: usize, first: u32) -> Vec<u8> {
        let mut out = vec![0; SECTOR];
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &[kind]);
        put(1, b"CD001\x01");
        for (at, length) in [(8, 32), (40, 32), (190, 512), (702, 111)] {
            put(at, &names.text("", length));
        }
        put(40, &names.text(label, 32));
        put(80, &both32(end));
        if names == Names::Joliet {
            put(88, b"%/E");
        }
        put(120, &both16(1));
        put(124, &both16(1));
        put(128, &both16(SECTOR as u16));
        put(132, &both32(table as u32));
        put(140, &first.to_le_bytes());
        put(148, &(first + 1).to_be_bytes());
        put(156, &record(&[0], self.dirs[0].at[names as usize], true, &[]));
        for at in [813, 830, 847, 864] {
            put(at, b"0000000000000000\0");
        }
        put(881, &[1]);
        out
    }

    fn path_table(&self, names: Names, big_endian: bool) -> Vec<u8> {
        let mut out = Vec::new();
        for (number, dir) in self.dirs.iter().enumerate() {
            let id = if number == 0 { vec![0] } else { names.id(&dir.name, &dir.short) };
            let (sector, parent) = (dir.at[names as usize].0, dir.parent as u16 + 1);
            out.extend([id.len() as u8, 0]);
            match big_endian {
                true => out.extend(sector.to_be_bytes().into_iter().chain(parent.to_be_bytes())),
                false => out.extend(sector.to_le_bytes().into_iter().chain(parent.to_le_bytes())),
            }
            out.extend(&id);
            out.resize(out.len().next_multiple_of(2), 0);
        }
        out
    }

    /// The records of one directory; none crosses the border of a sector.
    fn records(&self, names: Names, number: usize) -> Vec<u8> {
        let dir = &self.dirs[number];
        let place = |dir: &Dir| dir.at[names as usize];
        let rock = |name: &str, is_dir| if names == Names::Short { rock_ridge(name, is_dir) } else { Vec::new() };
        let mut first = rock("", true);
        if number == 0 && names == Names::Short {
            // SP says that Rock Ridge is here, ER which one.
            first.splice(0..0, *b"SP\x07\x01\xbe\xef\x00");
            first.extend(*b"ER\x12\x01\x0a\x00\x00\x01RRIP_1991A");
        }
        let mut inside: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        for sub in dir.dirs.iter().map(|sub| &self.dirs[*sub]) {
            let id = names.id(&sub.name, &sub.short);
            inside.push((id.clone(), record(&id, place(sub), true, &rock(&sub.name, true))));
        }
        for file in dir.files.iter().map(|file| &self.files[*file]) {
            let id = names.id(&file.name, &file.short);
            let at = (file.sector, file.content.len() as u32);
            inside.push((id.clone(), record(&id, at, false, &rock(&file.name, false))));
        }
        inside.sort();

        let mut out = record(&[0], place(dir), true, &first);
        out.extend(record(&[1], place(&self.dirs[dir.parent]), true, &rock("", true)));
        for (_, record) in inside {
            if out.len() % SECTOR + record.len() > SECTOR {
                out.resize(out.len().next_multiple_of(SECTOR), 0);
            }
            out.extend(record);
        }
        out
    }
}

impl Names {
    fn id(self, name: &str, short: &str) -> Vec<u8> {
        match self {
            Names::Short => short.as_bytes().to_vec(),
            Names::Joliet => name.encode_utf16().flat_map(u16::to_be_bytes).collect(),
        }
    }

    /// `text` filled up with spaces to `length` bytes.
    fn text(self, text: &str, length: usize) -> Vec<u8> {
        let fill = if self == Names::Short { vec![b' '] } else { vec![0, b' '] };
        let bytes = self.id(text, text).into_iter().chain(fill.into_iter().cycle());
        bytes.take(length).collect()
    }
}

fn checked(name: &str) -> Result<&str, HostError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    match !name.is_empty() && name.len() <= NAME && name.chars().all(plain) && !name.starts_with("..") {
        true => Ok(name),
        false => Err(HostError::never(format!("{name:?} is no name for a file on a config drive"))),
    }
}

/// A name of eight and three capital letters that is not `taken` yet.
fn short(name: &str, taken: &mut BTreeSet<String>, suffix: &str) -> String {
    let plain = |text: &str, length| {
        let capital = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
        text.chars().map(capital).take(length).collect::<String>()
    };
    let (stem, kind) = name.rsplit_once('.').filter(|(stem, _)| !stem.is_empty()).unwrap_or((name, ""));
    let (stem, kind) = (plain(stem, 8), plain(kind, 3));
    let dot = if suffix.is_empty() && kind.is_empty() { "" } else { "." };
    let mut short = format!("{stem}{dot}{kind}{suffix}");
    let mut number = 0;
    while !taken.insert(short.clone()) {
        number += 1;
        short = format!("{stem:.4}{number:04}{dot}{kind}{suffix}");
    }
    short
}

fn record(id: &[u8], (sector, length): (u32, u32), is_dir: bool, extra: &[u8]) -> Vec<u8> {
    let mut out = vec![0, 0];
    out.extend(both32(sector));
    out.extend(both32(length));
    out.extend([0; 7]);
    out.extend([if is_dir { 2 } else { 0 }, 0, 0]);
    out.extend(both16(1));
    out.push(id.len() as u8);
    out.extend(id);
    out.resize(out.len().next_multiple_of(2), 0);
    out.extend(extra);
    out.resize(out.len().next_multiple_of(2), 0);
    out[0] = out.len() as u8;
    out
}

/// PX: mode, links and owner. NM: the real name.
fn rock_ridge(name: &str, is_dir: bool) -> Vec<u8> {
    let (mode, links) = if is_dir { (0o040_555, 2) } else { (0o100_444, 1) };
    let mut out = b"PX\x24\x01".to_vec();
    for value in [mode, links, 0, 0] {
        out.extend(both32(value));
    }
    if !name.is_empty() {
        out.extend([b'N', b'M', name.len() as u8 + 5, 1, 0]);
        out.extend(name.as_bytes());
    }
    out
}

fn both32(value: u32) -> [u8; 8] {
    let mut out = [0; 8];
    out[..4].copy_from_slice(&value.to_le_bytes());
    out[4..].copy_from_slice(&value.to_be_bytes());
    out
}

fn both16(value: u16) -> [u8; 4] {
    let mut out = [0; 4];
    out[..2].copy_from_slice(&value.to_le_bytes());
    out[2..].copy_from_slice(&value.to_be_bytes());
    out
}

fn padded(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(SECTOR), 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> BTreeMap<String, Vec<u8>> {
        let paths = ["openstack/latest/meta_data.json", "openstack/latest/user_data", "openstack/content/0000", "top"];
        let mut files: BTreeMap<_, _> =
            paths.iter().map(|path| (path.to_string(), format!("this is {path}").into_bytes())).collect();
        files.insert("openstack/latest/empty".into(), Vec::new());
        for number in 0..60 {
            files.insert(format!("openstack/latest/vendor_data_{number}.json"), vec![b'x'; 3000 + number]);
        }
        files
    }

    #[test]
    fn the_label_stands_where_guests_look_for_it() {
        let image = image("config-2", &files()).unwrap();
        assert_eq!(&image[16 * SECTOR + 40..][..9], b"config-2 ");
        assert_eq!(&image[17 * SECTOR + 40..][..4], b"\0c\0o");
    }

    /// Other people's reader finds every file under its real name, in both trees. Says so when there is no reader.
    #[test]
    fn isoinfo_reads_every_file_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.iso");
        std::fs::write(&path, image("config-2", &files()).unwrap()).unwrap();
        for tree in ["-R", "-J"] {
            for (name, content) in files() {
                let mut isoinfo = std::process::Command::new("isoinfo");
                isoinfo.args([tree, "-i"]).arg(&path).args(["-x", &format!("/{name}")]);
                let Ok(output) = isoinfo.output() else {
                    println!("isoinfo is not installed: not tested");
                    return;
                };
                assert_eq!(output.stdout, content, "{tree} {name}");
            }
        }
    }

    #[test]
    fn names_that_would_escape_or_not_fit_are_refused() {
        for name in ["../etc/passwd", "a//b", "openstack/", "a b", &"n".repeat(65)] {
            let files = [(name.to_string(), Vec::new())].into();
            assert!(image("config-2", &files).is_err(), "{name}");
        }
    }
}
