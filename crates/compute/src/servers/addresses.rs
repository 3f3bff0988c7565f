//! A server's addresses by network.

use api::{Answer, Call, Document, Operation, Path, Refusal, get, json};

use super::store::known;
use super::view::plain_addresses;
use crate::Compute;

pub fn operations() -> Vec<Operation<Compute>> {
    vec![
        get("/servers/{server_id}/ips", list).rule("os_compute_api:ips:index"),
        get("/servers/{server_id}/ips/{id}", show).rule("os_compute_api:ips:show"),
    ]
}

async fn list(call: Call<Compute>, Path(id): Path<String>) -> Answer<Document> {
    let server = call.permit(known(&call, &id).await?)?;
    Ok(Document::of(server, |server| json!({"addresses": plain_addresses(server)})))
}

async fn show(call: Call<Compute>, Path((id, network)): Path<(String, String)>) -> Answer<Document> {
    let server = call.permit(known(&call, &id).await?)?;
    let addresses = plain_addresses(&server).get(&network).cloned();
    let addresses = addresses.ok_or_else(|| Refusal::not_found("Instance is not a member of specified network"))?;
    Ok(Document::of(server, |_| json!({network: addresses})))
}
