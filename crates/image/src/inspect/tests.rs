//! Files made by hand and by QEMU, whole, broken and hostile.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;

fn inspect(claimed: &str, bytes: &[u8]) -> Result<Inspected, Refusal> {
    inspect_in_chunks(claimed, bytes, bytes.len().max(1))
}

fn inspect_in_chunks(claimed: &str, bytes: &[u8], chunk: usize) -> Result<Inspected, Refusal> {
    let mut inspector = Inspector::new(claimed);
    for chunk in bytes.chunks(chunk) {
        inspector.feed(chunk);
        assert!(inspector.held_bytes() <= 400 * 1024, "an inspector may not hold the file");
    }
    inspector.finish()
}

fn refusal(claimed: &str, bytes: &[u8]) -> String {
    inspect(claimed, bytes).expect_err("this must be refused").to_string()
}

fn fine(format: Format, size: u64) -> Result<Inspected, Refusal> {
    Ok(Inspected { format, virtual_size: Some(size) })
}

fn put(bytes: &mut [u8], at: usize, what: &[u8]) {
    bytes[at..at + what.len()].copy_from_slice(what);
}

/// A version 3 header of a 1 GiB disk in clusters of 64 KiB.
fn qcow2() -> Vec<u8> {
    let mut header = vec![0; 1024];
    put(&mut header, 0, b"QFI\xfb\0\0\0\x03");
    put(&mut header, 20, &16u32.to_be_bytes());
    put(&mut header, 24, &(1u64 << 30).to_be_bytes());
    put(&mut header, 36, &2u32.to_be_bytes());
    put(&mut header, 100, &104u32.to_be_bytes());
    header
}

fn vmdk(descriptor: &str) -> Vec<u8> {
    let mut file = vec![0; 21 * 512];
    put(&mut file, 0, b"KDMV\x01\0\0\0");
    put(&mut file, 12, &2048u64.to_le_bytes());
    put(&mut file, 28, &1u64.to_le_bytes());
    put(&mut file, 36, &20u64.to_le_bytes());
    put(&mut file, 56, &21u64.to_le_bytes());
    put(&mut file, 512, descriptor.as_bytes());
    file
}

const DESCRIPTOR: &str = "# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType=\"monolithicSparse\"\n\
                          RW 2048 SPARSE \"a.vmdk\"\nddb.virtualHWVersion = \"4\"\n";

fn vdi() -> Vec<u8> {
    let mut header = vec![0; 512];
    put(&mut header, 0x40, &0xbeda_107fu32.to_le_bytes());
    put(&mut header, 0x4c, &1u32.to_le_bytes());
    put(&mut header, 0x170, &(5u64 << 20).to_le_bytes());
    header
}

fn vhd(kind: u32) -> Vec<u8> {
    let mut footer = vec![0; 512];
    put(&mut footer, 0, b"conectix");
    put(&mut footer, 48, &(7u64 << 20).to_be_bytes());
    put(&mut footer, 60, &kind.to_be_bytes());
    footer
}

fn vhdx(flags: u32) -> Vec<u8> {
    let mut file = vec![0; 1280 * 1024];
    put(&mut file, 0, b"vhdxfile");
    put(&mut file, 192 << 10, b"regi\0\0\0\0\x01\0\0\0\0\0\0\0");
    put(&mut file, (192 << 10) + 16, &[0x06, 0xa2, 0x7c, 0x8b, 0x90, 0x47, 0x9a, 0x4b]);
    put(&mut file, (192 << 10) + 24, &[0xb8, 0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e]);
    put(&mut file, (192 << 10) + 32, &(1u64 << 20).to_le_bytes());
    let meta = 1 << 20;
    put(&mut file, meta, b"metadata\0\0\x02\0");
    put(&mut file, meta + 32, &[0x24, 0x42, 0xa5, 0x2f, 0x1b, 0xcd, 0x76, 0x48]);
    put(&mut file, meta + 40, &[0xb2, 0x11, 0x5d, 0xbe, 0xd8, 0x3b, 0xf4, 0xb8]);
    put(&mut file, meta + 48, &(64u32 << 10).to_le_bytes());
    put(&mut file, meta + 64, &[0x37, 0x67, 0xa1, 0xca, 0x36, 0xfa, 0x43, 0x4d]);
    put(&mut file, meta + 72, &[0xb3, 0xb6, 0x33, 0xf0, 0xaa, 0x44, 0xe7, 0x6b]);
    put(&mut file, meta + 80, &((64u32 << 10) + 8).to_le_bytes());
    put(&mut file, meta + (64 << 10), &(9u64 << 20).to_le_bytes());
    put(&mut file, meta + (64 << 10) + 12, &flags.to_le_bytes());
    file
}

