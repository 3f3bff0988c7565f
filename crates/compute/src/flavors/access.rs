//! Which projects may use a private flavor.

use api::wire::text;
use api::{Action, Answer, Call, Document, Json, Operation, OrConflict, Path, Permitted, action, get, json, v};
use db::{record, select, sql};

use super::{Flavor, FlavorFault, find};
use crate::{Compute, query};

pub fn operations() -> Vec<Operation<Compute>> {
    vec![
        get("/flavors/{id}/os-flavor-access", list).rule("os_compute_api:os-flavor-access"),
        action("/flavors/{id}/action", "addTenantAccess", add)
            .rule("os_compute_api:os-flavor-access:add_tenant_access")
            .status(200),
        action("/flavors/{id}/action", "removeTenantAccess", remove)
            .rule("os_compute_api:os-flavor-access:remove_tenant_access")
            .status(200),
    ]
}

api::wire! {
    /// The project that a flavor is opened or closed to.
    pub struct Tenant {
        tenant: String = text(1, 255).required(),
    }
}

record! {
    pub struct Access in "flavor_access" {
        pub flavor_id: String,
        pub project_id: String,
    }
}

api::faults! {
    /// Why access to a flavor cannot be shown or changed.
    pub enum AccessFault {
        Public() = 404 "itemNotFound" "Access list not available for public flavors.",
        AddToPublic() = 409 "conflictingRequest" "Can not add access to a public flavor.",
        Exists(id: String, project: String) = 409 "conflictingRequest"
            "Flavor access already exists for flavor {id} and project {project} combination.",
        Missing(id: String, project: String) = 404 "itemNotFound"
            "Flavor access not found for {id} / {project} combination.",
        NoProject(project: String) = 400 "badRequest" "Project ID {project} is not a valid project.",
    }
}

async fn list(call: Call<Compute>, Path(id): Path<String>) -> Answer<Document> {
    query::strict(&call, v(2, 102), &[])?;
    let flavor = known(&call, id).await?;
    if flavor.is_public {
        return Err(AccessFault::Public {}.into());
    }
    shown(&call, flavor).await
}

async fn add(call: Call<Compute>, (Path(id), Action(to)): (Path<String>, Action<Tenant>)) -> Answer<Document> {
    let flavor = known(&call, id).await?;
    if !crate::projects::exists(&call, &to.tenant).await {
        return Err(AccessFault::NoProject { project: to.tenant }.into());
    }
    // Upstream: before 2.7 a public flavor may have a list; it means nothing.
    if flavor.is_public && call.version >= v(2, 7) {
        return Err(AccessFault::AddToPublic {}.into());
    }
    let access = Access { flavor_id: flavor.id.clone(), project_id: to.tenant };
    let exists = || AccessFault::Exists { id: access.flavor_id.clone(), project: access.project_id.clone() };
    call.db.insert(&access).await.or_conflict(exists)?;
    shown(&call, flavor).await
}

async fn remove(call: Call<Compute>, (Path(id), Action(from)): (Path<String>, Action<Tenant>)) -> Answer<Document> {
    let flavor = known(&call, id).await?;
    let gone = sql("DELETE FROM flavor_access WHERE flavor_id = ? AND project_id = ?");
    if call.db.run(gone.bind(&flavor.id).bind(&from.tenant)).await? == 0 {
        return Err(AccessFault::Missing { id: flavor.id.clone(), project: from.tenant }.into());
    }
    shown(&call, flavor).await
}

async fn known(call: &Call<Compute>, id: String) -> Answer<Permitted<Flavor>> {
    let permitted = call.allow()?;
    let flavor = find(&call.db, &id).await?.ok_or(FlavorFault::NotFound { id })?;
    Ok(permitted.map(|()| flavor))
}

async fn shown(call: &Call<Compute>, flavor: Permitted<Flavor>) -> Answer<Document> {
    let rows = call.db.all(select::<Access>("WHERE flavor_id = ? ORDER BY project_id").bind(&flavor.id)).await?;
    let entry = |row: &Access| json!({"flavor_id": row.flavor_id, "tenant_id": row.project_id});
    let entries: Vec<Json> = rows.iter().map(entry).collect();
    Ok(Document::of(flavor, |_| json!({"flavor_access": entries})))
}
