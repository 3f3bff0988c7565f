//! Ports: where something is joined to a network. Its addresses, its groups, and the host that carries it.

pub mod binding;
pub mod change;
mod check;
mod make;

use std::collections::HashMap;

use api::{Answer, Call, Caller, JsonMap, Limit, Operation, delete, get, post, put};
use base::{Json, json};
use db::{Queries, Select, record, select, sql};

use crate::Network;
use crate::addresses::{self, Address};
use crate::engine::attribute::{
    CREATED, DESCRIPTION, Given, ID, NAME, NEW_TAGS, PROJECT, REVISION, TENANT, UPDATED, attr,
};
use crate::engine::rule::Rule;
use crate::engine::{self, Attributes, Condition, Kind, Resource, entity, gather, own_project, sees_all, stamp};
use crate::events::Event;
use crate::fault::Fault;
use crate::networks::{self, NetworkRow};
use crate::stop::Stop;
use crate::work::Work;
use crate::{floating_ips, ip, tags};

pub use make::{NewPort, insert};

/// Upstream's list; ours binds the first.
const VNIC_TYPES: &[&str] = &[
    "normal",
    "direct",
    "macvtap",
    "baremetal",
    "direct-physical",
    "virtio-forwarder",
    "smart-nic",
    "vdpa",
    "accelerator-direct",
    "accelerator-direct-physical",
    "remote-managed",
];

pub const KIND: Kind = Kind {
    one: "port",
    many: "ports",
    attributes: &[
        ID,
        NAME,
        DESCRIPTION,
        PROJECT,
        TENANT,
        attr("network_id", Rule::Uuid).required().text(),
        attr("admin_state_up", Rule::Flag).default(Given::True).put().flag(),
        attr("mac_address", Rule::With(check::mac)).optional().put().by(by_mac),
        attr("fixed_ips", Rule::With(check::fixed_ips)).optional().put().by(by_fixed_ips),
        attr("device_id", Rule::Text(255)).default(Given::Empty).put().text(),
        attr("device_owner", Rule::Text(255)).default(Given::Empty).put().text(),
        attr("status", Rule::Any).text(),
        attr("security_groups", Rule::With(check::groups)).optional().put().by(by_groups),
        attr("port_security_enabled", Rule::Flag).optional().put().flag(),
        attr("allowed_address_pairs", Rule::With(check::pairs)).default(Given::List).put(),
        attr("extra_dhcp_opts", Rule::With(check::dhcp_options)).default(Given::List).put(),
        attr("binding:host_id", Rule::TextOrNull(255)).default(Given::Empty).put().column("host"),
        attr("binding:vnic_type", Rule::OneOf(VNIC_TYPES)).default(Given::Text("normal")).put().column("vnic_type"),
        attr("binding:profile", Rule::Object).default(Given::Object).put(),
        attr("binding:vif_type", Rule::Any).column("vif_type"),
        attr("binding:vif_details", Rule::Any),
        attr("ip_allocation", Rule::Any).text(),
        attr("dns_name", Rule::With(check::dns_name)).default(Given::Empty).put().text().of("dns"),
        attr("dns_domain", Rule::Text(255)).default(Given::Empty).put().text().of("dns_domain_ports"),
        attr("dns_assignment", Rule::Any).of("dns"),
        NEW_TAGS,
        CREATED,
        UPDATED,
        REVISION,
    ],
};

const QUOTA: Limit = Limit { name: "port", default: 500, count: "SELECT COUNT(*) FROM ports WHERE project_id = ?" };

entity! {
    pub struct PortRow in "ports" {
        network_id: String,
        name: String,
        description: String,
        mac_address: String,
        admin_state_up: bool,
        status: String,
        device_id: String,
        device_owner: String,
        port_security_enabled: bool,
        host: String,
        vnic_type: String,
        vif_type: String,
        vif_details: Json,
        profile: Json,
        allowed_address_pairs: Json,
        extra_dhcp_opts: Json,
        ip_allocation: String,
        dns_name: String,
        dns_domain: String,
    }
}

impl PortRow {
    /// Whether it belongs to the service itself, so that nothing filters it.
    pub fn is_trusted(&self) -> bool {
        trusted(&self.device_owner)
    }

    /// Whether a server is behind it, which compute wants to hear of.
    pub fn is_compute(&self) -> bool {
        self.device_owner.starts_with("compute:") && !self.device_id.is_empty()
    }
}

pub fn trusted(device_owner: &str) -> bool {
    device_owner.starts_with("network:")
}

record! {
    pub struct Membership in "port_groups" {
        pub port_id: String,
        pub group_id: String,
    }
}

pub struct Ports;

