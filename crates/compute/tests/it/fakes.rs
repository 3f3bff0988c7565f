//! The neighbours of compute, in memory: as much of them as compute uses, and able to fail.

pub mod host;
pub mod identity;
pub mod image;
pub mod network;
pub mod placement;

use api::{Json, Reply, Request, json};

/// The JSON body of a request; null when there is none.
async fn body(request: Request) -> Json {
    let bytes = request.content.bytes(1 << 24).await.unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

fn missing(what: &str) -> Reply {
    Reply::json(404, &json!({"error": {"message": format!("{what} could not be found.")}}))
}
