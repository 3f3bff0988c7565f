//! The options of the image service: upstream's names and defaults.

use std::path::PathBuf;

use base::config::{Config, ConfigError};

use crate::digest::Algorithm;

/// What an operator may choose.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where files are kept.
    pub data_dir: PathBuf,
    /// The name of the one store, which images carry as `stores`.
    pub store: String,
    pub hashing_algorithm: Algorithm,
    /// Negative means no limit; so for the other quotas.
    pub image_member_quota: i64,
    pub image_property_quota: i64,
    pub image_tag_quota: i64,
    /// Limit: one image; upstream's default is 1 TiB.
    pub image_size_cap: u64,
    /// What all images of one owner may take together; none means no limit.
    pub user_storage_quota: Option<u64>,
    pub limit_param_default: u32,
    pub api_limit_max: u32,
    pub disk_formats: Vec<String>,
    pub container_formats: Vec<String>,
    pub require_image_format_match: bool,
}

impl Options {
    pub fn read(config: &Config) -> Result<Options, ConfigError> {
        let store = config.text_or("glance_store", "default_backend", "fs").to_string();
        let data_dir = config
            .text(&store, "filesystem_store_datadir")
            .or_else(|| config.text("glance_store", "filesystem_store_datadir"))
            .unwrap_or("/var/lib/glance/images");
        let hashing = config.text_or("DEFAULT", "hashing_algorithm", "sha512");
        let storage = config.text_or("DEFAULT", "user_storage_quota", "0");
        let number = |name, default| config.integer("DEFAULT", name, default);
        Ok(Options {
            data_dir: data_dir.into(),
            hashing_algorithm: Algorithm::named(hashing)
                .ok_or_else(|| wrong("hashing_algorithm", hashing, "not one of sha256, sha384, sha512"))?,
            image_member_quota: number("image_member_quota", 128)?,
            image_property_quota: number("image_property_quota", 128)?,
            image_tag_quota: number("image_tag_quota", 128)?,
            image_size_cap: number("image_size_cap", 1 << 40)?.max(1).unsigned_abs(),
            user_storage_quota: bytes(storage)
                .ok_or_else(|| wrong("user_storage_quota", storage, "not a number with B, KB, MB, GB or TB"))?,
            limit_param_default: number("limit_param_default", 25)?.clamp(1, 1000) as u32,
            api_limit_max: number("api_limit_max", 1000)?.clamp(1, 10_000) as u32,
            disk_formats: list(config, "disk_formats", DISK_FORMATS),
            container_formats: list(config, "container_formats", CONTAINER_FORMATS),
            require_image_format_match: config.flag("image_format", "require_image_format_match", true)?,
            store,
        })
    }
}

const DISK_FORMATS: &[&str] = &["ami", "ari", "aki", "vhd", "vhdx", "vmdk", "raw", "qcow2", "vdi", "iso", "ploop"];
const CONTAINER_FORMATS: &[&str] = &["ami", "ari", "aki", "bare", "ovf", "ova", "docker", "compressed"];

fn list(config: &Config, name: &str, default: &[&str]) -> Vec<String> {
    let set = config.list("image_format", name);
    if set.is_empty() { default.iter().map(|word| word.to_string()).collect() } else { set }
}

fn wrong(name: &str, value: &str, why: &'static str) -> ConfigError {
    ConfigError::Value { section: "DEFAULT".into(), name: name.into(), value: value.into(), why }
}

/// `10GB` as bytes; zero means no limit. Outer none: the text is no such thing.
fn bytes(text: &str) -> Option<Option<u64>> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let shift = match text[digits..].trim() {
        "" | "B" => 0,
        "KB" => 10,
        "MB" => 20,
        "GB" => 30,
        "TB" => 40,
        _ => return None,
    };
    Some(number.checked_mul(1 << shift).filter(|bytes| *bytes > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storage_quota_has_a_unit() {
        let read = |text: &str| Config::parse(text).map(|config| Options::read(&config).map(|o| o.user_storage_quota));
        assert_eq!(read("user_storage_quota = 10GB").unwrap().unwrap(), Some(10 << 30));
        assert_eq!(read("user_storage_quota = 7").unwrap().unwrap(), Some(7));
        assert_eq!(read("").unwrap().unwrap(), None);
        assert!(read("user_storage_quota = much").unwrap().is_err());
        assert!(Options::read(&Config::parse("hashing_algorithm = crc32").unwrap()).is_err());
    }
}
