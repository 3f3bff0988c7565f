//! The documents of one server, made from its row.

use std::collections::BTreeMap;

use api::{Json, json};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use rand::RngCore;
use sha2::Sha256;

use super::{DATES, EC2_VERSIONS, LATEST, ec2, network};
use crate::servers::store::Server;

/// Upstream's `[api] dhcp_domain`.
const DOMAIN: &str = "novalocal";
/// Bytes of the random seed, before base64.
const SEED_BYTES: usize = 512;
/// Where the seed, the project, the devices, … came in.
const GRIZZLY: &str = "2013-04-04";
const HAVANA: &str = "2013-10-17";
const LIBERTY: &str = "2015-10-15";
const NEWTON_ONE: &str = "2016-06-30";
const NEWTON_TWO: &str = "2016-10-06";
const ROCKY: &str = "2018-08-27";
const VICTORIA: &str = "2020-10-14";

/// Everything that a server may read about itself.
pub struct Documents<'a> {
    server: &'a Server,
    /// On a drive, which only the guest reads: with the password, and with a seed that does not change.
    drive: bool,
    user_data: Option<Vec<u8>>,
    content: BTreeMap<String, Vec<u8>>,
}

/// What is found under a path.
#[derive(Debug, PartialEq)]
pub enum Found {
    /// `application/json`.
    Json(Vec<u8>),
    /// Anything else: user data, keys, listings.
    Plain(Vec<u8>),
}

impl Found {
    pub fn bytes(self) -> Vec<u8> {
        match self {
            Found::Json(bytes) | Found::Plain(bytes) => bytes,
        }
    }
}

