//! What filter tables a namespace has loaded, as far as we know; loads the difference.

use std::collections::BTreeMap;

use super::rules::Table;
use super::space::{Error, Space};
use crate::Look;

#[derive(Debug, Default)]
pub(crate) struct Loaded {
    tables: BTreeMap<String, Table>,
    /// What `nft` showed of them when nobody else had been there.
    listing: Option<Vec<String>>,
}

impl Loaded {
    pub(crate) fn table(&self, name: &str) -> Option<&Table> {
        self.tables.get(name)
    }

    /// Loads what differs in one transaction; says whether anything did.
    pub(crate) fn ensure(&mut self, space: &Space, wanted: &[Table], look: Look) -> Result<bool, Error> {
        if look == Look::Everything {
            self.look(space);
        }
        let change: String = wanted
            .iter()
            .map(|table| self.tables.get(&table.name).map_or_else(|| table.whole(), |loaded| table.since(loaded)))
            .collect();
        if change.is_empty() {
            return Ok(false);
        }
        self.listing = None;
        let known: BTreeMap<String, Table> = wanted.iter().map(|table| (table.name.clone(), table.clone())).collect();
        if let Err(error) = space.run("nft", &["-f", "-"], &change) {
            let whole: String = wanted.iter().map(Table::whole).collect();
            self.tables.clear();
            if whole == change {
                return Err(error);
            }
            tracing::warn!(%error, "a filter is not what it was left as; loading it anew");
            space.run("nft", &["-f", "-"], &whole)?;
        }
        self.tables = known;
        Ok(true)
    }

    /// Removes tables, whether they are loaded or not.
    pub(crate) fn clear(&mut self, space: &Space, names: &[&str]) -> Result<(), Error> {
        *self = Loaded::default();
        let text: String = names.iter().map(|name| format!("table {name}\ndelete table {name}\n")).collect();
        space.run("nft", &["-f", "-"], &text).map(drop)
    }

    /// Forgets what we know if it is not what is there.
    fn look(&mut self, space: &Space) {
        if self.tables.is_empty() {
            return;
        }
        let question: String = self.tables.keys().map(|name| format!("list table {name}\n")).collect();
        let found = space.run("nft", &["-f", "-"], &question).map(|text| pieces(&text));
        match (found, &self.listing) {
            (Ok(found), Some(known)) if found == *known => {}
            // Limit: what another hand changed between loading and this first look stays until the next change.
            (Ok(found), None) => self.listing = Some(found),
            _ => {
                tracing::warn!("a filter was changed by another hand; loading it anew");
                *self = Loaded::default();
            }
        }
    }
}

/// The listing without the order of elements, in which `nft` is free.
fn pieces(listing: &str) -> Vec<String> {
    let mut pieces: Vec<String> = listing.split([',', '\n']).map(|piece| piece.trim().to_string()).collect();
    pieces.sort_unstable();
    pieces
}
