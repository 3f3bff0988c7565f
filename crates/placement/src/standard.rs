//! The resource classes and traits that every cloud knows. The lists are data of the Apache-licensed packages
//! os-resource-classes 1.1.0 and os-traits 3.9.0.

use std::collections::HashSet;
use std::sync::LazyLock;

use base::clock;
use db::{Db, sql};

use crate::classes::Class;
use crate::traits::Trait;

/// In upstream's order, which lists keep.
pub static CLASSES: LazyLock<Vec<&'static str>> =
    LazyLock::new(|| include_str!("standard/classes.txt").lines().collect());

static TRAITS: LazyLock<Vec<&'static str>> = LazyLock::new(|| include_str!("standard/traits.txt").lines().collect());

/// Custom classes stand behind the standard ones.
pub const CUSTOM_POSITION: i64 = 10_000;

pub fn is_class(name: &str) -> bool {
    CLASSES.contains(&name)
}

/// What is not custom is standard, also when an older or newer program has put it there.
pub fn is_custom(name: &str) -> bool {
    name.starts_with("CUSTOM_")
}

/// Adds what is not in the database yet.
pub(crate) async fn ensure(db: &Db) -> Result<(), db::Error> {
    let now = clock::now();
    let known = names(db, "SELECT name FROM resource_classes").await?;
    for (position, name) in (0_i64..).zip(CLASSES.iter()).filter(|(_, name)| !known.contains(**name)) {
        let name = name.to_string();
        db.insert_new(&Class { name, position, created_at: now, updated_at: now }).await?;
    }
    let known = names(db, "SELECT name FROM traits").await?;
    let missing: Vec<_> = TRAITS.iter().filter(|name| !known.contains(**name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut tx = db.begin().await?;
    for name in missing {
        tx.insert_new(&Trait { name: name.to_string(), created_at: now }).await?;
    }
    tx.commit().await
}

async fn names(db: &Db, text: &str) -> Result<HashSet<String>, db::Error> {
    db.rows(sql(text)).await?.iter().map(|row| row.get(0)).collect()
}
