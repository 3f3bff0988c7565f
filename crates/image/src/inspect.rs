//! Looks at an image while it passes by: which format it has, how large its disk is, and whether it is safe to open.
//!
//! An uploaded image is untrusted, and the tools that open images follow what its header says: to a backing file, to a
//! data file, to extents elsewhere on the host. So nothing opens an image before this module has read its header.
//! It is fed the chunks of the transfer in order and keeps a bounded part of them: the head, the tail, and what the
//! VHDX walk asks for.

use std::fmt;

mod field;
mod iso;
mod luks;
mod partitions;
mod ploop;
mod qcow2;
mod vdi;
mod vhd;
mod vhdx;
mod vmdk;

/// Enough for every format whose header lies at the start; ISO 9660 is the farthest (16 sectors and one descriptor).
const HEAD_BYTES: usize = 34 * 1024;
/// A VMDK footer is three sectors; a fixed VHD keeps its only header in the last one.
const TAIL_BYTES: usize = 3 * 512;

/// What the bytes of an image turn out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Raw,
    Qcow2,
    Qed,
    Vmdk,
    Vdi,
    Vhd,
    Vhdx,
    Iso,
    /// A partition table, GPT or the older MBR.
    Gpt,
    Luks,
    Ploop,
}

impl Format {
    /// The word that `disk_format` uses for it.
    pub fn name(self) -> &'static str {
        match self {
            Format::Raw => "raw",
            Format::Qcow2 => "qcow2",
            Format::Qed => "qed",
            Format::Vmdk => "vmdk",
            Format::Vdi => "vdi",
            Format::Vhd => "vhd",
            Format::Vhdx => "vhdx",
            Format::Iso => "iso",
            Format::Gpt => "gpt",
            Format::Luks => "luks",
            Format::Ploop => "ploop",
        }
    }
}

/// An image that may be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspected {
    pub format: Format,
    /// How large the disk is that a guest will see, where the format says so.
    pub virtual_size: Option<u64>,
}

/// Why an image is not kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Waived by `[image_format] require_image_format_match = false`, and only this one.
    #[error("Image disk_format {claimed} does not match stream data {found}")]
    Mismatch { claimed: String, found: &'static str },
    #[error("Multiple formats detected: {0}")]
    Several(String),
    #[error("Image failed safety checks: {0}")]
    Unsafe(Danger),
}

/// What in a header made it unsafe, in one sentence for the person who uploaded it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Danger(String);

impl fmt::Display for Danger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn danger<T>(why: impl Into<String>) -> Result<T, Danger> {
    Err(Danger(why.into()))
}

/// For headers that end before the field we need.
fn cut_off() -> Danger {
    Danger("the file ends within its header".into())
}

/// One format: how to recognise it, and how to read its disk's size once it proved safe.
struct Probe {
    format: Format,
    looks_like: fn(&Seen) -> bool,
    disk_size: fn(&Seen) -> Result<u64, Danger>,
}

const PROBES: &[Probe] = &[
    Probe { format: Format::Qcow2, looks_like: qcow2::looks_like, disk_size: qcow2::disk_size },
    Probe { format: Format::Qed, looks_like: |seen| seen.head.starts_with(b"QED\0"), disk_size: never_safe },
    Probe { format: Format::Vmdk, looks_like: vmdk::looks_like, disk_size: vmdk::disk_size },
    Probe { format: Format::Vdi, looks_like: vdi::looks_like, disk_size: vdi::disk_size },
    Probe { format: Format::Vhd, looks_like: vhd::looks_like, disk_size: vhd::disk_size },
    Probe { format: Format::Vhdx, looks_like: vhdx::looks_like, disk_size: vhdx::disk_size },
    Probe { format: Format::Iso, looks_like: iso::looks_like, disk_size: iso::disk_size },
    Probe { format: Format::Gpt, looks_like: partitions::looks_like, disk_size: partitions::disk_size },
    Probe { format: Format::Luks, looks_like: luks::looks_like, disk_size: luks::disk_size },
    Probe { format: Format::Ploop, looks_like: ploop::looks_like, disk_size: ploop::disk_size },
];

fn never_safe(_: &Seen) -> Result<u64, Danger> {
    danger("this file format is not allowed")
}

/// Reads one image as it passes by.
#[derive(Clone)]
pub struct Inspector {
    claimed: String,
    seen: Seen,
}

impl Inspector {
    /// `claimed` is the image's `disk_format`.
    pub fn new(claimed: &str) -> Inspector {
        Inspector { claimed: claimed.to_owned(), seen: Seen::default() }
    }

    /// The next bytes of the file, in order; chunks may have any size.
    pub fn feed(&mut self, chunk: &[u8]) {
        self.seen.feed(chunk);
    }

    /// The verdict, once the whole file went by.
    pub fn finish(self) -> Result<Inspected, Refusal> {
        let Some(probe) = self.seen.recognise(&self.claimed)? else {
            return match self.claimed.as_str() {
                "raw" => Ok(self.seen.opaque(Format::Raw)),
                claimed if is_recognisable(claimed) => Err(self.mismatch(Format::Raw)),
                _ => Ok(Inspected { format: Format::Raw, virtual_size: None }),
            };
        };
        if probe.format.name() == self.claimed {
            let size = (probe.disk_size)(&self.seen).map_err(Refusal::Unsafe)?;
            return Ok(Inspected { format: probe.format, virtual_size: Some(size).filter(|size| *size > 0) });
        }
        match (self.claimed.as_str(), probe.format) {
            // A disk may well begin with a partition table, and an encrypted volume is uploaded as the bytes it has.
            ("raw", Format::Gpt | Format::Luks) => Ok(self.seen.opaque(probe.format)),
            // A kernel's boot sector looks like a partition table.
            (claimed, Format::Gpt) if !is_recognisable(claimed) => {
                Ok(Inspected { format: Format::Raw, virtual_size: None })
            }
            // Unsafe before mismatched: the first is refused even where the second is waived.
            (_, found) => {
                (probe.disk_size)(&self.seen).map_err(Refusal::Unsafe)?;
                Err(self.mismatch(found))
            }
        }
    }

