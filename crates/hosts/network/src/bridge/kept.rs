//! The small file of a host: the generation that was applied last and the conntrack zones in use.
//!
//! Everything else is found again from names. Zones are kept because connections that live in one must stay in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::space::Error;

/// Upstream: zones below are left to the operator's own rules.
const FIRST_ZONE: u16 = 4097;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub generation: u64,
    /// By network.
    pub zones: BTreeMap<String, u16>,
}

impl Kept {
    /// A file that cannot be read is as good as none: the worst is that an order is applied once more.
    pub(crate) fn read(folder: &Path) -> Kept {
        let Ok(text) = std::fs::read(file(folder)) else { return Kept::default() };
        serde_json::from_slice(&text).unwrap_or_else(|error| {
            tracing::warn!(%error, "the network host's state file is broken; starting anew");
            Kept::default()
        })
    }

    pub(crate) fn write(&self, folder: &Path) -> Result<(), Error> {
        let text = serde_json::to_vec(self).expect("numbers and names are JSON");
        replace(&file(folder), &text)
    }

    pub(crate) fn forget(folder: &Path) -> Result<(), Error> {
        match std::fs::remove_file(file(folder)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io("remove the state file", error))
            }
            _ => Ok(()),
        }
    }

    /// Gives every network a zone of its own and frees those of networks that are gone.
    pub(crate) fn assign_zones<'a>(&mut self, networks: impl Iterator<Item = &'a str>) {
        let mut zones: BTreeMap<String, u16> = BTreeMap::new();
        let mut new = Vec::new();
        for network in networks {
            match self.zones.get(network) {
                Some(zone) => drop(zones.insert(network.to_string(), *zone)),
                None => new.push(network),
            }
        }
        let mut next = FIRST_ZONE;
        for network in new {
            while zones.values().any(|zone| *zone == next) {
                next = next.checked_add(1).expect("a host has fewer than 60 000 networks");
            }
            zones.insert(network.to_string(), next);
        }
        self.zones = zones;
    }
}

fn file(folder: &Path) -> PathBuf {
    folder.join("network.json")
}

/// Writes a file so that a reader, or a crash, sees the old or the new one and nothing between.
pub(crate) fn replace(path: &Path, text: &[u8]) -> Result<(), Error> {
    let beside = path.with_extension("new");
    let failed = |e| Error::io(format!("write {}", path.display()), e);
    std::fs::write(&beside, text).map_err(failed)?;
    std::fs::rename(&beside, path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_keeps_its_zone_while_others_come_and_go() {
        let mut kept = Kept::default();
        kept.assign_zones(["a", "b"].into_iter());
        assert_eq!((kept.zones["a"], kept.zones["b"]), (4097, 4098));
        kept.assign_zones(["b", "c"].into_iter());
        assert_eq!((kept.zones["b"], kept.zones["c"]), (4098, 4097));
        assert!(!kept.zones.contains_key("a"));
    }
}
