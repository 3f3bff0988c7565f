//! Floating IPs: addresses of an external network that a router hands to a port inside.
//!
//! ```text
//! DOWN ──joined to a port──▶ DOWN ──its router's host has applied it──▶ ACTIVE ──port left──▶ DOWN
//! ```

use std::collections::HashMap;
use std::net::IpAddr;

use api::{Answer, Call, Caller, JsonMap, Limit, Operation, delete, get, post, put};
use base::{Json, json};
use db::{Queries, select, sql};

use crate::Network;
use crate::addresses::{self, Address, One, Wanted};
use crate::engine::attribute::{CREATED, DESCRIPTION, Given, ID, PROJECT, REVISION, TAGS, TENANT, UPDATED, attr};
use crate::engine::rule::Rule;
use crate::engine::{self, Attributes, Kind, Resource, entity, gather, stamp};
use crate::events::Event;
use crate::fault::{Fault, bad};
use crate::networks::{self, Networks};
use crate::ports::{self, NewPort, PortRow};
use crate::routers::INTERFACE;
use crate::stop::Stop;
use crate::subnets;
use crate::tags;
use crate::work::Work;

pub const OWNER: &str = "network:floatingip";

pub const KIND: Kind = Kind {
    one: "floatingip",
    many: "floatingips",
    attributes: &[
        ID,
        DESCRIPTION,
        PROJECT,
        TENANT,
        attr("floating_ip_address", Rule::IpOrNull).optional().text(),
        attr("subnet_id", Rule::UuidOrNull).optional().hidden(),
        attr("floating_network_id", Rule::Uuid).required().text(),
        attr("router_id", Rule::UuidOrNull).text(),
        attr("port_id", Rule::UuidOrNull).default(Given::Null).put().text(),
        attr("fixed_ip_address", Rule::IpOrNull).optional().put().text(),
        attr("status", Rule::Any).text(),
        attr("port_details", Rule::Any),
        attr("dns_name", Rule::Text(255)).default(Given::Empty).text().of("dns"),
        attr("dns_domain", Rule::Text(255)).default(Given::Empty).text().of("dns"),
        TAGS,
        CREATED,
        UPDATED,
        REVISION,
    ],
};

const QUOTA: Limit =
    Limit { name: "floatingip", default: 50, count: "SELECT COUNT(*) FROM floatingips WHERE project_id = ?" };

entity! {
    pub struct FloatingIp in "floatingips" {
        description: String,
        floating_network_id: String,
        floating_ip_address: String,
        floating_port_id: String,
        port_id: Option<String>,
        fixed_ip_address: Option<String>,
        router_id: Option<String>,
        status: String,
        dns_name: String,
        dns_domain: String,
        generation: i64,
    }
}

pub struct FloatingIps;

pub fn operations() -> Vec<Operation<Network>> {
    vec![
        get("/floatingips", engine::list::<FloatingIps>).rule("get_floatingip"),
        post("/floatingips", engine::create::<FloatingIps>).rule("create_floatingip"),
        get("/floatingips/{floatingip_id}", engine::show::<FloatingIps>).rule("get_floatingip"),
        put("/floatingips/{floatingip_id}", engine::update::<FloatingIps>).rule("update_floatingip"),
        delete("/floatingips/{floatingip_id}", engine::remove::<FloatingIps>).rule("delete_floatingip"),
    ]
}

impl Resource for FloatingIps {
    const KIND: &'static Kind = &KIND;
    const QUOTA: Option<&'static Limit> = Some(&QUOTA);
    type Row = FloatingIp;

    fn not_found(id: &str) -> Fault {
        Fault::FloatingIpNotFound { id: id.to_string() }
    }

    async fn items<Q: Queries>(mut db: Q, rows: Vec<FloatingIp>, _: &Caller) -> Result<Vec<Json>, db::Error> {
        let ids: Vec<String> = rows.iter().map(|row| row.id.clone()).collect();
        let ports: Vec<String> = rows.iter().filter_map(|row| row.port_id.clone()).collect();
        let tags = tags::of(&mut db, &ids).await?;
        let ports = gather::<PortRow>(&mut db, "id", &ports).await?;
        let ports: HashMap<String, PortRow> = ports.into_iter().map(|port| (port.id.clone(), port)).collect();
        let item = |row: &FloatingIp| {
            let mut item = item(row, row.port_id.as_ref().and_then(|id| ports.get(id)));
            item["tags"] = json!(tags.get(&row.id).cloned().unwrap_or_default());
            item
        };
        Ok(rows.iter().map(item).collect())
    }

