//! Interfaces of a router: its ports on the networks of projects.

use api::{Answer, Call, Path, Reply};
use base::{Json, json};
use db::{select, sql};

use super::{GATEWAY, INTERFACE, RouterRow, Routers, gateway, ports_of, retire, routes, schedule};
use crate::Network;
use crate::addresses::{self, Address, One, Taker, Wanted};
use crate::engine::{self, Resource};
use crate::fault::{Fault, bad};
use crate::ip;
use crate::networks;
use crate::ports::{self, NewPort, PortRow};
use crate::stop::Stop;
use crate::subnets::{self, Subnet, Subnets};
use crate::work::Work;

/// The two ways of naming an interface.
struct Named {
    port: Option<String>,
    subnet: Option<String>,
}

impl Named {
    async fn read(call: &mut Call<Network>) -> Answer<Named> {
        let body = call.json().await?;
        let uuid = |key: &str| match body.get(key).filter(|value| !value.is_null()) {
            None => Ok(None),
            Some(value) => match value.as_str().filter(|text| base::id::is_uuid(text)) {
                Some(text) => Ok(Some(text.to_string())),
                None => Err(bad("router", format!("'{}' is not a valid UUID", crate::python::plain(value)))),
            },
        };
        let named = Named { port: uuid("port_id")?, subnet: uuid("subnet_id")? };
        match (&named.port, &named.subnet) {
            (None, None) => Err(bad("router", "Either subnet_id or port_id must be specified").into()),
            _ => Ok(named),
        }
    }
}

pub async fn add(mut call: Call<Network>, Path(id): Path<String>) -> Answer<Reply> {
    let named = permitted(&mut call, &id).await?;
    if named.port.is_some() && named.subnet.is_some() {
        return Err(bad("router", "Cannot specify both subnet-id and port-id").into());
    }
    let shown = call
        .db
        .retry(|| async {
            let mut work = Work::begin(&call.service, &call.caller).await?;
            let row = engine::take::<Routers>(&mut work, &id, None, true).await?;
            let (port, subnets) = match (&named.port, &named.subnet) {
                (Some(port), _) => by_port(&mut work, &row, port).await?,
                (None, Some(subnet)) => by_subnet(&mut work, &row, subnet).await?,
                (None, None) => unreachable!("read refuses a body that names nothing"),
            };
            schedule(&mut work, &row.id).await?;
            ports::changed(&mut work, &port).await?;
            work.touched.routers.insert(row.id.clone());
            let shown = shown(&row, &port, &subnets);
            work.commit().await?;
            Ok::<_, Stop>(shown)
        })
        .await?;
    Ok(Reply::json(200, &shown))
}

pub async fn remove(mut call: Call<Network>, Path(id): Path<String>) -> Answer<Reply> {
    let named = permitted(&mut call, &id).await?;
    let shown = call
        .db
        .retry(|| async {
            let mut work = Work::begin(&call.service, &call.caller).await?;
            let row = engine::take::<Routers>(&mut work, &id, None, true).await?;
            let shown = match (&named.port, &named.subnet) {
                (Some(port), subnet) => leave_port(&mut work, &row, port, subnet.as_deref()).await?,
                (None, Some(subnet)) => leave_subnet(&mut work, &row, subnet).await?,
                (None, None) => unreachable!("read refuses a body that names nothing"),
            };
            work.touched.routers.insert(row.id.clone());
            retire(&mut work, &row.id).await?;
            work.commit().await?;
            Ok::<_, Stop>(shown)
        })
        .await?;
    Ok(Reply::json(200, &shown))
}

async fn permitted(call: &mut Call<Network>, id: &str) -> Answer<Named> {
    let named = Named::read(call).await;
    let item = engine::find::<Routers>(call, id).await?;
    engine::hidden::<Routers>(call, id, &item, call.allow_on(&item).map(drop))?;
    named
}

