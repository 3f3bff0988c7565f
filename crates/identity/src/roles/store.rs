//! Roles and what they imply, as rows.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use api::Answer;
use base::{Json, json};
use db::{Queries, select, sql};

db::record! {
    pub struct Role in "roles" {
        pub id: String,
        pub name: String,
        /// Empty for a global role.
        pub domain_id: String,
        pub description: Option<String>,
        pub extra: Json,
        pub options: Json,
    }
}

db::record! {
    /// Who has the prior role has the other one as well.
    pub struct Implication in "implied_roles" {
        pub prior_role_id: String,
        pub implied_role_id: String,
    }
}

impl Role {
    pub fn domain(&self) -> Option<&str> {
        Some(self.domain_id.as_str()).filter(|id| !id.is_empty())
    }

    pub fn is_immutable(&self) -> bool {
        self.options["immutable"] == json!(true)
    }

    /// What rules may ask about it.
    pub fn target(&self) -> Json {
        json!({"id": self.id, "name": self.name, "domain_id": self.domain()})
    }
}

pub async fn find(mut db: impl Queries, id: &str) -> Result<Option<Role>, db::Error> {
    db.maybe(select::<Role>("WHERE id = ?").bind(id)).await
}

pub async fn role(db: impl Queries, id: &str) -> Answer<Role> {
    find(db, id).await?.ok_or_else(|| crate::missing("role", id))
}

pub async fn by_ids(mut db: impl Queries, ids: &[String]) -> Result<Vec<Role>, db::Error> {
    db.all(select::<Role>("ORDER BY id").in_list("id", ids)).await
}

/// Every role, by id. There are few.
pub async fn all(mut db: impl Queries) -> Result<HashMap<String, Role>, db::Error> {
    let roles = db.all(select::<Role>("")).await?;
    Ok(roles.into_iter().map(|role| (role.id.clone(), role)).collect())
}

/// Which roles each role implies directly.
pub async fn implications(mut db: impl Queries) -> Result<BTreeMap<String, Vec<String>>, db::Error> {
    let mut implied: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in db.all(select::<Implication>("ORDER BY prior_role_id, implied_role_id")).await? {
        implied.entry(row.prior_role_id).or_default().push(row.implied_role_id);
    }
    Ok(implied)
}

/// `ids` with all that they imply.
pub fn closure(ids: impl IntoIterator<Item = String>, implied: &BTreeMap<String, Vec<String>>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open: Vec<String> = ids.into_iter().collect();
    while let Some(id) = open.pop() {
        open.extend(implied.get(&id).into_iter().flatten().filter(|id| !found.contains(*id)).cloned());
        found.insert(id);
    }
    found
}

/// Removes a role with its grants and implications, and with the application credentials of those who had it.
pub async fn delete(mut tx: impl Queries, id: &str) -> Result<(), db::Error> {
    // Upstream: credentials of everybody who had the role on the project go, whether they carry it or not.
    let credentials = "DELETE FROM application_credentials WHERE EXISTS (SELECT 1 FROM assignments \
         WHERE role_id = ? AND actor_kind = 'user' AND target_kind = 'project' \
         AND actor_id = application_credentials.user_id AND target_id = application_credentials.project_id)";
    tx.run(sql(credentials).bind(id)).await?;
    for text in [
        "DELETE FROM assignments WHERE role_id = ?",
        "DELETE FROM implied_roles WHERE prior_role_id = ?",
        "DELETE FROM implied_roles WHERE implied_role_id = ?",
        "DELETE FROM roles WHERE id = ?",
    ] {
        tx.run(sql(text).bind(id)).await?;
    }
    Ok(())
}
