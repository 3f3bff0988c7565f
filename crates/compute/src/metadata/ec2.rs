//! The EC2 tree.
//!
//! Invariant: listings and leaves are printed exactly as EC2 prints them; cloud-init walks the tree by its listings.

use api::{Json, json};

use super::documents::Documents;
use super::{EC2_VERSIONS, LATEST};
use crate::servers::store::Server;

/// The key under which a branch keeps the line that stands for it in the listing of its parent.
const NAME: &str = "_name";

/// What stands under `rest` in the tree of `version`, printed.
pub(super) fn find(documents: &Documents, version: &str, rest: &[&str]) -> Option<Vec<u8>> {
    if rest == ["user-data"] {
        known(version)?;
        return documents.user_data().map(<[u8]>::to_vec);
    }
    let tree = tree(documents, version)?;
    let leaf = rest.iter().try_fold(&tree, |branch, name| branch.as_object()?.get(*name))?;
    Some(printed(leaf).into_bytes())
}

/// The tree of one version.
pub(super) fn tree(documents: &Documents, version: &str) -> Option<Json> {
    let version = known(version)?;
    let server = documents.server();
    let since = |first: &str| version != EC2_VERSIONS[0] && version >= first;
    let (fixed, floating) = (address(server, "fixed"), address(server, "floating"));
    let host_name = documents.host_name();
    let mut data = json!({
        "ami-id": image_id(server),
        "ami-launch-index": server.launch_index,
        // Upstream: this constant, word for word; clients print it.
        "ami-manifest-path": concat!("FIX", "ME"),
        "instance-id": format!("i-{:08x}", server.number),
        "hostname": host_name,
        "local-ipv4": fixed,
        "reservation-id": server.reservation_id,
        "security-groups": groups(server),
    });
    if let (Some(name), Some(key)) = (&server.key_name, &server.key_data) {
        data["public-keys"] = json!({"0": {NAME: format!("0={name}"), "openssh-key": key}});
    }
    if since("2007-01-19") {
        data["local-hostname"] = json!(host_name);
        data["public-hostname"] = json!(host_name);
        data["public-ipv4"] = json!(floating);
    }
    if since("2007-08-29") {
        data["instance-type"] = server.flavor["name"].clone();
    }
    if since("2007-12-15") {
        data["block-device-mapping"] = devices(server);
    }
    if since("2008-02-01") {
        data["placement"] = json!({"availability-zone": server.availability_zone});
    }
    if since("2008-09-01") {
        data["instance-action"] = json!("none");
    }
    let mut tree = json!({"meta-data": data});
    if documents.user_data().is_some() {
        tree["user-data"] = json!("");
    }
    Some(tree)
}

fn known(version: &str) -> Option<&'static str> {
    match version {
        LATEST => EC2_VERSIONS.last().copied(),
        _ => EC2_VERSIONS.iter().copied().find(|known| *known == version),
    }
}

/// Branches list their names in order, those with branches of their own with a slash; lists have a line for each item.
fn printed(data: &Json) -> String {
    match data {
        Json::Object(branch) => {
            let mut names: Vec<&String> = branch.keys().filter(|name| *name != NAME).collect();
            names.sort();
            let line = |name: &String| match &branch[name] {
                Json::Object(below) => {
                    below.get(NAME).and_then(Json::as_str).map_or_else(|| format!("{name}/"), String::from)
                }
                _ => name.clone(),
            };
            names.into_iter().map(line).collect::<Vec<_>>().join("\n")
        }
        Json::Array(items) => items.iter().map(printed).collect::<Vec<_>>().join("\n"),
        Json::String(text) => text.clone(),
        Json::Null => String::new(),
        other => other.to_string(),
    }
}

/// The first address of a kind.
fn address(server: &Server, kind: &str) -> String {
    let ports = server.network_info.as_array().into_iter().flatten();
    let mut addresses = ports.flat_map(|port| port["addresses"].as_array().into_iter().flatten());
    let first = addresses.find(|address| address["type"] == kind && address["version"] == 4);
    first.and_then(|address| address["addr"].as_str()).unwrap_or_default().to_string()
}

/// EC2 knows images by eight digits; ours are the first of the UUID.
fn image_id(server: &Server) -> String {
    let id = server.image_id.as_deref().unwrap_or("00000000");
    format!("ami-{}", id.chars().take(8).collect::<String>())
}

fn groups(server: &Server) -> Json {
    let names = crate::servers::group_names(server);
    json!(names)
}

fn devices(server: &Server) -> Json {
    let root = server.root_device_name.as_deref().unwrap_or("/dev/vda");
    let mut devices = json!({"ami": root.trim_start_matches("/dev/"), "root": root});
    let mut letters = ["/dev/vdb", "/dev/vdc"].into_iter();
    for (name, size) in [("ephemeral0", "ephemeral_gb"), ("swap", "swap_mb")] {
        if server.flavor_number(size) > 0 {
            devices[name] = json!(letters.next());
        }
    }
    devices
}
