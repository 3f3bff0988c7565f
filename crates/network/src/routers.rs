//! Routers: what joins networks, and leads out of the cloud.
//!
//! A router lives on one host, chosen when it gets a gateway or its first interface. Its ports are bound there.

pub mod gateway;
pub mod interfaces;
pub mod routes;

use std::collections::HashMap;

use api::{Caller, Limit, Operation, delete, get, post, put};
use base::{Json, json};
use db::{Queries, Value, select, sql};

use crate::Network;
use crate::addresses::{self, Address};
use crate::engine::attribute::{CREATED, DESCRIPTION, Given, ID, NAME, PROJECT, REVISION, TAGS, TENANT, UPDATED, attr};
use crate::engine::rule::Rule;
use crate::engine::{self, Attributes, Kind, Resource, entity, gather, stamp};
use crate::fault::Fault;
use crate::hosts::{self, HostRow};
use crate::ports::{self, PortRow, binding};
use crate::segments::Segment;
use crate::stop::Stop;
use crate::work::Work;
use crate::{agents, subnets, tags, zones};

pub const INTERFACE: &str = "network:router_interface";
pub const GATEWAY: &str = "network:router_gateway";

pub const KIND: Kind = Kind {
    one: "router",
    many: "routers",
    attributes: &[
        ID,
        NAME,
        DESCRIPTION,
        PROJECT,
        TENANT,
        attr("admin_state_up", Rule::Flag).default(Given::True).put().flag(),
        attr("status", Rule::Any).text(),
        attr("external_gateway_info", Rule::With(gateway::shape)).default(Given::Null).put(),
        attr("distributed", Rule::Flag).optional().put().flag(),
        attr("ha", Rule::Flag).optional().put().flag(),
        attr("flavor_id", Rule::UuidOrNull).optional().text(),
        attr("routes", Rule::With(subnets::check::routes)).put(),
        attr("availability_zone_hints", Rule::Texts).default(Given::List),
        attr("availability_zones", Rule::Any),
        TAGS,
        CREATED,
        UPDATED,
        REVISION,
    ],
};

const QUOTA: Limit = Limit { name: "router", default: 10, count: "SELECT COUNT(*) FROM routers WHERE project_id = ?" };

entity! {
    pub struct RouterRow in "routers" {
        name: String,
        description: String,
        admin_state_up: bool,
        status: String,
        gateway_network_id: Option<String>,
        enable_snat: bool,
        distributed: bool,
        ha: bool,
        flavor_id: Option<String>,
        routes: Json,
        availability_zone_hints: Vec<String>,
        host: String,
    }
}

pub struct Routers;

pub fn operations() -> Vec<Operation<Network>> {
    vec![
        get("/routers", engine::list::<Routers>).rule("get_router"),
        post("/routers", engine::create::<Routers>).rule("create_router"),
        get("/routers/{router_id}", engine::show::<Routers>).rule("get_router"),
        put("/routers/{router_id}", engine::update::<Routers>).rule("update_router"),
        delete("/routers/{router_id}", engine::remove::<Routers>).rule("delete_router"),
        put("/routers/{router_id}/add_router_interface", interfaces::add).rule("add_router_interface"),
        put("/routers/{router_id}/remove_router_interface", interfaces::remove).rule("remove_router_interface"),
        put("/routers/{router_id}/add_extraroutes", routes::add).rule("add_extraroutes"),
        put("/routers/{router_id}/remove_extraroutes", routes::remove).rule("remove_extraroutes"),
    ]
}

impl Resource for Routers {
    const KIND: &'static Kind = &KIND;
    const QUOTA: Option<&'static Limit> = Some(&QUOTA);
    type Row = RouterRow;

    fn not_found(id: &str) -> Fault {
        Fault::RouterNotFound { router_id: id.to_string() }
    }

    async fn items<Q: Queries>(mut db: Q, rows: Vec<RouterRow>, _: &Caller) -> Result<Vec<Json>, db::Error> {
        let ids: Vec<String> = rows.iter().map(|row| row.id.clone()).collect();
        let tags = tags::of(&mut db, &ids).await?;
        let mut gateways: HashMap<String, PortRow> = HashMap::new();
        for chunk in ids.chunks(8000) {
            let ports = select::<PortRow>("WHERE device_owner = ?").bind(GATEWAY).in_list("device_id", chunk);
            gateways.extend(db.all(ports).await?.into_iter().map(|port| (port.device_id.clone(), port)));
        }
        let ports: Vec<String> = gateways.values().map(|port| port.id.clone()).collect();
        let addresses = addresses::of(&mut db, &ports).await?;
        let item = |row: &RouterRow| {
            let port = gateways.get(&row.id);
            let own = port.and_then(|port| addresses.get(&port.id)).map(Vec::as_slice).unwrap_or_default();
            let mut item = item(row, port, own);
            item["tags"] = json!(tags.get(&row.id).cloned().unwrap_or_default());
            item
        };
        Ok(rows.iter().map(item).collect())
    }

