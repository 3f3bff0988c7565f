//! Tags: words by which servers are found.

use api::wire::{list as list_of, text};
use api::{Answer, Body, Call, Document, Done, Operation, Path, Permitted, Refusal, Reply, delete, get, json, put, v};
use db::sql;

use super::ServerFault;
use super::state::VmState;
use super::store::{self, Server, known};
use crate::Compute;

/// Limit: tags of a server, and characters of one.
const TAGS: usize = 50;
const CHARACTERS: usize = 60;
/// Limit: how often a change that another one has overtaken is tried again.
const TRIES: usize = 5;

pub fn operations() -> Vec<Operation<Compute>> {
    const ALL: &str = "/servers/{server_id}/tags";
    const ONE: &str = "/servers/{server_id}/tags/{id}";
    let operations = vec![
        get(ALL, list).rule("os_compute_api:os-server-tags:index"),
        put(ALL, replace).rule("os_compute_api:os-server-tags:update_all"),
        delete(ALL, clear).rule("os_compute_api:os-server-tags:delete_all"),
        get(ONE, show).rule("os_compute_api:os-server-tags:show").status(204),
        put(ONE, add).rule("os_compute_api:os-server-tags:update"),
        delete(ONE, remove).rule("os_compute_api:os-server-tags:delete"),
    ];
    operations.into_iter().map(|operation| operation.since(v(2, 26))).collect()
}

api::wire! {
    /// All tags of a server.
    pub struct NewTags {
        tags: Vec<String> = list_of(text(1, CHARACTERS).matching("^[^,/]*$")).items(0, TAGS).required(),
    }
}

fn no_tag(id: &str, tag: &str) -> Refusal {
    Refusal::not_found(format!("Server {id} has no tag '{tag}'"))
}

async fn list(call: Call<Compute>, Path(id): Path<String>) -> Answer<Document> {
    let server = call.permit(known(&call, &id).await?)?;
    Ok(Document::of(server, |server| json!({"tags": server.tags})))
}

async fn replace(call: Call<Compute>, (Path(id), Body(new)): (Path<String>, Body<NewTags>)) -> Answer<Document> {
    let mut wanted: Vec<String> = Vec::new();
    for tag in new.tags {
        if !wanted.contains(&tag) {
            wanted.push(tag);
        }
    }
    let (server, tags) = change(&call, &id, |tags| {
        tags.clone_from(&wanted);
        Ok(())
    })
    .await?;
    Ok(Document::of(server, |_| json!({"tags": tags})))
}

async fn clear(call: Call<Compute>, Path(id): Path<String>) -> Answer<Done> {
    let (server, _) = change(&call, &id, |tags| {
        tags.clear();
        Ok(())
    })
    .await?;
    Ok(Done::with(server))
}

async fn show(call: Call<Compute>, Path((id, tag)): Path<(String, String)>) -> Answer<Done> {
    let server = call.permit(known(&call, &id).await?)?;
    if !server.tags.contains(&tag) {
        return Err(no_tag(&id, &tag));
    }
    Ok(Done::with(server))
}

async fn add(call: Call<Compute>, Path((id, tag)): Path<(String, String)>) -> Answer<Permitted<Reply>> {
    if tag.chars().count() > CHARACTERS {
        let text = format!("Tag '{tag}' is too long. Maximum length of a tag is {CHARACTERS}");
        return Err(Refusal::bad_request(text));
    }
    if tag.is_empty() || tag.contains([',', '/']) {
        return Err(Refusal::bad_request(format!("Tag '{tag}' is invalid. It must not contain ',' or '/'.")));
    }
    let before = known(&call, &id).await?;
    let (server, _) = change(&call, &id, |tags| {
        if tags.contains(&tag) {
            return Ok(());
        }
        if tags.len() >= TAGS {
            return Err(Refusal::bad_request(format!("The number of tags exceeded the per-server limit {TAGS}")));
        }
        tags.push(tag.clone());
        Ok(())
    })
    .await?;
    let location = call.reader.link(&format!("/servers/{id}/tags/{}", api::message::encode(&tag)));
    let reply = match before.tags.contains(&tag) {
        true => Reply::new(204),
        false => Reply::new(201).header("location", &location),
    };
    Ok(server.map(|_| reply))
}

async fn remove(call: Call<Compute>, Path((id, tag)): Path<(String, String)>) -> Answer<Done> {
    let (server, _) = change(&call, &id, |tags| {
        let position = tags.iter().position(|known| *known == tag).ok_or_else(|| no_tag(&id, &tag))?;
        tags.remove(position);
        Ok(())
    })
    .await?;
    Ok(Done::with(server))
}

/// Changes the tags as they are when the change is written; returns them.
async fn change(
    call: &Call<Compute>,
    id: &str,
    make: impl Fn(&mut Vec<String>) -> Answer<()>,
) -> Answer<(Permitted<Server>, Vec<String>)> {
    let server = call.permit(known(call, id).await?)?;
    use VmState::{Active, Paused, Stopped, Suspended};
    if ![Active, Paused, Suspended, Stopped].contains(&server.vm()) {
        let state = server.vm_state.clone();
        return Err(ServerFault::WrongState { id: id.into(), verb: "update tags".into(), state }.into());
    }
    for _ in 0..TRIES {
        let now = store::find(&call.db, id).await?.ok_or_else(|| ServerFault::NotFound { id: id.into() })?;
        let mut tags = now.tags.clone();
        make(&mut tags)?;
        let write = sql("UPDATE servers SET tags = ?, updated_at = ? WHERE id = ? AND tags = ?");
        if call.db.run(write.bind(&tags).bind(base::clock::now()).bind(id).bind(&now.tags)).await? > 0 {
            return Ok((server, tags));
        }
    }
    Err(Refusal::conflict("The tags are being changed by others all the time. Please try again."))
}
