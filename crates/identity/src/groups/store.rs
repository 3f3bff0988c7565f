//! Groups and who is in them, as rows.

use api::Answer;
use base::{Json, json};
use db::{Queries, select, sql};

db::record! {
    pub struct Group in "user_groups" {
        pub id: String,
        pub domain_id: String,
        pub name: String,
        pub description: Option<String>,
        pub extra: Json,
    }
}

db::record! {
    pub struct Membership in "memberships" {
        pub user_id: String,
        pub group_id: String,
    }
}

impl Group {
    /// What rules may ask about it.
    pub fn target(&self) -> Json {
        json!({"id": self.id, "name": self.name, "domain_id": self.domain_id})
    }
}

pub async fn find(mut db: impl Queries, id: &str) -> Result<Option<Group>, db::Error> {
    db.maybe(select::<Group>("WHERE id = ?").bind(id)).await
}

pub async fn group(db: impl Queries, id: &str) -> Answer<Group> {
    find(db, id).await?.ok_or_else(|| crate::missing("group", id))
}

pub async fn by_ids(mut db: impl Queries, ids: &[String]) -> Result<Vec<Group>, db::Error> {
    db.all(select::<Group>("ORDER BY id").in_list("id", ids)).await
}

/// The ids of the groups that a user is in.
pub async fn of_user(mut db: impl Queries, user_id: &str) -> Result<Vec<String>, db::Error> {
    let rows = db.all(select::<Membership>("WHERE user_id = ? ORDER BY group_id").bind(user_id)).await?;
    Ok(rows.into_iter().map(|row| row.group_id).collect())
}

/// The ids of the users in a group.
pub async fn members(mut db: impl Queries, group_id: &str) -> Result<Vec<String>, db::Error> {
    let rows = db.all(select::<Membership>("WHERE group_id = ? ORDER BY user_id").bind(group_id)).await?;
    Ok(rows.into_iter().map(|row| row.user_id).collect())
}

/// Removes a group with its grants and memberships.
pub async fn delete(mut tx: impl Queries, id: &str) -> Result<(), db::Error> {
    for text in [
        "DELETE FROM assignments WHERE actor_kind = 'group' AND actor_id = ?",
        "DELETE FROM memberships WHERE group_id = ?",
        "DELETE FROM user_groups WHERE id = ?",
    ] {
        tx.run(sql(text).bind(id)).await?;
    }
    Ok(())
}
