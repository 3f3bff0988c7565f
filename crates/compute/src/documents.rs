//! Version documents: what a client reads before it logs in.

use api::{Json, Method, Reply, Request, json};

/// Answers `/`, `/v2` and `/v2.1`, which need no token; anything else is left to the table.
pub fn answer(request: &Request) -> Option<Reply> {
    if !matches!(request.method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return None;
    }
    let base = &request.base_url;
    match request.path.trim_end_matches('/') {
        "" => Some(Reply::json(200, &json!({"versions": [summary(base, "v2.0"), summary(base, "v2.1")]}))),
        "/v2" => Some(Reply::json(200, &json!({"version": detail(base, "v2.0")}))),
        "/v2.1" => {
            let reply = Reply::json(200, &json!({"version": detail(base, "v2.1")}));
            let reply = reply.header("openstack-api-version", "compute 2.1");
            Some(reply.header("x-openstack-nova-api-version", "2.1").header("vary", "X-OpenStack-Nova-API-Version"))
        }
        path if !path.starts_with("/v2") => Some(Reply::json(300, &choices(base, path))),
        _ => None,
    }
}

fn summary(base: &str, id: &str) -> Json {
    let (status, max, min, updated) = facts(id);
    let link = json!({"rel": "self", "href": format!("{base}/{}/", mount(id))});
    json!({"id": id, "status": status, "version": max, "min_version": min, "updated": updated, "links": [link]})
}

fn detail(base: &str, id: &str) -> Json {
    let mut version = summary(base, id);
    if let Some(links) = version["links"].as_array_mut() {
        links.push(json!({"rel": "describedby", "type": "text/html", "href": "http://docs.openstack.org/"}));
    }
    version["media-types"] = media_types(id);
    version
}

fn choices(base: &str, path: &str) -> Json {
    let choice = |id: &str| {
        let link = json!({"rel": "self", "href": format!("{base}/{}{path}", mount(id))});
        json!({"id": id, "status": facts(id).0, "links": [link], "media-types": media_types(id)})
    };
    json!({"choices": [choice("v2.0"), choice("v2.1")]})
}

fn media_types(id: &str) -> Json {
    let kind = format!("application/vnd.openstack.compute+json;version={}", mount(id).trim_start_matches('v'));
    json!([{"base": "application/json", "type": kind}])
}

/// Status, newest and oldest microversion, date.
fn facts(id: &str) -> (&'static str, &'static str, &'static str, &'static str) {
    match id {
        "v2.1" => ("CURRENT", "2.104", "2.1", "2013-07-23T11:33:21Z"),
        _ => ("DEPRECATED", "", "", "2025-07-04T12:00:00Z"),
    }
}

fn mount(id: &str) -> &'static str {
    if id == "v2.1" { "v2.1" } else { "v2" }
}