pub fn operations() -> Vec<Operation<Network>> {
    vec![
        get("/ports", engine::list::<Ports>).rule("get_port"),
        post("/ports", engine::create::<Ports>).rule("create_port"),
        get("/ports/{port_id}", engine::show::<Ports>).rule("get_port"),
        put("/ports/{port_id}", engine::update::<Ports>).rule("update_port"),
        delete("/ports/{port_id}", engine::remove::<Ports>).rule("delete_port"),
    ]
}

impl Resource for Ports {
    const KIND: &'static Kind = &KIND;
    const QUOTA: Option<&'static Limit> = Some(&QUOTA);
    type Row = PortRow;

    fn not_found(id: &str) -> Fault {
        Fault::PortNotFound { port_id: id.to_string() }
    }

    fn scope(rows: Select<PortRow>, caller: &Caller) -> Select<PortRow> {
        if sees_all(caller) {
            return rows;
        }
        let project = own_project(caller);
        let text = "project_id = ? OR network_id IN (SELECT id FROM networks WHERE project_id = ?)";
        rows.and(text).bind(project).bind(project)
    }

    async fn items<Q: Queries>(mut db: Q, rows: Vec<PortRow>, _: &Caller) -> Result<Vec<Json>, db::Error> {
        let ids: Vec<String> = rows.iter().map(|row| row.id.clone()).collect();
        let mut networks: Vec<String> = rows.iter().map(|row| row.network_id.clone()).collect();
        networks.sort();
        networks.dedup();
        let addresses = addresses::of(&mut db, &ids).await?;
        let groups = groups_of(&mut db, &ids).await?;
        let tags = tags::of(&mut db, &ids).await?;
        let networks = gather::<NetworkRow>(&mut db, "id", &networks).await?;
        let networks: HashMap<String, NetworkRow> = networks.into_iter().map(|row| (row.id.clone(), row)).collect();
        let none = Vec::new();
        let item = |row: PortRow| {
            let own = addresses.get(&row.id).map(Vec::as_slice).unwrap_or_default();
            let mut item = item(&row, own, networks.get(&row.network_id));
            item["security_groups"] = json!(groups.get(&row.id).unwrap_or(&none));
            item["tags"] = json!(tags.get(&row.id).unwrap_or(&none));
            item
        };
        Ok(rows.into_iter().map(item).collect())
    }

    async fn parents(call: &Call<Network>, new: &Attributes) -> Answer<JsonMap> {
        Ok(networks::parent(call, &new.text("network_id")).await?.1)
    }

    async fn create(work: &mut Work<'_>, new: &Attributes) -> Result<String, Stop> {
        make::from_client(work, new).await
    }

    async fn update(work: &mut Work<'_>, row: PortRow, change: &Attributes) -> Result<(), Stop> {
        change::apply(work, row, change).await
    }

    async fn remove(work: &mut Work<'_>, row: PortRow) -> Result<(), Stop> {
        if row.device_owner.starts_with("network:router") || row.device_owner == "network:floatingip" {
            let table = if row.device_owner == "network:floatingip" { "floatingips" } else { "routers" };
            let owner = sql(format!("SELECT COUNT(*) FROM {table} WHERE id = ?")).bind(&row.device_id);
            if work.tx.count(owner).await? > 0 {
                let reason = format!("has device owner {}", row.device_owner);
                return Err(Fault::ServicePortInUse { port_id: row.id, reason }.into());
            }
        }
        if row.is_compute() {
            work.tell(Event::vif_deleted(&row)).await?;
        }
        erase(work, &row).await
    }
}

fn item(row: &PortRow, own: &[Address], network: Option<&NetworkRow>) -> Json {
    let fixed = own.iter().map(|address| json!({"subnet_id": address.subnet_id, "ip_address": address.ip_address}));
    json!({
        "id": row.id,
        "name": row.name,
        "description": row.description,
        "project_id": row.project_id,
        "tenant_id": row.project_id,
        "network_id": row.network_id,
        "mac_address": row.mac_address,
        "admin_state_up": row.admin_state_up,
        "status": row.status,
        "device_id": row.device_id,
        "device_owner": row.device_owner,
        "fixed_ips": fixed.collect::<Vec<Json>>(),
        "port_security_enabled": row.port_security_enabled,
        "allowed_address_pairs": row.allowed_address_pairs,
        "extra_dhcp_opts": row.extra_dhcp_opts,
        "binding:host_id": row.host,
        "binding:vnic_type": row.vnic_type,
        "binding:profile": row.profile,
        "binding:vif_type": row.vif_type,
        "binding:vif_details": row.vif_details,
        "ip_allocation": row.ip_allocation,
        "dns_name": row.dns_name,
        "dns_domain": row.dns_domain,
        "dns_assignment": own.iter().map(|address| assignment(row, address, network)).collect::<Vec<Json>>(),
        "created_at": stamp(row.created_at),
        "updated_at": stamp(row.updated_at),
        "revision_number": row.revision_number,
        "network:project_id": network.map(|network| &network.project_id),
        "network:tenant_id": network.map(|network| &network.project_id),
    })
}

