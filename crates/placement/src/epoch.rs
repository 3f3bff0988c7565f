//! A number that says whether anything has changed.
//!
//! Invariant: a transaction that changes a provider, its inventories, traits, aggregates or what is used of it calls
//! [`touch`] (or [`bury`]) as its last statement. The row of the epoch is locked from there to the commit, so
//! revisions become visible in their order: whoever has seen revision 7 has seen everything up to 7.

use std::collections::BTreeSet;

use db::{Db, Tx, record, sql};

/// Limit: how many changes back a deleted provider is remembered; an index that is older is built anew.
const REMEMBERED: i64 = 100_000;

record! {
    pub(crate) struct Gone in "gone" {
        pub(crate) uuid: String,
        pub(crate) revision: i64,
    }
}

/// Marks `providers` as changed.
pub(crate) async fn touch(tx: &mut Tx, providers: &BTreeSet<String>) -> Result<(), db::Error> {
    if providers.is_empty() {
        return Ok(());
    }
    tx.run(sql("UPDATE epoch SET value = value + 1 WHERE id = 1")).await?;
    let mark = sql("UPDATE resource_providers SET revision = (SELECT value FROM epoch WHERE id = 1)");
    tx.run(mark.in_list("uuid", providers)).await.map(drop)
}

/// Takes the lock of the epoch early: for changes of trees, which must not happen side by side.
pub(crate) async fn lock(tx: &mut Tx) -> Result<(), db::Error> {
    tx.run(sql("UPDATE epoch SET value = value WHERE id = 1")).await.map(drop)
}

/// Marks one provider as changed.
pub(crate) async fn touch_one(tx: &mut Tx, provider: &str) -> Result<(), db::Error> {
    touch(tx, &BTreeSet::from([provider.to_string()])).await
}

/// Marks a provider as deleted.
pub(crate) async fn bury(tx: &mut Tx, provider: &str) -> Result<(), db::Error> {
    tx.run(sql("UPDATE epoch SET value = value + 1 WHERE id = 1")).await?;
    let revision = tx.count(sql("SELECT value FROM epoch WHERE id = 1")).await?;
    tx.upsert(&Gone { uuid: provider.to_string(), revision }, &["uuid"]).await
}

/// Forgets deletions that nobody asks for any more.
pub(crate) async fn forget_old(db: &Db) -> Result<(), db::Error> {
    let mut tx = db.begin().await?;
    let floor = tx.count(sql("SELECT value FROM epoch WHERE id = 1")).await? - REMEMBERED;
    if floor > 0 {
        tx.run(sql("DELETE FROM gone WHERE revision <= ?").bind(floor)).await?;
        tx.run(sql("UPDATE epoch SET floor = ? WHERE id = 1 AND floor < ?").bind(floor).bind(floor)).await?;
    }
    tx.commit().await
}
