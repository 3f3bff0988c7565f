//! Policies: documents kept for other programs; identity itself does not look at them.

use api::listing::text as text_filter;
use api::wire::{any, text};
use api::{
    Answer, Body, Call, Created, Done, Listed, Listing, NoInput, Operation, Path, Reader, Refusal, Show, View, delete,
    get, patch, post, wire,
};
use base::{Json, json};
use db::{select, sql};

use crate::{Identity, missing};

const POLICIES: Listing = Listing { sort: &["id"], filter: &[text_filter("type")], ..Listing::PLAIN };

pub fn operations() -> Vec<Operation<Identity>> {
    vec![
        get("/policies", list).rule("identity:list_policies").paged(&POLICIES).deprecated(),
        post("/policies", create).rule("identity:create_policy").deprecated(),
        get("/policies/{policy_id}", show).rule("identity:get_policy").deprecated(),
        patch("/policies/{policy_id}", update).rule("identity:update_policy").deprecated(),
        delete("/policies/{policy_id}", remove).rule("identity:delete_policy").deprecated(),
    ]
}

wire! {
    /// What a client sends for a new policy.
    pub struct NewPolicy in "policy" open {
        blob: Json = any().required(),
        kind as "type": String = text(0, 255).required(),
    }
}

wire! {
    /// What a client sends to change a policy.
    pub struct PolicyChange in "policy" open {
        id: Option<String> = text(0, 255),
        blob: Option<Json> = any(),
        kind as "type": Option<String> = text(0, 255),
    }
}

db::record! {
    pub struct Policy in "policies" {
        pub id: String,
        pub r#type: String,
        pub blob: Json,
        pub extra: Json,
    }
}

impl View for Policy {
    const ONE: &'static str = "policy";
    const MANY: &'static str = "policies";

    fn view(&self, to: &Reader) -> Json {
        let mut view = self.extra.clone();
        view["id"] = json!(self.id);
        view["type"] = json!(self.r#type);
        view["blob"] = self.blob.clone();
        view["links"] = json!({"self": to.link(&format!("/policies/{}", self.id))});
        view
    }
}

async fn policy(call: &Call<Identity>, id: &str) -> Answer<Policy> {
    let found = call.db.maybe(select::<Policy>("WHERE id = ?").bind(id)).await?;
    found.ok_or_else(|| missing("policy", id))
}

async fn list(call: Call<Identity>, _: NoInput) -> Answer<Listed<Policy>> {
    let permitted = call.allow()?;
    let rows = crate::rows(&call, select::<Policy>("")).await?;
    Ok(Listed(permitted.each(rows)))
}

async fn show(call: Call<Identity>, Path(id): Path<String>) -> Answer<Show<Policy>> {
    let permitted = call.allow()?;
    let policy = policy(&call, &id).await?;
    Ok(Show(permitted.map(|()| policy)))
}

async fn create(call: Call<Identity>, Body(new): Body<NewPolicy>) -> Answer<Created<Policy>> {
    let permitted = call.allow()?;
    let policy = Policy { id: base::id::hex(), r#type: new.kind, blob: new.blob, extra: crate::extra(new.rest) };
    call.db.insert(&policy).await?;
    Ok(Created(permitted.map(|()| policy)))
}

async fn update(
    call: Call<Identity>,
    (Path(id), Body(change)): (Path<String>, Body<PolicyChange>),
) -> Answer<Show<Policy>> {
    let permitted = call.allow()?;
    if change.id.as_ref().is_some_and(|other| *other != id) {
        return Err(Refusal::bad_request("Cannot change policy ID"));
    }
    let mut new = policy(&call, &id).await?;
    new.r#type = change.kind.unwrap_or(new.r#type);
    new.blob = change.blob.unwrap_or(new.blob);
    crate::merge(&mut new.extra, change.rest);
    let statement = sql("UPDATE policies SET \"type\" = ?, \"blob\" = ?, extra = ? WHERE id = ?");
    call.db.run(statement.bind(&new.r#type).bind(&new.blob).bind(&new.extra).bind(&id)).await?;
    Ok(Show(permitted.map(|()| new)))
}

async fn remove(call: Call<Identity>, Path(id): Path<String>) -> Answer<Done> {
    let permitted = call.allow()?;
    policy(&call, &id).await?;
    call.db.run(sql("DELETE FROM policies WHERE id = ?").bind(&id)).await?;
    Ok(Done::with(permitted))
}
