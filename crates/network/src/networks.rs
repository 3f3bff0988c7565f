//! Networks: broadcast domains, their segment, who may use them.

use std::collections::{HashMap, HashSet};

use api::{Answer, Call, Caller, Limit, Operation, delete, get, post, put};
use base::{Json, json};
use db::{Queries, Select, Value, select, sql};

use crate::Network;
use crate::engine::attribute::{CREATED, DESCRIPTION, Given, ID, NAME, PROJECT, REVISION, TAGS, TENANT, UPDATED, attr};
use crate::engine::rule::Rule;
use crate::engine::{self, Attributes, Condition, Kind, Resource, entity, gather, stamp};
use crate::fault::{Fault, invalid};
use crate::ports::{self, PortRow};
use crate::rbac::{self, EXTERNAL};
use crate::security_groups;
use crate::segments::{self, Provider, Segment};
use crate::stop::Stop;
use crate::subnets::{Subnet, subnets_of};
use crate::work::Work;
use crate::{dhcp, floating_ips, tags, zones};

/// Limit: the smallest MTU that IPv4 allows, and the largest frame there is.
const MTU: (i64, i64) = (0, 65_535);

pub const KIND: Kind = Kind {
    one: "network",
    many: "networks",
    attributes: &[
        ID,
        NAME,
        DESCRIPTION,
        PROJECT,
        TENANT,
        attr("admin_state_up", Rule::Flag).default(Given::True).put().flag(),
        attr("mtu", Rule::Integer(MTU.0, MTU.1)).optional().put().number(),
        attr("status", Rule::Any).text(),
        attr("subnets", Rule::Any),
        attr("shared", Rule::Flag).default(Given::False).put().by(rbac::shared_filter),
        attr("port_security_enabled", Rule::Flag).default(Given::True).put().flag(),
        attr("router:external", Rule::Flag).default(Given::False).put().by(external),
        attr("provider:network_type", Rule::TextOrNull(32)).optional().put().by(by_type),
        attr("provider:physical_network", Rule::TextOrNull(64)).optional().put().by(by_physical),
        attr("provider:segmentation_id", Rule::IntegerOrNull(0, i32::MAX as i64)).optional().put().by(by_number),
        attr("vlan_transparent", Rule::Flag).default(Given::False).flag(),
        attr("qinq", Rule::Flag).default(Given::False).flag(),
        attr("is_default", Rule::Flag).default(Given::False).put().flag(),
        attr("availability_zone_hints", Rule::Texts).default(Given::List),
        attr("availability_zones", Rule::Any),
        attr("ipv4_address_scope", Rule::Any),
        attr("ipv6_address_scope", Rule::Any),
        attr("l2_adjacency", Rule::Any),
        attr("dns_domain", Rule::Text(255)).default(Given::Empty).put().text().of("dns"),
        TAGS,
        CREATED,
        UPDATED,
        REVISION,
    ],
};

const QUOTA: Limit =
    Limit { name: "network", default: 100, count: "SELECT COUNT(*) FROM networks WHERE project_id = ?" };

entity! {
    pub struct NetworkRow in "networks" {
        name: String,
        description: String,
        admin_state_up: bool,
        status: String,
        mtu: i64,
        port_security_enabled: bool,
        external: bool,
        is_default: bool,
        vlan_transparent: bool,
        qinq: bool,
        dns_domain: String,
        availability_zone_hints: Vec<String>,
    }
}

pub struct Networks;

pub fn operations() -> Vec<Operation<Network>> {
    vec![
        get("/networks", engine::list::<Networks>).rule("get_network"),
        post("/networks", engine::create::<Networks>).rule("create_network"),
        get("/networks/{network_id}", engine::show::<Networks>).rule("get_network"),
        put("/networks/{network_id}", engine::update::<Networks>).rule("update_network"),
        delete("/networks/{network_id}", engine::remove::<Networks>).rule("delete_network"),
    ]
}

impl Resource for Networks {
    const KIND: &'static Kind = &KIND;
    const QUOTA: Option<&'static Limit> = Some(&QUOTA);
    type Row = NetworkRow;

    fn not_found(id: &str) -> Fault {
        Fault::NetworkNotFound { net_id: id.to_string() }
    }

    fn scope(rows: Select<NetworkRow>, caller: &Caller) -> Select<NetworkRow> {
        rbac::scope(rows, "network", caller)
    }

    async fn items<Q: Queries>(mut db: Q, rows: Vec<NetworkRow>, caller: &Caller) -> Result<Vec<Json>, db::Error> {
        let ids: Vec<String> = rows.iter().map(|row| row.id.clone()).collect();
        let around = Around::read(&mut db, &ids, caller).await?;
        Ok(rows.iter().map(|row| around.item(row)).collect())
    }

