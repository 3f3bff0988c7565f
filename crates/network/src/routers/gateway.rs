//! The gateway of a router: its port on an external network.

use std::net::IpAddr;

use base::{Json, json};
use db::{Value, select, sql};

use super::{GATEWAY, RouterRow, ports_of, retire, schedule};
use crate::addresses::{One, Wanted};
use crate::engine::rule;
use crate::fault::{Fault, bad};
use crate::networks::{self, NetworkRow};
use crate::ports::{self, NewPort, PortRow, change};
use crate::stop::Stop;
use crate::work::Work;
use crate::{addresses, ip, python, rbac, subnets};

/// `{"network_id", "enable_snat", "external_fixed_ips"}`; an empty object or null means no gateway.
pub fn shape(value: Json) -> Result<Json, String> {
    let Some(map) = value.as_object() else {
        return if value.is_null() {
            Ok(value)
        } else {
            Err(format!("'{}' is not a dictionary", python::plain(&value)))
        };
    };
    let mut info = serde_json::Map::new();
    for (key, value) in map {
        let read = match key.as_str() {
            "network_id" if value.is_null() => continue,
            "network_id" => rule::uuid(value)?,
            "enable_snat" => rule::flag(value)?,
            "external_fixed_ips" => fixed(value)?,
            // What clients send back of what they were shown.
            "qos_policy_id" if value.is_null() => continue,
            other => return Err(format!("Unexpected keys supplied: {other}")),
        };
        info.insert(key.clone(), read);
    }
    if info.is_empty() { Ok(Json::Null) } else { Ok(Json::Object(info)) }
}

fn fixed(value: &Json) -> Result<Json, String> {
    let Some(items) = value.as_array() else {
        return if value.is_null() {
            Ok(json!([]))
        } else {
            Err(format!("Invalid data format for fixed IP: '{}'", python::plain(value)))
        };
    };
    let mut list = Vec::new();
    for item in items {
        let mut one = serde_json::Map::new();
        for (key, value) in
            item.as_object().ok_or_else(|| format!("Invalid data format for fixed IP: '{}'", python::plain(item)))?
        {
            match key.as_str() {
                "ip_address" => one.insert(key.clone(), rule::ip(value)?),
                "subnet_id" => one.insert(key.clone(), rule::uuid(value)?),
                other => return Err(format!("Unexpected keys supplied: {other}")),
            };
        }
        list.push(Json::Object(one));
    }
    Ok(Json::Array(list))
}

/// Brings the gateway in line with what is asked.
pub async fn set(work: &mut Work<'_>, row: &RouterRow, info: &Json) -> Result<(), Stop> {
    let rows = select::<PortRow>("WHERE device_id = ? AND device_owner = ?").bind(&row.id).bind(GATEWAY);
    let port = work.tx.maybe(rows).await?;
    let wanted = info["network_id"].as_str().map(String::from).or_else(|| match info.is_null() {
        true => None,
        false => port.as_ref().map(|port| port.network_id.clone()),
    });
    let snat = info["enable_snat"].as_bool().unwrap_or(true);
    match (port, wanted) {
        (None, None) if info.is_null() => Ok(()),
        (None, None) => Err(bad("router", "network_id must be specified").into()),
        (Some(port), None) => {
            drop_port(work, row, &port).await?;
            write(work, row, None, true).await
        }
        (Some(port), Some(network)) if port.network_id == network => {
            if info["external_fixed_ips"].is_array() {
                move_port(work, row, &port, &info["external_fixed_ips"]).await?;
            }
            write(work, row, Some(network), snat).await?;
            schedule(work, &row.id).await
        }
        (old, Some(network)) => {
            if let Some(port) = old {
                drop_port(work, row, &port).await?;
            }
            let network = external(work, &network).await?;
            add_port(work, row, &network, info).await?;
            write(work, row, Some(network.id), snat).await?;
            schedule(work, &row.id).await
        }
    }
}

/// The network, if it leads out of the cloud for the caller.
async fn external(work: &mut Work<'_>, id: &str) -> Result<NetworkRow, Stop> {
    use crate::engine::Resource;
    let rows = networks::Networks::scope(select("").and("id = ?").bind(id), work.caller);
    let row = work.tx.maybe(rows).await?.ok_or_else(|| Fault::NetworkNotFound { net_id: id.to_string() })?;
    match row.external {
        true => Ok(row),
        false => Err(bad("router", format!("Network {id} is not an external network")).into()),
    }
}

