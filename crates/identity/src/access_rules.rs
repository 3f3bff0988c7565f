//! Access rules: which calls an application credential is good for.

use api::listing::text as text_filter;
use api::wire::{one_of, text};
use api::{
    Answer, Call, Done, Listed, Listing, Operation, Path, Permitted, Reader, Refusal, Show, View, delete, get, wire,
};
use base::{Json, json};
use db::{Queries, select, sql};

use crate::application_credentials::not_delegated;
use crate::{Identity, missing, users};

const RULES: Listing = Listing {
    sort: &["id"],
    filter: &[text_filter("service"), text_filter("path"), text_filter("method")],
    ..Listing::PLAIN
};

pub fn operations() -> Vec<Operation<Identity>> {
    vec![
        get("/users/{user_id}/access_rules", list).rule("identity:list_access_rules").paged(&RULES),
        get("/users/{user_id}/access_rules/{access_rule_id}", show).rule("identity:get_access_rule"),
        delete("/users/{user_id}/access_rules/{access_rule_id}", remove).rule("identity:delete_access_rule"),
    ]
}

wire! {
    /// A rule within a new application credential: one that is there, by its id, or a new one.
    pub struct NewRule {
        id: Option<String> = text(1, 64),
        service: Option<String> = text(1, 64),
        path: Option<String> = text(1, 128).matching("^/"),
        method: Option<String> = one_of(&["POST", "GET", "HEAD", "PATCH", "PUT", "DELETE"]),
    }
}

db::record! {
    pub struct AccessRule in "access_rules" {
        pub id: String,
        pub user_id: String,
        pub service: String,
        pub path: String,
        pub method: String,
    }
}

/// A rule inside something else, where it has no links.
pub fn plain(rule: &AccessRule) -> Json {
    json!({"id": rule.id, "service": rule.service, "path": rule.path, "method": rule.method})
}

impl View for AccessRule {
    const ONE: &'static str = "access_rule";
    const MANY: &'static str = "access_rules";

    fn view(&self, to: &Reader) -> Json {
        let mut view = plain(self);
        view["links"] = json!({"self": to.link(&format!("/users/{}/access_rules/{}", self.user_id, self.id))});
        view
    }
}

pub async fn by_ids(mut db: impl Queries, ids: &[String]) -> Result<Vec<AccessRule>, db::Error> {
    db.all(select::<AccessRule>("ORDER BY id").in_list("id", ids)).await
}

/// The rule of a user with this content, made when it is not there.
pub async fn ensure(mut tx: impl Queries, user_id: &str, new: &NewRule) -> Answer<AccessRule> {
    let (Some(service), Some(path), Some(method)) = (&new.service, &new.path, &new.method) else {
        let id = new.id.as_deref().unwrap_or_default();
        let named = select::<AccessRule>("WHERE id = ? AND user_id = ?").bind(id).bind(user_id);
        return tx.maybe(named).await?.ok_or_else(|| missing("Access Rule", id));
    };
    let same = select::<AccessRule>("WHERE user_id = ? AND service = ? AND path = ? AND method = ?");
    let same = same.bind_all([user_id, service, path, method]);
    if let Some(rule) = tx.maybe(same).await? {
        return Ok(rule);
    }
    let rule = AccessRule {
        id: new.id.clone().unwrap_or_else(base::id::hex),
        user_id: user_id.to_string(),
        service: service.clone(),
        path: path.clone(),
        method: method.clone(),
    };
    tx.insert(&rule).await?;
    Ok(rule)
}

async fn list(call: Call<Identity>, Path(user_id): Path<String>) -> Answer<Listed<AccessRule>> {
    let user = users::store::find(&call.db, &user_id).await?;
    let permitted = call.allow_on(&users::target(user.as_ref(), &user_id))?;
    not_delegated(&call)?;
    let rows = crate::rows(&call, select::<AccessRule>("WHERE user_id = ?").bind(&user_id)).await?;
    Ok(Listed(permitted.each(rows)))
}

async fn permitted(call: &Call<Identity>, user_id: &str, id: &str) -> Answer<Permitted<AccessRule>> {
    let user = users::store::find(&call.db, user_id).await?;
    let permitted = call.allow_on(&users::target(user.as_ref(), user_id))?;
    not_delegated(call)?;
    let found = call.db.maybe(select::<AccessRule>("WHERE id = ? AND user_id = ?").bind(id).bind(user_id)).await?;
    let rule = found.ok_or_else(|| missing("Access Rule", id))?;
    Ok(permitted.map(|()| rule))
}

async fn show(call: Call<Identity>, Path((user_id, id)): Path<(String, String)>) -> Answer<Show<AccessRule>> {
    Ok(Show(permitted(&call, &user_id, &id).await?))
}

async fn remove(call: Call<Identity>, Path((user_id, id)): Path<(String, String)>) -> Answer<Done> {
    let rule = permitted(&call, &user_id, &id).await?;
    let mut tx = call.db.begin().await?;
    let used = sql("SELECT COUNT(*) FROM application_credentials WHERE user_id = ? AND access_rule_ids LIKE ?");
    if tx.count(used.bind(&user_id).bind(format!("%\"{id}\"%"))).await? > 0 {
        return Err(Refusal::forbidden("May not delete access rule in use"));
    }
    tx.run(sql("DELETE FROM access_rules WHERE id = ?").bind(&id)).await?;
    tx.commit().await?;
    Ok(Done::with(rule))
}