    async fn create(work: &mut Work<'_>, new: &Attributes) -> Result<String, Stop> {
        let project = new.text("project_id");
        zones::known(work, &new.texts("availability_zone_hints"), "network").await?;
        if new.flag("vlan_transparent") == Some(true) || new.flag("qinq") == Some(true) {
            let words = "Backend does not support VLAN Transparency.";
            return Err(api::Refusal::new(409, "VlanTransparencyDriverError", words).into());
        }
        let (external, is_default) = (new.flag("router:external") == Some(true), new.flag("is_default") == Some(true));
        if is_default {
            one_default(work, external).await?;
        }
        security_groups::ensure_default(work, &project).await?;

        let id = base::id::uuid();
        let segment = segments::allocate(work, &id, Provider::read(new), external).await?;
        let row = NetworkRow {
            id: id.clone(),
            project_id: project.clone(),
            name: new.text("name"),
            description: new.text("description"),
            admin_state_up: new.flag("admin_state_up").unwrap_or(true),
            status: "ACTIVE".into(),
            mtu: mtu(work, new, &segment.network_type)?,
            port_security_enabled: new.flag("port_security_enabled").unwrap_or(true),
            external,
            is_default,
            vlan_transparent: false,
            qinq: false,
            dns_domain: domain(&new.text("dns_domain"))?,
            availability_zone_hints: new.texts("availability_zone_hints"),
            created_at: work.now,
            updated_at: work.now,
            // Policies below raise it once more each, as upstream's do not.
            revision_number: 1 - i64::from(external) - i64::from(new.flag("shared") == Some(true)),
        };
        work.tx.insert(&row).await?;
        if external {
            rbac::allow(work, "network", &id, EXTERNAL, &project, "*").await?;
        }
        if new.flag("shared") == Some(true) {
            rbac::share(work, "network", &id, &project, true).await?;
        }
        Ok(id)
    }

    /// Upstream: the answer to a creation shows it for every network.
    fn newborn(item: &mut Json) {
        if item.get("is_default").is_none() {
            item["is_default"] = json!(false);
        }
    }

    async fn update(work: &mut Work<'_>, row: NetworkRow, change: &Attributes) -> Result<(), Stop> {
        same_provider(work, &row, change).await?;
        let mut columns = Vec::new();
        for name in ["name", "description"] {
            columns.extend(change.maybe(name).map(|text| (name, Value::Text(text))));
        }
        for name in ["admin_state_up", "port_security_enabled", "is_default"] {
            columns.extend(change.flag(name).map(|on| (name, Value::Int(on.into()))));
        }
        if change.has("dns_domain") {
            columns.push(("dns_domain", Value::Text(domain(&change.text("dns_domain"))?)));
        }
        if change.has("mtu") {
            let segment = work.tx.maybe(select::<Segment>("WHERE network_id = ?").bind(&row.id)).await?;
            let kind = segment.map(|segment| segment.network_type).unwrap_or_default();
            columns.push(("mtu", Value::Int(mtu(work, change, &kind)?)));
        }
        if change.flag("is_default") == Some(true) && !row.is_default {
            one_default(work, row.external).await?;
        }
        work.set::<NetworkRow>(&row.id, columns).await?;
        if let Some(on) = change.flag("router:external").filter(|on| *on != row.external) {
            set_external(work, &row, on).await?;
        }
        if let Some(on) = change.flag("shared") {
            rbac::share(work, "network", &row.id, &row.project_id, on).await?;
        }
        work.touched.networks.insert(row.id);
        Ok(())
    }

    async fn remove(work: &mut Work<'_>, row: NetworkRow) -> Result<(), Stop> {
        floating_ips::clear(work, &row.id).await?;
        let mut own = Vec::new();
        let mut others = Vec::new();
        for port in work.tx.all(select::<PortRow>("WHERE network_id = ? ORDER BY id").bind(&row.id)).await? {
            if port.device_owner == dhcp::OWNER { own.push(port) } else { others.push(port.id) }
        }
        if !others.is_empty() {
            let text = "There are one or more ports still in use on the network, id for these ports is";
            return Err(Fault::NetworkInUse { net_id: row.id, reason: format!("{text}: {}", others.join(",")) }.into());
        }
        for port in own {
            ports::erase(work, &port).await?;
        }
        let subnets = work.tx.all(select::<Subnet>("WHERE network_id = ?").bind(&row.id)).await?;
        for subnet in subnets {
            crate::tags::forget(&mut work.tx, &subnet.id).await?;
        }
        for table in ["subnets", "segments", "addresses"] {
            work.tx.run(sql(format!("DELETE FROM {table} WHERE network_id = ?")).bind(&row.id)).await?;
        }
        rbac::forget(work, &row.id).await?;
        work.tx.run(sql("DELETE FROM networks WHERE id = ?").bind(&row.id)).await?;
        Ok(())
    }
}