    async fn parents(call: &Call<Network>, new: &Attributes) -> Answer<JsonMap> {
        let id = new.text("floating_network_id");
        let rows = Networks::scope(select("").and("id = ?").bind(&id), &call.caller);
        let row = call.db.maybe(rows).await?.ok_or_else(|| Fault::NetworkNotFound { net_id: id.clone() })?;
        match row.external {
            true => Ok(JsonMap::new()),
            false => Err(bad("floatingip", format!("Network {id} is not a valid external network")).into()),
        }
    }

    async fn create(work: &mut Work<'_>, new: &Attributes) -> Result<String, Stop> {
        let id = base::id::uuid();
        let (port, address) = outer_port(work, new, &id).await?;
        let mut row = FloatingIp {
            id: id.clone(),
            project_id: new.text("project_id"),
            description: new.text("description"),
            floating_network_id: port.network_id.clone(),
            floating_ip_address: address,
            floating_port_id: port.id.clone(),
            port_id: None,
            fixed_ip_address: None,
            router_id: None,
            status: "DOWN".into(),
            dns_name: new.text("dns_name"),
            dns_domain: networks::domain(&new.text("dns_domain"))?,
            generation: 0,
            created_at: work.now,
            updated_at: work.now,
            revision_number: 0,
        };
        join(work, &mut row, new).await?;
        work.tx.insert(&row).await.map_err(|error| taken(error, &row))?;
        Ok(id)
    }

    async fn update(work: &mut Work<'_>, row: FloatingIp, change: &Attributes) -> Result<(), Stop> {
        let mut next = row.clone();
        if let Some(text) = change.maybe("description") {
            next.description = text;
        }
        if change.has("port_id") {
            leave(work, &mut next).await?;
            join(work, &mut next, change).await?;
        } else if change.has("fixed_ip_address") {
            let Some(port) = row.port_id.clone() else {
                return Err(bad("floatingip", "fixed_ip_address cannot be specified without a port_id").into());
            };
            let mut both = change.clone();
            both.0.insert("port_id".into(), json!(port));
            leave(work, &mut next).await?;
            join(work, &mut next, &both).await?;
        }
        work.rewrite(&next).await.map_err(|stop| match stop {
            Stop::Database(error) => taken(error, &next),
            other => other,
        })
    }

    async fn remove(work: &mut Work<'_>, mut row: FloatingIp) -> Result<(), Stop> {
        leave(work, &mut row).await?;
        work.tx.run(sql("DELETE FROM floatingips WHERE id = ?").bind(&row.id)).await?;
        if let Some(port) = ports::row(&mut work.tx, &row.floating_port_id).await? {
            ports::erase(work, &port).await?;
        }
        Ok(())
    }
}

fn item(row: &FloatingIp, port: Option<&PortRow>) -> Json {
    let details = port.map(|port| {
        json!({
            "name": port.name,
            "network_id": port.network_id,
            "mac_address": port.mac_address,
            "admin_state_up": port.admin_state_up,
            "status": port.status,
            "device_id": port.device_id,
            "device_owner": port.device_owner,
        })
    });
    json!({
        "id": row.id,
        "description": row.description,
        "project_id": row.project_id,
        "tenant_id": row.project_id,
        "floating_ip_address": row.floating_ip_address,
        "floating_network_id": row.floating_network_id,
        "router_id": row.router_id,
        "port_id": row.port_id,
        "fixed_ip_address": row.fixed_ip_address,
        "status": row.status,
        "port_details": details,
        "dns_name": row.dns_name,
        "dns_domain": row.dns_domain,
        "created_at": stamp(row.created_at),
        "updated_at": stamp(row.updated_at),
        "revision_number": row.revision_number,
    })
}