fn wanted(list: &Json) -> Wanted {
    let Some(items) = list.as_array().filter(|items| !items.is_empty()) else {
        return Wanted::Any;
    };
    let one = |item: &Json| One {
        subnet: item["subnet_id"].as_str().map(String::from),
        address: item["ip_address"].as_str().and_then(|text| text.parse::<IpAddr>().ok()),
    };
    Wanted::These(items.iter().map(one).collect())
}

async fn add_port(work: &mut Work<'_>, row: &RouterRow, network: &NetworkRow, info: &Json) -> Result<(), Stop> {
    let outside = subnets::of(work, &network.id).await?;
    for (port, own) in ports_of(work, &row.id).await? {
        for inside in subnets::of(work, &port.network_id).await? {
            if !own.iter().any(|address| address.subnet_id == inside.id) {
                continue;
            }
            if let Some(outer) = outside.iter().find(|outer| ip::overlap(&outer.net(), &inside.net())) {
                let text = format!(
                    "Cidr {} of subnet {} overlaps with cidr {} of subnet {}",
                    outer.cidr, outer.id, inside.cidr, inside.id
                );
                return Err(bad("router", text).into());
            }
        }
    }
    for item in info["external_fixed_ips"].as_array().into_iter().flatten() {
        let given = item["ip_address"].as_str();
        if given.is_some() && outside.iter().any(|subnet| subnet.gateway_ip.as_deref() == given) {
            let text = format!("External IP {} is the same as the gateway IP", given.unwrap_or_default());
            return Err(bad("router", text).into());
        }
    }
    let new = NewPort {
        device_owner: GATEWAY.into(),
        device_id: row.id.clone(),
        wanted: wanted(&info["external_fixed_ips"]),
        port_security: Some(false),
        // Upstream: a gateway's port belongs to nobody, so that no project meddles with it.
        ..NewPort::of("")
    };
    ports::insert(work, network, new).await?;
    Ok(())
}

async fn move_port(work: &mut Work<'_>, row: &RouterRow, port: &PortRow, list: &Json) -> Result<(), Stop> {
    let Wanted::These(wanted) = wanted(list) else {
        return Ok(());
    };
    let own = addresses::own(work, &port.id).await?;
    let all = subnets::of(work, &port.network_id).await?;
    change::replace(work, port, own, &all, wanted).await?;
    ports::changed(work, port).await?;
    work.touched.routers.insert(row.id.clone());
    Ok(())
}

async fn drop_port(work: &mut Work<'_>, row: &RouterRow, port: &PortRow) -> Result<(), Stop> {
    let floating = sql("SELECT COUNT(*) FROM floatingips WHERE router_id = ? AND floating_network_id = ?");
    if work.tx.count(floating.bind(&row.id).bind(&port.network_id)).await? > 0 {
        let (router_id, net_id) = (row.id.clone(), port.network_id.clone());
        return Err(Fault::GatewayInUseByFloatingIp { router_id, net_id }.into());
    }
    ports::erase(work, port).await?;
    work.touched.routers.insert(row.id.clone());
    retire(work, &row.id).await
}

async fn write(work: &mut Work<'_>, row: &RouterRow, network: Option<String>, snat: bool) -> Result<(), Stop> {
    let network = network.map_or(Value::Null, Value::Text);
    let columns = vec![("gateway_network_id", network), ("enable_snat", Value::Int(snat.into()))];
    work.set::<RouterRow>(&row.id, columns).await?;
    work.touched.routers.insert(row.id.clone());
    Ok(())
}

/// Whether the caller's project may use the network without owning it.
pub async fn lent(work: &mut Work<'_>, network: &str) -> Result<bool, Stop> {
    Ok(rbac::shared(&mut work.tx, &[network.to_string()], work.caller).await?.contains(network))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_gateway_is_none() {
        assert_eq!(shape(json!({})), Ok(Json::Null));
        let network = base::id::uuid();
        assert_eq!(shape(json!({"network_id": network})).unwrap()["network_id"], json!(network));
        assert!(shape(json!({"network": "x"})).is_err());
        assert!(shape(json!({"external_fixed_ips": [{"ip": "x"}]})).is_err());
    }
}
