//! Extra specs with a meaning: from 2.86 their values are checked, and unknown keys in a known namespace are refused.

use api::{Answer, Call, Refusal, listing, message};
use clients::Rights;
use regex_lite::Regex;

use self::Value::{Any, Flag, Like, OneOf, Whole};
use crate::Compute;

/// What the value of a key must be.
#[derive(Debug, Clone, Copy)]
enum Value {
    Any,
    Flag,
    /// A whole number, not below the first and not above the second.
    Whole(i64, i64),
    OneOf(&'static [&'static str]),
    /// Text that this matches whole.
    Like(&'static str),
}

const COUNT: Value = Whole(0, i64::MAX);
const ONE_OR_MORE: Value = Whole(1, i64::MAX);
const NUMBER: Value = Whole(i64::MIN, i64::MAX);
const PROCESSORS: Value = Like(r"\^?\d+((-\d+)?(,\^?\d+(-\d+)?)?)*");
const SHARES: Value = OneOf(&["custom", "high", "normal", "low"]);
const NEED: Value = OneOf(&["required", "forbidden"]);

/// The first parts of keys in which every key is known. Placement's classes and traits come beside them.
const NAMESPACES: &[&str] = &[
    "accel",
    "aggregate_instance_extra_specs",
    "capabilities",
    "hw",
    "hw_rng",
    "hw_video",
    "os",
    "pci_passthrough",
    "quota",
    "vmware",
];

const KNOWN: &[(&str, Value)] = &[
    ("group_policy", OneOf(&["isolate", "none"])),
    ("hide_hypervisor_id", Flag),
    ("accel:device_profile", Any),
    ("hw:boot_menu", Flag),
    ("hw:cpu_cores", ONE_OR_MORE),
    ("hw:cpu_dedicated_mask", PROCESSORS),
    ("hw:cpu_max_cores", ONE_OR_MORE),
    ("hw:cpu_max_sockets", ONE_OR_MORE),
    ("hw:cpu_max_threads", ONE_OR_MORE),
    ("hw:cpu_policy", OneOf(&["dedicated", "shared", "mixed"])),
    ("hw:cpu_realtime", Flag),
    ("hw:cpu_realtime_mask", PROCESSORS),
    ("hw:cpu_sockets", ONE_OR_MORE),
    ("hw:cpu_thread_policy", OneOf(&["prefer", "isolate", "require"])),
    ("hw:cpu_threads", ONE_OR_MORE),
    ("hw:emulator_threads_policy", OneOf(&["isolate", "share"])),
    ("hw:ephemeral_encryption", Flag),
    ("hw:ephemeral_encryption_format", OneOf(&["plain", "luks", "luksv2"])),
    ("hw:hide_hypervisor_id", Flag),
    ("hw:locked_memory", Flag),
    ("hw:mem_encryption", Flag),
    ("hw:mem_encryption_model", OneOf(&["amd-sev", "amd-sev-es", "amd-sev-snp", "intel-tdx"])),
    ("hw:mem_page_size", Like(r"(large|small|any|\d+([kKMGT]i?)?(b|bit|B)?)")),
    ("hw:numa_nodes", ONE_OR_MORE),
    ("hw:pci_numa_affinity_policy", OneOf(&["required", "preferred", "legacy", "socket"])),
    ("hw:pmem", Like("([a-zA-Z0-9_]+(,)?)+")),
    ("hw:pmu", Flag),
    ("hw:redirected_usb_ports", Whole(0, 15)),
    ("hw:serial_port_count", COUNT),
    ("hw:sound_model", OneOf(&["sb16", "es1370", "pcspk", "ac97", "ich6", "ich9", "usb", "virtio"])),
    ("hw:tpm_model", OneOf(&["tpm-tis", "tpm-crb"])),
    ("hw:tpm_secret_security", OneOf(&["user", "host", "deployment"])),
    ("hw:tpm_version", OneOf(&["1.2", "2.0"])),
    ("hw:usb_model", OneOf(&["none", "nec-xhci", "qemu-xhci"])),
    ("hw:vif_multiqueue_enabled", Flag),
    ("hw:viommu_model", OneOf(&["intel", "smmuv3", "virtio", "auto"])),
    ("hw:virtio_packed_ring", Flag),
    ("hw:watchdog_action", OneOf(&["none", "pause", "poweroff", "reset", "disabled"])),
    ("hw_rng:allowed", Flag),
    ("hw_rng:rate_bytes", COUNT),
    ("hw_rng:rate_period", COUNT),
    ("hw_video:ram_max_mb", COUNT),
    ("os:secure_boot", OneOf(&["disabled", "required"])),
    ("pci_passthrough:alias", Like(r"[^:]+:\d+(?:\s*,\s*[^:]+:\d+)*")),
    ("quota:cpu_period", COUNT),
    ("quota:cpu_quota", NUMBER),
    ("quota:cpu_shares", COUNT),
    ("vmware:hw_version", Any),
    ("vmware:storage_policy", Any),
];

