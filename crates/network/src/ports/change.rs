//! Changing ports.

use std::collections::HashSet;

use base::{Json, json};
use db::{select, sql};

use super::{Membership, PortRow, binding, changed, make};
use crate::addresses::{self, Address, One, Taker, Wanted};
use crate::engine::Attributes;
use crate::events::Event;
use crate::fault::{Fault, bad};
use crate::stop::Stop;
use crate::subnets::Subnet;
use crate::work::Work;
use crate::{networks, security_groups, subnets};

pub async fn apply(work: &mut Work<'_>, row: PortRow, change: &Attributes) -> Result<(), Stop> {
    changed(work, &row).await?;
    let mut next = row.clone();
    plain(&mut next, change)?;
    if next.device_id != row.device_id || next.device_owner != row.device_owner {
        foreign_device(work, &next.device_owner, &next.device_id, Some(&row.id)).await?;
    }
    if change.has("mac_address") {
        let wanted = change.maybe("mac_address");
        if wanted.as_deref() != Some(&row.mac_address) {
            move_mac(work, &row, &mut next, wanted).await?;
        }
    }
    security(work, &row, &mut next, change).await?;
    rebind(work, &row, &mut next, change).await?;
    let readdressed = change.has("fixed_ips") && readdress(work, &next, change).await?;
    work.rewrite(&next).await.map_err(|stop| match stop {
        Stop::Database(error) if error.is_duplicate() => {
            Fault::MacAddressInUse { net_id: next.network_id.clone(), mac: next.mac_address.clone() }.into()
        }
        other => other,
    })?;
    if !next.host.is_empty() && next.host != row.host && !next.is_trusted() {
        make::dhcp_for(work, &next.network_id).await?;
    }
    changed(work, &next).await?;

    if row.is_compute() && row.status == "ACTIVE" && next.host.is_empty() {
        work.tell(Event::vif_unplugged(&row)).await?;
    }
    if readdressed && next.is_compute() {
        work.tell(Event::network_changed(&next)).await?;
    }
    Ok(())
}

fn plain(next: &mut PortRow, change: &Attributes) -> Result<(), Fault> {
    let take = |name: &str, slot: &mut String| {
        if let Some(text) = change.maybe(name) {
            *slot = text;
        }
    };
    take("name", &mut next.name);
    take("description", &mut next.description);
    take("device_id", &mut next.device_id);
    take("device_owner", &mut next.device_owner);
    take("dns_name", &mut next.dns_name);
    take("binding:vnic_type", &mut next.vnic_type);
    next.admin_state_up = change.flag("admin_state_up").unwrap_or(next.admin_state_up);
    if change.has("dns_domain") {
        next.dns_domain = networks::domain(&change.text("dns_domain"))?;
    }
    if let Some(profile) = change.get("binding:profile") {
        next.profile = profile.clone();
    }
    if change.has("extra_dhcp_opts") {
        next.extra_dhcp_opts = merged_options(&next.extra_dhcp_opts, change.list("extra_dhcp_opts"));
    }
    Ok(())
}

/// Options are told apart by name and family; one with a null value goes away.
fn merged_options(old: &Json, new: &[Json]) -> Json {
    let same = |a: &Json, b: &Json| a["opt_name"] == b["opt_name"] && a["ip_version"] == b["ip_version"];
    let kept = old.as_array().into_iter().flatten().filter(|old| !new.iter().any(|new| same(old, new)));
    let added = new.iter().filter(|new| !new["opt_value"].is_null());
    Json::Array(kept.chain(added).cloned().collect())
}

/// A port does not join somebody else's router by naming it as its device.
pub async fn foreign_device(work: &mut Work<'_>, owner: &str, device: &str, port: Option<&str>) -> Result<(), Stop> {
    if owner != "network:router_interface" || device.is_empty() || work.caller.has_role("admin") {
        return Ok(());
    }
    let router = sql("SELECT COUNT(*) FROM routers WHERE id = ? AND project_id = ?");
    let own = work.tx.count(router.bind(device).bind(work.caller.project())).await?;
    match own {
        0 => {
            let words = format!(
                "The following device_id {device} is not owned by your project or matches another project router."
            );
            tracing::debug!(port, device, "a port names somebody else's router");
            Err(api::Refusal::new(409, "DeviceIDNotOwnedByTenant", words).into())
        }
        _ => Ok(()),
    }
}

async fn move_mac(work: &mut Work<'_>, row: &PortRow, next: &mut PortRow, wanted: Option<String>) -> Result<(), Stop> {
    if !row.host.is_empty() && row.vif_type != binding::FAILED {
        return Err(Fault::PortBound {
            port_id: row.id.clone(),
            vif_type: row.vif_type.clone(),
            old_mac: row.mac_address.clone(),
            new_mac: wanted.unwrap_or_default(),
        }
        .into());
    }
    next.mac_address = make::mac(work, &row.network_id, wanted.as_deref()).await?;
    // Pairs that followed the port's MAC go on to do so.
    for pair in next.allowed_address_pairs.as_array_mut().into_iter().flatten() {
        if pair["mac_address"] == json!(row.mac_address) {
            pair["mac_address"] = json!(next.mac_address);
        }
    }
    Ok(())
}

