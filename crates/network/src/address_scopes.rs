//! Address scopes: subnet pools whose addresses never overlap.

use api::{Caller, Operation, delete, get, post, put};
use base::{Json, json};
use db::{Queries, Select, Value, select, sql};

use crate::Network;
use crate::engine::attribute::{Given, ID, PROJECT, TENANT, attr};
use crate::engine::rule::Rule;
use crate::engine::{self, Attributes, Kind, Resource, entity};
use crate::fault::Fault;
use crate::rbac;
use crate::stop::Stop;
use crate::work::Work;

pub const KIND: Kind = Kind {
    one: "address_scope",
    many: "address_scopes",
    attributes: &[
        ID,
        attr("name", Rule::Text(255)).default(Given::Empty).put().text(),
        attr("ip_version", Rule::Integer(4, 6)).required().number(),
        attr("shared", Rule::Flag).default(Given::False).put().by(rbac::shared_filter),
        PROJECT,
        TENANT,
    ],
};

entity! {
    pub struct AddressScope in "address_scopes" {
        name: String,
        ip_version: i64,
    }
}

pub struct AddressScopes;

pub fn operations() -> Vec<Operation<Network>> {
    vec![
        get("/address-scopes", engine::list::<AddressScopes>).rule("get_address_scope"),
        post("/address-scopes", engine::create::<AddressScopes>).rule("create_address_scope"),
        get("/address-scopes/{address_scope_id}", engine::show::<AddressScopes>).rule("get_address_scope"),
        put("/address-scopes/{address_scope_id}", engine::update::<AddressScopes>).rule("update_address_scope"),
        delete("/address-scopes/{address_scope_id}", engine::remove::<AddressScopes>).rule("delete_address_scope"),
    ]
}

impl Resource for AddressScopes {
    const KIND: &'static Kind = &KIND;
    type Row = AddressScope;

    fn not_found(id: &str) -> Fault {
        Fault::AddressScopeNotFound { id: id.to_string() }
    }

    fn scope(rows: Select<AddressScope>, caller: &Caller) -> Select<AddressScope> {
        rbac::scope(rows, "address_scope", caller)
    }

    async fn items<Q: Queries>(db: Q, rows: Vec<AddressScope>, caller: &Caller) -> Result<Vec<Json>, db::Error> {
        let ids: Vec<String> = rows.iter().map(|row| row.id.clone()).collect();
        let shared = rbac::shared(db, &ids, caller).await?;
        let item = |row: AddressScope| {
            json!({
                "shared": shared.contains(&row.id),
                "id": row.id,
                "name": row.name,
                "ip_version": row.ip_version,
                "project_id": row.project_id,
                "tenant_id": row.project_id,
            })
        };
        Ok(rows.into_iter().map(item).collect())
    }

    async fn create(work: &mut Work<'_>, new: &Attributes) -> Result<String, Stop> {
        let version = new.number("ip_version").unwrap_or(4);
        if version == 5 {
            return Err(crate::fault::plain("Invalid input for ip_version. Reason: '5' is not in [4, 6].").into());
        }
        let row = AddressScope {
            id: base::id::uuid(),
            project_id: new.text("project_id"),
            name: new.text("name"),
            ip_version: version,
            created_at: work.now,
            updated_at: work.now,
            revision_number: 0,
        };
        work.tx.insert(&row).await?;
        if new.flag("shared") == Some(true) {
            rbac::share(work, "address_scope", &row.id, &row.project_id, true).await?;
        }
        Ok(row.id)
    }

    async fn update(work: &mut Work<'_>, row: AddressScope, change: &Attributes) -> Result<(), Stop> {
        let name = change.maybe("name").map(|name| ("name", Value::Text(name)));
        work.set::<AddressScope>(&row.id, name.into_iter().collect()).await?;
        match change.flag("shared") {
            Some(true) => rbac::share(work, "address_scope", &row.id, &row.project_id, true).await,
            Some(false) => {
                let shared =
                    rbac::shared(&mut work.tx, std::slice::from_ref(&row.id), work.caller).await?.contains(&row.id);
                let reason = "Shared address scope can't be unshared".to_string();
                if shared { Err(Fault::AddressScopeUpdate { id: row.id, reason }.into()) } else { Ok(()) }
            }
            None => Ok(()),
        }
    }

    async fn remove(work: &mut Work<'_>, row: AddressScope) -> Result<(), Stop> {
        let pools = sql("SELECT COUNT(*) FROM subnetpools WHERE address_scope_id = ?").bind(&row.id);
        if work.tx.count(pools).await? > 0 {
            return Err(Fault::AddressScopeInUse { id: row.id }.into());
        }
        rbac::forget(work, &row.id).await?;
        work.tx.run(sql("DELETE FROM address_scopes WHERE id = ?").bind(&row.id)).await?;
        Ok(())
    }
}

/// The scope, whoever asks.
pub async fn row(mut db: impl Queries, id: &str) -> Result<Option<AddressScope>, db::Error> {
    db.maybe(select::<AddressScope>("WHERE id = ?").bind(id)).await
}
