//! Subnets: ranges of addresses on a network, and what hosts are told about them by DHCP and router advertisements.

pub mod check;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use api::{Answer, Call, Caller, JsonMap, Limit, Operation, delete, get, post, put};
use base::{Json, json};
use db::{Queries, Select, select, sql};
use ipnet::IpNet;

use crate::Network;
use crate::addresses::{self, Address, One, Taker, Wanted};
use crate::engine::attribute::{CREATED, DESCRIPTION, Given, ID, NAME, PROJECT, REVISION, TAGS, TENANT, UPDATED, attr};
use crate::engine::rule::Rule;
use crate::engine::{self, Attributes, Condition, Kind, Resource, entity, gather, own_project, sees_all, stamp};
use crate::fault::{Fault, bad, invalid};
use crate::networks::{self, NetworkRow};
use crate::ports::{self, PortRow};
use crate::stop::Stop;
use crate::work::Work;
use crate::{dhcp, ip, rbac, subnet_pools, tags};

const MODES: &[&str] = &["dhcpv6-stateful", "dhcpv6-stateless", "slaac"];

pub const KIND: Kind = Kind {
    one: "subnet",
    many: "subnets",
    attributes: &[
        ID,
        NAME,
        DESCRIPTION,
        PROJECT,
        TENANT,
        attr("ip_version", Rule::With(check::version)).required().number(),
        attr("network_id", Rule::Uuid).required().text(),
        attr("subnetpool_id", Rule::UuidOrNull).optional().text(),
        attr("use_default_subnetpool", Rule::Flag).optional().hidden(),
        attr("prefixlen", Rule::IntegerOrNull(0, 128)).optional().hidden(),
        attr("cidr", Rule::Any).optional().text(),
        attr("gateway_ip", Rule::IpOrNull).optional().put().text(),
        attr("allocation_pools", Rule::With(check::pools)).optional().put(),
        attr("dns_nameservers", Rule::With(check::nameservers)).optional().put(),
        attr("host_routes", Rule::With(check::routes)).optional().put(),
        attr("enable_dhcp", Rule::Flag).default(Given::True).put().flag(),
        attr("ipv6_ra_mode", Rule::With(mode)).optional().text(),
        attr("ipv6_address_mode", Rule::With(mode)).optional().text(),
        attr("service_types", Rule::Texts).optional().put(),
        attr("segment_id", Rule::UuidOrNull).default(Given::Null).put().text(),
        attr("dns_publish_fixed_ip", Rule::Flag).default(Given::False).put().flag().of("subnet_dns_publish_fixed_ip"),
        attr("router:external", Rule::Any).by(external),
        attr("shared", Rule::Any).by(shared).hidden(),
        TAGS,
        CREATED,
        UPDATED,
        REVISION,
    ],
};

const QUOTA: Limit = Limit { name: "subnet", default: 100, count: "SELECT COUNT(*) FROM subnets WHERE project_id = ?" };

entity! {
    pub struct Subnet in "subnets" {
        network_id: String,
        name: String,
        description: String,
        ip_version: i64,
        cidr: String,
        gateway_ip: Option<String>,
        enable_dhcp: bool,
        ipv6_ra_mode: Option<String>,
        ipv6_address_mode: Option<String>,
        subnetpool_id: Option<String>,
        segment_id: Option<String>,
        allocation_pools: Json,
        dns_nameservers: Vec<String>,
        host_routes: Json,
        service_types: Vec<String>,
        dns_publish_fixed_ip: bool,
    }
}

impl Subnet {
    pub fn net(&self) -> IpNet {
        ip::net(&self.cidr).expect("only networks are kept as cidr")
    }

    /// First and last numbers of the allocation pools.
    pub fn pools(&self) -> Vec<(u128, u128)> {
        check::bounds(&self.allocation_pools)
    }

    /// Whether ports make their addresses from their MACs.
    pub fn is_automatic(&self) -> bool {
        matches!(self.ipv6_address_mode.as_deref(), Some("slaac" | "dhcpv6-stateless"))
    }

    pub fn automatic_address(&self, mac: &str) -> Option<IpAddr> {
        match self.net() {
            IpNet::V6(net) => ip::automatic(&net, mac).map(IpAddr::V6),
            IpNet::V4(_) => None,
        }
    }

    pub fn gateway(&self) -> Option<IpAddr> {
        self.gateway_ip.as_ref().and_then(|text| text.parse().ok())
    }
}

pub struct Subnets;

