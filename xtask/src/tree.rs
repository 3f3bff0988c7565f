//! The source tree: where it lies and which files are in it.

use std::fs;
use std::path::{Path, PathBuf};

/// Folders that hold no source of ours.
const SKIPPED: &[&str] = &["target", ".git", "__pycache__"];

/// The root of the workspace, whatever the current folder is.
pub fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().expect("xtask lies in the workspace").to_path_buf()
}

/// Where everything made by building and testing goes.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// A file of the tree: its path from the root, with forward slashes, and what is in it.
pub struct Source {
    pub path: String,
    pub text: String,
}

/// Every text file of the tree, in order of path.
pub fn sources() -> Vec<Source> {
    let root = root();
    let mut found = Vec::new();
    gather(&root, &root, &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn gather(root: &Path, folder: &Path, found: &mut Vec<Source>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() && !SKIPPED.contains(&name.as_str()) {
            gather(root, &path, found);
        }
        if kind.is_file()
            && let Ok(text) = fs::read_to_string(&path)
        {
            let path = path.strip_prefix(root).expect("found below the root").to_string_lossy().replace('\\', "/");
            found.push(Source { path, text });
        }
    }
}
