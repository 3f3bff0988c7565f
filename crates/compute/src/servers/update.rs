//! Changing what a server is called and how it is reached.

use std::net::{Ipv4Addr, Ipv6Addr};

use api::wire::{Maybe, one_of, text};
use api::{Answer, Body, Call, Operation, Path, Refusal, Show, put, v};
use db::sql;

use super::create::{FULL_NAME, LABEL, address};
use super::find::detailed;
use super::store::{self, Server, known};
use super::view::Updated;
use crate::{Compute, names};

pub fn operations() -> Vec<Operation<Compute>> {
    vec![put("/servers/{id}", update).rule("os_compute_api:servers:update")]
}

api::wire! {
    /// What may be changed.
    pub struct Changes in "server" {
        name: Option<String> = text(1, 255),
        disk_config as "OS-DCF:diskConfig": Option<String> = one_of(&["AUTO", "MANUAL"]),
        access_ip_v4 as "accessIPv4": Maybe<String> = text(0, 64).nullable(),
        access_ip_v6 as "accessIPv6": Maybe<String> = text(0, 64).nullable(),
        description: Maybe<String> = text(0, 255).nullable().since(v(2, 19)),
        hostname: Option<String> = text(2, 63).matching(LABEL).since(v(2, 90)).until(v(2, 93)),
        full_hostname as "hostname": Option<String> = text(2, 255).matching(FULL_NAME).since(v(2, 94)),
        pinned_zone as "pinned_availability_zone": Maybe<String> = text(1, 255).nullable().since(v(2, 104)),
    }
}

async fn update(call: Call<Compute>, (Path(id), Body(new)): (Path<String>, Body<Changes>)) -> Answer<Show<Updated>> {
    let server = call.permit(known(&call, &id).await?)?;
    let changed = changed(&server, new)?;
    let change = sql("UPDATE servers SET name = ?, description = ?, hostname = ?, disk_config = ?, access_ip_v4 = ?, \
         access_ip_v6 = ?, pinned_zone = ?, updated_at = ? WHERE id = ?");
    let change = change.bind(&changed.name).bind(&changed.description).bind(&changed.hostname);
    let change = change.bind(&changed.disk_config).bind(&changed.access_ip_v4).bind(&changed.access_ip_v6);
    call.db.run(change.bind(&changed.pinned_zone).bind(base::clock::now()).bind(&id)).await?;
    let now = store::find(&call.db, &id).await?.unwrap_or(changed);
    let shown = detailed(&call, server.map(|_| now)).await?;
    Ok(Show(shown.map(Updated)))
}

/// The server as it is to be.
fn changed(server: &Server, new: Changes) -> Answer<Server> {
    let mut server = server.clone();
    if let Some(name) = new.name {
        names::check("name", &name)?;
        server.name = name;
    }
    if let Some(disk_config) = new.disk_config {
        server.disk_config = disk_config;
    }
    // Upstream: an empty text takes an address away.
    if let Some(text) = new.access_ip_v4.sent() {
        server.access_ip_v4 = address::<Ipv4Addr>("accessIPv4", text.as_deref().filter(|text| !text.is_empty()))?;
    }
    if let Some(text) = new.access_ip_v6.sent() {
        server.access_ip_v6 = address::<Ipv6Addr>("accessIPv6", text.as_deref().filter(|text| !text.is_empty()))?;
    }
    if let Some(description) = new.description.sent() {
        server.description = description;
    }
    if let Some(hostname) = new.hostname.or(new.full_hostname) {
        server.hostname = hostname;
    }
    if let Some(zone) = new.pinned_zone.sent() {
        if zone.is_some() && zone != server.availability_zone {
            let text = format!(
                "Instance {} can only be pinned to the availability zone it is in, {}.",
                server.id,
                server.availability_zone.as_deref().unwrap_or("none")
            );
            return Err(Refusal::conflict(text));
        }
        server.pinned_zone = zone;
    }
    Ok(server)
}
