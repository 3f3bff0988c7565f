//! Version documents: `/` for everybody, `/v2.0/` with a token.

use api::{Answer, Call, Method, NoInput, Operation, Reply, Request, get};
use base::{Json, json};

use crate::Network;

/// `/` needs no token.
pub fn answer(request: &Request) -> Option<Reply> {
    if request.path != "/" && !request.path.is_empty() {
        return None;
    }
    if request.method != Method::GET && request.method != Method::OPTIONS {
        return Some(Reply::new(405).header("allow", "GET, OPTIONS").header("content-type", "application/json"));
    }
    let link = json!({"rel": "self", "href": format!("{}/v2.0/", request.base_url)});
    Some(Reply::json(200, &json!({"versions": [{"id": "v2.0", "status": "CURRENT", "links": [link]}]})))
}

pub fn operations() -> Vec<Operation<Network>> {
    vec![get("/", resources).open()]
}

async fn resources(call: Call<Network>, _: NoInput) -> Answer<Reply> {
    let entry = |one: &str, many: &str| -> Json {
        let link = json!({"rel": "self", "href": call.reader.link(&format!("/{many}"))});
        json!({"name": one, "collection": many, "links": [link]})
    };
    let core = [("network", "networks"), ("subnet", "subnets"), ("subnetpool", "subnetpools"), ("port", "ports")];
    let core: Vec<Json> = core.iter().map(|(one, many)| entry(one, many)).collect();
    Ok(Reply::json(200, &json!({"resources": core})))
}