/// What a network shows beside its own row.
struct Around {
    segments: HashMap<String, Segment>,
    subnets: HashMap<String, Vec<Subnet>>,
    scopes: HashMap<String, Option<String>>,
    served: HashSet<String>,
    shared: HashSet<String>,
    tags: HashMap<String, Vec<String>>,
}

impl Around {
    async fn read<Q: Queries>(db: &mut Q, ids: &[String], caller: &Caller) -> Result<Around, db::Error> {
        let segments = gather::<Segment>(&mut *db, "network_id", ids).await?;
        let subnets = subnets_of(&mut *db, ids).await?;
        let mut pools: Vec<String> =
            subnets.values().flatten().filter_map(|subnet| subnet.subnetpool_id.clone()).collect();
        pools.sort();
        pools.dedup();
        let mut served = HashSet::new();
        for chunk in ids.chunks(8000) {
            let ports = sql("SELECT DISTINCT network_id FROM ports WHERE device_owner = ?").bind(dhcp::OWNER);
            for row in db.rows(ports.in_list("network_id", chunk)).await? {
                served.insert(row.get(0)?);
            }
        }
        let scopes = gather::<crate::subnet_pools::SubnetPool>(&mut *db, "id", &pools).await?;
        Ok(Around {
            segments: segments.into_iter().map(|segment| (segment.network_id.clone(), segment)).collect(),
            subnets,
            scopes: scopes.into_iter().map(|pool| (pool.id, pool.address_scope_id)).collect(),
            served,
            shared: rbac::shared(&mut *db, ids, caller).await?,
            tags: tags::of(&mut *db, ids).await?,
        })
    }

    fn item(&self, row: &NetworkRow) -> Json {
        let segment = self.segments.get(&row.id);
        let subnets = self.subnets.get(&row.id).map(Vec::as_slice).unwrap_or_default();
        let mut names: Vec<&str> = subnets.iter().map(|subnet| subnet.id.as_str()).collect();
        names.sort_unstable();
        let scope = |version: i64| {
            let own = subnets.iter().find(|subnet| subnet.ip_version == version && subnet.subnetpool_id.is_some());
            own.and_then(|subnet| self.scopes.get(subnet.subnetpool_id.as_ref()?)?.clone())
        };
        let mut item = json!({
            "id": row.id,
            "name": row.name,
            "description": row.description,
            "project_id": row.project_id,
            "tenant_id": row.project_id,
            "admin_state_up": row.admin_state_up,
            "mtu": row.mtu,
            "status": row.status,
            "subnets": names,
            "shared": self.shared.contains(&row.id),
            "port_security_enabled": row.port_security_enabled,
            "router:external": row.external,
            "provider:network_type": segment.map(|segment| &segment.network_type),
            "provider:physical_network": segment.and_then(|segment| segment.physical_network.as_ref()),
            "provider:segmentation_id": segment.and_then(|segment| segment.segmentation_id),
            "vlan_transparent": row.vlan_transparent,
            "qinq": row.qinq,
            "availability_zone_hints": row.availability_zone_hints,
            "availability_zones": if self.served.contains(&row.id) { json!(["nova"]) } else { json!([]) },
            "ipv4_address_scope": scope(4),
            "ipv6_address_scope": scope(6),
            "l2_adjacency": true,
            "dns_domain": row.dns_domain,
            "tags": self.tags.get(&row.id).cloned().unwrap_or_default(),
            "created_at": stamp(row.created_at),
            "updated_at": stamp(row.updated_at),
            "revision_number": row.revision_number,
        });
        // Upstream: only external networks show it.
        if row.external {
            item["is_default"] = json!(row.is_default);
        }
        item
    }
}

/// The network, whoever asks.
pub async fn row(mut db: impl Queries, id: &str) -> Result<Option<NetworkRow>, db::Error> {
    db.maybe(select::<NetworkRow>("WHERE id = ?").bind(id)).await
}

/// The network as a caller sees it, for the things that are made on it; with what their rules ask about it.
pub async fn parent(call: &Call<Network>, id: &str) -> Answer<(NetworkRow, api::JsonMap)> {
    let rows = Networks::scope(select::<NetworkRow>("").and("id = ?").bind(id), &call.caller);
    let missing = || Fault::NetworkNotFound { net_id: id.to_string() };
    let row = call.db.maybe(rows).await?.ok_or_else(missing)?;
    let shared = rbac::shared(&call.db, std::slice::from_ref(&row.id), &call.caller).await?.contains(id);
    let mut map = api::JsonMap::new();
    map.insert("network:project_id".into(), json!(row.project_id));
    map.insert("network:tenant_id".into(), json!(row.project_id));
    map.insert("shared".into(), json!(shared));
    map.insert("router:external".into(), json!(row.external));
    Ok((row, map))
}