pub fn operations() -> Vec<Operation<Network>> {
    vec![
        get("/subnets", engine::list::<Subnets>).rule("get_subnet"),
        post("/subnets", engine::create::<Subnets>).rule("create_subnet"),
        get("/subnets/{subnet_id}", engine::show::<Subnets>).rule("get_subnet"),
        put("/subnets/{subnet_id}", engine::update::<Subnets>).rule("update_subnet"),
        delete("/subnets/{subnet_id}", engine::remove::<Subnets>).rule("delete_subnet"),
    ]
}

impl Resource for Subnets {
    const KIND: &'static Kind = &KIND;
    const QUOTA: Option<&'static Limit> = Some(&QUOTA);
    type Row = Subnet;

    fn not_found(id: &str) -> Fault {
        Fault::SubnetNotFound { subnet_id: id.to_string() }
    }

    fn scope(rows: Select<Subnet>, caller: &Caller) -> Select<Subnet> {
        if sees_all(caller) {
            return rows;
        }
        let project = own_project(caller);
        let text = "project_id = ? OR network_id IN (SELECT id FROM networks WHERE project_id = ?) OR network_id IN \
                    (SELECT object_id FROM rbac_policies WHERE object_type = 'network' AND target_project IN (?, '*'))";
        rows.and(text).bind(project).bind(project).bind(project)
    }

    async fn items<Q: Queries>(mut db: Q, rows: Vec<Subnet>, caller: &Caller) -> Result<Vec<Json>, db::Error> {
        let ids: Vec<String> = rows.iter().map(|row| row.id.clone()).collect();
        let mut networks: Vec<String> = rows.iter().map(|row| row.network_id.clone()).collect();
        networks.sort();
        networks.dedup();
        let shared = rbac::shared(&mut db, &networks, caller).await?;
        let tags = tags::of(&mut db, &ids).await?;
        let networks = gather::<NetworkRow>(&mut db, "id", &networks).await?;
        let networks: HashMap<String, NetworkRow> = networks.into_iter().map(|row| (row.id.clone(), row)).collect();
        Ok(rows.iter().map(|row| item(row, networks.get(&row.network_id), &shared, &tags)).collect())
    }

    async fn parents(call: &Call<Network>, new: &Attributes) -> Answer<JsonMap> {
        Ok(networks::parent(call, &new.text("network_id")).await?.1)
    }

    async fn create(work: &mut Work<'_>, new: &Attributes) -> Result<String, Stop> {
        let network = new.text("network_id");
        // Locks the network: subnets of one network are made one after the other.
        if !work.revise("networks", &network, 1).await? {
            return Err(Fault::NetworkNotFound { net_id: network }.into());
        }
        let others = work.tx.all(select::<Subnet>("WHERE network_id = ?").bind(&network)).await?;
        let subnet = build(work, new, &others).await?;
        work.tx.insert(&subnet).await?;
        if subnet.is_automatic() {
            give_automatic(work, &subnet).await?;
        }
        dhcp::ensure(work, &network, false).await?;
        work.touched.networks.insert(network);
        Ok(subnet.id)
    }

    async fn update(work: &mut Work<'_>, row: Subnet, change: &Attributes) -> Result<(), Stop> {
        let next = check::changed(work, &row, change)?;
        if next.gateway_ip != row.gateway_ip {
            free_gateway(work, &row).await?;
        }
        work.rewrite(&next).await?;
        if next.enable_dhcp != row.enable_dhcp {
            dhcp::ensure(work, &row.network_id, false).await?;
        }
        work.touched.networks.insert(row.network_id);
        Ok(())
    }

    async fn remove(work: &mut Work<'_>, row: Subnet) -> Result<(), Stop> {
        work.revise("networks", &row.network_id, 1).await?;
        let taken = work.tx.all(select::<Address>("WHERE subnet_id = ?").bind(&row.id)).await?;
        let ports: Vec<String> = taken.iter().map(|address| address.port_id.clone()).collect();
        let ports = gather::<PortRow>(&mut work.tx, "id", &ports).await?;
        let stays = |port: &PortRow| {
            let automatic = row.is_automatic() && !port.device_owner.starts_with("network:router");
            port.device_owner != dhcp::OWNER && !automatic
        };
        if ports.iter().any(stays) {
            let reason = "One or more ports have an IP allocation from this subnet".to_string();
            return Err(Fault::SubnetInUse { subnet_id: row.id, reason }.into());
        }
        addresses::release(work, &taken).await?;
        work.tx.run(sql("DELETE FROM subnets WHERE id = ?").bind(&row.id)).await?;
        dhcp::ensure(work, &row.network_id, false).await?;
        work.touched.networks.insert(row.network_id);
        Ok(())
    }

    /// Upstream: what a subnet only refers to does not raise its revision.
    fn revises(change: &Attributes) -> bool {
        let beside = ["host_routes", "dns_nameservers", "allocation_pools", "service_types"];
        !change.0.keys().all(|name| beside.contains(&name.as_str()))
    }
}

