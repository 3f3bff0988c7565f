//! The test guest: built once from the distribution's packages, and kept below the target folder.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::{packages, process, tree};

/// The image, built when it is not there yet.
pub fn image() -> Result<PathBuf> {
    let folder = tree::target().join("guest");
    let image = folder.join("tiny-guest.qcow2");
    if image.exists() {
        return Ok(image);
    }
    packages::ensure(&[packages::HOST, packages::GUEST])?;
    std::fs::create_dir_all(&folder)?;
    // A build that is cut off must leave nothing that looks like an image.
    let draft = folder.join("draft.qcow2");
    let mut build = Command::new(tree::root().join("images/build-guest-image.sh"));
    build.arg("-o").arg(&draft).arg("-c").arg(folder.join("debs"));
    process::must(&mut build, "images/build-guest-image.sh")?;
    std::fs::rename(&draft, &image)?;
    Ok(image)
}
