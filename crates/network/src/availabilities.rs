//! How many addresses each network has, and how many are taken.

use std::collections::HashMap;

use api::{Answer, Call, NoInput, Operation, Path, Refusal, Reply, get};
use base::{Json, json};
use db::{Select, select};

use crate::Network;
use crate::addresses::Address;
use crate::engine::{Resource, gather};
use crate::fault::{Fault, plain};
use crate::ip;
use crate::networks::{NetworkRow, Networks};
use crate::subnets::{Subnet, subnets_of};

pub fn operations() -> Vec<Operation<Network>> {
    vec![
        get("/network-ip-availabilities", list).rule("get_network_ip_availability"),
        get("/network-ip-availabilities/{network_id}", show).rule("get_network_ip_availability"),
    ]
}

const FILTERS: [&str; 6] = ["network_id", "network_name", "project_id", "tenant_id", "ip_version", "fields"];

async fn list(call: Call<Network>, _: NoInput) -> Answer<Reply> {
    // The rule is asked about each network below.
    let _ = call.allow();
    if let Some((name, _)) = call.query.0.iter().find(|(name, _)| !FILTERS.contains(&name.as_str())) {
        return Err(plain(format!("['{name}'] is invalid attribute for filtering")));
    }
    let mut rows = Networks::scope(select(""), &call.caller);
    for (name, column) in
        [("network_id", "id"), ("network_name", "name"), ("project_id", "project_id"), ("tenant_id", "project_id")]
    {
        let values: Vec<&str> = call.query.all(name).collect();
        if !values.is_empty() {
            rows = rows.in_list(column, values);
        }
    }
    let items = items(&call, rows).await?;
    Ok(Reply::json(200, &json!({"network_ip_availabilities": items})))
}

async fn show(call: Call<Network>, Path(id): Path<String>) -> Answer<Reply> {
    let _ = call.allow();
    let rows = Networks::scope(select("").and("id = ?").bind(&id), &call.caller);
    let item = items(&call, rows).await?.pop();
    let item = item.ok_or_else(|| Refusal::from(Fault::NetworkNotFound { net_id: id }))?;
    Ok(Reply::json(200, &json!({"network_ip_availability": item})))
}

async fn items(call: &Call<Network>, rows: Select<NetworkRow>) -> Answer<Vec<Json>> {
    let networks = call.db.all(rows).await?;
    let ids: Vec<String> = networks.iter().map(|row| row.id.clone()).collect();
    let subnets = subnets_of(&call.db, &ids).await?;
    let mut taken: HashMap<String, Vec<Address>> = HashMap::new();
    for address in gather::<Address>(&call.db, "network_id", &ids).await? {
        taken.entry(address.subnet_id.clone()).or_default().push(address);
    }
    let version = call.query.get("ip_version").and_then(|text| text.parse::<i64>().ok());
    let mut items = Vec::new();
    for network in networks {
        let own = subnets.get(&network.id).map(Vec::as_slice).unwrap_or_default();
        let own: Vec<&Subnet> =
            own.iter().filter(|subnet| version.is_none_or(|version| version == subnet.ip_version)).collect();
        if own.is_empty() && version.is_some() {
            continue;
        }
        let item = item(&network, &own, &taken);
        if call.allow_on(&item).is_ok() {
            items.push(item);
        }
    }
    items.sort_by_key(|item| item["network_id"].to_string());
    Ok(items)
}

#[derive(Default)]
struct Sum {
    subnet: u128,
    pool: u128,
    used: u128,
    used_in_pool: u128,
}

impl Sum {
    fn details(&self) -> Json {
        json!({
            "total_ips_in_subnet": number(self.subnet),
            "total_ips_in_allocation_pool": number(self.pool),
            "used_ips_in_subnet": number(self.used),
            "used_ips_in_allocation_pool": number(self.used_in_pool),
        })
    }
}

/// A number that JSON may not hold as a whole.
fn number(value: u128) -> Json {
    u64::try_from(value).map_or_else(|_| json!(value as f64), |value| json!(value))
}

fn item(network: &NetworkRow, subnets: &[&Subnet], taken: &HashMap<String, Vec<Address>>) -> Json {
    let mut all = Sum::default();
    let mut list = Vec::new();
    for subnet in subnets {
        let sum = sum(subnet, taken.get(&subnet.id).map(Vec::as_slice).unwrap_or_default());
        list.push(json!({
            "subnet_id": subnet.id,
            "ip_version": subnet.ip_version,
            "cidr": subnet.cidr,
            "subnet_name": subnet.name,
            "used_ips": number(sum.used),
            "total_ips": number(sum.pool),
            "ip_availability_details": sum.details(),
        }));
        all.subnet += sum.subnet;
        all.pool += sum.pool;
        all.used += sum.used;
        all.used_in_pool += sum.used_in_pool;
    }
    json!({
        "network_id": network.id,
        "network_name": network.name,
        "project_id": network.project_id,
        "tenant_id": network.project_id,
        "subnet_ip_availability": list,
        "used_ips": number(all.used),
        "total_ips": number(all.pool),
        "ip_availability_details": all.details(),
    })
}

fn sum(subnet: &Subnet, taken: &[Address]) -> Sum {
    let net = subnet.net();
    let (first, last) = ip::bounds(&net);
    let ends = match net.addr().is_ipv4() && net.prefix_len() < 31 {
        true => 2,
        false => u128::from(!net.addr().is_ipv4()),
    };
    let pools = subnet.pools();
    let inside = |address: &&Address| {
        let number = address.ip().map(ip::number);
        number.is_some_and(|number| pools.iter().any(|(first, last)| (*first..=*last).contains(&number)))
    };
    Sum {
        subnet: (last - first + 1).saturating_sub(ends),
        pool: pools.iter().map(|(first, last)| last - first + 1).sum(),
        used: taken.len() as u128,
        used_in_pool: taken.iter().filter(inside).count() as u128,
    }
}