fn iso() -> Vec<u8> {
    let mut file = vec![0; 40 * 1024];
    put(&mut file, 32768, b"\x01CD001\x01");
    put(&mut file, 32768 + 80, &20u32.to_le_bytes());
    put(&mut file, 32768 + 128, &2048u16.to_le_bytes());
    file
}

fn mbr() -> Vec<u8> {
    let mut disk = vec![0; 4096];
    disk[446] = 0x80;
    disk[450] = 0x83;
    put(&mut disk, 510, &[0x55, 0xaa]);
    disk
}

fn gpt() -> Vec<u8> {
    let mut disk = vec![0; 4096];
    put(&mut disk, 446, &[0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff, 1, 0, 0, 0, 7, 0, 0, 0]);
    put(&mut disk, 510, &[0x55, 0xaa]);
    put(&mut disk, 512, b"EFI PART");
    disk
}

fn luks(version: u8) -> Vec<u8> {
    let mut disk = vec![0; 8192];
    put(&mut disk, 0, b"LUKS\xba\xbe\0");
    disk[7] = version;
    put(&mut disk, 104, &8u32.to_be_bytes());
    disk
}

fn ploop() -> Vec<u8> {
    let mut disk = vec![0; 512];
    put(&mut disk, 0, b"WithouFreSpacExt");
    put(&mut disk, 36, &2048u64.to_le_bytes());
    disk
}

fn samples() -> Vec<(&'static str, Vec<u8>, u64)> {
    vec![
        ("raw", vec![7; 5000], 5000),
        ("qcow2", qcow2(), 1 << 30),
        ("vmdk", vmdk(DESCRIPTOR), 1 << 20),
        ("vdi", vdi(), 5 << 20),
        ("vhd", [vhd(3), vec![0; 600]].concat(), 7 << 20),
        ("vhd", [vec![3; 40_000], vhd(2)].concat(), 7 << 20),
        ("vhdx", vhdx(0), 9 << 20),
        ("iso", iso(), 40960),
        ("gpt", gpt(), 4096),
        ("gpt", mbr(), 4096),
        ("luks", luks(1), 4096),
        ("ploop", ploop(), 1 << 20),
    ]
}

#[test]
fn every_format_is_known_and_measured_whatever_the_size_of_the_chunks() {
    for (claimed, bytes, size) in samples() {
        for chunk in [1, 7, 511, 512, 4096, 65_537, 1 << 20, bytes.len()] {
            if chunk == 1 && bytes.len() > 100_000 {
                continue;
            }
            let found = inspect_in_chunks(claimed, &bytes, chunk).unwrap_or_else(|e| panic!("{claimed}/{chunk}: {e}"));
            assert_eq!(found.virtual_size, Some(size), "{claimed} in chunks of {chunk}");
        }
    }
}

#[test]
fn an_image_that_is_not_what_it_claims_is_refused() {
    for (is, bytes, _) in samples() {
        for claimed in ["raw", "qcow2", "vmdk", "vdi", "vhd", "vhdx", "iso", "ami"] {
            let opaque = ["raw", "gpt", "luks"].contains(&is) || (is == "vhd" && !bytes.starts_with(b"conectix"));
            let fits =
                claimed == is || (opaque && ["raw", "ami"].contains(&claimed) && !(is == "luks" && claimed == "ami"));
            assert_eq!(inspect(claimed, &bytes).is_ok(), fits, "{is} as {claimed}");
        }
    }
    assert_eq!(refusal("qcow2", &[0; 4000]), "Image disk_format qcow2 does not match stream data raw");
    assert_eq!(refusal("raw", &qcow2()), "Image disk_format raw does not match stream data qcow2");
}

#[test]
fn a_raw_disk_may_begin_with_a_partition_table_and_has_the_size_of_the_file() {
    assert_eq!(inspect("raw", &mbr()), fine(Format::Gpt, 4096));
    assert_eq!(inspect("raw", &gpt()), fine(Format::Gpt, 4096));
    assert_eq!(inspect("raw", &[]), Ok(Inspected { format: Format::Raw, virtual_size: None }));
}