async fn by_port(work: &mut Work<'_>, row: &RouterRow, id: &str) -> Result<(PortRow, Vec<Subnet>), Stop> {
    let rows = ports::Ports::scope(select("").and("id = ?").bind(id), work.caller);
    let found: Option<PortRow> = work.tx.maybe(rows).await?;
    let mut port = found.ok_or_else(|| Fault::PortNotFound { port_id: id.to_string() })?;
    if !port.device_id.is_empty() {
        return Err(Fault::PortInUse { port_id: port.id, net_id: port.network_id, device_id: port.device_id }.into());
    }
    let own = addresses::own(work, id).await?;
    if own.is_empty() {
        return Err(bad("router", "Router port must have at least one fixed IP").into());
    }
    let all = subnets::of(work, &port.network_id).await?;
    let on: Vec<Subnet> =
        own.iter().filter_map(|a| all.iter().find(|subnet| subnet.id == a.subnet_id)).cloned().collect();
    if on.iter().filter(|subnet| subnet.ip_version == 4).count() > 1 {
        return Err(bad("router", "Cannot have multiple IPv4 subnets on router port").into());
    }
    for subnet in &on {
        announces(subnet)?;
    }
    apart(work, row, &on).await?;
    one_six(work, row, &port, &own).await?;
    work.revise("ports", &port.id, 1).await?;
    let text = "UPDATE ports SET device_id = ?, device_owner = ?, status = 'DOWN' WHERE id = ? AND device_id = ''";
    if work.tx.run(sql(text).bind(&row.id).bind(INTERFACE).bind(id)).await? == 0 {
        return Err(Fault::PortInUse { port_id: port.id, net_id: port.network_id, device_id: row.id.clone() }.into());
    }
    (port.device_id, port.device_owner) = (row.id.clone(), INTERFACE.into());
    Ok((port, on))
}

async fn by_subnet(work: &mut Work<'_>, row: &RouterRow, id: &str) -> Result<(PortRow, Vec<Subnet>), Stop> {
    let rows = Subnets::scope(select("").and("id = ?").bind(id), work.caller);
    let found: Option<Subnet> = work.tx.maybe(rows).await?;
    let subnet = found.ok_or_else(|| Fault::SubnetNotFound { subnet_id: id.to_string() })?;
    let Some(gateway) = subnet.gateway() else {
        return Err(bad("router", "Subnet for router interface must have a gateway IP").into());
    };
    let own = subnet.project_id == work.caller.project() || engine::sees_all(work.caller);
    if !own && !gateway::lent(work, &subnet.network_id).await? {
        let text =
            format!("Cannot add interface to router because subnet {id} is not owned by project making the request");
        return Err(bad("router", text).into());
    }
    announces(&subnet)?;
    apart(work, row, std::slice::from_ref(&subnet)).await?;
    let one = One { subnet: Some(subnet.id.clone()), address: Some(gateway) };
    if subnet.ip_version == 6
        && let Some((port, own)) = six_on(work, row, &subnet.network_id).await?
    {
        // One port per network carries all of its IPv6 subnets.
        let taker =
            Taker { port: &port.id, network: &port.network_id, mac: &port.mac_address, device_owner: INTERFACE };
        let place = own.iter().map(|address| address.place + 1).max().unwrap_or(0);
        let list = [subnet.clone()];
        addresses::take(work, &taker, &list, &Wanted::These(vec![one]), place).await?;
        return Ok((port, vec![subnet]));
    }
    let network = networks::row(&mut work.tx, &subnet.network_id).await?;
    let network = network.ok_or_else(|| Fault::NetworkNotFound { net_id: subnet.network_id.clone() })?;
    let new = NewPort {
        device_owner: INTERFACE.into(),
        device_id: row.id.clone(),
        wanted: Wanted::These(vec![one]),
        port_security: Some(false),
        ..NewPort::of(&row.project_id)
    };
    let port = ports::insert(work, &network, new).await?;
    Ok((port, vec![subnet]))
}

/// A subnet whose routers are somebody else's has no place on ours.
fn announces(subnet: &Subnet) -> Result<(), Fault> {
    match subnet.ipv6_address_mode.is_some() && subnet.ipv6_ra_mode.is_none() {
        true => Err(bad(
            "router",
            format!(
                "IPv6 subnet {} configured to receive RAs from an external router cannot be added to Neutron Router",
                subnet.id
            ),
        )),
        false => Ok(()),
    }
}

/// Subnets of one router have no address in common.
async fn apart(work: &mut Work<'_>, row: &RouterRow, new: &[Subnet]) -> Result<(), Stop> {
    for (port, own) in ports_of(work, &row.id).await? {
        let all = subnets::of(work, &port.network_id).await?;
        let on = |subnet: &&Subnet| port.device_owner == GATEWAY || own.iter().any(|a| a.subnet_id == subnet.id);
        for old in all.iter().filter(on) {
            for subnet in new {
                if old.id == subnet.id {
                    return Err(bad("router", format!("Router already has a port on subnet {}", old.id)).into());
                }
                if ip::overlap(&old.net(), &subnet.net()) {
                    let text = format!(
                        "Cidr {} of subnet {} overlaps with cidr {} of subnet {}",
                        subnet.cidr, subnet.id, old.cidr, old.id
                    );
                    return Err(bad("router", text).into());
                }
            }
        }
    }
    Ok(())
}

