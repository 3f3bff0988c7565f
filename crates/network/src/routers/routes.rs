//! Extra routes of a router: beyond what lies directly at its interfaces.

use api::{Answer, Call, Path, Reply};
use base::{Json, json};
use db::Value;
use ipnet::IpNet;

use super::{RouterRow, Routers, fresh, ports_of};
use crate::Network;
use crate::engine;
use crate::fault::{Fault, plain};
use crate::python;
use crate::stop::Stop;
use crate::subnets::{self, Subnet};
use crate::work::Work;

/// Writes the routes after checking that each next hop can be reached.
pub async fn write(work: &mut Work<'_>, id: &str, list: Json) -> Result<(), Stop> {
    let items = list.as_array().cloned().unwrap_or_default();
    let quota = work.service.settings.max_routes;
    if items.len() > quota {
        return Err(Fault::RoutesExhausted { router_id: id.to_string(), quota }.into());
    }
    let mut nets: Vec<IpNet> = Vec::new();
    let mut own = Vec::new();
    for (port, addresses) in ports_of(work, id).await? {
        let all = subnets::of(work, &port.network_id).await?;
        nets.extend(all.iter().filter(|subnet| addresses.iter().any(|a| a.subnet_id == subnet.id)).map(Subnet::net));
        own.extend(addresses.iter().filter_map(|address| address.ip()));
    }
    for route in &items {
        let nexthop = route["nexthop"].as_str().and_then(|text| text.parse::<std::net::IpAddr>().ok());
        let Some(nexthop) = nexthop else { continue };
        let wrong = |reason: &str| Fault::InvalidRoutes { routes: python::quoted(&list), reason: reason.into() };
        if !nets.iter().any(|net| net.contains(&nexthop)) {
            return Err(wrong("the nexthop is not connected with router").into());
        }
        if own.contains(&nexthop) {
            return Err(wrong("the nexthop is used by router").into());
        }
    }
    work.set::<RouterRow>(id, vec![("routes", Value::Text(Json::Array(items).to_string()))]).await?;
    work.touched.routers.insert(id.to_string());
    Ok(())
}

/// Whether a route needs the router's interface on this subnet.
pub fn needs(row: &RouterRow, subnet: &Subnet) -> bool {
    let hop = |route: &Json| route["nexthop"].as_str().and_then(|text| text.parse::<std::net::IpAddr>().ok());
    let routes = row.routes.as_array().into_iter().flatten();
    routes.filter_map(hop).any(|hop| subnet.net().contains(&hop))
}

pub async fn add(call: Call<Network>, Path(id): Path<String>) -> Answer<Reply> {
    change(call, id, true).await
}

pub async fn remove(call: Call<Network>, Path(id): Path<String>) -> Answer<Reply> {
    change(call, id, false).await
}

async fn change(mut call: Call<Network>, id: String, add: bool) -> Answer<Reply> {
    let body = call.json().await?;
    let wrong = |reason| plain(format!("Invalid input for routes. Reason: {reason}."));
    let given = subnets::check::routes(body["router"]["routes"].clone()).map_err(wrong)?;
    let given = given.as_array().cloned().ok_or_else(|| plain("Unable to find 'router' in request body"))?;
    let item = engine::find::<Routers>(&call, &id).await?;
    engine::hidden::<Routers>(&call, &id, &item, call.allow_on(&item).map(drop))?;
    call.db
        .retry(|| async {
            let mut work = Work::begin(&call.service, &call.caller).await?;
            engine::take::<Routers>(&mut work, &id, None, true).await?;
            let row = fresh(&mut work, &id).await?;
            let old = row.routes.as_array().cloned().unwrap_or_default();
            let next: Vec<Json> = match add {
                true => old.iter().chain(given.iter().filter(|route| !old.contains(route))).cloned().collect(),
                false => old.iter().filter(|route| !given.contains(route)).cloned().collect(),
            };
            write(&mut work, &id, json!(next)).await?;
            work.commit().await
        })
        .await?;
    engine::reply_with::<Routers>(&call, &id).await
}