#[test]
fn a_kernel_is_whatever_it_says() {
    assert_eq!(inspect("aki", &mbr()), Ok(Inspected { format: Format::Raw, virtual_size: None }));
    assert_eq!(inspect("ari", b"\x1f\x8b"), Ok(Inspected { format: Format::Raw, virtual_size: None }));
}

#[test]
fn a_qcow2_that_names_another_file_is_refused() {
    let mut backed = qcow2();
    put(&mut backed, 8, &512u64.to_be_bytes());
    put(&mut backed, 512, b"/etc/shadow");
    assert_eq!(refusal("qcow2", &backed), "Image failed safety checks: the image has a backing file");
    assert_eq!(refusal("raw", &backed), "Image failed safety checks: the image has a backing file");

    let mut with_data_file = qcow2();
    with_data_file[79] = 0b100;
    assert_eq!(refusal("qcow2", &with_data_file), "Image failed safety checks: the image has an external data file");
}

#[test]
fn a_qcow2_with_features_that_nobody_knows_is_refused() {
    for bit in 5..64 {
        let mut odd = qcow2();
        put(&mut odd, 72, &(1u64 << bit).to_be_bytes());
        assert_eq!(refusal("qcow2", &odd), "Image failed safety checks: the image uses unknown qcow2 features");
    }
    let mut known = qcow2();
    put(&mut known, 72, &0b01011u64.to_be_bytes());
    assert_eq!(inspect("qcow2", &known), fine(Format::Qcow2, 1 << 30));
    // Version 2 has no such field; what lies there is something else.
    let mut old = qcow2();
    old[7] = 2;
    put(&mut old, 72, &[0xff; 8]);
    assert_eq!(inspect("qcow2", &old), fine(Format::Qcow2, 1 << 30));
    old[7] = 1;
    assert_eq!(refusal("qcow2", &old), "Image failed safety checks: unsupported qcow2 version");
}

#[test]
fn a_qcow2_with_an_absurd_table_is_refused() {
    let with = |at, value: &[u8]| {
        let mut bytes = qcow2();
        put(&mut bytes, at, value);
        refusal("qcow2", &bytes)
    };
    assert_eq!(with(32, &[0, 0, 0, 2]), "Image failed safety checks: the image is encrypted");
    assert_eq!(with(36, &[0, 0, 0, 1]), "Image failed safety checks: the image's L1 table is too small for its disk");
    assert_eq!(with(36, &[0xff; 4]), "Image failed safety checks: the image's L1 table is too large");
    assert_eq!(with(20, &[0, 0, 0, 63]), "Image failed safety checks: the image's cluster size is out of range");
    assert_eq!(with(24, &[0xff; 8]), "Image failed safety checks: the image's disk is too large");
}

#[test]
fn a_vmdk_may_only_name_itself() {
    let with = |from: &str, to: &str| refusal("vmdk", &vmdk(&DESCRIPTOR.replace(from, to)));
    let extent = "RW 2048 SPARSE \"a.vmdk\"";
    let outside = "Image failed safety checks: the image has an extent in another file";
    assert_eq!(with("a.vmdk", "/etc/shadow"), outside);
    assert_eq!(with("a.vmdk", "..\\\\x"), outside);
    assert_eq!(with("a.vmdk", "nbd:host"), outside);
    let not_its_own = "Image failed safety checks: the image has an extent that is not sparse data of its own";
    assert_eq!(with(extent, "RW 2048 FLAT \"a.vmdk\" 0"), not_its_own);
    assert_eq!(with(extent, "NOACCESS 2048 SPARSE \"a.vmdk\""), not_its_own);
    assert_eq!(
        with("monolithicSparse", "monolithicFlat"),
        "Image failed safety checks: only the vmdk types monolithicSparse and streamOptimized are allowed"
    );
    let one = "Image failed safety checks: the image must have exactly one extent";
    assert_eq!(with(extent, ""), one);
    assert_eq!(with(extent, &format!("{extent}\n{extent}")), one);
    assert_eq!(with("=ffffffff", "=1234"), "Image failed safety checks: the image has a parent image");
    assert_eq!(with("CID=1", "parentFileNameHint=\"x\""), "Image failed safety checks: the image has a parent image");
    assert_eq!(
        with("CID=1", "what is this"),
        "Image failed safety checks: the image's descriptor has a line that means nothing"
    );
    assert_eq!(
        refusal("vmdk", DESCRIPTOR.as_bytes()),
        "Image failed safety checks: the image only describes extents in other files"
    );
    assert!(refusal("raw", DESCRIPTOR.as_bytes()).starts_with("Image failed safety checks"));
}