impl<'a> Documents<'a> {
    /// For the metadata service.
    pub fn new(server: &'a Server) -> Documents<'a> {
        let plain = server.user_data.as_ref().map(|text| decoded(text));
        let files = server.files.as_array().into_iter().flatten();
        let content = files
            .enumerate()
            .map(|(index, file)| (format!("{index:04}"), decoded(file["contents"].as_str().unwrap_or_default())));
        Documents { server, drive: false, user_data: plain, content: content.collect() }
    }

    /// For the config drive.
    pub fn for_drive(server: &'a Server) -> Documents<'a> {
        Documents { drive: true, ..Documents::new(server) }
    }

    pub fn host_name(&self) -> String {
        let name = &self.server.hostname;
        // A name with a domain of its own is complete.
        if name.contains('.') { name.clone() } else { format!("{name}.{DOMAIN}") }
    }

    pub fn server(&self) -> &Server {
        self.server
    }

    pub fn user_data(&self) -> Option<&[u8]> {
        self.user_data.as_deref()
    }

    /// What stands under a path of the HTTP tree, as upstream reads paths: what is neither `openstack` nor `ec2` is an
    /// EC2 version.
    pub fn find(&self, path: &str) -> Option<Found> {
        let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
        match parts.as_slice() {
            ["openstack"] => Some(versions(DATES)),
            ["openstack", "content", id] => self.content.get(*id).cloned().map(Found::Plain),
            ["openstack", date] => self.listing(date),
            ["openstack", date, name] => self.open(date, name),
            ["openstack", ..] => None,
            [] | ["ec2"] => Some(versions(EC2_VERSIONS)),
            ["ec2", version, rest @ ..] | [version, rest @ ..] => ec2::find(self, version, rest).map(Found::Plain),
        }
    }

    /// The config drive: every version of the OpenStack tree, and the last of EC2's.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        // Upstream's `[api] config_drive_skip_versions` leaves the older ones out.
        for version in [EC2_VERSIONS[EC2_VERSIONS.len() - 1], LATEST] {
            let tree = ec2::tree(self, version).unwrap_or_default();
            files.insert(format!("ec2/{version}/meta-data.json"), tree["meta-data"].to_string().into_bytes());
            if let Some(data) = &self.user_data {
                files.insert(format!("ec2/{version}/user-data"), data.clone());
            }
        }
        const NAMES: &[&str] =
            &["meta_data.json", "user_data", "vendor_data.json", "network_data.json", "vendor_data2.json"];
        for date in DATES.iter().chain([&LATEST]) {
            let found = NAMES.iter().filter_map(|name| Some((name, self.open(date, name)?)));
            files.extend(found.map(|(name, found)| (format!("openstack/{date}/{name}"), found.bytes())));
        }
        for (id, content) in &self.content {
            files.insert(format!("openstack/content/{id}"), content.clone());
        }
        files
    }

    fn listing(&self, date: &str) -> Option<Found> {
        let date = known(date)?;
        let mut names = vec!["meta_data.json"];
        if self.user_data.is_some() {
            names.push("user_data");
        }
        for (since, name) in [
            (GRIZZLY, "password"),
            (HAVANA, "vendor_data.json"),
            (LIBERTY, "network_data.json"),
            (NEWTON_TWO, "vendor_data2.json"),
        ] {
            if date >= since {
                names.push(name);
            }
        }
        Some(Found::Plain(names.join("\n").into_bytes()))
    }

    fn open(&self, date: &str, name: &str) -> Option<Found> {
        let date = known(date)?;
        let json = |document: Json| Some(Found::Json(document.to_string().into_bytes()));
        match name {
            "meta_data.json" => json(self.meta_data(date)),
            "user_data" => self.user_data.clone().map(Found::Plain),
            "password" if date >= GRIZZLY => {
                Some(Found::Plain(self.server.guest_password.clone().unwrap_or_default().into_bytes()))
            }
            "vendor_data.json" if date >= HAVANA => json(json!({})),
            "network_data.json" if date >= LIBERTY => json(network::document(self.server)),
            "vendor_data2.json" if date >= NEWTON_TWO => json(json!({"static": {}})),
            _ => None,
        }
    }

    fn meta_data(&self, date: &str) -> Json {
        let server = self.server;
        let mut data = json!({
            "uuid": server.id,
            "hostname": self.host_name(),
            "name": server.name,
            "launch_index": server.launch_index,
            "availability_zone": server.availability_zone,
        });
        if !server.metadata.is_empty() {
            data["meta"] = json!(server.metadata);
        }
        let files = server.files.as_array().cloned().unwrap_or_default();
        if !files.is_empty() {
            let entry = |(index, file): (usize, &Json)| json!({"path": file["path"], "content_path": format!("/content/{index:04}")});
            data["files"] = json!(files.iter().enumerate().map(entry).collect::<Vec<_>>());
        }
        if let (Some(name), Some(key)) = (&server.key_name, &server.key_data) {
            let kind = server.key_kind.as_deref().unwrap_or("ssh");
            data["public_keys"] = json!({name.as_str(): key});
            data["keys"] = json!([{"name": name, "type": kind, "data": key}]);
        }
        if self.drive && server.admin_password.is_some() {
            data["admin_pass"] = json!(server.admin_password);
        }
        if date >= GRIZZLY {
            data["random_seed"] = json!(STANDARD.encode(self.seed(date)));
        }
        if date >= LIBERTY {
            data["project_id"] = json!(server.project_id);
        }
        if date >= NEWTON_ONE {
            data["devices"] = json!(devices(server, date));
        }
        if date >= VICTORIA {
            data["dedicated_cpus"] = json!([]);
        }
        data
    }

    /// Random bytes. Those of a drive are the same each time it is described, because they are made from the row.
    fn seed(&self, date: &str) -> Vec<u8> {
        let mut bytes = vec![0; SEED_BYTES];
        if !self.drive {
            rand::rng().fill_bytes(&mut bytes);
            return bytes;
        }
        for (index, chunk) in bytes.chunks_mut(32).enumerate() {
            let mut mac =
                Hmac::<Sha256>::new_from_slice(self.server.seed.as_bytes()).expect("a key of any length will do");
            mac.update(date.as_bytes());
            mac.update(&index.to_be_bytes());
            chunk.copy_from_slice(&mac.finalize().into_bytes()[..chunk.len()]);
        }
        bytes
    }
}

/// The date that a client means; the newest for `latest`.
fn known(date: &str) -> Option<&'static str> {
    match date {
        LATEST => DATES.last().copied(),
        _ => DATES.iter().copied().find(|known| *known == date),
    }
}

fn versions(list: &[&str]) -> Found {
    Found::Plain(format!("{}\n{LATEST}", list.join("\n")).into_bytes())
}

/// Upstream: the devices that have a tag.
fn devices(server: &Server, date: &str) -> Vec<Json> {
    let ports = server.network_info.as_array().into_iter().flatten();
    let tagged = ports.filter(|port| port["tag"].is_string());
    let device = |port: &Json| {
        let mut device =
            json!({"type": "nic", "bus": "none", "address": "none", "mac": port["mac"], "tags": [port["tag"]]});
        if date >= ROCKY {
            device["vf_trusted"] = json!(false);
        }
        device
    };
    tagged.map(device).collect()
}

/// Base64 as clients send it, with line breaks. What cannot be read has been refused when the server was made.
fn decoded(text: &str) -> Vec<u8> {
    let plain: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    STANDARD.decode(plain).unwrap_or_default()
}
