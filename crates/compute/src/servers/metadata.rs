//! A server's metadata: keys and values that belong to its user.

use std::collections::BTreeMap;

use api::wire::{map, text};
use api::{Answer, Body, Call, Document, Done, NoInput, Operation, Path, Permitted, Refusal, get, json, post, put};
use db::sql;

use super::ServerFault;
use super::power::refuse_locked;
use super::state::VmState;
use super::store::{self, Server, known};
use crate::Compute;

/// Limit: pairs of a server. Upstream's quota `metadata_items`.
const ITEMS: usize = 128;
/// What a key may be made of.
const KEY: &str = "^[a-zA-Z0-9-_:. ]{1,255}$";
/// Limit: how often a change that another one has overtaken is tried again.
const TRIES: usize = 5;

pub fn operations() -> Vec<Operation<Compute>> {
    const ALL: &str = "/servers/{server_id}/metadata";
    const ONE: &str = "/servers/{server_id}/metadata/{id}";
    vec![
        get(ALL, list).rule("os_compute_api:server-metadata:index"),
        post(ALL, add).rule("os_compute_api:server-metadata:create"),
        put(ALL, replace).rule("os_compute_api:server-metadata:update_all"),
        get(ONE, show).rule("os_compute_api:server-metadata:show"),
        put(ONE, set).rule("os_compute_api:server-metadata:update"),
        api::delete(ONE, remove).rule("os_compute_api:server-metadata:delete"),
    ]
}

type Pairs = BTreeMap<String, String>;

api::wire! {
    /// Several pairs.
    pub struct NewPairs {
        metadata: Pairs = map(text(0, 255)).required(),
    }
}

api::wire! {
    /// One pair.
    pub struct NewPair {
        meta: Pairs = map(text(0, 255)).items(1, 1).required(),
    }
}

fn missing() -> Refusal {
    Refusal::not_found("Metadata item was not found")
}

async fn list(call: Call<Compute>, Path(id): Path<String>) -> Answer<Document> {
    let server = call.permit(known(&call, &id).await?)?;
    Ok(Document::of(server, |server| json!({"metadata": server.metadata})))
}

async fn add(call: Call<Compute>, (Path(id), Body(new)): (Path<String>, Body<NewPairs>)) -> Answer<Document> {
    check(&new.metadata)?;
    let (server, pairs) = change(&call, &id, "create metadata", |pairs| {
        pairs.extend(new.metadata.clone());
        Ok(())
    })
    .await?;
    Ok(Document::of(server, |_| json!({"metadata": pairs})))
}

async fn replace(call: Call<Compute>, (Path(id), Body(new)): (Path<String>, Body<NewPairs>)) -> Answer<Document> {
    check(&new.metadata)?;
    let (server, pairs) = change(&call, &id, "update metadata", |pairs| {
        pairs.clone_from(&new.metadata);
        Ok(())
    })
    .await?;
    Ok(Document::of(server, |_| json!({"metadata": pairs})))
}

async fn show(call: Call<Compute>, (Path((id, key)), _): (Path<(String, String)>, NoInput)) -> Answer<Document> {
    let server = call.permit(known(&call, &id).await?)?;
    let value = server.metadata.get(&key).cloned().ok_or_else(missing)?;
    Ok(Document::of(server, |_| json!({"meta": {key: value}})))
}

async fn set(
    call: Call<Compute>,
    (Path((id, key)), Body(new)): (Path<(String, String)>, Body<NewPair>),
) -> Answer<Document> {
    check(&new.meta)?;
    if !new.meta.contains_key(&key) {
        return Err(Refusal::bad_request("Request body and URI mismatch"));
    }
    let (server, _) = change(&call, &id, "update metadata", |pairs| {
        pairs.extend(new.meta.clone());
        Ok(())
    })
    .await?;
    Ok(Document::of(server, |_| json!({"meta": new.meta})))
}

async fn remove(call: Call<Compute>, Path((id, key)): Path<(String, String)>) -> Answer<Done> {
    let (server, _) =
        change(&call, &id, "delete metadata", |pairs| pairs.remove(&key).map(drop).ok_or_else(missing)).await?;
    Ok(Done::with(server))
}

/// Refuses keys that upstream does not take.
pub fn check(pairs: &Pairs) -> Answer<()> {
    let fits = |key: &str| key.chars().all(|c| c.is_ascii_alphanumeric() || "-_:. ".contains(c));
    match pairs.keys().find(|key| !fits(key)) {
        None => Ok(()),
        Some(key) => Err(Refusal::bad_request(format!(
            "Invalid input for field/attribute metadata. Value: {}. '{key}' does not match any of the regexes: '{KEY}'",
            api::wire::rule::python(&json!(pairs)),
        ))),
    }
}

/// Refuses more pairs than a server may have.
pub fn check_count(count: usize) -> Answer<()> {
    if count > ITEMS {
        return Err(Refusal::forbidden(format!("Maximum number of metadata items exceeds {ITEMS}")));
    }
    Ok(())
}

/// Changes the pairs as they are when the change is written; returns them.
async fn change(
    call: &Call<Compute>,
    id: &str,
    verb: &str,
    make: impl Fn(&mut Pairs) -> Answer<()>,
) -> Answer<(Permitted<Server>, Pairs)> {
    let server = call.permit(known(call, id).await?)?;
    refuse_locked(call, &server)?;
    use VmState::{Active, Paused, Stopped, Suspended};
    if ![Active, Paused, Suspended, Stopped].contains(&server.vm()) {
        let state = server.vm_state.clone();
        return Err(ServerFault::WrongState { id: id.into(), verb: verb.into(), state }.into());
    }
    for _ in 0..TRIES {
        let now = store::find(&call.db, id).await?.ok_or_else(|| ServerFault::NotFound { id: id.into() })?;
        let mut pairs = now.metadata.clone();
        make(&mut pairs)?;
        check_count(pairs.len())?;
        let write = sql("UPDATE servers SET metadata = ?, updated_at = ? WHERE id = ? AND metadata = ?");
        let write = write.bind(&pairs).bind(base::clock::now()).bind(id).bind(&now.metadata);
        if call.db.run(write).await? > 0 {
            return Ok((server, pairs));
        }
    }
    Err(Refusal::conflict("The metadata is being changed by others all the time. Please try again."))
}