#[test]
fn a_vmdk_footer_may_not_say_anything_new() {
    let mut file = vmdk(DESCRIPTOR);
    put(&mut file, 56, &[0xff; 8]);
    let header = file[..512].to_vec();
    let tail = file.len();
    file.extend([0; 3 * 512]);
    file[tail + 12] = 3;
    put(&mut file, tail + 512, &header);
    put(&mut file, tail + 512 + 56, &30u64.to_le_bytes());
    assert_eq!(inspect("vmdk", &file), fine(Format::Vmdk, 1 << 20));

    let mut elsewhere = file.clone();
    put(&mut elsewhere, tail + 512 + 28, &9u64.to_le_bytes());
    assert_eq!(refusal("vmdk", &elsewhere), "Image failed safety checks: the image's footer and header differ");
    let mut endless = file.clone();
    endless[tail + 1024] = 1;
    assert_eq!(refusal("vmdk", &endless), "Image failed safety checks: the image's end-of-stream marker is missing");
    file.truncate(tail);
    assert_eq!(refusal("vmdk", &file), "Image failed safety checks: the image's footer is missing");
}

#[test]
fn a_layer_on_top_of_a_parent_image_is_refused() {
    let parent = "Image failed safety checks: the image has a parent image";
    let mut layered = vdi();
    layered[0x4c] = 4;
    assert_eq!(refusal("vdi", &layered), parent);
    let mut linked = vdi();
    linked[0x1b8] = 9;
    assert_eq!(refusal("vdi", &linked), parent);
    assert_eq!(refusal("vhd", &vhd(4)), parent);
    assert_eq!(refusal("vhdx", &vhdx(2)), parent);
}

#[test]
fn one_header_hidden_in_another_is_refused() {
    let mut both = iso();
    put(&mut both, 0, &qcow2());
    assert_eq!(refusal("iso", &both), "Multiple formats detected: qcow2,iso");
    assert_eq!(refusal("qcow2", &both), "Multiple formats detected: qcow2,iso");
    // Except for a bootable ISO, which has a partition table in front.
    let mut bootable = iso();
    put(&mut bootable, 0, &mbr());
    assert_eq!(inspect("iso", &bootable), fine(Format::Iso, 40960));
}

#[test]
fn a_partition_table_that_calls_itself_gpt_must_be_a_sound_one() {
    let with = |at, value: &[u8]| {
        let mut bytes = gpt();
        put(&mut bytes, at, value);
        (refusal("gpt", &bytes), inspect("raw", &bytes).is_ok())
    };
    let safety = "Image failed safety checks: ";
    assert_eq!(with(446, &[7]), (format!("{safety}a partition has an invalid boot flag"), true));
    assert_eq!(with(450, &[0]), (format!("{safety}the partition table has no partitions"), true));
    assert_eq!(with(466, &[0x83]), (format!("{safety}the GPT's protective table names other partitions"), true));
    assert_eq!(with(454, &[2]), (format!("{safety}the GPT's protective partition begins at the wrong place"), true));
}

#[test]
fn formats_that_nobody_serves_are_refused() {
    assert_eq!(refusal("raw", b"QED\0\0\0\0\0"), "Image failed safety checks: this file format is not allowed");
    assert_eq!(refusal("luks", &luks(2)), "Image failed safety checks: only version 1 of LUKS is supported");
}

#[test]
fn a_file_cut_off_anywhere_or_filled_with_anything_never_breaks_the_inspector() {
    let mut random = 1u32;
    for (claimed, bytes, _) in samples() {
        let mut inspector = Inspector::new(claimed);
        let mut last = 0;
        for length in 0..=bytes.len() {
            let near_an_edge = [2048, 10752, 32768, 34816, 196608, 262144, 1 << 20, 1114112]
                .iter()
                .any(|edge| length.abs_diff(*edge) < 70);
            if length < 1100 || near_an_edge || length == bytes.len() {
                inspector.feed(&bytes[last..length]);
                last = length;
                let _ = inspector.clone().finish();
            }
        }
        for _ in 0..300 {
            let mut broken = bytes.clone();
            for _ in 0..8 {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let at = (random >> 8) as usize % broken.len().min(600);
                broken[at] = (random >> 3) as u8;
            }
            let _ = inspect(claimed, &broken);
        }
    }
}

