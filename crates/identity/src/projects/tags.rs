//! Tags: words by which projects can be found.

use api::{Answer, Body, Call, Document, Done, Path, Permitted, Refusal, Reply, wire};
use base::json;
use db::sql;

use super::store::{self, Project, Tag};
use crate::Identity;

/// Limit: tags of one project.
pub const TAGS: usize = 80;

wire! {
    pub struct NewTags {
        tags: Vec<String> = wire::list(tag_rule()).items(0, TAGS).unique().required(),
    }
}

pub fn tag_rule() -> wire::Rule {
    wire::text(1, 255).matching("^[^,/]*$")
}

pub(super) async fn list(call: Call<Identity>, Path(id): Path<String>) -> Answer<Document> {
    let project = super::permitted(&call, &id).await?;
    show(&call, project).await
}

pub(super) async fn replace(
    call: Call<Identity>,
    (Path(id), Body(new)): (Path<String>, Body<NewTags>),
) -> Answer<Document> {
    let project = super::permitted(&call, &id).await?;
    let mut tx = call.db.begin().await?;
    store::set_tags(&mut tx, &id, &new.tags).await?;
    tx.commit().await?;
    show(&call, project).await
}

pub(super) async fn clear(call: Call<Identity>, Path(id): Path<String>) -> Answer<Done> {
    let project = super::permitted(&call, &id).await?;
    call.db.run(sql("DELETE FROM project_tags WHERE project_id = ?").bind(&id)).await?;
    Ok(Done::with(project))
}

pub(super) async fn check(call: Call<Identity>, Path((id, tag)): Path<(String, String)>) -> Answer<Done> {
    let project = super::permitted(&call, &id).await?;
    match of(&call, &id).await?.contains(&tag) {
        true => Ok(Done::with(project)),
        false => Err(crate::missing("project tag", &tag)),
    }
}

pub(super) async fn add(call: Call<Identity>, Path((id, tag)): Path<(String, String)>) -> Answer<Permitted<Reply>> {
    let project = super::permitted(&call, &id).await?;
    if tag.is_empty() || tag.len() > 255 || tag.contains([',', '/']) {
        return Err(Refusal::bad_request(format!(
            "Invalid input for field/attribute value. Value: {tag}. '{tag}' does not match '^[^,/]*$'"
        )));
    }
    if of(&call, &id).await?.len() >= TAGS {
        return Err(Refusal::bad_request(format!("A project may have {TAGS} tags at most.")));
    }
    call.db.insert_new(&Tag { project_id: id.clone(), name: tag.clone() }).await?;
    let link = call.reader.link(&format!("/projects/{id}/tags/{tag}"));
    Ok(project.map(|_| Reply::new(201).header("location", &link)))
}

pub(super) async fn remove(call: Call<Identity>, Path((id, tag)): Path<(String, String)>) -> Answer<Done> {
    let project = super::permitted(&call, &id).await?;
    let gone = sql("DELETE FROM project_tags WHERE project_id = ? AND name = ?").bind(&id).bind(&tag);
    match call.db.run(gone).await? {
        0 => Err(crate::missing("project tag", &tag)),
        _ => Ok(Done::with(project)),
    }
}

async fn of(call: &Call<Identity>, id: &str) -> Answer<Vec<String>> {
    Ok(store::tags(&call.db, &[id.to_string()]).await?.remove(id).unwrap_or_default())
}

async fn show(call: &Call<Identity>, project: Permitted<Project>) -> Answer<Document> {
    let tags = of(call, &project.id).await?;
    let link = call.reader.link(&format!("/projects/{}/tags", project.id));
    Ok(Document::of(project, |_| json!({"tags": tags, "links": {"self": link}})))
}