fn item(
    row: &Subnet,
    network: Option<&NetworkRow>,
    shared: &HashSet<String>,
    tags: &HashMap<String, Vec<String>>,
) -> Json {
    json!({
        "id": row.id,
        "name": row.name,
        "description": row.description,
        "project_id": row.project_id,
        "tenant_id": row.project_id,
        "network_id": row.network_id,
        "ip_version": row.ip_version,
        "cidr": row.cidr,
        "gateway_ip": row.gateway_ip,
        "enable_dhcp": row.enable_dhcp,
        "ipv6_ra_mode": row.ipv6_ra_mode,
        "ipv6_address_mode": row.ipv6_address_mode,
        "subnetpool_id": row.subnetpool_id,
        "segment_id": row.segment_id,
        "allocation_pools": row.allocation_pools,
        "dns_nameservers": row.dns_nameservers,
        "host_routes": row.host_routes,
        "service_types": row.service_types,
        "dns_publish_fixed_ip": row.dns_publish_fixed_ip,
        "router:external": network.is_some_and(|network| network.external),
        "tags": tags.get(&row.id).cloned().unwrap_or_default(),
        "created_at": stamp(row.created_at),
        "updated_at": stamp(row.updated_at),
        "revision_number": row.revision_number,
        "shared": shared.contains(&row.network_id),
        "network:project_id": network.map(|network| &network.project_id),
        "network:tenant_id": network.map(|network| &network.project_id),
    })
}

/// The subnets of each of these networks, oldest first.
pub async fn subnets_of(db: impl Queries, networks: &[String]) -> Result<HashMap<String, Vec<Subnet>>, db::Error> {
    let mut by_network: HashMap<String, Vec<Subnet>> = HashMap::new();
    for subnet in gather::<Subnet>(db, "network_id", networks).await? {
        by_network.entry(subnet.network_id.clone()).or_default().push(subnet);
    }
    by_network
        .values_mut()
        .for_each(|subnets| subnets.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id))));
    Ok(by_network)
}

/// The subnets of one network, inside a transaction.
pub async fn of(work: &mut Work<'_>, network: &str) -> Result<Vec<Subnet>, Stop> {
    let rows = select::<Subnet>("WHERE network_id = ? ORDER BY created_at, id").bind(network);
    Ok(work.tx.all(rows).await?)
}

pub async fn row(mut db: impl Queries, id: &str) -> Result<Option<Subnet>, db::Error> {
    db.maybe(select::<Subnet>("WHERE id = ?").bind(id)).await
}

/// A new subnet from what a client sent, checked against the others of its network.
async fn build(work: &mut Work<'_>, new: &Attributes, others: &[Subnet]) -> Result<Subnet, Stop> {
    let version = new.number("ip_version").unwrap_or(4);
    let asked = check::cidr(new, version)?;
    let pool = pool(work, new, version, asked.is_some()).await?;
    if let Some(pool) = &pool {
        if new.has("allocation_pools") && asked.is_none() {
            return Err(bad("subnets", "allocation_pools allowed only for specific subnet requests.").into());
        }
        if pool.ip_version != version {
            let text = format!("Cannot allocate IPv{version} subnet from IPv{} subnet pool", pool.ip_version);
            return Err(bad("subnets", text).into());
        }
    }
    let family = others.iter().filter(|subnet| subnet.ip_version == version);
    let pool_id = pool.as_ref().map(|pool| pool.id.clone());
    if family.clone().any(|subnet| subnet.subnetpool_id != pool_id) {
        return Err(Fault::NetworkSubnetPoolAffinity {}.into());
    }
    let project = new.text("project_id");
    let net = match (&pool, asked) {
        (Some(pool), asked) => subnet_pools::cut(work, pool, &project, asked, new.number("prefixlen")).await?,
        (None, Some(net)) => net,
        (None, None) => return Err(bad("subnets", "a subnetpool must be specified in the absence of a cidr").into()),
    };
    if others.iter().any(|other| ip::overlap(&other.net(), &net)) {
        return Err(invalid(format!(
            "Requested subnet with cidr: {net} for network: {} overlaps with another subnet",
            new.text("network_id")
        ))
        .into());
    }
    let gateway_ip = check::gateway(new, &net)?;
    let allocation_pools = match new.get("allocation_pools").filter(|pools| pools.is_array()) {
        Some(pools) => check::given_pools(pools, &net, gateway_ip)?,
        None => check::default_pools(&net, gateway_ip),
    };
    let subnet = Subnet {
        id: base::id::uuid(),
        project_id: project,
        network_id: new.text("network_id"),
        name: new.text("name"),
        description: new.text("description"),
        ip_version: version,
        cidr: net.to_string(),
        gateway_ip: gateway_ip.map(|address| address.to_string()),
        enable_dhcp: new.flag("enable_dhcp").unwrap_or(true),
        ipv6_ra_mode: new.maybe("ipv6_ra_mode"),
        ipv6_address_mode: new.maybe("ipv6_address_mode"),
        subnetpool_id: pool_id,
        segment_id: new.maybe("segment_id"),
        allocation_pools,
        dns_nameservers: new.texts("dns_nameservers"),
        host_routes: new.get("host_routes").filter(|routes| routes.is_array()).cloned().unwrap_or(json!([])),
        service_types: check::service_types(&new.texts("service_types"))?,
        dns_publish_fixed_ip: new.flag("dns_publish_fixed_ip").unwrap_or(false),
        created_at: work.now,
        updated_at: work.now,
        revision_number: 0,
    };
    check::whole(&subnet, &work.service.settings, "new subnet", true)?;
    Ok(subnet)
}

