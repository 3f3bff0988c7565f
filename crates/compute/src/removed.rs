//! What upstream once served and has removed: it says so, at every version.

use api::{Answer, Call, Document, NoInput, Operation, Refusal, action, delete, get, post, put, v};

use crate::Compute;

pub fn operations() -> Vec<Operation<Compute>> {
    const SERVER: &str = "/servers/{id}/action";
    let mut operations = vec![
        action(SERVER, "os-getRDPConsole", gone).until(v(2, 5)).open(),
        action(SERVER, "resetNetwork", gone).open(),
    ];
    operations.extend(READ.iter().map(|path| get(path, gone).open()));
    operations.extend(MADE.iter().map(|path| post(path, gone).open()));
    operations.extend(CHANGED.iter().map(|path| put(path, gone).open()));
    operations.extend(DELETED.iter().map(|path| delete(path, gone).open()));
    operations
}

const READ: &[&str] = &[
    "/os-agents",
    "/os-cells",
    "/os-cells/capacities",
    "/os-cells/detail",
    "/os-cells/info",
    "/os-cells/{id}",
    "/os-cells/{id}/capacities",
    "/os-certificates/{id}",
    "/os-cloudpipe",
    "/os-fixed-ips/{id}",
    "/os-floating-ip-dns",
    "/os-floating-ip-dns/{domain_id}/entries/{id}",
    "/os-floating-ips-bulk",
    "/os-floating-ips-bulk/{id}",
    "/os-fping",
    "/os-fping/{id}",
    "/os-security-group-default-rules",
    "/os-security-group-default-rules/{id}",
    "/servers/{server_id}/consoles",
    "/servers/{server_id}/consoles/{id}",
    "/servers/{server_id}/os-virtual-interfaces",
];

const MADE: &[&str] = &[
    "/os-agents",
    "/os-cells",
    "/os-cells/sync_instances",
    "/os-certificates",
    "/os-cloudpipe",
    "/os-fixed-ips/{id}/action",
    "/os-floating-ips-bulk",
    "/os-networks",
    "/os-networks/add",
    "/os-networks/{id}/action",
    "/os-security-group-default-rules",
    "/os-tenant-networks",
    "/servers/{server_id}/consoles",
];

const CHANGED: &[&str] = &[
    "/os-agents/{id}",
    "/os-cells/{id}",
    "/os-cloudpipe/{id}",
    "/os-floating-ip-dns/{domain_id}/entries/{id}",
    "/os-floating-ip-dns/{id}",
    "/os-floating-ips-bulk/{id}",
];

const DELETED: &[&str] = &[
    "/os-agents/{id}",
    "/os-cells/{id}",
    "/os-floating-ip-dns/{domain_id}/entries/{id}",
    "/os-floating-ip-dns/{id}",
    "/os-networks/{id}",
    "/os-security-group-default-rules/{id}",
    "/os-tenant-networks/{id}",
    "/servers/{server_id}/consoles/{id}",
];

async fn gone(_: Call<Compute>, _: NoInput) -> Answer<Document> {
    let words = "This resource is no longer available. No forwarding address is given.";
    Err(Refusal::new(410, "computeFault", words))
}
