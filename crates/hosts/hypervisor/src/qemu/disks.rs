//! The disks of a guest: overlays on base images, blank files, and what is served to us from elsewhere.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use contract::HostError;
use contract::guest::{Disk, DiskSource, Guest};

use super::images::{Cache, Wanted};
use super::{Owner, iso9660, process, qcow2};

/// Where QEMU finds a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    File { path: PathBuf, format: &'static str },
    Nbd { address: String, export: String, format: String },
}

pub(crate) const CONFIG_DRIVE: &str = "config.iso";

/// Makes every disk of the guest in `dir`, as large as ordered, and says where each is.
pub(crate) async fn ensure(
    dir: &Path,
    guest: &Guest,
    cache: &Cache,
    owner: Option<Owner>,
) -> Result<Vec<Place>, HostError> {
    let mut places = Vec::new();
    for disk in &guest.disks {
        let place = match &disk.source {
            DiskSource::Nbd { address, export, format } => {
                Place::Nbd { address: address.clone(), export: export.clone(), format: format.clone() }
            }
            DiskSource::Blank => blank(dir, disk).map_err(|error| failed(disk).because(error))?,
            DiskSource::Image { image, format, size_bytes, os_hash_algo, os_hash_value } => {
                let wanted = Wanted {
                    image: image.clone(),
                    format: format.clone(),
                    size_bytes: *size_bytes,
                    os_hash_algo: os_hash_algo.clone(),
                    os_hash_value: os_hash_value.clone(),
                };
                overlay(dir, disk, &wanted, cache).await?
            }
        };
        if let (Place::File { path, .. }, Some(owner)) = (&place, owner) {
            owner.own(path).map_err(|error| failed(disk).because(error))?;
        }
        places.push(place);
    }
    Ok(places)
}

/// Removes the root disk, so that it is made anew from its image.
pub(crate) fn forget_root(dir: &Path) -> io::Result<()> {
    for name in ["root.qcow2", "root.raw"] {
        remove(&dir.join(name))?;
    }
    Ok(())
}

pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

async fn overlay(dir: &Path, disk: &Disk, wanted: &Wanted, cache: &Cache) -> Result<Place, HostError> {
    let base = cache.ensure(wanted).await?;
    let path = dir.join(format!("{}.qcow2", disk.id));
    // A flavor's disk of 0 means: as large as the image.
    let size = if disk.size_bytes == 0 { base.virtual_size } else { disk.size_bytes };
    if base.virtual_size > size {
        return Err(HostError::never(format!(
            "image {} needs a disk of {} bytes, and the server's has {size} bytes",
            wanted.image, base.virtual_size
        )));
    }
    let header = if path.exists() { qcow2::read(&path).map_err(|error| failed(disk).because(error))? } else { None };
    let size_text = size.to_string();
    match header {
        Some(header) if header.virtual_size >= size => {}
        Some(_) => {
            process::tool(&["qemu-img", "resize", "-q", "-f", "qcow2", text(&path)?, &size_text], None).await?;
        }
        None => {
            // Relative, so that the data directory may be moved.
            let below = format!("../../cache/{}", wanted.image);
            let fresh = dir.join(format!("{}.qcow2.new", disk.id));
            let create =
                ["qemu-img", "create", "-q", "-f", "qcow2", "-b", &below, "-F", base.format, text(&fresh)?, &size_text];
            process::tool(&create, None).await?;
            fs::rename(&fresh, &path).map_err(|error| failed(disk).because(error))?;
        }
    }
    Ok(Place::File { path, format: "qcow2" })
}

/// A sparse file, which may grow and never shrinks.
fn blank(dir: &Path, disk: &Disk) -> io::Result<Place> {
    let path = dir.join(format!("{}.raw", disk.id));
    let file = fs::File::options().create(true).truncate(false).write(true).mode(0o600).open(&path)?;
    if file.metadata()?.len() < disk.size_bytes {
        file.set_len(disk.size_bytes.next_multiple_of(512))?;
    }
    Ok(Place::File { path, format: "raw" })
}

/// Writes the config drive; an order without files has none.
pub(crate) fn config_drive(
    dir: &Path,
    files: Option<&BTreeMap<String, Vec<u8>>>,
    owner: Option<Owner>,
) -> Result<(), HostError> {
    let image = files.map(|files| iso9660::image("config-2", files)).transpose()?;
    let write = || {
        let (path, fresh) = (dir.join(CONFIG_DRIVE), dir.join("config.iso.new"));
        remove(&fresh)?;
        let Some(image) = &image else { return remove(&path) };
        let mut file = fs::File::options().create_new(true).write(true).mode(0o600).open(&fresh)?;
        io::Write::write_all(&mut file, image)?;
        owner.map_or(Ok(()), |owner| owner.own(&fresh))?;
        fs::rename(fresh, path)
    };
    write().map_err(|error| HostError::again("writing the config drive").because(error))
}

fn failed(disk: &Disk) -> HostError {
    HostError::again(format!("making disk {}", disk.id))
}

fn text(path: &Path) -> Result<&str, HostError> {
    path.to_str().ok_or_else(|| HostError::never("the data directory's name is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(size_bytes: u64) -> Disk {
        Disk {
            id: "ephemeral0".into(),
            size_bytes,
            source: DiskSource::Blank,
            boot_index: None,
            serial: "ephemeral0".into(),
        }
    }

    #[test]
    fn a_blank_disk_keeps_its_content_when_it_grows() {
        let dir = tempfile::tempdir().unwrap();
        blank(dir.path(), &disk(4096)).unwrap();
        let path = dir.path().join("ephemeral0.raw");
        let mut content = vec![7; 4096];
        fs::write(&path, &content).unwrap();
        blank(dir.path(), &disk(8192)).unwrap();
        blank(dir.path(), &disk(4096)).unwrap();
        content.resize(8192, 0);
        assert_eq!(fs::read(&path).unwrap(), content);
    }

    #[test]
    fn an_order_without_files_has_no_config_drive() {
        let dir = tempfile::tempdir().unwrap();
        let files = [("openstack/latest/meta_data.json".to_string(), b"{}".to_vec())].into();
        config_drive(dir.path(), Some(&files), None).unwrap();
        assert!(dir.path().join(CONFIG_DRIVE).exists());
        config_drive(dir.path(), None, None).unwrap();
        assert!(!dir.path().join(CONFIG_DRIVE).exists());
    }
}