    async fn create(work: &mut Work<'_>, new: &Attributes) -> Result<String, Stop> {
        zones::known(work, &new.texts("availability_zone_hints"), "router").await?;
        if let Some(flavor) = new.maybe("flavor_id") {
            let words = format!("Flavor {flavor} could not be found.");
            return Err(api::Refusal::new(404, "FlavorNotFound", words).into());
        }
        let row = RouterRow {
            id: base::id::uuid(),
            project_id: new.text("project_id"),
            name: new.text("name"),
            description: new.text("description"),
            admin_state_up: new.flag("admin_state_up").unwrap_or(true),
            status: "ACTIVE".into(),
            gateway_network_id: None,
            enable_snat: true,
            distributed: new.flag("distributed").unwrap_or(false),
            ha: new.flag("ha").unwrap_or(false),
            flavor_id: None,
            routes: json!([]),
            availability_zone_hints: new.texts("availability_zone_hints"),
            host: String::new(),
            created_at: work.now,
            updated_at: work.now,
            revision_number: 1,
        };
        work.tx.insert(&row).await?;
        if let Some(info) = new.get("external_gateway_info").filter(|info| !info.is_null()) {
            gateway::set(work, &row, info).await?;
        }
        Ok(row.id)
    }

    async fn update(work: &mut Work<'_>, row: RouterRow, change: &Attributes) -> Result<(), Stop> {
        let mut columns = Vec::new();
        for name in ["name", "description"] {
            columns.extend(change.maybe(name).map(|text| (name, Value::Text(text))));
        }
        for name in ["admin_state_up", "distributed", "ha"] {
            columns.extend(change.flag(name).map(|on| (name, Value::Int(on.into()))));
        }
        let turns = |name: &str, old: bool| change.flag(name).is_some_and(|new| new != old);
        if (turns("ha", row.ha) || turns("distributed", row.distributed)) && row.admin_state_up {
            let words = "Cannot change HA attribute of active routers. Please set router admin_state_up to False prior \
                         to upgrade";
            return Err(crate::fault::bad("router", words).into());
        }
        work.set::<RouterRow>(&row.id, columns).await?;
        if let Some(info) = change.get("external_gateway_info") {
            gateway::set(work, &row, info).await?;
        }
        if let Some(list) = change.get("routes") {
            let list = if list.is_null() { json!([]) } else { list.clone() };
            routes::write(work, &row.id, list).await?;
        }
        work.touched.routers.insert(row.id);
        Ok(())
    }

    async fn remove(work: &mut Work<'_>, row: RouterRow) -> Result<(), Stop> {
        let ports = select::<PortRow>("WHERE device_id = ? AND device_owner LIKE 'network:router%' ORDER BY id");
        let ports = work.tx.all(ports.bind(&row.id)).await?;
        let inside: Vec<&str> =
            ports.iter().filter(|port| port.device_owner != GATEWAY).map(|port| port.id.as_str()).collect();
        if !inside.is_empty() {
            let reason = format!("has ports still attached: {}", inside.join(", "));
            return Err(Fault::RouterInUse { router_id: row.id, reason }.into());
        }
        let floating = sql("SELECT COUNT(*) FROM floatingips WHERE router_id = ?").bind(&row.id);
        if work.tx.count(floating).await? > 0 {
            let net_id = row.gateway_network_id.unwrap_or_default();
            return Err(Fault::GatewayInUseByFloatingIp { router_id: row.id, net_id }.into());
        }
        for port in ports {
            ports::erase(work, &port).await?;
        }
        work.touched.host(&row.host);
        work.tx.run(sql("DELETE FROM routers WHERE id = ?").bind(&row.id)).await?;
        Ok(())
    }
}

fn item(row: &RouterRow, port: Option<&PortRow>, own: &[Address]) -> Json {
    let fixed = own.iter().map(|address| json!({"subnet_id": address.subnet_id, "ip_address": address.ip_address}));
    let info = port.map(|port| {
        json!({
            "network_id": port.network_id,
            "external_fixed_ips": fixed.collect::<Vec<Json>>(),
            "enable_snat": row.enable_snat,
        })
    });
    json!({
        "id": row.id,
        "name": row.name,
        "description": row.description,
        "project_id": row.project_id,
        "tenant_id": row.project_id,
        "admin_state_up": row.admin_state_up,
        "status": row.status,
        "external_gateway_info": info,
        "distributed": row.distributed,
        "ha": row.ha,
        "flavor_id": row.flavor_id,
        "routes": row.routes,
        "availability_zone_hints": row.availability_zone_hints,
        "availability_zones": if row.host.is_empty() { json!([]) } else { json!(["nova"]) },
        "created_at": stamp(row.created_at),
        "updated_at": stamp(row.updated_at),
        "revision_number": row.revision_number,
    })
}

