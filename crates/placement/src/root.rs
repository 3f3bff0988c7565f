//! The version document at `/`.

use api::{Answer, Call, NoInput, Operation, Reply, Service, get, json};
use base::clock;

use crate::Placement;
use crate::exchange::dated;

pub fn operations() -> Vec<Operation<Placement>> {
    vec![get("/", show).public()]
}

async fn show(call: Call<Placement>, _: NoInput) -> Answer<Reply> {
    let versions = Placement::SHAPE.versions.expect("placement has microversions");
    let (min, max) = (versions.min.to_string(), versions.max.to_string());
    // Upstream: the link is empty, «this same URL», so that no proxy can make it wrong.
    let document = json!({
        "id": format!("v{min}"),
        "max_version": max,
        "min_version": min,
        "status": "CURRENT",
        "links": [{"rel": "self", "href": ""}],
    });
    Ok(dated(&call, Reply::json(200, &json!({"versions": [document]})), clock::now()))
}
