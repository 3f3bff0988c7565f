//! Trusts as rows.

use base::{Json, Time, clock};
use db::{Queries, select, sql};

db::record! {
    /// A trust: the trustee may act with roles of the trustor on a project.
    pub struct Trust in "trusts" {
        pub id: String,
        pub trustor_user_id: String,
        pub trustee_user_id: String,
        pub project_id: Option<String>,
        pub impersonation: bool,
        pub expires_at: Option<Time>,
        pub remaining_uses: Option<i64>,
        /// The trust that the trustor had from somebody else.
        pub redelegated_trust_id: Option<String>,
        /// How often it may be passed on.
        pub redelegation_count: i64,
        pub deleted_at: Option<Time>,
        pub role_ids: Vec<String>,
        pub extra: Json,
    }
}

/// A trust that was not taken back. It may have expired or be used up.
pub async fn find(mut db: impl Queries, id: &str) -> Result<Option<Trust>, db::Error> {
    db.maybe(select::<Trust>("WHERE id = ? AND deleted_at IS NULL").bind(id)).await
}

/// A trust that can still be used.
pub async fn usable(db: impl Queries, id: &str) -> Result<Option<Trust>, db::Error> {
    let now = clock::now();
    let usable = |trust: &Trust| {
        trust.expires_at.is_none_or(|expires| now < expires) && trust.remaining_uses.is_none_or(|uses| uses > 0)
    };
    Ok(find(db, id).await?.filter(usable))
}

/// The trust and those that it was passed on from, up to the first.
pub async fn chain(mut db: impl Queries, trust: &Trust) -> Result<Vec<Trust>, db::Error> {
    /// Limit: how often a trust can have been passed on; upstream allows 3.
    const LONGEST: usize = 16;
    let mut chain = vec![trust.clone()];
    while let Some(id) = chain.last().and_then(|last| last.redelegated_trust_id.clone()) {
        match find(&mut db, &id).await? {
            Some(earlier) if chain.len() < LONGEST => chain.push(earlier),
            _ => break,
        }
    }
    Ok(chain)
}

/// Takes a trust back, and all that it was passed on to.
pub async fn delete(mut tx: impl Queries, id: &str) -> Result<(), db::Error> {
    let now = clock::now();
    let mut open = vec![id.to_string()];
    while !open.is_empty() {
        let below = tx.all(select::<Trust>("WHERE deleted_at IS NULL").in_list("redelegated_trust_id", &open)).await?;
        tx.run(
            sql("UPDATE trusts SET deleted_at = ? WHERE deleted_at IS NULL AND id IN (?)").bind(now).bind_list(&open),
        )
        .await?;
        open = below.into_iter().map(|trust| trust.id).collect();
    }
    Ok(())
}