/// A scratch directory that goes away with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        let dir =
            std::env::temp_dir().join(format!("inspect-{}-{:?}", std::process::id(), std::thread::current().id()));
        std::fs::create_dir_all(&dir).unwrap();
        Scratch(dir)
    }

    /// Runs qemu-img in the directory; false where the machine has none, or an older one without this option.
    fn qemu_img(&self, args: &[&str]) -> bool {
        let run = Command::new("qemu-img").args(args).current_dir(&self.0).output();
        run.is_ok_and(|output| output.status.success())
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.0.join(Path::new(name))).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn files_that_qemu_writes_are_understood_as_qemu_means_them() {
    let scratch = Scratch::new();
    if !scratch.qemu_img(&["create", "-f", "raw", "disk", "20M"]) {
        return;
    }
    std::fs::write(scratch.0.join("disk"), [vec![0; 19 << 20], vec![5; 1 << 20]].concat()).unwrap();
    let size = 20u64 << 20;
    let good: &[(&str, &str, &str)] = &[
        ("qcow2", "qcow2", "compat=0.10"),
        ("qcow2", "qcow2", "compat=1.1,compression_type=zstd"),
        ("qcow2", "qcow2", "compat=1.1,extended_l2=on,cluster_size=2M"),
        ("qcow2", "qcow2", "cluster_size=512"),
        ("vmdk", "vmdk", "subformat=monolithicSparse"),
        ("vmdk", "vmdk", "subformat=streamOptimized"),
        ("vdi", "vdi", "static=off"),
        ("vdi", "vdi", "static=on"),
        ("vpc", "vhd", "subformat=dynamic,force_size=on"),
        ("vpc", "vhd", "subformat=fixed,force_size=on"),
        ("vhdx", "vhdx", "subformat=dynamic"),
        ("vhdx", "vhdx", "subformat=fixed"),
        ("parallels", "ploop", "cluster_size=1048576"),
    ];
    for (written_as, claimed, options) in good {
        if scratch.qemu_img(&["convert", "-f", "raw", "-O", written_as, "-o", options, "disk", "out"]) {
            for chunk in [100_003, 1 << 20] {
                let found = inspect_in_chunks(claimed, &scratch.read("out"), chunk);
                assert_eq!(found.unwrap().virtual_size, Some(size), "{written_as} {options}");
            }
        }
    }
}

#[test]
fn files_that_qemu_writes_beside_others_are_refused() {
    let scratch = Scratch::new();
    let make = |claimed: &str, args: &[&str]| {
        scratch.qemu_img(&[&["create"], args].concat()).then(|| refusal(claimed, &scratch.read(args[args.len() - 2])))
    };
    if !scratch.qemu_img(&["create", "-f", "qcow2", "base", "5M"]) {
        return;
    }
    let safety = |why: &str| format!("Image failed safety checks: {why}");
    let bad: &[(&str, &str, &[&str])] = &[
        ("the image has a backing file", "qcow2", &["-f", "qcow2", "-F", "qcow2", "-b", "base", "top", "5M"]),
        ("the image has an external data file", "qcow2", &["-f", "qcow2", "-o", "data_file=d", "split", "5M"]),
        (
            "the image is encrypted",
            "qcow2",
            &[
                "-f",
                "qcow2",
                "--object",
                "secret,id=s,data=x",
                "-o",
                "encrypt.format=luks,encrypt.key-secret=s",
                "e",
                "5M",
            ],
        ),
        (
            "the image only describes extents in other files",
            "vmdk",
            &["-f", "vmdk", "-o", "subformat=monolithicFlat", "flat.vmdk", "5M"],
        ),
        ("this file format is not allowed", "raw", &["-f", "qed", "q.qed", "5M"]),
    ];
    for (why, claimed, args) in bad {
        if let Some(said) = make(claimed, args) {
            assert_eq!(said, safety(why), "{args:?}");
        }
    }
    if scratch.qemu_img(&["create", "-f", "vmdk", "b.vmdk", "5M"]) {
        let args = ["-f", "vmdk", "-F", "vmdk", "-b", "b.vmdk", "top.vmdk", "5M"];
        assert_eq!(make("vmdk", &args), Some(safety("the image has a parent image")));
    }
}