/// Groups, pairs and port security, which depend on each other.
async fn security(work: &mut Work<'_>, row: &PortRow, next: &mut PortRow, change: &Attributes) -> Result<(), Stop> {
    next.port_security_enabled = change.flag("port_security_enabled").unwrap_or(row.port_security_enabled);
    let secure = next.port_security_enabled && !next.is_trusted();
    let old = work.tx.all(select::<Membership>("WHERE port_id = ?").bind(&row.id)).await?;
    let old: Vec<String> = old.into_iter().map(|row| row.group_id).collect();
    let groups = if change.has("security_groups") { change.texts("security_groups") } else { old.clone() };
    if !next.port_security_enabled && !groups.is_empty() {
        return match change.has("security_groups") {
            true => Err(Fault::PortSecurityAndIpRequired {}.into()),
            false => Err(Fault::PortHasSecurityGroup {}.into()),
        };
    }
    if change.has("allowed_address_pairs") {
        let given = change.get("allowed_address_pairs").cloned().unwrap_or(json!([]));
        next.allowed_address_pairs = make::pairs(work, next, given, next.port_security_enabled)?;
    } else if !next.port_security_enabled
        && next.allowed_address_pairs.as_array().is_some_and(|pairs| !pairs.is_empty())
    {
        return Err(Fault::AddressPairAndPortSecurity {}.into());
    }
    let mut sorted = old.clone();
    sorted.sort();
    if !change.has("security_groups") || groups == sorted {
        return Ok(());
    }
    if !groups.is_empty() && !secure {
        return Err(Fault::PortSecurityAndIpRequired {}.into());
    }
    let more: Vec<String> = groups.iter().filter(|group| !old.contains(group)).cloned().collect();
    security_groups::known(work, &more, &row.project_id).await?;
    work.tx.run(sql("DELETE FROM port_groups WHERE port_id = ?").bind(&row.id)).await?;
    let rows: Vec<Membership> =
        groups.into_iter().map(|group_id| Membership { port_id: row.id.clone(), group_id }).collect();
    Ok(work.tx.insert_all(&rows).await?)
}

async fn rebind(work: &mut Work<'_>, row: &PortRow, next: &mut PortRow, change: &Attributes) -> Result<(), Stop> {
    let host = match change.has("binding:host_id") {
        true => change.text("binding:host_id"),
        false => row.host.clone(),
    };
    let again = next.vnic_type != row.vnic_type || row.vif_type == binding::FAILED && change.has("binding:host_id");
    if host.is_empty() {
        if !row.host.is_empty() {
            binding::unbind(work, next);
        }
        return Ok(());
    }
    if host != row.host || again {
        binding::bind(work, next, &host).await?;
    }
    Ok(())
}

/// Brings the addresses in line with what is asked; returns whether any came or went.
async fn readdress(work: &mut Work<'_>, next: &PortRow, change: &Attributes) -> Result<bool, Stop> {
    let Wanted::These(wanted) = make::wanted(change) else {
        return Ok(false);
    };
    if next.device_owner == "network:router_gateway" && !work.caller.has_role("admin") {
        let text = format!("Cannot update the fixed_ips of the port {}, because it is a router's gateway", next.id);
        return Err(bad("port", text).into());
    }
    let own = addresses::own(work, &next.id).await?;
    let subnets = subnets::of(work, &next.network_id).await?;
    replace(work, next, own, &subnets, wanted).await
}

/// Keeps what is asked for again, gives back the rest, and takes what is new.
pub async fn replace(
    work: &mut Work<'_>,
    port: &PortRow,
    own: Vec<Address>,
    subnets: &[Subnet],
    wanted: Vec<One>,
) -> Result<bool, Stop> {
    let automatic: HashSet<&str> =
        subnets.iter().filter(|subnet| subnet.is_automatic()).map(|subnet| subnet.id.as_str()).collect();
    let mut kept: HashSet<String> = HashSet::new();
    let mut missing = Vec::new();
    // Certain addresses first, so that an entry with only a subnet does not keep what another one names.
    let (certain, open): (Vec<One>, Vec<One>) = wanted.into_iter().partition(|one| one.address.is_some());
    for one in certain.into_iter().chain(open) {
        let keeps = |address: &&Address| {
            !kept.contains(&address.ip_address)
                && one.subnet.as_ref().is_none_or(|subnet| *subnet == address.subnet_id)
                && one.address.is_none_or(|wanted| address.ip() == Some(wanted))
        };
        match own.iter().find(keeps) {
            Some(address) => {
                kept.insert(address.ip_address.clone());
            }
            None => missing.push(one),
        }
    }
    let router = port.device_owner.starts_with("network:router_interface");
    let stays = |address: &Address| {
        kept.contains(&address.ip_address) || !router && automatic.contains(address.subnet_id.as_str())
    };
    let gone: Vec<Address> = own.iter().filter(|address| !stays(address)).cloned().collect();
    missing.retain(|one| {
        one.subnet.as_deref().is_none_or(|subnet| {
            router || !own.iter().any(|a| a.subnet_id == subnet && automatic.contains(subnet) && stays(a))
        })
    });
    addresses::release(work, &gone).await?;
    crate::floating_ips::leave_addresses(work, &port.id, &gone).await?;
    if missing.is_empty() {
        return Ok(!gone.is_empty());
    }
    let next = own.iter().map(|address| address.place + 1).max().unwrap_or(0);
    let taker =
        Taker { port: &port.id, network: &port.network_id, mac: &port.mac_address, device_owner: &port.device_owner };
    // Automatic addresses that the port has already are not taken twice.
    let open: Vec<Subnet> = subnets
        .iter()
        .filter(|subnet| !own.iter().any(|a| a.subnet_id == subnet.id && stays(a) && subnet.is_automatic()))
        .cloned()
        .collect();
    addresses::take(work, &taker, &open, &Wanted::These(missing), next).await?;
    Ok(true)
}