/// The port on the external network that holds the address.
async fn outer_port(work: &mut Work<'_>, new: &Attributes, id: &str) -> Result<(PortRow, String), Stop> {
    let network_id = new.text("floating_network_id");
    let network = networks::row(&mut work.tx, &network_id).await?;
    let network = network.ok_or_else(|| Fault::NetworkNotFound { net_id: network_id.clone() })?;
    let all = subnets::of(work, &network_id).await?;
    if !all.iter().any(|subnet| subnet.ip_version == 4) {
        return Err(bad("floatingip", format!("Network {network_id} does not contain any IPv4 subnet")).into());
    }
    let address: Option<IpAddr> = new.maybe("floating_ip_address").and_then(|text| text.parse().ok());
    let wanted = match (new.maybe("subnet_id"), address) {
        (None, None) => Wanted::AnyV4,
        (subnet, address) => Wanted::These(vec![One { subnet, address }]),
    };
    let port = NewPort {
        device_owner: OWNER.into(),
        device_id: id.to_string(),
        wanted,
        port_security: Some(false),
        status: "N/A",
        // Upstream: it belongs to nobody, so that no project meddles with it.
        ..NewPort::of("")
    };
    let port = ports::insert(work, &network, port).await?;
    let own = addresses::own(work, &port.id).await?;
    let four = own.into_iter().find(|address| !address.ip_address.contains(':'));
    let four = four.ok_or(Fault::ExternalIpAddressExhausted { net_id: network_id })?;
    Ok((port, four.ip_address))
}

/// Joins the floating IP to the port that is asked for, if one is.
async fn join(work: &mut Work<'_>, row: &mut FloatingIp, given: &Attributes) -> Result<(), Stop> {
    let fixed = given.maybe("fixed_ip_address");
    let Some(port_id) = given.maybe("port_id") else {
        return match fixed {
            Some(_) => Err(bad("floatingip", "fixed_ip_address cannot be specified without a port_id").into()),
            None => Ok(()),
        };
    };
    let rows = ports::Ports::scope(select("").and("id = ?").bind(&port_id), work.caller);
    let found: Option<PortRow> = work.tx.maybe(rows).await?;
    let port = found.ok_or_else(|| Fault::PortNotFound { port_id: port_id.clone() })?;
    if port.project_id != row.project_id && !work.caller.has_role("admin") {
        let text = format!(
            "Cannot process floating IP association with Port {port_id}, since that port is owned by a different project"
        );
        return Err(bad("floatingip", text).into());
    }
    let address = inner_address(work, &port, fixed).await?;
    let others = sql(
        "SELECT COUNT(*) FROM floatingips WHERE floating_network_id = ? AND port_id = ? AND fixed_ip_address = ? AND id <> ?",
    );
    let others = others.bind(&row.floating_network_id).bind(&port_id).bind(&address.ip_address).bind(&row.id);
    row.port_id = Some(port_id.clone());
    row.fixed_ip_address = Some(address.ip_address.clone());
    if work.tx.count(others).await? > 0 {
        return Err(already(row).into());
    }
    let router = router_between(work, &address.subnet_id, &row.floating_network_id).await?;
    row.router_id = Some(router.ok_or_else(|| Fault::ExternalGatewayNotFound {
        subnet_id: address.subnet_id.clone(),
        external_network_id: row.floating_network_id.clone(),
        port_id,
    })?);
    row.status = "DOWN".into();
    work.touched.routers.extend(row.router_id.clone());
    row.generation = work.generation().await?;
    if port.is_compute() {
        work.tell(Event::network_changed(&port)).await?;
    }
    Ok(())
}

/// The IPv4 address of the port that the floating IP stands for.
async fn inner_address(work: &mut Work<'_>, port: &PortRow, fixed: Option<String>) -> Result<Address, Stop> {
    let own = addresses::own(work, &port.id).await?;
    if let Some(fixed) = fixed {
        if fixed.contains(':') {
            let text =
                format!("Cannot process floating IP association with {fixed}, since that is not an IPv4 address");
            return Err(bad("floatingip", text).into());
        }
        let found = own.into_iter().find(|address| address.ip_address == fixed);
        return found
            .ok_or_else(|| bad("floatingip", format!("Port {} does not have fixed ip {fixed}", port.id)).into());
    }
    let mut four: Vec<Address> = own.into_iter().filter(|address| !address.ip_address.contains(':')).collect();
    match four.len() {
        0 => Err(bad(
            "floatingip",
            format!("Cannot add floating IP to port {} that has no fixed IPv4 addresses", port.id),
        )
        .into()),
        1 => Ok(four.remove(0)),
        _ => Err(bad(
            "floatingip",
            format!(
                "Port {} has multiple fixed IPv4 addresses.  Must provide a specific IPv4 address when assigning a \
                 floating IP",
                port.id
            ),
        )
        .into()),
    }
}

