//! Making ports: for clients, and for routers, floating IPs and DHCP.

use base::{Json, json};
use rand::Rng;

use super::{Membership, PortRow, changed, trusted};
use crate::addresses::{self, One, Taker, Wanted};
use crate::engine::Attributes;
use crate::fault::Fault;
use crate::networks::{self, NetworkRow};
use crate::ports::binding;
use crate::stop::Stop;
use crate::work::Work;
use crate::{dhcp, security_groups, subnets, tags};

/// A port to be made.
pub struct NewPort {
    pub id: String,
    pub project: String,
    pub name: String,
    pub description: String,
    pub mac: Option<String>,
    pub admin_state_up: bool,
    pub device_id: String,
    pub device_owner: String,
    pub wanted: Wanted,
    /// As its network, unless said.
    pub port_security: Option<bool>,
    /// The project's default group, unless said.
    pub groups: Option<Vec<String>>,
    pub pairs: Json,
    pub dhcp_options: Json,
    pub host: String,
    pub vnic_type: String,
    pub profile: Json,
    pub dns_name: String,
    pub dns_domain: String,
    pub status: &'static str,
}

impl NewPort {
    /// A port with nothing special, for the service's own use.
    pub fn of(project: &str) -> NewPort {
        NewPort {
            id: base::id::uuid(),
            project: project.to_string(),
            name: String::new(),
            description: String::new(),
            mac: None,
            admin_state_up: true,
            device_id: String::new(),
            device_owner: String::new(),
            wanted: Wanted::Any,
            port_security: None,
            groups: None,
            pairs: json!([]),
            dhcp_options: json!([]),
            host: String::new(),
            vnic_type: "normal".into(),
            profile: json!({}),
            dns_name: String::new(),
            dns_domain: String::new(),
            status: "DOWN",
        }
    }
}

pub async fn from_client(work: &mut Work<'_>, new: &Attributes) -> Result<String, Stop> {
    let network_id = new.text("network_id");
    let network = networks::row(&mut work.tx, &network_id).await?;
    let network = network.ok_or(Fault::NetworkNotFound { net_id: network_id })?;
    let groups = new.get("security_groups").map(|_| new.texts("security_groups"));
    let port = NewPort {
        name: new.text("name"),
        description: new.text("description"),
        mac: new.maybe("mac_address"),
        admin_state_up: new.flag("admin_state_up").unwrap_or(true),
        device_id: new.text("device_id"),
        device_owner: new.text("device_owner"),
        wanted: wanted(new),
        port_security: new.flag("port_security_enabled"),
        groups,
        pairs: new.get("allowed_address_pairs").cloned().unwrap_or(json!([])),
        dhcp_options: new.get("extra_dhcp_opts").cloned().unwrap_or(json!([])),
        host: new.text("binding:host_id"),
        vnic_type: new.maybe("binding:vnic_type").unwrap_or("normal".into()),
        profile: new.get("binding:profile").cloned().unwrap_or(json!({})),
        dns_name: new.text("dns_name"),
        dns_domain: networks::domain(&new.text("dns_domain"))?,
        ..NewPort::of(&new.text("project_id"))
    };
    super::change::foreign_device(work, &port.device_owner, &port.device_id, None).await?;
    let row = insert(work, &network, port).await?;
    tags::give(work, &row.id, new).await?;
    Ok(row.id)
}

/// The addresses that a client asks for.
pub fn wanted(given: &Attributes) -> Wanted {
    if !given.has("fixed_ips") {
        return Wanted::Any;
    }
    let text = |item: &Json, key: &str| item[key].as_str().map(String::from);
    let one = |item: &Json| One {
        subnet: text(item, "subnet_id"),
        address: text(item, "ip_address").and_then(|text| text.parse().ok()),
    };
    Wanted::These(given.list("fixed_ips").iter().map(one).collect())
}

