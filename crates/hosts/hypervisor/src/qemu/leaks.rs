//! What lies on this host and belongs to no guest: directories, processes, taps.

use std::collections::BTreeSet;

use contract::HostError;

use super::{Shared, process, taps};

pub(crate) async fn find(shared: &Shared, known: &[String]) -> Result<Vec<String>, HostError> {
    let known: BTreeSet<&str> = known.iter().map(String::as_str).collect();
    let mut leaks = Vec::new();
    let failed = |error: std::io::Error| HostError::again("listing the guests of this host").because(error);
    for entry in std::fs::read_dir(&shared.guests_dir).map_err(failed)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !known.contains(name.as_str()) {
            leaks.push(format!("directory {}", entry.path().display()));
        }
    }
    for (id, pid) in process::find_all(&shared.guests_dir) {
        if !known.contains(id.as_str()) {
            leaks.push(format!("process {pid} of guest {id}"));
        }
    }
    for tap in taps::list(shared.netns()).await? {
        if let Some(guest) = tap.guest.filter(|guest| !known.contains(guest.as_str())) {
            leaks.push(format!("interface {} of guest {guest}", tap.name));
        }
    }
    leaks.sort();
    Ok(leaks)
}
