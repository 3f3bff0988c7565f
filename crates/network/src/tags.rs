//! Tags: words on any resource, `/{resource_type}/{resource_id}/tags`.

use std::collections::HashMap;

use api::{Answer, Call, Operation, Path, Refusal, Reply, delete, get, post, put};
use base::{Json, json};
use db::{Queries, Tx, record, select, sql};

use crate::Network;
use crate::engine::attribute::Attributes;
use crate::engine::{self, Resource, gather, rule};
use crate::fault::{Fault, bad, invalid};
use crate::stop::Stop;
use crate::work::Work;

record! {
    pub struct Tag in "tags" {
        pub resource_id: String,
        pub tag: String,
    }
}

/// The tags of each of these resources.
pub async fn of(db: impl Queries, ids: &[String]) -> Result<HashMap<String, Vec<String>>, db::Error> {
    let mut tags: HashMap<String, Vec<String>> = HashMap::new();
    for tag in gather::<Tag>(db, "resource_id", ids).await? {
        tags.entry(tag.resource_id).or_default().push(tag.tag);
    }
    tags.values_mut().for_each(|tags| tags.sort());
    Ok(tags)
}

pub async fn forget(tx: &mut Tx, id: &str) -> Result<(), db::Error> {
    tx.run(sql("DELETE FROM tags WHERE resource_id = ?").bind(id)).await.map(drop)
}

/// Puts the tags given at creation on something new.
pub async fn give(work: &mut Work<'_>, id: &str, new: &Attributes) -> Result<(), Stop> {
    let tags: Vec<Tag> = new.texts("tags").into_iter().map(|tag| Tag { resource_id: id.into(), tag }).collect();
    Ok(work.tx.insert_all(&tags).await?)
}

/// Tags of one kind of resource.
pub fn operations<R: Resource>(all: &'static str, one: &'static str) -> Vec<Operation<Network>> {
    let rule = |verb: &str| -> &'static str {
        let name = match R::KIND.one {
            "segment" => format!("{verb}_segments_tags"),
            kind => format!("{verb}_{kind}:tags"),
        };
        // Once per process: rules are named by constants elsewhere.
        Box::leak(name.into_boxed_str())
    };
    vec![
        get(all, list::<R>).rule(rule("get")),
        post(all, add::<R>).rule(rule("create")),
        put(all, replace::<R>).rule(rule("update")),
        delete(all, clear::<R>).rule(rule("delete")),
        get(one, has::<R>).rule(rule("get")),
        put(one, put_one::<R>).rule(rule("update")),
        delete(one, take_one::<R>).rule(rule("delete")),
    ]
}

/// The resource, if the operation's rule allows the caller to touch its tags.
async fn permitted<R: Resource>(call: &Call<Network>, id: &str) -> Answer<()> {
    let missing = || Fault::TagResourceNotFound { resource: R::KIND.many.to_string(), id: id.to_string() };
    let item = engine::find::<R>(call, id).await.map_err(|_| Refusal::from(missing()))?;
    match call.allow_on(&item) {
        Ok(_) => Ok(()),
        Err(_) if !call.may(&format!("get_{}", R::KIND.one), &item) => Err(missing().into()),
        Err(refusal) => Err(refusal),
    }
}

async fn current(call: &Call<Network>, id: &str) -> Answer<Vec<String>> {
    Ok(of(&call.db, &[id.to_string()]).await?.remove(id).unwrap_or_default())
}

async fn list<R: Resource>(call: Call<Network>, Path(id): Path<String>) -> Answer<Reply> {
    permitted::<R>(&call, &id).await?;
    Ok(Reply::json(200, &json!({"tags": current(&call, &id).await?})))
}

async fn has<R: Resource>(call: Call<Network>, Path((id, tag)): Path<(String, String)>) -> Answer<Reply> {
    permitted::<R>(&call, &id).await?;
    match current(&call, &id).await?.contains(&tag) {
        true => Ok(Reply::new(204)),
        false => Err(Fault::TagNotFound { tag }.into()),
    }
}

async fn replace<R: Resource>(mut call: Call<Network>, Path(id): Path<String>) -> Answer<Reply> {
    let wanted = body(call.json().await?)?;
    permitted::<R>(&call, &id).await?;
    write::<R>(&call, &id, |_| wanted.clone()).await?;
    let mut wanted = wanted;
    wanted.sort();
    Ok(Reply::json(200, &json!({"tags": wanted})))
}

async fn add<R: Resource>(mut call: Call<Network>, Path(id): Path<String>) -> Answer<Reply> {
    let more = body(call.json().await?)?;
    permitted::<R>(&call, &id).await?;
    write::<R>(&call, &id, |tags| tags.iter().chain(&more).cloned().collect()).await?;
    Ok(Reply::json(201, &json!({"tags": current(&call, &id).await?})))
}

async fn clear<R: Resource>(call: Call<Network>, Path(id): Path<String>) -> Answer<Reply> {
    permitted::<R>(&call, &id).await?;
    write::<R>(&call, &id, |_| Vec::new()).await?;
    Ok(Reply::new(204))
}

async fn put_one<R: Resource>(call: Call<Network>, Path((id, tag)): Path<(String, String)>) -> Answer<Reply> {
    rule::text(json!(tag), rule::TAG_CHARACTERS).map_err(invalid)?;
    permitted::<R>(&call, &id).await?;
    write::<R>(&call, &id, |tags| tags.iter().chain([&tag]).cloned().collect()).await?;
    Ok(Reply::new(201))
}

async fn take_one<R: Resource>(call: Call<Network>, Path((id, tag)): Path<(String, String)>) -> Answer<Reply> {
    permitted::<R>(&call, &id).await?;
    if !current(&call, &id).await?.contains(&tag) {
        return Err(Fault::TagNotFound { tag }.into());
    }
    write::<R>(&call, &id, |tags| tags.iter().filter(|other| **other != tag).cloned().collect()).await?;
    Ok(Reply::new(204))
}

fn body(body: Json) -> Answer<Vec<String>> {
    let tags = body.get("tags").ok_or_else(|| invalid("Invalid tags body"))?;
    let tags = rule::tags(tags).map_err(invalid)?;
    Ok(tags.as_array().into_iter().flatten().filter_map(Json::as_str).map(String::from).collect())
}

async fn write<R: Resource>(call: &Call<Network>, id: &str, change: impl Fn(&[String]) -> Vec<String>) -> Answer<()> {
    call.db
        .retry(|| async {
            let mut work = Work::begin(&call.service, &call.caller).await?;
            engine::take::<R>(&mut work, id, None, true).await?;
            let rows = work.tx.all(select::<Tag>("WHERE resource_id = ?").bind(id)).await?;
            let before: Vec<String> = rows.into_iter().map(|row| row.tag).collect();
            let mut after = change(&before);
            after.sort();
            after.dedup();
            if after.len() > rule::TAGS {
                let text = format!("The number of tags exceed the per-resource limit of {}", rule::TAGS);
                return Err(bad("tags", text).into());
            }
            forget(&mut work.tx, id).await?;
            let rows: Vec<Tag> = after.into_iter().map(|tag| Tag { resource_id: id.to_string(), tag }).collect();
            work.tx.insert_all(&rows).await?;
            work.commit().await
        })
        .await?;
    Ok(())
}