    fn mismatch(&self, found: Format) -> Refusal {
        Refusal::Mismatch { claimed: self.claimed.clone(), found: found.name() }
    }

    /// How many bytes of the file are in memory.
    pub fn held_bytes(&self) -> usize {
        self.seen.head.len() + self.seen.tail.len() + self.seen.vhdx.as_ref().map_or(0, vhdx::Walk::held_bytes)
    }
}

/// Upstream: `ami`, `ari`, `aki` and `ploop` are whatever they say, as long as they are nothing that we know.
fn is_recognisable(claimed: &str) -> bool {
    claimed == "raw" || claimed != "ploop" && PROBES.iter().any(|probe| probe.format.name() == claimed)
}

/// What is kept of a file that went by.
#[derive(Clone, Default)]
struct Seen {
    size: u64,
    head: Vec<u8>,
    tail: Vec<u8>,
    vhdx: Option<vhdx::Walk>,
}

impl Seen {
    fn feed(&mut self, chunk: &[u8]) {
        let at = self.size;
        self.size += chunk.len() as u64;
        self.grow_head(chunk);
        self.grow_tail(chunk);
        if self.vhdx.is_none() && self.head.len() == vhdx::HEAD_BYTES && vhdx::looks_like(self) {
            self.vhdx = Some(vhdx::Walk::start(&self.head));
        }
        if let Some(walk) = &mut self.vhdx {
            walk.offer(at, chunk);
        }
    }

    /// The head grows in steps: what was read first decides how much more is wanted.
    fn grow_head(&mut self, mut chunk: &[u8]) {
        // Invariant: while the head is short of what it wants, it holds everything that went by.
        while !chunk.is_empty() && self.head.len() < self.head_wanted() {
            let (now, rest) = chunk.split_at(chunk.len().min(self.head_wanted() - self.head.len()));
            self.head.extend_from_slice(now);
            chunk = rest;
        }
    }

    fn head_wanted(&self) -> usize {
        if vhdx::looks_like(self) {
            return vhdx::HEAD_BYTES;
        }
        HEAD_BYTES.max(vmdk::head_bytes(&self.head))
    }

    /// A disk that is what the file holds, byte by byte.
    fn opaque(&self, format: Format) -> Inspected {
        Inspected { format, virtual_size: Some(self.size).filter(|size| *size > 0) }
    }

    fn grow_tail(&mut self, chunk: &[u8]) {
        let new = &chunk[chunk.len().saturating_sub(TAIL_BYTES)..];
        let stale = (self.tail.len() + new.len()).saturating_sub(TAIL_BYTES);
        self.tail.drain(..stale);
        self.tail.extend_from_slice(new);
    }

    /// The one format this is, or none that we know.
    fn recognise(&self, claimed: &str) -> Result<Option<&'static Probe>, Refusal> {
        let mut found: Vec<&Probe> = PROBES.iter().filter(|probe| (probe.looks_like)(self)).collect();
        // A fixed VHD has no header but its last sector, which a raw disk may have by chance or by design.
        found.retain(|probe| probe.format != Format::Vhd || claimed == "vhd" || vhd::has_header(self));
        if claimed == "vhd" && vhd::is_fixed(self) {
            // Everything before the footer is the disk itself, and a disk may hold anything.
            found.retain(|probe| probe.format == Format::Vhd);
        }
        // A bootable ISO often begins with a partition table, so that it also boots from a stick.
        if found.iter().any(|probe| probe.format == Format::Iso) {
            found.retain(|probe| probe.format != Format::Gpt);
        }
        match found[..] {
            [] => Ok(None),
            [probe] => Ok(Some(probe)),
            // One header hidden in another: whatever it is, it is not honest.
            _ => {
                let names: Vec<&str> = found.iter().map(|probe| probe.format.name()).collect();
                Err(Refusal::Several(names.join(",")))
            }
        }
    }
}

/// Keeps the bytes of a passing file from `offset` on, `wanted` of them.
#[derive(Clone, Debug)]
struct Window {
    offset: u64,
    wanted: usize,
    data: Vec<u8>,
}

impl Window {
    fn new(offset: u64, wanted: usize) -> Window {
        Window { offset, wanted, data: Vec::new() }
    }

    /// `at` is where `chunk` begins in the file. Chunks come in order; bytes before the window's own are skipped.
    fn offer(&mut self, at: u64, chunk: &[u8]) {
        let next = self.offset.saturating_add(self.data.len() as u64);
        let Some(skip) = next.checked_sub(at).and_then(|skip| usize::try_from(skip).ok()) else { return };
        if let Some(new) = chunk.get(skip..) {
            let missing = self.wanted - self.data.len();
            self.data.extend_from_slice(&new[..new.len().min(missing)]);
        }
    }

    fn is_full(&self) -> bool {
        self.data.len() == self.wanted
    }
}

#[cfg(test)]
mod tests;
