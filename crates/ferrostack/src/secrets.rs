//! Passwords and shared secrets of a cloud: made at the first start, kept 0600, never on a command line.

use std::fs;

use anyhow::{Context, Result};
use base::{Json, json};
use rand::distr::{Alphanumeric, SampleString};

use crate::layout::{Layout, write_private};

/// Limit: characters of a password that we make; 24 of 62 kinds are 142 bits.
const LENGTH: usize = 24;

/// The secrets of one cloud.
#[derive(Clone)]
pub struct Secrets {
    pub admin_password: String,
    pub demo_password: String,
    /// Of the users nova, neutron, glance and placement in the project `service`.
    pub service_password: String,
    /// Signs what the metadata proxies say.
    pub metadata_secret: String,
}

impl Secrets {
    /// Reads the secrets, or makes them when there are none.
    pub fn load(layout: &Layout) -> Result<Secrets> {
        let path = layout.root.join("secrets.json");
        let kept: Json = match fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text).with_context(|| format!("{} is not JSON", path.display()))?,
            Err(missing) if missing.kind() == std::io::ErrorKind::NotFound => json!({}),
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        };
        let secret = |name: &str| kept[name].as_str().map_or_else(fresh, String::from);
        let secrets = Secrets {
            admin_password: secret("admin_password"),
            demo_password: secret("demo_password"),
            service_password: secret("service_password"),
            metadata_secret: secret("metadata_secret"),
        };
        let document = json!({
            "admin_password": secrets.admin_password,
            "demo_password": secrets.demo_password,
            "service_password": secrets.service_password,
            "metadata_secret": secrets.metadata_secret,
        });
        if document != kept {
            write_private(&path, &format!("{document:#}\n"))?;
        }
        Ok(secrets)
    }
}

fn fresh() -> String {
    Alphanumeric.sample_string(&mut rand::rng(), LENGTH)
}
