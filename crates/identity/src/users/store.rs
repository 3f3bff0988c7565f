//! Users and their passwords, as rows.

use api::{Answer, Refusal};
use base::{Json, Time, json};
use db::{Queries, select, sql};

db::record! {
    pub struct User in "users" {
        pub id: String,
        pub domain_id: String,
        pub name: String,
        pub enabled: bool,
        pub default_project_id: Option<String>,
        pub password_hash: Option<String>,
        pub password_created_at: Option<Time>,
        pub password_expires_at: Option<Time>,
        /// Whether the user chose the password, not an administrator.
        pub password_self_service: bool,
        pub failed_auth_count: i64,
        pub failed_auth_at: Option<Time>,
        pub last_active_at: Option<Time>,
        pub created_at: Time,
        pub extra: Json,
        pub options: Json,
    }
}

db::record! {
    /// A password that a user has or had.
    pub struct Earlier in "password_history" {
        pub id: String,
        pub user_id: String,
        pub hash: String,
        pub created_at: Time,
    }
}

impl User {
    /// Whether an option of this user is set and true.
    pub fn option(&self, name: &str) -> bool {
        self.options[name] == json!(true)
    }

    /// What rules may ask about the user.
    pub fn target(&self) -> Json {
        json!({"id": self.id, "name": self.name, "domain_id": self.domain_id, "enabled": self.enabled})
    }
}

pub async fn find(mut db: impl Queries, id: &str) -> Result<Option<User>, db::Error> {
    db.maybe(select::<User>("WHERE id = ?").bind(id)).await
}

pub async fn user(db: impl Queries, id: &str) -> Answer<User> {
    find(db, id).await?.ok_or_else(|| crate::missing("user", id))
}

pub async fn by_name(mut db: impl Queries, domain_id: &str, name: &str) -> Result<Option<User>, db::Error> {
    db.maybe(select::<User>("WHERE domain_id = ? AND name = ?").bind(domain_id).bind(name)).await
}

pub async fn by_ids(mut db: impl Queries, ids: &[String]) -> Result<Vec<User>, db::Error> {
    db.all(select::<User>("ORDER BY id").in_list("id", ids)).await
}

/// Stores the attributes that clients may change; the password has functions of its own.
pub async fn update(mut db: impl Queries, user: &User) -> Result<(), db::Error> {
    let statement = sql("UPDATE users SET name = ?, enabled = ?, default_project_id = ?, extra = ?, options = ?, \
         password_expires_at = ? WHERE id = ?");
    let statement = statement.bind(&user.name).bind(user.enabled).bind(&user.default_project_id);
    let statement = statement.bind(&user.extra).bind(&user.options).bind(user.password_expires_at);
    db.run(statement.bind(&user.id)).await?;
    Ok(())
}

/// Stores the password columns, and remembers the password among the last `keep`.
pub async fn set_password(mut db: impl Queries, user: &User, keep: i64) -> Result<(), db::Error> {
    let statement = sql("UPDATE users SET password_hash = ?, password_created_at = ?, password_expires_at = ?, \
         password_self_service = ?, failed_auth_count = 0, failed_auth_at = NULL WHERE id = ?");
    let statement = statement.bind(&user.password_hash).bind(user.password_created_at);
    let statement = statement.bind(user.password_expires_at).bind(user.password_self_service);
    db.run(statement.bind(&user.id)).await?;
    remember(&mut db, user).await?;
    let old = earlier(&mut db, &user.id).await?;
    for spent in old.into_iter().skip(keep.max(1) as usize) {
        db.run(sql("DELETE FROM password_history WHERE id = ?").bind(spent.id)).await?;
    }
    Ok(())
}

/// Adds the password in force to the history.
pub async fn remember(mut db: impl Queries, user: &User) -> Result<(), db::Error> {
    let Some(hash) = user.password_hash.clone() else { return Ok(()) };
    let created_at = user.password_created_at.unwrap_or_default();
    db.insert(&Earlier { id: base::id::hex(), user_id: user.id.clone(), hash, created_at }).await
}

/// The passwords that a user has and had, latest first.
pub async fn earlier(mut db: impl Queries, user_id: &str) -> Result<Vec<Earlier>, db::Error> {
    db.all(select::<Earlier>("WHERE user_id = ? ORDER BY created_at DESC, id").bind(user_id)).await
}

/// Removes a user with all that belongs to nobody else.
pub async fn delete(mut tx: impl Queries, id: &str) -> Result<(), db::Error> {
    for text in [
        "DELETE FROM assignments WHERE actor_kind = 'user' AND actor_id = ?",
        "DELETE FROM memberships WHERE user_id = ?",
        "DELETE FROM credentials WHERE user_id = ?",
        "DELETE FROM application_credentials WHERE user_id = ?",
        "DELETE FROM access_rules WHERE user_id = ?",
        "DELETE FROM trusts WHERE trustor_user_id = ?",
        "DELETE FROM trusts WHERE trustee_user_id = ?",
        "DELETE FROM password_history WHERE user_id = ?",
        "DELETE FROM users WHERE id = ?",
    ] {
        tx.run(sql(text).bind(id)).await?;
    }
    Ok(())
}

/// The words for a name that is taken.
pub fn name_taken(user: &User) -> Refusal {
    let User { name, domain_id, .. } = user;
    Refusal::conflict(format!(
        "Conflict occurred attempting to store user - Duplicate entry found with name {name} at domain ID {domain_id}."
    ))
}
