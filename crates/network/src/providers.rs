//! Service providers: who carries out routers.

use api::{Answer, Call, NoInput, Operation, Reply, get};
use base::json;

use crate::Network;

pub fn operations() -> Vec<Operation<Network>> {
    vec![get("/service-providers", list).rule("get_service_provider")]
}

async fn list(call: Call<Network>, _: NoInput) -> Answer<Reply> {
    call.allow()?;
    let provider = json!({"service_type": "L3_ROUTER_NAT", "name": "single_node", "default": true});
    Ok(Reply::json(200, &json!({"service_providers": [provider]})))
}
