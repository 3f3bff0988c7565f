//! Grants as rows: somebody has a role on something.

use db::{Queries, Select, select, sql};

/// The only id of a target of the kind `system`.
pub const SYSTEM: &str = "system";

db::record! {
    pub struct Assignment in "assignments" {
        /// `user` or `group`.
        pub actor_kind: String,
        pub actor_id: String,
        /// `project`, `domain` or `system`.
        pub target_kind: String,
        pub target_id: String,
        pub role_id: String,
        /// Good for the projects below the target instead of the target itself.
        pub inherited: bool,
    }
}

/// Which grants a list is about; nothing means all.
#[derive(Debug, Clone, Default)]
pub struct Filter<'a> {
    pub role_id: Option<&'a str>,
    pub user_id: Option<&'a str>,
    pub group_ids: Option<&'a [String]>,
    pub domain_id: Option<&'a str>,
    pub project_ids: Option<&'a [String]>,
    pub system: Option<bool>,
    pub inherited: Option<bool>,
}

impl Filter<'_> {
    fn select(&self) -> Select<Assignment> {
        let mut select =
            select::<Assignment>("ORDER BY target_kind, target_id, actor_kind, actor_id, role_id, inherited");
        if let Some(id) = self.role_id {
            select = select.and("role_id = ?").bind(id);
        }
        if let Some(id) = self.user_id {
            select = select.and("actor_kind = 'user' AND actor_id = ?").bind(id);
        }
        if let Some(ids) = self.group_ids {
            select = select.and("actor_kind = 'group'").in_list("actor_id", ids);
        }
        if let Some(id) = self.domain_id {
            select = select.and("target_kind = 'domain' AND target_id = ?").bind(id);
        }
        if let Some(ids) = self.project_ids {
            select = select.and("target_kind = 'project'").in_list("target_id", ids);
        }
        if let Some(system) = self.system {
            select = select.and(if system { "target_kind = 'system'" } else { "target_kind <> 'system'" });
        }
        match self.inherited {
            None => select,
            Some(inherited) => select.and("inherited = ?").bind(inherited),
        }
    }
}

pub async fn list(mut db: impl Queries, filter: &Filter<'_>) -> Result<Vec<Assignment>, db::Error> {
    db.all(filter.select()).await
}

/// Whether exactly this grant exists.
pub async fn exists(mut db: impl Queries, assignment: &Assignment) -> Result<bool, db::Error> {
    let select = select::<Assignment>(format!("WHERE {EXACTLY}"));
    let Assignment { actor_kind, actor_id, target_kind, target_id, role_id, inherited } = assignment;
    let select = select.bind_all([actor_kind, actor_id, target_kind, target_id, role_id]).bind(*inherited);
    Ok(db.maybe(select).await?.is_some())
}

/// Takes a grant back; false when there was none.
pub async fn delete(mut db: impl Queries, assignment: &Assignment) -> Result<bool, db::Error> {
    let statement = sql(format!("DELETE FROM assignments WHERE {EXACTLY}"));
    let Assignment { actor_kind, actor_id, target_kind, target_id, role_id, inherited } = assignment;
    let statement = statement.bind_all([actor_kind, actor_id, target_kind, target_id, role_id]).bind(*inherited);
    Ok(db.run(statement).await? > 0)
}

const EXACTLY: &str = "actor_kind = ? AND actor_id = ? AND target_kind = ? AND target_id = ? AND role_id = ? \
     AND inherited = ?";