/// The router as it is now, inside a transaction.
pub async fn fresh(work: &mut Work<'_>, id: &str) -> Result<RouterRow, Stop> {
    let row = work.tx.maybe(select::<RouterRow>("WHERE id = ?").bind(id)).await?;
    row.ok_or_else(|| Fault::RouterNotFound { router_id: id.to_string() }.into())
}

/// All ports of a router with their addresses.
pub async fn ports_of(work: &mut Work<'_>, id: &str) -> Result<Vec<(PortRow, Vec<Address>)>, Stop> {
    let rows = select::<PortRow>("WHERE device_id = ? AND device_owner LIKE 'network:router%' ORDER BY id").bind(id);
    let ports = work.tx.all(rows).await?;
    let ids: Vec<String> = ports.iter().map(|port| port.id.clone()).collect();
    let mut addresses = addresses::of(&mut work.tx, &ids).await?;
    Ok(ports
        .into_iter()
        .map(|port| {
            let own = addresses.remove(&port.id).unwrap_or_default();
            (port, own)
        })
        .collect())
}

/// Gives the router a host if it needs one and has none, and binds its ports there.
pub async fn schedule(work: &mut Work<'_>, id: &str) -> Result<(), Stop> {
    let mut row = fresh(work, id).await?;
    let ports = ports_of(work, id).await?;
    if ports.is_empty() {
        return Ok(());
    }
    if row.host.is_empty() {
        let Some(host) = choose(work, &ports).await? else {
            tracing::warn!(router = id, "no host can carry this router yet");
            return Ok(());
        };
        work.set::<RouterRow>(id, vec![("host", Value::Text(host.clone()))]).await?;
        row.host = host;
    }
    for (mut port, _) in ports {
        if port.host != row.host || port.vif_type == binding::FAILED {
            binding::bind(work, &mut port, &row.host).await?;
            let columns = vec![
                ("host", Value::Text(port.host.clone())),
                ("vif_type", Value::Text(port.vif_type.clone())),
                ("vif_details", Value::Text(port.vif_details.to_string())),
            ];
            work.set::<PortRow>(&port.id, columns).await?;
            work.touched.networks.insert(port.network_id);
        }
    }
    work.touched.host(&row.host);
    work.touched.routers.insert(row.id);
    Ok(())
}

/// The host with the fewest routers among those alive that are joined to all the router's networks.
async fn choose(work: &mut Work<'_>, ports: &[(PortRow, Vec<Address>)]) -> Result<Option<String>, Stop> {
    let networks: Vec<String> = ports.iter().map(|(port, _)| port.network_id.clone()).collect();
    let segments = gather::<Segment>(&mut work.tx, "network_id", &networks).await?;
    let able = "WHERE name IN (SELECT host FROM agents WHERE agent_type = ? AND admin_state_up = 1) ORDER BY name";
    let hosts = work.tx.all(select::<HostRow>(able).bind(agents::L3)).await?;
    let counted = work.tx.rows(sql("SELECT host, COUNT(*) FROM routers GROUP BY host")).await?;
    let mut loads: HashMap<String, i64> = HashMap::new();
    for row in counted {
        loads.insert(row.get(0)?, row.get(1)?);
    }
    let settings = &work.service.settings;
    let fit = |host: &&HostRow| {
        hosts::alive(host, settings) && segments.iter().all(|segment| binding::carries(host, segment))
    };
    let best = hosts.iter().filter(fit).min_by_key(|host| loads.get(&host.name).copied().unwrap_or(0));
    Ok(best.map(|host| host.name.clone()))
}

/// Limit: routers that one hello may bring to a host.
const ADOPTED: usize = 200;

/// Now that a host spoke: finds one for the routers that have none, and binds what could not be bound there before.
pub async fn adopt(work: &mut Work<'_>, host: &str) -> Result<(), Stop> {
    let text = format!(
        "SELECT DISTINCT routers.id FROM routers JOIN ports ON ports.device_id = routers.id WHERE routers.host = '' OR \
         (routers.host = ? AND ports.vif_type = ?) LIMIT {ADOPTED}"
    );
    let rows = work.tx.rows(sql(text).bind(host).bind(binding::FAILED)).await?;
    let ids: Vec<String> = rows.iter().map(|row| row.get(0)).collect::<Result<_, _>>()?;
    for id in ids {
        schedule(work, &id).await?;
    }
    Ok(())
}

/// A router without ports needs no host.
pub async fn retire(work: &mut Work<'_>, id: &str) -> Result<(), Stop> {
    let row = fresh(work, id).await?;
    if row.host.is_empty() || !ports_of(work, id).await?.is_empty() {
        work.touched.host(&row.host);
        return Ok(());
    }
    work.touched.host(&row.host);
    work.set::<RouterRow>(id, vec![("host", Value::Text(String::new()))]).await
}
