//! What this host is: processors, memory, disk, and the traits by which servers choose it.

use std::path::Path;

use base::json;
use contract::guest::Host;

use super::probe::Qemu;
use super::{Accel, process};
use crate::hypervisor::Identity;

/// What the drivers' devices offer, whatever the processor.
const TRAITS: &[&str] = &[
    "COMPUTE_NODE",
    "COMPUTE_GRAPHICS_MODEL_VGA",
    "COMPUTE_IMAGE_TYPE_QCOW2",
    "COMPUTE_IMAGE_TYPE_RAW",
    "COMPUTE_NET_VIF_MODEL_E1000",
    "COMPUTE_NET_VIF_MODEL_E1000E",
    "COMPUTE_NET_VIF_MODEL_RTL8139",
    "COMPUTE_NET_VIF_MODEL_VIRTIO",
    "COMPUTE_STORAGE_BUS_IDE",
    "COMPUTE_STORAGE_BUS_SATA",
    "COMPUTE_STORAGE_BUS_SCSI",
    "COMPUTE_STORAGE_BUS_VIRTIO",
];

/// The processor flags that have a trait, and its name where that is not the flag's.
const FLAGS: &[(&str, &str)] = &[
    ("pni", "SSE3"),
    ("sse4_1", "SSE41"),
    ("sse4_2", "SSE42"),
    ("aes", "AESNI"),
    ("pclmulqdq", "CLMUL"),
    ("sha_ni", "SHA"),
    ("fma", "FMA3"),
    ("bmi1", "BMI"),
    ("rtm", "TSX"),
];
const SAME_NAME: &[&str] = &[
    "sse", "sse2", "ssse3", "sse4a", "avx", "avx2", "bmi2", "f16c", "fma4", "mmx", "abm", "tbm", "xop", "avx512f",
    "avx512bw", "avx512cd", "avx512dq", "avx512vl", "vmx", "svm", "pdpe1gb", "stibp",
];

pub(crate) fn host(who: &Identity, qemu: &Qemu, accel: Accel, data_dir: &Path) -> Host {
    let vcpus = std::thread::available_parallelism().map_or(1, |count| count.get() as u32);
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let said = |key: &str| {
        let line = cpu.lines().find_map(|line| line.strip_prefix(key)?.trim_start().strip_prefix(':'));
        line.map(|value| value.trim().to_string()).unwrap_or_default()
    };
    let flags = said("flags");
    let flags: Vec<&str> = flags.split(' ').filter(|flag| !flag.is_empty()).collect();
    Host {
        uuid: who.uuid.clone(),
        name: who.name.clone(),
        address: who.address.clone(),
        hypervisor_type: if accel == Accel::Kvm { "KVM" } else { "QEMU" }.into(),
        hypervisor_version: qemu.version,
        vcpus,
        memory_mb: memory_mb(),
        disk_gb: disk_gb(data_dir),
        cpu: json!({
            "arch": std::env::consts::ARCH,
            "model": said("model name"),
            "vendor": vendor(&said("vendor_id")),
            "topology": { "cells": 1, "sockets": 1, "cores": vcpus, "threads": 1 },
            "features": flags,
        }),
        traits: traits(&flags),
        uptime_seconds: process::host_uptime_seconds(),
    }
}

fn traits(flags: &[&str]) -> Vec<String> {
    let mut traits: Vec<String> = TRAITS.iter().map(|name| name.to_string()).collect();
    traits.push(format!("HW_ARCH_{}", std::env::consts::ARCH.to_uppercase()));
    traits.push(format!("COMPUTE_ARCH_{}", std::env::consts::ARCH.to_uppercase()));
    for flag in flags {
        if SAME_NAME.contains(flag) {
            traits.push(format!("HW_CPU_X86_{}", flag.to_uppercase()));
        } else if let Some((_, name)) = FLAGS.iter().find(|(known, _)| known == flag) {
            traits.push(format!("HW_CPU_X86_{name}"));
        }
    }
    traits.sort();
    traits.dedup();
    traits
}

/// Upstream: libvirt's names of the makers, which clients compare.
fn vendor(id: &str) -> &str {
    match id {
        "GenuineIntel" => "Intel",
        "AuthenticAMD" => "AMD",
        other => other,
    }
}

fn memory_mb() -> u64 {
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = memory.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    total.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or_default() / 1024
}

fn disk_gb(data_dir: &Path) -> u64 {
    let space = nix::sys::statvfs::statvfs(data_dir);
    space.map(|space| (space.blocks() * space.fragment_size()) >> 30).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processors_flags_become_traits_once() {
        let traits = traits(&["sse4_2", "avx2", "aes", "cx16", "avx2", "lm"]);
        for name in ["HW_CPU_X86_SSE42", "HW_CPU_X86_AVX2", "HW_CPU_X86_AESNI", "COMPUTE_NODE"] {
            assert_eq!(traits.iter().filter(|one| *one == name).count(), 1, "{name}");
        }
        assert!(!traits.iter().any(|one| one == "HW_CPU_X86_"));
    }

    #[test]
    fn a_host_says_what_it_has() {
        let who = Identity { uuid: "u".into(), name: "n".into(), address: "a".into() };
        let host = host(&who, &Qemu { version: 7_002_022, ..Qemu::default() }, Accel::Tcg, Path::new("/"));
        assert!(host.vcpus > 0 && host.memory_mb > 0 && host.disk_gb > 0);
        assert_eq!((host.hypervisor_type.as_str(), host.hypervisor_version), ("QEMU", 7_002_022));
    }
}