async fn six_on(work: &mut Work<'_>, row: &RouterRow, network: &str) -> Result<Option<(PortRow, Vec<Address>)>, Stop> {
    let six = |own: &[Address]| own.iter().any(|address| address.ip_address.contains(':'));
    let ports = ports_of(work, &row.id).await?;
    Ok(ports.into_iter().find(|(port, own)| port.device_owner == INTERFACE && port.network_id == network && six(own)))
}

async fn one_six(work: &mut Work<'_>, row: &RouterRow, port: &PortRow, own: &[Address]) -> Result<(), Stop> {
    if !own.iter().any(|address| address.ip_address.contains(':')) {
        return Ok(());
    }
    match six_on(work, row, &port.network_id).await? {
        None => Ok(()),
        Some((other, _)) => Err(bad(
            "router",
            format!(
                "Router already contains IPv6 port {} belonging to network id {}. Only one IPv6 port from the same \
                 network subnet can be connected to a router.",
                other.id, other.network_id
            ),
        )
        .into()),
    }
}

async fn leave_port(work: &mut Work<'_>, row: &RouterRow, id: &str, subnet: Option<&str>) -> Result<Json, Stop> {
    let found =
        ports_of(work, &row.id).await?.into_iter().find(|(port, _)| port.id == id && port.device_owner == INTERFACE);
    let Some((port, own)) = found else {
        return Err(Fault::RouterInterfaceNotFound { router_id: row.id.clone(), port_id: id.to_string() }.into());
    };
    if let Some(subnet) = subnet.filter(|subnet| !own.iter().any(|address| address.subnet_id == *subnet)) {
        return Err(Fault::SubnetMismatchForPort { port_id: id.into(), subnet_id: subnet.into() }.into());
    }
    let all = subnets::of(work, &port.network_id).await?;
    let on: Vec<Subnet> = all.into_iter().filter(|subnet| own.iter().any(|a| a.subnet_id == subnet.id)).collect();
    for subnet in &on {
        unneeded(work, row, subnet).await?;
    }
    let shown = shown(row, &port, &on);
    ports::erase(work, &port).await?;
    Ok(shown)
}

async fn leave_subnet(work: &mut Work<'_>, row: &RouterRow, id: &str) -> Result<Json, Stop> {
    let rows = Subnets::scope(select("").and("id = ?").bind(id), work.caller);
    let found: Option<Subnet> = work.tx.maybe(rows).await?;
    let subnet = found.ok_or_else(|| Fault::SubnetNotFound { subnet_id: id.to_string() })?;
    let on = |own: &[Address]| own.iter().any(|address| address.subnet_id == id);
    let found =
        ports_of(work, &row.id).await?.into_iter().find(|(port, own)| port.device_owner == INTERFACE && on(own));
    let Some((port, own)) = found else {
        return Err(Fault::RouterInterfaceNotFoundForSubnet { router_id: row.id.clone(), subnet_id: id.into() }.into());
    };
    unneeded(work, row, &subnet).await?;
    let shown = shown(row, &port, std::slice::from_ref(&subnet));
    let leaving: Vec<Address> = own.iter().filter(|address| address.subnet_id == id).cloned().collect();
    match leaving.len() < own.len() {
        // The port stays for its other IPv6 subnets.
        true => {
            addresses::release(work, &leaving).await?;
            ports::changed(work, &port).await?;
        }
        false => ports::erase(work, &port).await?,
    }
    Ok(shown)
}

/// An interface stays while floating IPs or routes lean on it.
async fn unneeded(work: &mut Work<'_>, row: &RouterRow, subnet: &Subnet) -> Result<(), Stop> {
    let (router_id, subnet_id) = (row.id.clone(), subnet.id.clone());
    if routes::needs(row, subnet) {
        return Err(Fault::RouterInterfaceInUseByRoute { router_id, subnet_id }.into());
    }
    let floating = sql("SELECT fixed_ip_address FROM floatingips WHERE router_id = ? AND fixed_ip_address IS NOT NULL");
    for found in work.tx.rows(floating.bind(&row.id)).await? {
        let fixed: String = found.get(0)?;
        if fixed.parse().is_ok_and(|fixed: std::net::IpAddr| subnet.net().contains(&fixed)) {
            return Err(Fault::RouterInterfaceInUseByFloatingIp { router_id, subnet_id }.into());
        }
    }
    Ok(())
}

fn shown(row: &RouterRow, port: &PortRow, on: &[Subnet]) -> Json {
    let ids: Vec<&str> = on.iter().map(|subnet| subnet.id.as_str()).collect();
    json!({
        "id": row.id,
        "project_id": row.project_id,
        "port_id": port.id,
        "network_id": port.network_id,
        "subnet_id": ids.first(),
        "subnet_ids": ids,
    })
}