/// The MTU asked for, or the largest.
fn mtu(work: &Work<'_>, given: &Attributes, network_type: &str) -> Result<i64, Fault> {
    let largest = work.service.settings.mtu(network_type);
    match given.number("mtu") {
        None | Some(0) => Ok(largest),
        Some(mtu) if mtu > largest => Err(invalid(format!("Requested MTU is too big, maximum is {largest}"))),
        Some(mtu) if mtu < 68 => Err(invalid("Requested MTU is too small, minimum is 68")),
        Some(mtu) => Ok(mtu),
    }
}

/// A domain ends with a dot.
pub fn domain(text: &str) -> Result<String, Fault> {
    let label = |label: &str| {
        let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        !label.is_empty()
            && label.len() <= 63
            && label.chars().all(good)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    match text {
        "" => Ok(String::new()),
        text if text.ends_with('.') && text.trim_end_matches('.').split('.').all(label) => Ok(text.to_string()),
        text => Err(invalid(format!("'{text}' not a valid PQDN or FQDN. Reason: it must end with a dot"))),
    }
}

async fn one_default(work: &mut Work<'_>, external: bool) -> Result<(), Stop> {
    if !external {
        return Ok(());
    }
    // Upstream: the last one wins.
    work.tx.run(sql("UPDATE networks SET is_default = 0 WHERE is_default = 1")).await?;
    Ok(())
}

async fn set_external(work: &mut Work<'_>, row: &NetworkRow, on: bool) -> Result<(), Stop> {
    if on {
        rbac::allow(work, "network", &row.id, EXTERNAL, &row.project_id, "*").await?;
        return Ok(());
    }
    let gateways = sql("SELECT COUNT(*) FROM ports WHERE network_id = ? AND device_owner IN (?, ?)");
    let gateways = gateways.bind(&row.id).bind("network:router_gateway").bind("network:floatingip");
    if work.tx.count(gateways).await? > 0 {
        return Err(Fault::ExternalNetworkInUse { net_id: row.id.clone() }.into());
    }
    let gone = sql("DELETE FROM rbac_policies WHERE object_id = ? AND action = ?").bind(&row.id).bind(EXTERNAL);
    work.tx.run(gone).await?;
    work.set::<NetworkRow>(&row.id, vec![("external", Value::Int(0))]).await
}

/// Provider attributes do not change; saying them again is fine.
async fn same_provider(work: &mut Work<'_>, row: &NetworkRow, change: &Attributes) -> Result<(), Stop> {
    let given = Provider::read(change);
    let segment = work.tx.maybe(select::<Segment>("WHERE network_id = ?").bind(&row.id)).await?;
    let same = segment.is_none_or(|segment| {
        given.network_type.is_none_or(|kind| kind == segment.network_type)
            && (!change.has("provider:physical_network") || given.physical_network == segment.physical_network)
            && (!change.has("provider:segmentation_id") || given.segmentation_id == segment.segmentation_id)
    });
    match same {
        true => Ok(()),
        false => Err(invalid("Plugin does not support updating provider attributes").into()),
    }
}

fn external(values: &[&str], _: &Caller) -> Condition {
    let wanted: Vec<&str> = values
        .iter()
        .filter_map(|value| api::listing::flag_value(value))
        .map(|on| if on { "1" } else { "0" })
        .collect();
    match wanted.is_empty() {
        true => Condition::plain("1 = 0"),
        false => Condition::plain(format!("external IN ({})", wanted.join(","))),
    }
}

fn by_type(values: &[&str], _: &Caller) -> Condition {
    Condition::any_of("id IN (SELECT network_id FROM segments WHERE network_type IN (?))", values)
}

fn by_physical(values: &[&str], _: &Caller) -> Condition {
    Condition::any_of("id IN (SELECT network_id FROM segments WHERE physical_network IN (?))", values)
}

fn by_number(values: &[&str], _: &Caller) -> Condition {
    let numbers: Vec<String> =
        values.iter().filter_map(|value| value.parse::<i64>().ok()).map(|n| n.to_string()).collect();
    match numbers.is_empty() {
        true => Condition::plain("1 = 0"),
        false => Condition::plain(format!(
            "id IN (SELECT network_id FROM segments WHERE segmentation_id IN ({}))",
            numbers.join(",")
        )),
    }
}