/// The router that joins a subnet with an external network; the one at the subnet's gateway address first.
async fn router_between(work: &mut Work<'_>, subnet: &str, external: &str) -> Result<Option<String>, Stop> {
    let text = "SELECT routers.id, addresses.ip_address FROM routers JOIN ports ON ports.device_id = routers.id JOIN \
                addresses ON addresses.port_id = ports.id WHERE ports.device_owner = ? AND addresses.subnet_id = ? AND \
                routers.gateway_network_id = ? ORDER BY routers.id";
    let rows = work.tx.rows(sql(text).bind(INTERFACE).bind(subnet).bind(external)).await?;
    let gateway = subnets::row(&mut work.tx, subnet).await?.and_then(|subnet| subnet.gateway_ip);
    let mut first = None;
    for row in rows {
        let (id, address): (String, String) = (row.get(0)?, row.get(1)?);
        if Some(&address) == gateway.as_ref() {
            return Ok(Some(id));
        }
        first.get_or_insert(id);
    }
    Ok(first)
}

/// Takes the floating IP off its port.
async fn leave(work: &mut Work<'_>, row: &mut FloatingIp) -> Result<(), Stop> {
    if let Some(id) = row.port_id.take()
        && let Some(port) = ports::row(&mut work.tx, &id).await?
        && port.is_compute()
    {
        work.tell(Event::network_changed(&port)).await?;
    }
    work.touched.routers.extend(row.router_id.take());
    row.fixed_ip_address = None;
    row.status = "DOWN".into();
    Ok(())
}

fn already(row: &FloatingIp) -> Fault {
    Fault::PortAlreadyAssociated {
        floating_ip_address: row.floating_ip_address.clone(),
        fip_id: row.id.clone(),
        port_id: row.port_id.clone().unwrap_or_default(),
        fixed_ip: row.fixed_ip_address.clone().unwrap_or_default(),
        net_id: row.floating_network_id.clone(),
    }
}

/// Two requests for the same fixed address: the index decides.
fn taken(error: db::Error, row: &FloatingIp) -> Stop {
    match error.is_duplicate() {
        true => already(row).into(),
        false => error.into(),
    }
}

const OFF: &str = "UPDATE floatingips SET port_id = NULL, fixed_ip_address = NULL, router_id = NULL, status = 'DOWN', \
                   updated_at = ?, revision_number = revision_number + 1 WHERE port_id = ?";

/// Takes all floating IPs off a port that goes away.
pub async fn leave_port(work: &mut Work<'_>, port: &str) -> Result<(), Stop> {
    let rows = work.tx.all(select::<FloatingIp>("WHERE port_id = ?").bind(port)).await?;
    if rows.is_empty() {
        return Ok(());
    }
    work.touched.routers.extend(rows.into_iter().filter_map(|row| row.router_id));
    work.tx.run(sql(OFF).bind(work.now).bind(port)).await?;
    Ok(())
}

/// Takes floating IPs off addresses that a port loses.
pub async fn leave_addresses(work: &mut Work<'_>, port: &str, gone: &[Address]) -> Result<(), Stop> {
    for address in gone {
        let rows =
            select::<FloatingIp>("WHERE port_id = ? AND fixed_ip_address = ?").bind(port).bind(&address.ip_address);
        for row in work.tx.all(rows).await? {
            work.touched.routers.extend(row.router_id.clone());
            let off = sql(OFF).bind(work.now).bind(port).and("id = ?").bind(&row.id);
            work.tx.run(off).await?;
        }
    }
    Ok(())
}

/// Removes the floating IPs of a network that are joined to nothing: they do not hold it.
pub async fn clear(work: &mut Work<'_>, network: &str) -> Result<(), Stop> {
    let rows = select::<FloatingIp>("WHERE floating_network_id = ? AND port_id IS NULL").bind(network);
    for row in work.tx.all(rows).await? {
        tags::forget(&mut work.tx, &row.id).await?;
        FloatingIps::remove(work, row).await?;
    }
    Ok(())
}
