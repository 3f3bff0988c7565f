//! The DHCP port of a network: the address that every host with a port of the network answers from.
//!
//! It is made when the first port of a guest is bound on a network with DHCP, follows the subnets, and goes with them.

use std::collections::HashSet;

use db::select;

use crate::addresses::{self, One, Taker, Wanted};
use crate::networks;
use crate::ports::{self, NewPort, PortRow};
use crate::stop::Stop;
use crate::subnets::{self, Subnet};
use crate::work::Work;

pub const OWNER: &str = "network:dhcp";

/// Brings the DHCP port of a network in line with its subnets. Without one, makes it only if `needed`.
pub async fn ensure(work: &mut Work<'_>, network: &str, needed: bool) -> Result<(), Stop> {
    let rows = select::<PortRow>("WHERE network_id = ? AND device_owner = ? ORDER BY id").bind(network).bind(OWNER);
    let port = work.tx.maybe(rows).await?;
    if port.is_none() && !needed {
        return Ok(());
    }
    let subnets = subnets::of(work, network).await?;
    let served: Vec<&Subnet> = subnets.iter().filter(|subnet| subnet.enable_dhcp).collect();
    match (port, served.is_empty()) {
        (None, true) => Ok(()),
        (Some(port), true) => ports::erase(work, &port).await,
        (Some(port), false) => follow(work, &port, &subnets, &served).await,
        (None, false) => make(work, network, &served).await,
    }
}

async fn follow(work: &mut Work<'_>, port: &PortRow, subnets: &[Subnet], served: &[&Subnet]) -> Result<(), Stop> {
    let own = addresses::own(work, &port.id).await?;
    let wanted: HashSet<&str> = served.iter().map(|subnet| subnet.id.as_str()).collect();
    let stale: Vec<_> = own.iter().filter(|address| !wanted.contains(address.subnet_id.as_str())).cloned().collect();
    addresses::release(work, &stale).await?;
    let has: HashSet<&str> = own.iter().map(|address| address.subnet_id.as_str()).collect();
    let missing: Vec<One> =
        served.iter().filter(|subnet| !has.contains(subnet.id.as_str())).map(|subnet| any_of(subnet)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let next = own.iter().map(|address| address.place + 1).max().unwrap_or(0);
    let taker = Taker { port: &port.id, network: &port.network_id, mac: &port.mac_address, device_owner: OWNER };
    let listed: Vec<Subnet> = subnets.to_vec();
    addresses::take(work, &taker, &listed, &Wanted::These(missing), next).await?;
    Ok(())
}

async fn make(work: &mut Work<'_>, network: &str, served: &[&Subnet]) -> Result<(), Stop> {
    let Some(row) = networks::row(&mut work.tx, network).await? else {
        return Ok(());
    };
    let wanted = served.iter().map(|subnet| any_of(subnet)).collect();
    let new = NewPort {
        device_owner: OWNER.into(),
        device_id: format!("dhcp-{network}"),
        wanted: Wanted::These(wanted),
        port_security: Some(false),
        status: "ACTIVE",
        ..NewPort::of(&row.project_id)
    };
    ports::insert(work, &row, new).await.map(drop)
}

fn any_of(subnet: &Subnet) -> One {
    One { subnet: Some(subnet.id.clone()), address: None }
}