/// The pool to cut the subnet from, if any.
async fn pool(
    work: &mut Work<'_>,
    new: &Attributes,
    version: i64,
    has_cidr: bool,
) -> Result<Option<subnet_pools::SubnetPool>, Stop> {
    let default = new.flag("use_default_subnetpool") == Some(true);
    match (new.maybe("subnetpool_id"), default) {
        (Some(_), true) => {
            Err(bad("subnets", "subnetpool_id and use_default_subnetpool cannot both be specified").into())
        }
        (Some(id), false) => {
            let rows = subnet_pools::SubnetPools::scope(select("").and("id = ?").bind(&id), work.caller);
            let pool = work.tx.maybe(rows).await?;
            Ok(Some(pool.ok_or(Fault::SubnetPoolNotFound { id })?))
        }
        (None, true) => match subnet_pools::default(work, version).await? {
            Some(pool) => Ok(Some(pool)),
            None => Err(bad("subnets", format!("No default subnetpool found for IPv{version}")).into()),
        },
        (None, false) if !has_cidr => {
            Err(bad("subnets", "a subnetpool must be specified in the absence of a cidr").into())
        }
        (None, false) => Ok(None),
    }
}

/// Gives the ports of a network their addresses on a new subnet where ports make their own.
async fn give_automatic(work: &mut Work<'_>, subnet: &Subnet) -> Result<(), Stop> {
    let ports = work.tx.all(select::<PortRow>("WHERE network_id = ?").bind(&subnet.network_id)).await?;
    for port in ports.iter().filter(|port| !port.device_owner.starts_with("network:")) {
        let taker = Taker {
            port: &port.id,
            network: &port.network_id,
            mac: &port.mac_address,
            device_owner: &port.device_owner,
        };
        let one = One { subnet: Some(subnet.id.clone()), address: None };
        addresses::take(work, &taker, std::slice::from_ref(subnet), &Wanted::These(vec![one]), 200).await?;
        ports::changed(work, port).await?;
    }
    Ok(())
}

/// A gateway that a router answers for is not taken away.
async fn free_gateway(work: &mut Work<'_>, row: &Subnet) -> Result<(), Stop> {
    let Some(gateway) = &row.gateway_ip else {
        return Ok(());
    };
    let holder = sql(
        "SELECT ports.id FROM addresses JOIN ports ON ports.id = addresses.port_id WHERE addresses.subnet_id = ? AND \
         addresses.ip_address = ? AND ports.device_owner LIKE 'network:router_interface%'",
    );
    let rows = work.tx.rows(holder.bind(&row.id).bind(gateway)).await?;
    match rows.first() {
        None => Ok(()),
        Some(row) => Err(Fault::GatewayIpInUse { ip_address: gateway.clone(), port_id: row.get(0)? }.into()),
    }
}

fn mode(value: Json) -> Result<Json, String> {
    if value.is_null() { Ok(value) } else { crate::engine::rule::one_of(value, MODES) }
}

fn external(values: &[&str], _: &Caller) -> Condition {
    let flags: Vec<&str> = values
        .iter()
        .filter_map(|value| api::listing::flag_value(value))
        .map(|on| if on { "1" } else { "0" })
        .collect();
    match flags.is_empty() {
        true => Condition::plain("1 = 0"),
        false => {
            Condition::plain(format!("network_id IN (SELECT id FROM networks WHERE external IN ({}))", flags.join(",")))
        }
    }
}

fn shared(values: &[&str], caller: &Caller) -> Condition {
    let condition = rbac::shared_filter(values, caller);
    Condition { text: condition.text.replacen("id IN", "network_id IN", 1), values: condition.values }
}
