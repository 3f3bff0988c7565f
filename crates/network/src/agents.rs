//! Agents: the four programs that guides know, each host of ours being all of them.

use std::collections::{BTreeSet, HashMap, HashSet};

use api::{Caller, Operation, delete, get, put};
use base::{Json, json};
use db::{Queries, Select, Value, sql};

use crate::Network;
use crate::engine::attribute::{ID, attr};
use crate::engine::rule::Rule;
use crate::engine::{self, Attributes, Condition, Kind, Resource, entity, gather};
use crate::fault::{Fault, plain};
use crate::hosts::HostRow;
use crate::stop::Stop;
use crate::work::Work;

pub const BRIDGE: &str = "Linux bridge agent";
pub const DHCP: &str = "DHCP agent";
pub const L3: &str = "L3 agent";
pub const METADATA: &str = "Metadata agent";

/// Type, program and topic.
const TYPES: [(&str, &str, &str); 4] = [
    (BRIDGE, "neutron-linuxbridge-agent", "N/A"),
    (DHCP, "neutron-dhcp-agent", "dhcp_agent"),
    (L3, "neutron-l3-agent", "l3_agent"),
    (METADATA, "neutron-metadata-agent", "N/A"),
];

pub const KIND: Kind = Kind {
    one: "agent",
    many: "agents",
    attributes: &[
        ID,
        attr("agent_type", Rule::Any).text(),
        attr("binary", Rule::Any).by(by_binary),
        attr("topic", Rule::Any),
        attr("host", Rule::Any).text(),
        attr("admin_state_up", Rule::Flag).put().flag(),
        attr("created_at", Rule::Any),
        attr("started_at", Rule::Any),
        attr("heartbeat_timestamp", Rule::Any),
        attr("alive", Rule::Any).by(by_alive),
        attr("configurations", Rule::Any),
        attr("resource_versions", Rule::Any).hidden(),
        attr("resources_synced", Rule::Any),
        attr("availability_zone", Rule::Any),
        attr("description", Rule::TextOrNull(255)).put().text(),
    ],
};

entity! {
    pub struct Agent in "agents" {
        host: String,
        agent_type: String,
        admin_state_up: bool,
        description: Option<String>,
    }
}

pub struct Agents;

pub fn operations() -> Vec<Operation<Network>> {
    vec![
        get("/agents", engine::list::<Agents>).rule("get_agent"),
        get("/agents/{agent_id}", engine::show::<Agents>).rule("get_agent"),
        put("/agents/{agent_id}", engine::update::<Agents>).rule("update_agent"),
        delete("/agents/{agent_id}", engine::remove::<Agents>).rule("delete_agent"),
    ]
}

impl Resource for Agents {
    const KIND: &'static Kind = &KIND;
    type Row = Agent;

    fn not_found(id: &str) -> Fault {
        Fault::AgentNotFound { id: id.to_string() }
    }

    fn scope(rows: Select<Agent>, caller: &Caller) -> Select<Agent> {
        engine::own(rows, caller)
    }

    async fn items<Q: Queries>(mut db: Q, rows: Vec<Agent>, _: &Caller) -> Result<Vec<Json>, db::Error> {
        let names: Vec<String> = rows.iter().map(|row| row.host.clone()).collect::<HashSet<_>>().into_iter().collect();
        let hosts = gather::<HostRow>(&mut db, "name", &names).await?;
        let hosts: HashMap<String, HostRow> = hosts.into_iter().map(|host| (host.name.clone(), host)).collect();
        Ok(rows.iter().map(|row| item(row, hosts.get(&row.host))).collect())
    }

    async fn create(_: &mut Work<'_>, _: &Attributes) -> Result<String, Stop> {
        Err(plain("Agents register themselves").into())
    }

    async fn update(work: &mut Work<'_>, row: Agent, change: &Attributes) -> Result<(), Stop> {
        let mut columns = Vec::new();
        columns.extend(change.flag("admin_state_up").map(|on| ("admin_state_up", Value::Int(on.into()))));
        if change.has("description") {
            columns.push(("description", change.maybe("description").map_or(Value::Null, Value::Text)));
        }
        work.set::<Agent>(&row.id, columns).await
    }