/// The name of an address in the DNS of its network.
fn assignment(row: &PortRow, address: &Address, network: Option<&NetworkRow>) -> Json {
    let hostname = hostname(row, &address.ip_address);
    let domain = network.map(|network| network.dns_domain.as_str()).filter(|domain| !domain.is_empty());
    let fqdn = format!("{hostname}.{}", domain.unwrap_or("openstacklocal."));
    json!({"ip_address": address.ip_address, "hostname": hostname, "fqdn": fqdn})
}

/// The name that DHCP tells a guest.
pub fn hostname(row: &PortRow, address: &str) -> String {
    match row.dns_name.is_empty() {
        true => format!("host-{}", address.replace(['.', ':'], "-")),
        false => row.dns_name.clone(),
    }
}

/// The groups of each of these ports.
pub async fn groups_of(db: impl Queries, ports: &[String]) -> Result<HashMap<String, Vec<String>>, db::Error> {
    let mut groups: HashMap<String, Vec<String>> = HashMap::new();
    for row in gather::<Membership>(db, "port_id", ports).await? {
        groups.entry(row.port_id).or_default().push(row.group_id);
    }
    groups.values_mut().for_each(|groups| groups.sort());
    Ok(groups)
}

/// The port, whoever asks.
pub async fn row(mut db: impl Queries, id: &str) -> Result<Option<PortRow>, db::Error> {
    db.maybe(select::<PortRow>("WHERE id = ?").bind(id)).await
}

/// Marks what hosts must hear of when something about a port changed.
pub async fn changed(work: &mut Work<'_>, row: &PortRow) -> Result<(), Stop> {
    work.touched.networks.insert(row.network_id.clone());
    work.touched.host(&row.host);
    let groups = work.tx.all(select::<Membership>("WHERE port_id = ?").bind(&row.id)).await?;
    work.touched.groups.extend(groups.into_iter().map(|row| row.group_id));
    Ok(())
}

/// Removes a port with all that hangs on it.
pub async fn erase(work: &mut Work<'_>, row: &PortRow) -> Result<(), Stop> {
    changed(work, row).await?;
    floating_ips::leave_port(work, &row.id).await?;
    for table in ["addresses", "port_groups"] {
        work.tx.run(sql(format!("DELETE FROM {table} WHERE port_id = ?")).bind(&row.id)).await?;
    }
    tags::forget(&mut work.tx, &row.id).await?;
    work.tx.run(sql("DELETE FROM ports WHERE id = ?").bind(&row.id)).await?;
    Ok(())
}

fn by_mac(values: &[&str], _: &Caller) -> Condition {
    let usual: Vec<String> = values.iter().map(|value| value.to_ascii_lowercase().replace('-', ":")).collect();
    let usual: Vec<&str> = usual.iter().map(String::as_str).collect();
    Condition::any_of("mac_address IN (?)", &usual)
}

fn by_groups(values: &[&str], _: &Caller) -> Condition {
    Condition::any_of("id IN (SELECT port_id FROM port_groups WHERE group_id IN (?))", values)
}

/// `ip_address=`, `subnet_id=` and `ip_address_substr=`, each any of its values, all together.
fn by_fixed_ips(values: &[&str], _: &Caller) -> Condition {
    let mut wanted: HashMap<&str, Vec<String>> = HashMap::new();
    for value in values {
        let (key, text) = value.split_once('=').unwrap_or(("ip_address", value));
        let usual = match (key, ip::net_or_address(text)) {
            ("ip_address", Some(net)) => net.addr().to_string(),
            _ => text.to_string(),
        };
        wanted.entry(key).or_default().push(usual);
    }
    let mut all = Condition::plain("1 = 1");
    for (key, texts) in &wanted {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let one = match *key {
            "ip_address" => Condition::any_of("ip_address IN (?)", &texts),
            "subnet_id" => Condition::any_of("subnet_id IN (?)", &texts),
            "ip_address_substr" => {
                let escaped = texts.iter().map(|text| text.replace('!', "!!").replace('%', "!%").replace('_', "!_"));
                Condition {
                    text: vec!["ip_address LIKE ? ESCAPE '!'"; texts.len()].join(" OR "),
                    values: escaped.map(|text| db::Value::Text(format!("%{text}%"))).collect(),
                }
            }
            _ => Condition::plain("1 = 0"),
        };
        all.text.push_str(&format!(" AND id IN (SELECT port_id FROM addresses WHERE {})", one.text));
        all.values.extend(one.values);
    }
    all
}
