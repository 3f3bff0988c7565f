//! Tasks: upstream's records of imports, which clients list. Nothing makes any here.

use api::{Answer, Call, Document, Done, NoInput, Operation, Path, Refusal, delete, get};
use base::json;

use crate::Images;
use crate::images::{found, page_link};

pub fn operations() -> Vec<Operation<Images>> {
    vec![
        get("/tasks", list).rule("get_tasks").deprecated(),
        get("/tasks/{task_id}", show).rule("get_task").deprecated(),
        delete("/tasks/{task_id}", remove).rule("modify_task").deprecated(),
        get("/images/{image_id}/tasks", of_image).rule("get_image"),
    ]
}

/// Upstream: beside its own rule, each call needs the right to use tasks at all.
async fn list(call: Call<Images>, _: NoInput) -> Answer<Document> {
    let allowed = call.allow()?;
    call.must("tasks_api_access", &api::Own(&call.caller))?;
    let body = json!({"tasks": [], "first": page_link("/v2/tasks", &call.query, None), "schema": "/v2/schemas/tasks"});
    Ok(Document::new(allowed, body))
}

async fn show(call: Call<Images>, Path(id): Path<String>) -> Answer<Document> {
    call.allow()?;
    call.must("tasks_api_access", &api::Own(&call.caller))?;
    Err(missing(&id))
}

async fn remove(call: Call<Images>, _: NoInput) -> Answer<Done> {
    call.allow()?;
    call.must("tasks_api_access", &api::Own(&call.caller))?;
    let words = "This operation is currently not permitted on Glance Tasks. They are auto deleted after reaching the \
                 time based on their expires_at property.";
    Err(Refusal::new(405, "", words))
}

fn missing(id: &str) -> Refusal {
    Refusal::not_found(format!("Could not find task {id}"))
}

async fn of_image(call: Call<Images>, Path(id): Path<String>) -> Answer<Document> {
    let whole = call.permit(found(&call, &id).await?)?;
    Ok(Document::of(whole, |_| json!({"tasks": []})))
}
