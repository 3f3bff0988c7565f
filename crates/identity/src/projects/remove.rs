//! Removing projects and domains with everything that belongs to them.

use api::{Answer, Call, Done, Path, Refusal};
use db::{Queries, Tx, sql};

use super::store::{self, Project};
use super::update::immutable;
use crate::{Identity, revocations};

pub(super) async fn remove(call: Call<Identity>, Path(id): Path<String>) -> Answer<Done> {
    let project = super::permitted(&call, &id).await?;
    let mut tx = call.db.begin().await?;
    match project.is_domain {
        true => domain(&mut tx, &project).await?,
        false => leaf(&mut tx, &project).await?,
    }
    call.settle(tx).await?;
    Ok(Done::with(project))
}

async fn leaf(tx: &mut Tx, project: &Project) -> Answer<()> {
    if project.is_immutable() {
        return Err(immutable("delete", "project", &project.id));
    }
    if !store::subtree(&mut *tx, &project.id).await?.is_empty() {
        return Err(Refusal::forbidden(format!(
            "Cannot delete the project {} since it is not a leaf in the hierarchy. Use the cascade option if you \
             want to delete a whole subtree.",
            project.id
        )));
    }
    delete_all(tx, std::slice::from_ref(&project.id)).await?;
    Ok(())
}

/// Removes a domain that was disabled before, with its projects, users, groups and roles.
pub async fn domain(tx: &mut Tx, domain: &Project) -> Answer<()> {
    if domain.is_immutable() {
        return Err(immutable("delete", "domain", &domain.id));
    }
    if domain.enabled {
        return Err(Refusal::forbidden("Cannot delete a domain that is enabled, please disable it first."));
    }
    let ids = |rows: Vec<db::Row>| rows.iter().map(|row| row.get::<String>(0)).collect::<Result<Vec<_>, _>>();
    let projects = ids(tx.rows(sql("SELECT id FROM projects WHERE domain_id = ?").bind(&domain.id)).await?)?;
    let users = ids(tx.rows(sql("SELECT id FROM users WHERE domain_id = ?").bind(&domain.id)).await?)?;
    let groups = ids(tx.rows(sql("SELECT id FROM user_groups WHERE domain_id = ?").bind(&domain.id)).await?)?;
    let roles = ids(tx.rows(sql("SELECT id FROM roles WHERE domain_id = ?").bind(&domain.id)).await?)?;
    for user in &users {
        crate::users::store::delete(&mut *tx, user).await?;
    }
    for group in &groups {
        crate::groups::store::delete(&mut *tx, group).await?;
    }
    for role in &roles {
        crate::roles::store::delete(&mut *tx, role).await?;
    }
    tx.run(sql("DELETE FROM domain_options WHERE domain_id = ?").bind(&domain.id)).await?;
    tx.run(sql("DELETE FROM limits WHERE domain_id = ?").bind(&domain.id)).await?;
    revocations::of_domain(&mut *tx, &domain.id).await?;
    delete_all(&mut *tx, &projects).await?;
    delete_all(tx, std::slice::from_ref(&domain.id)).await?;
    Ok(())
}

/// Removes the rows of projects and of what was granted on them.
pub async fn delete_all(mut tx: impl Queries, ids: &[String]) -> Result<(), db::Error> {
    for id in ids {
        forget_contents(&mut tx, id).await?;
        tx.run(sql("DELETE FROM projects WHERE id = ?").bind(id)).await?;
    }
    Ok(())
}

/// What names a project and means nothing without it.
async fn forget_contents(mut tx: impl Queries, id: &str) -> Result<(), db::Error> {
    for text in [
        "DELETE FROM assignments WHERE target_id = ?",
        "DELETE FROM project_tags WHERE project_id = ?",
        "DELETE FROM credentials WHERE project_id = ?",
        "DELETE FROM application_credentials WHERE project_id = ?",
        "DELETE FROM trusts WHERE project_id = ?",
        "DELETE FROM limits WHERE project_id = ?",
        "DELETE FROM project_endpoints WHERE project_id = ?",
        "DELETE FROM project_endpoint_groups WHERE project_id = ?",
        "UPDATE users SET default_project_id = NULL WHERE default_project_id = ?",
    ] {
        tx.run(sql(text).bind(id)).await?;
    }
    Ok(())
}