/// What a host can do, for the scheduler's compute capabilities; those in the second list may be looked into.
const CAPABILITIES: &[&str] = &[
    "aggregates",
    "cell_uuid",
    "cpu_allocation_ratio",
    "current_workload",
    "disk_allocation_ratio",
    "disk_available_least",
    "disk_mb_used",
    "failed_builds",
    "free_disk_gb",
    "free_disk_mb",
    "free_ram_mb",
    "host",
    "host_ip",
    "hypervisor_hostname",
    "hypervisor_type",
    "hypervisor_version",
    "id",
    "local_gb",
    "local_gb_used",
    "mapped",
    "memory_mb",
    "memory_mb_used",
    "num_instances",
    "num_io_ops",
    "ram_allocation_ratio",
    "running_vms",
    "service_id",
    "total_usable_disk_gb",
    "total_usable_ram_mb",
    "updated",
    "uuid",
    "vcpus",
    "vcpus_total",
    "vcpus_used",
];
const DEEP_CAPABILITIES: &[&str] = &[
    "cpu_info",
    "instances",
    "limits",
    "metrics",
    "nodename",
    "numa_topology",
    "pci_device_pools",
    "pci_stats",
    "stats",
    "supported_hv_specs",
    "supported_instances",
];

/// Refuses a value that `key` cannot have, and a key that its namespace does not have.
pub async fn check(call: &Call<Compute>, key: &str, value: &str) -> Answer<()> {
    if let Some(rule) = find(key) {
        return suits(rule, value).map_err(refusal);
    }
    let Some((namespace, name)) = key.split_once(':') else { return Ok(()) };
    let rule = match (namespace, placements(namespace)) {
        (_, Some(("resources", rule))) => Some(rule).filter(|_| is_name(name)).zip(Some("/resource_classes/")),
        (_, Some((_, rule))) => Some(rule).filter(|_| is_name(name)).zip(Some("/traits/")),
        (namespace, None) if NAMESPACES.contains(&namespace) => None,
        _ => return Ok(()),
    };
    match rule {
        Some((rule, kind)) if name.starts_with("CUSTOM_") || placement_knows(call, kind, name).await => {
            suits(rule, value).map_err(refusal)
        }
        _ => Err(refusal(format!("extra spec '{key}' does not appear to be a valid extra spec."))),
    }
}

fn refusal(why: String) -> Refusal {
    Refusal::bad_request(format!("Validation failed; {why}"))
}

/// The rule of a key that needs nobody else's word.
fn find(key: &str) -> Option<Value> {
    if let Some((_, rule)) = KNOWN.iter().find(|(name, _)| *name == key) {
        return Some(*rule);
    }
    let (namespace, name) = key.split_once(':')?;
    match namespace {
        "aggregate_instance_extra_specs" if !name.is_empty() => Some(Any),
        "capabilities" => {
            let whole = name.split(':').next().unwrap_or_default();
            let deep = DEEP_CAPABILITIES.contains(&whole) && name.split(':').skip(1).all(is_word);
            (CAPABILITIES.contains(&name) || deep).then_some(Any)
        }
        "hw" => match name.split_once('.') {
            Some(("numa_cpus", node)) if is_digits(node) => Some(PROCESSORS),
            Some(("numa_mem", node)) if is_digits(node) => Some(ONE_OR_MORE),
            _ => None,
        },
        "quota" => quota(name),
        _ => None,
    }
}

