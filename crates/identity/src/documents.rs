//! The version documents, which need no token: `/` and `/v3`.

use api::{Method, Reply, Request};
use base::{Json, json};

/// Answers a request for a version document; `None` when it is for something else.
pub fn answer(request: &Request) -> Option<Reply> {
    let version = version(&request.base_url);
    let reply = match request.path.as_str() {
        // Upstream: clients may choose among versions, of which there is one.
        "" | "/" => Reply::json(300, &json!({"versions": {"values": [version]}}))
            .header("location", &format!("{}/v3/", request.base_url)),
        "/v3" | "/v3/" => Reply::json(200, &json!({"version": version})),
        _ => return None,
    };
    match request.method {
        Method::GET | Method::HEAD => Some(reply),
        _ => {
            let message = json!({"message": "The method is not allowed for the requested URL."});
            Some(Reply::json(405, &message).header("allow", "GET, HEAD, OPTIONS"))
        }
    }
}

fn version(base_url: &str) -> Json {
    json!({
        "id": "v3.14",
        "status": "stable",
        "updated": "2020-04-07T00:00:00Z",
        "links": [{"rel": "self", "href": format!("{base_url}/v3/")}],
        "media-types": [
            {"base": "application/json", "type": "application/vnd.openstack.identity-v3+json"},
        ],
    })
}