    async fn remove(work: &mut Work<'_>, row: Agent) -> Result<(), Stop> {
        work.tx.run(sql("DELETE FROM agents WHERE id = ?").bind(&row.id)).await?;
        let left = sql("SELECT COUNT(*) FROM agents WHERE host = ?").bind(&row.host);
        if work.tx.count(left).await? == 0 {
            // The last agent of a host takes the host along; it may come back with another hello.
            work.tx.run(sql("DELETE FROM hosts WHERE name = ?").bind(&row.host)).await?;
        }
        Ok(())
    }
}

/// Limit: after this long without a word an agent counts as dead; `[DEFAULT] agent_down_time` decides bindings.
const DOWN_SECONDS: i64 = 75;

fn item(row: &Agent, host: Option<&HostRow>) -> Json {
    let (_, binary, topic) = TYPES.iter().find(|(kind, ..)| *kind == row.agent_type).copied().unwrap_or(TYPES[0]);
    let now = base::clock::now();
    let heard = host.map_or(row.created_at, |host| host.heard_at);
    // Upstream: these times have a blank and no zone.
    let spaced = |time: base::Time| time.iso_z().replace('T', " ").replace('Z', "");
    json!({
        "id": row.id,
        "agent_type": row.agent_type,
        "binary": binary,
        "topic": topic,
        "host": row.host,
        "admin_state_up": row.admin_state_up,
        "created_at": spaced(row.created_at),
        "started_at": spaced(host.map_or(row.created_at, |host| host.started_at)),
        "heartbeat_timestamp": spaced(heard),
        "alive": host.is_some() && heard >= now.plus_seconds(-DOWN_SECONDS),
        "configurations": configurations(row, host),
        "resources_synced": null,
        "availability_zone": if [DHCP, L3].contains(&row.agent_type.as_str()) { json!("nova") } else { Json::Null },
        "description": row.description,
    })
}

fn configurations(row: &Agent, host: Option<&HostRow>) -> Json {
    let Some(host) = host.filter(|_| row.agent_type == BRIDGE) else {
        return json!({});
    };
    let mappings: serde_json::Map<String, Json> =
        host.physical().into_iter().map(|physical| (physical.network, json!(physical.interface))).collect();
    json!({
        "tunneling_ip": host.tunnel_address,
        "tunnel_types": ["vxlan"],
        "interface_mappings": mappings,
        "bridge_mappings": {},
        "driver": host.driver,
        "lacks": host.lacks,
    })
}

/// Makes the rows of a host's agents.
pub async fn register(work: &mut Work<'_>, host: &str) -> Result<(), Stop> {
    for (kind, ..) in TYPES {
        let row = Agent {
            id: base::id::uuid(),
            project_id: String::new(),
            host: host.to_string(),
            agent_type: kind.to_string(),
            admin_state_up: true,
            description: None,
            created_at: work.now,
            updated_at: work.now,
            revision_number: 0,
        };
        work.tx.insert_new(&row).await?;
    }
    Ok(())
}

/// The types of which there is an agent.
pub async fn kinds(mut db: impl Queries) -> Result<BTreeSet<String>, db::Error> {
    let rows = db.rows(sql("SELECT DISTINCT agent_type FROM agents WHERE admin_state_up = 1")).await?;
    rows.iter().map(|row| row.get(0)).collect()
}

fn by_binary(values: &[&str], _: &Caller) -> Condition {
    let kinds: Vec<&str> =
        TYPES.iter().filter(|(_, binary, _)| values.contains(binary)).map(|(kind, ..)| *kind).collect();
    Condition::any_of("agent_type IN (?)", &kinds)
}

fn by_alive(values: &[&str], _: &Caller) -> Condition {
    let since = base::clock::now().plus_seconds(-DOWN_SECONDS);
    let alive = Condition::plain(format!("host IN (SELECT name FROM hosts WHERE heard_at >= {})", since.0));
    match values.first().and_then(|value| api::listing::flag_value(value)) {
        Some(true) => alive,
        Some(false) => alive.negated(),
        None => Condition::plain("1 = 0"),
    }
}