/// Makes a port with its addresses and groups, and binds it if a host is named.
pub async fn insert(work: &mut Work<'_>, network: &NetworkRow, new: NewPort) -> Result<PortRow, Stop> {
    let own = trusted(&new.device_owner);
    let secure = new.port_security.unwrap_or(network.port_security_enabled && !own);
    let groups = groups(work, &new, secure && !own).await?;
    let none = new.wanted == Wanted::These(Vec::new());
    let mut row = PortRow {
        id: new.id,
        project_id: new.project,
        network_id: network.id.clone(),
        name: new.name,
        description: new.description,
        mac_address: String::new(),
        admin_state_up: new.admin_state_up,
        status: new.status.into(),
        device_id: new.device_id,
        device_owner: new.device_owner,
        port_security_enabled: secure,
        host: String::new(),
        vnic_type: new.vnic_type,
        vif_type: "unbound".into(),
        vif_details: json!({}),
        profile: new.profile,
        allowed_address_pairs: json!([]),
        extra_dhcp_opts: new.dhcp_options,
        ip_allocation: if none { "none" } else { "immediate" }.into(),
        dns_name: new.dns_name,
        dns_domain: new.dns_domain,
        created_at: work.now,
        updated_at: work.now,
        revision_number: 1,
    };
    row.mac_address = mac(work, &network.id, new.mac.as_deref()).await?;
    row.allowed_address_pairs = pairs(work, &row, new.pairs, secure)?;
    if !new.host.is_empty() {
        binding::bind(work, &mut row, &new.host).await?;
    }
    row = add(work, row, new.mac.is_some()).await?;

    let subnets = subnets::of(work, &network.id).await?;
    let taker = Taker { port: &row.id, network: &network.id, mac: &row.mac_address, device_owner: &row.device_owner };
    let taken = addresses::take(work, &taker, &subnets, &new.wanted, 0).await?;
    if taken.is_empty() && !groups.is_empty() && new.groups.is_some() && none {
        return Err(Fault::PortSecurityAndIpRequired {}.into());
    }
    let memberships: Vec<Membership> =
        groups.into_iter().map(|group_id| Membership { port_id: row.id.clone(), group_id }).collect();
    work.tx.insert_all(&memberships).await?;
    if !row.host.is_empty() && !own {
        dhcp_for(work, &network.id).await?;
    }
    changed(work, &row).await?;
    still_there(work, &network.id).await?;
    Ok(row)
}

/// A guest needs the network's DHCP. The call goes round in a circle, which only a box can hold.
pub fn dhcp_for<'a>(
    work: &'a mut Work<'_>,
    network: &'a str,
) -> std::pin::Pin<Box<dyn Future<Output = Result<(), Stop>> + Send + 'a>> {
    Box::pin(dhcp::ensure(work, network, true))
}

/// Locks the network for the short rest of the transaction: it cannot go away under a new port.
async fn still_there(work: &mut Work<'_>, network: &str) -> Result<(), Stop> {
    let lock = db::sql("UPDATE networks SET status = status WHERE id = ?").bind(network);
    match work.tx.run(lock).await? {
        0 => Err(Fault::NetworkNotFound { net_id: network.to_string() }.into()),
        _ => Ok(()),
    }
}

async fn groups(work: &mut Work<'_>, new: &NewPort, secure: bool) -> Result<Vec<String>, Stop> {
    let project = new.project.clone();
    match &new.groups {
        Some(groups) => {
            if !groups.is_empty() && !secure {
                return Err(Fault::PortSecurityAndIpRequired {}.into());
            }
            security_groups::known(work, groups, &project).await?;
            Ok(groups.clone())
        }
        None if secure && new.wanted != Wanted::These(Vec::new()) => {
            Ok(vec![security_groups::ensure_default(work, &project).await?])
        }
        None => Ok(Vec::new()),
    }
}

/// Pairs without a MAC get the port's own.
pub fn pairs(work: &Work<'_>, row: &PortRow, pairs: Json, secure: bool) -> Result<Json, Fault> {
    let Json::Array(mut list) = pairs else {
        return Ok(json!([]));
    };
    if !list.is_empty() && !secure {
        return Err(Fault::AddressPairAndPortSecurity {});
    }
    let quota = work.service.settings.max_address_pairs;
    if list.len() > quota {
        return Err(Fault::AddressPairsExhausted { quota });
    }
    for pair in &mut list {
        if pair.get("mac_address").is_none() {
            pair["mac_address"] = json!(row.mac_address);
        }
    }
    Ok(Json::Array(list))
}

/// Limit: random addresses tried before giving up; a network would have to hold millions of ports.
const TRIES: usize = 16;

fn random_mac() -> String {
    let [a, b, c]: [u8; 3] = rand::rng().random();
    format!("fa:16:3e:{a:02x}:{b:02x}:{c:02x}")
}

/// The MAC asked for, if it is free; else a fresh one.
pub async fn mac(work: &mut Work<'_>, network: &str, asked: Option<&str>) -> Result<String, Stop> {
    let Some(mac) = asked else {
        return Ok(random_mac());
    };
    let taken = db::sql("SELECT COUNT(*) FROM ports WHERE network_id = ? AND mac_address = ?").bind(network).bind(mac);
    match work.tx.count(taken).await? {
        0 => Ok(mac.to_string()),
        _ => Err(Fault::MacAddressInUse { net_id: network.to_string(), mac: mac.to_string() }.into()),
    }
}

/// Adds the row; another request may have taken the MAC meanwhile.
async fn add(work: &mut Work<'_>, mut row: PortRow, asked: bool) -> Result<PortRow, Stop> {
    for _ in 0..TRIES {
        if work.tx.insert_new(&row).await? {
            return Ok(row);
        }
        if asked {
            return Err(Fault::MacAddressInUse { net_id: row.network_id, mac: row.mac_address }.into());
        }
        row.mac_address = random_mac();
    }
    Err(Fault::MacAddressesExhausted { net_id: row.network_id }.into())
}
