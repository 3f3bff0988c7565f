//! Implied roles: who has one role has another one as well.

use api::{Answer, Call, Document, Done, NoInput, Path, Permitted, Reader, Refusal, View};
use base::{Json, json};
use db::{select, sql};

use super::store::{self, Implication, Role};
use crate::Identity;

/// One implication as clients see it.
pub(super) struct Inference {
    prior: Role,
    implied: Role,
}

impl View for Inference {
    const ONE: &'static str = "role_inference";
    const MANY: &'static str = "role_inferences";

    fn view(&self, to: &Reader) -> Json {
        json!({"prior_role": short(&self.prior, to), "implies": short(&self.implied, to)})
    }
}

fn short(role: &Role, to: &Reader) -> Json {
    json!({"id": role.id, "name": role.name, "links": {"self": to.link(&format!("/roles/{}", role.id))}})
}

/// Wraps an inference with the link of the request.
fn wrapped(inference: Permitted<Inference>, to: &Reader) -> Document {
    let link = to.link(&format!("/roles/{}/implies/{}", inference.prior.id, inference.implied.id));
    Document::of(inference, |one| json!({"role_inference": one.view(to), "links": {"self": link}}))
}

pub(super) async fn list(call: Call<Identity>, Path(prior_id): Path<String>) -> Answer<Document> {
    let permitted = call.allow_on(&json!({}))?;
    let prior = store::role(&call.db, &prior_id).await?;
    let implied = store::implications(&call.db).await?.remove(&prior_id).unwrap_or_default();
    let implied = store::by_ids(&call.db, &implied).await?;
    let to = &call.reader;
    let implies: Vec<Json> = implied.iter().map(|role| short(role, to)).collect();
    Ok(Document::new(
        permitted,
        json!({
            "role_inference": {"prior_role": short(&prior, to), "implies": implies},
            "links": {"self": to.link(&format!("/roles/{prior_id}/implies"))},
        }),
    ))
}

pub(super) async fn all(call: Call<Identity>, _: NoInput) -> Answer<Document> {
    let permitted = call.allow_on(&json!({}))?;
    let roles = store::all(&call.db).await?;
    let mut inferences = Vec::new();
    for (prior, implied) in store::implications(&call.db).await? {
        let Some(prior) = roles.get(&prior) else { continue };
        let implies: Vec<Json> =
            implied.iter().filter_map(|id| roles.get(id)).map(|role| short(role, &call.reader)).collect();
        inferences.push(json!({"prior_role": short(prior, &call.reader), "implies": implies}));
    }
    Ok(Document::new(permitted, json!({"role_inferences": inferences})))
}

/// Both roles, and whether the one implies the other.
async fn pair(call: &Call<Identity>, prior_id: &str, implied_id: &str) -> Answer<(Permitted<Inference>, bool)> {
    let permitted = call.allow_on(&json!({}))?;
    let prior = store::role(&call.db, prior_id).await?;
    let implied = store::role(&call.db, implied_id).await?;
    let row = select::<Implication>("WHERE prior_role_id = ? AND implied_role_id = ?");
    let exists = call.db.maybe(row.bind(prior_id).bind(implied_id)).await?.is_some();
    Ok((permitted.map(|()| Inference { prior, implied }), exists))
}

fn absent(prior_id: &str, implied_id: &str) -> Refusal {
    Refusal::not_found(format!("{prior_id} does not imply {implied_id}."))
}

pub(super) async fn show(call: Call<Identity>, Path((prior, implied)): Path<(String, String)>) -> Answer<Document> {
    match pair(&call, &prior, &implied).await? {
        (inference, true) => Ok(wrapped(inference, &call.reader)),
        _ => Err(absent(&prior, &implied)),
    }
}

pub(super) async fn check(call: Call<Identity>, Path((prior, implied)): Path<(String, String)>) -> Answer<Done> {
    match pair(&call, &prior, &implied).await? {
        (inference, true) => Ok(Done::with(inference)),
        _ => Err(absent(&prior, &implied)),
    }
}

pub(super) async fn add(
    call: Call<Identity>,
    Path((prior_id, implied_id)): Path<(String, String)>,
) -> Answer<Document> {
    let (inference, _) = pair(&call, &prior_id, &implied_id).await?;
    if call.settings.prohibited_implied_roles.contains(&inference.implied.name) {
        return Err(Refusal::forbidden(format!("{implied_id} cannot be an implied roles.")));
    }
    if inference.prior.domain().is_none() && inference.implied.domain().is_some() {
        return Err(Refusal::forbidden("Global role cannot imply a domain-specific role"));
    }
    let mut tx = call.db.begin().await?;
    tx.insert_new(&Implication { prior_role_id: prior_id, implied_role_id: implied_id }).await?;
    call.settle(tx).await?;
    Ok(wrapped(inference, &call.reader))
}

pub(super) async fn remove(call: Call<Identity>, Path((prior_id, implied_id)): Path<(String, String)>) -> Answer<Done> {
    let (inference, exists) = pair(&call, &prior_id, &implied_id).await?;
    if !exists {
        return Err(absent(&prior_id, &implied_id));
    }
    let mut tx = call.db.begin().await?;
    let gone = sql("DELETE FROM implied_roles WHERE prior_role_id = ? AND implied_role_id = ?");
    tx.run(gone.bind(&prior_id).bind(&implied_id)).await?;
    call.settle(tx).await?;
    Ok(Done::with(inference))
}