/// `cpu_limit`, `disk_read_bytes_sec`, `vif_inbound_peak` and their kin.
fn quota(name: &str) -> Option<Value> {
    for kind in ["cpu", "memory", "disk_io", "vif"] {
        match name.strip_prefix(kind) {
            Some("_limit" | "_shares_share") => return Some(COUNT),
            Some("_reservation") => return Some(NUMBER),
            Some("_shares_level") => return Some(SHARES),
            _ => {}
        }
    }
    match name.split('_').collect::<Vec<_>>().as_slice() {
        ["disk", "read" | "write" | "total", "bytes" | "iops", "sec"] => Some(COUNT),
        ["vif", "inbound" | "outbound", "average" | "peak" | "burst"] => Some(COUNT),
        _ => None,
    }
}

/// `resources`, `trait` and their numbered groups: `resources1`, `trait_NET1`.
fn placements(namespace: &str) -> Option<(&'static str, Value)> {
    let group = |rest: &str| rest.len() <= 64 && rest.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    let of = |word: &str| namespace.strip_prefix(word).is_some_and(group);
    match () {
        () if of("resources") => Some(("resources", NUMBER)),
        () if of("trait") => Some(("trait", NEED)),
        () => None,
    }
}

/// Placement has the list of classes and traits. One that does not answer is taken for a yes.
async fn placement_knows(call: &Call<Compute>, kind: &str, name: &str) -> bool {
    let path = format!("{kind}{}", message::encode(name));
    match call.peers.placement.get(Rights::Service, &path).await {
        Err(error) => !error.is_missing(),
        Ok(_) => true,
    }
}

fn suits(rule: Value, value: &str) -> Result<(), String> {
    match rule {
        Any => Ok(()),
        Flag if listing::flag_value(value).is_some() => Ok(()),
        Flag => Err(format!("'{value}' is not a valid boolean-like value.")),
        Whole(least, most) => match value.trim().parse::<i64>() {
            Err(_) => Err(format!("'{value}' is not a valid integer value.")),
            Ok(number) if number > most => Err(format!("'{number}' is greater than the max value of '{most}'.")),
            Ok(number) if number < least => Err(format!("'{number}' is less than the min value of '{least}'.")),
            Ok(_) => Ok(()),
        },
        OneOf(words) if words.contains(&value) => Ok(()),
        OneOf(words) => Err(format!("'{value}' is not one of: {}.", words.join(", "))),
        Like(pattern) => {
            let whole = Regex::new(&format!("^(?:{pattern})$")).expect("patterns in code are valid");
            if whole.is_match(value) { Ok(()) } else { Err(format!("'{value}' is not of the format '{pattern}'.")) }
        }
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || c == '_')
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(key: &str, value: &str) -> String {
        match find(key) {
            None => "unknown".into(),
            Some(rule) => suits(rule, value).err().unwrap_or_else(|| "fine".into()),
        }
    }

    #[test]
    fn values_are_checked_by_their_key() {
        assert_eq!(says("hw:cpu_policy", "shared"), "fine");
        assert_eq!(says("hw:cpu_policy", "x"), "'x' is not one of: dedicated, shared, mixed.");
        assert_eq!(says("hw:numa_nodes", "0"), "'0' is less than the min value of '1'.");
        assert_eq!(says("hw:numa_nodes", "two"), "'two' is not a valid integer value.");
        assert_eq!(says("hw:numa_cpus.1", "0-3,^2"), "fine");
        assert_eq!(says("hw:mem_page_size", "2MB"), "fine");
        assert!(says("hw:mem_page_size", "much").contains("is not of the format"));
        assert_eq!(says("hw_rng:allowed", "perhaps"), "'perhaps' is not a valid boolean-like value.");
        assert_eq!(says("quota:disk_read_iops_sec", "5"), "fine");
        assert_eq!(says("quota:vif_shares_level", "high"), "fine");
        assert_eq!(says("capabilities:cpu_info:features", "<in> aes"), "fine");
        assert_eq!(says("capabilities:colour", "red"), "unknown");
        assert_eq!(says("aggregate_instance_extra_specs:ssd", "true"), "fine");
    }

    #[test]
    fn groups_of_placement_have_names() {
        assert!(placements("resources").is_some() && placements("resources_NET1").is_some());
        assert!(placements("trait1").is_some() && placements("hw").is_none());
    }
}
