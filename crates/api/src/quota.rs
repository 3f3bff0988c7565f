//! Quotas, derived from rows: nothing is a counter, so nothing can drift.

use db::{Tx, record, sql};

use crate::fault::{Answer, Refusal};

/// The tables of quotas; every service that has limits puts this among its migrations.
pub const MIGRATION: &str = include_str!("quota.sql");

/// Rows under this name in `quotas` are the defaults of all projects.
pub const DEFAULT_CLASS: &str = "default";

/// How much of something a project may have.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// Upstream's name: `instances`, `port`.
    pub name: &'static str,
    /// Upstream's default; -1 means no limit.
    pub default: i64,
    /// Derives the usage; `?` is the project.
    pub count: &'static str,
}

/// A request asked for more than is left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverQuota {
    pub name: &'static str,
    pub requested: i64,
    pub used: i64,
    pub limit: i64,
}

record! {
    struct Lock in "quota_locks" {
        project_id: String,
        taken: i64,
    }
}

/// Locks the project's quotas for the rest of the transaction, so that two requests never both take the last place.
///
/// Invariant: this is among the first things that a transaction does; locks taken in another order meet in deadlock.
pub async fn lock(tx: &mut Tx, project: &str) -> Result<(), db::Error> {
    let take = sql("UPDATE quota_locks SET taken = taken + 1 WHERE project_id = ?").bind(project);
    if tx.run(take).await? == 0 {
        // Others may be adding the row just now: who comes second waits, and then holds it as if it had been there.
        tx.upsert(&Lock { project_id: project.to_string(), taken: 1 }, &["project_id"]).await?;
    }
    Ok(())
}

/// The limit in force: the project's own, else the class default, else upstream's.
pub async fn limit(tx: &mut Tx, project: &str, limit: &Limit) -> Result<i64, db::Error> {
    for owner in [project, DEFAULT_CLASS] {
        let own = sql("SELECT hard_limit FROM quotas WHERE project_id = ? AND resource = ?");
        let rows = tx.rows(own.bind(owner).bind(limit.name)).await?;
        if let Some(row) = rows.first() {
            return row.get("hard_limit");
        }
    }
    Ok(limit.default)
}

/// Checks that `requested` more fit. Call it inside the transaction that inserts them.
pub async fn within(tx: &mut Tx, project: &str, kind: &Limit, requested: i64) -> Answer<Result<(), OverQuota>> {
    lock(tx, project).await?;
    let allowed = limit(tx, project, kind).await?;
    if allowed < 0 {
        return Ok(Ok(()));
    }
    let used = tx.count(sql(kind.count).bind(project)).await.map_err(Refusal::from)?;
    if used + requested <= allowed {
        return Ok(Ok(()));
    }
    Ok(Err(OverQuota { name: kind.name, requested, used, limit: allowed }))
}
