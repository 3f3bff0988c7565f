//! Rules of security groups: what may pass, in which direction, from or to whom.

use std::collections::HashMap;

use api::{Answer, Call, Caller, JsonMap, Limit, Operation, delete, get, post};
use base::{Json, Time, json};
use db::{Queries, Select, select, sql};
use ipnet::IpNet;

use crate::Network;
use crate::engine::attribute::{CREATED, Given, ID, PROJECT, REVISION, TENANT, UPDATED, attr};
use crate::engine::rule::{self, Rule};
use crate::engine::{self, Attributes, Condition, Kind, Resource, entity, gather, own_project, sees_all, stamp};
use crate::fault::Fault;
use crate::security_groups::{SecurityGroup, SecurityGroups};
use crate::stop::Stop;
use crate::work::Work;
use crate::{ip, python};

pub const KIND: Kind = Kind {
    one: "security_group_rule",
    many: "security_group_rules",
    attributes: &[
        ID,
        attr("security_group_id", Rule::Text(255)).required().text(),
        attr("remote_group_id", Rule::TextOrNull(255)).default(Given::Null).text(),
        attr("remote_address_group_id", Rule::UuidOrNull).default(Given::Null).text(),
        attr("direction", Rule::OneOf(&["ingress", "egress"])).required().text(),
        attr("protocol", Rule::With(protocol)).default(Given::Null).by(by_protocol),
        attr("port_range_min", Rule::With(port)).default(Given::Null).number(),
        attr("port_range_max", Rule::With(port)).default(Given::Null).number(),
        attr("ethertype", Rule::With(ethertype)).default(Given::Text("IPv4")).text(),
        attr("remote_ip_prefix", Rule::With(prefix)).default(Given::Null).text(),
        attr("normalized_cidr", Rule::Any),
        attr("description", Rule::Text(255)).default(Given::Empty).text(),
        attr("belongs_to_default_sg", Rule::Any).by(by_default),
        PROJECT,
        TENANT,
        CREATED,
        UPDATED,
        REVISION,
    ],
};

const QUOTA: Limit = Limit {
    name: "security_group_rule",
    default: 100,
    count: "SELECT COUNT(*) FROM security_group_rules WHERE project_id = ?",
};

entity! {
    pub struct RuleRow in "security_group_rules" {
        security_group_id: String,
        direction: String,
        ethertype: String,
        protocol: Option<String>,
        port_range_min: Option<i64>,
        port_range_max: Option<i64>,
        remote_ip_prefix: Option<String>,
        remote_group_id: Option<String>,
        remote_address_group_id: Option<String>,
        description: Option<String>,
    }
}

pub struct Rules;

pub fn operations() -> Vec<Operation<Network>> {
    vec![
        get("/security-group-rules", engine::list::<Rules>).rule("get_security_group_rule"),
        post("/security-group-rules", engine::create::<Rules>).rule("create_security_group_rule"),
        get("/security-group-rules/{security_group_rule_id}", engine::show::<Rules>).rule("get_security_group_rule"),
        delete("/security-group-rules/{security_group_rule_id}", engine::remove::<Rules>)
            .rule("delete_security_group_rule"),
    ]
}

impl Resource for Rules {
    const KIND: &'static Kind = &KIND;
    const QUOTA: Option<&'static Limit> = Some(&QUOTA);
    type Row = RuleRow;

    fn not_found(id: &str) -> Fault {
        Fault::SecurityGroupRuleNotFound { id: id.to_string() }
    }

    fn scope(rows: Select<RuleRow>, caller: &Caller) -> Select<RuleRow> {
        if sees_all(caller) {
            return rows;
        }
        let project = own_project(caller);
        let text = "project_id = ? OR security_group_id IN (SELECT id FROM security_groups WHERE project_id = ?)";
        rows.and(text).bind(project).bind(project)
    }

    async fn prepare(call: &Call<Network>) -> Answer<()> {
        SecurityGroups::prepare(call).await
    }

    async fn items<Q: Queries>(mut db: Q, rows: Vec<RuleRow>, _: &Caller) -> Result<Vec<Json>, db::Error> {
        let mut groups: Vec<String> = rows.iter().map(|row| row.security_group_id.clone()).collect();
        groups.sort();
        groups.dedup();
        let groups = gather::<SecurityGroup>(&mut db, "id", &groups).await?;
        let groups: HashMap<String, SecurityGroup> = groups.into_iter().map(|row| (row.id.clone(), row)).collect();
        let item = |row: &RuleRow| {
            let group = groups.get(&row.security_group_id);
            let mut item = plain(row, group.is_some_and(|group| group.default_of.is_some()));
            item["security_group:project_id"] = json!(group.map(|group| &group.project_id));
            item["security_group:tenant_id"] = item["security_group:project_id"].clone();
            item
        };
        Ok(rows.iter().map(item).collect())
    }

    async fn parents(call: &Call<Network>, new: &Attributes) -> Answer<JsonMap> {
        let id = new.text("security_group_id");
        let rows = SecurityGroups::scope(select("").and("id = ?").bind(&id), &call.caller);
        let row = call.db.maybe(rows).await?.ok_or(Fault::SecurityGroupNotFound { id })?;
        let mut map = JsonMap::new();
        map.insert("security_group:project_id".into(), json!(row.project_id));
        map.insert("security_group:tenant_id".into(), json!(row.project_id));
        map.insert("belongs_to_default_sg".into(), json!(row.default_of.is_some()));
        Ok(map)
    }

    fn together(news: &[Attributes]) -> Result<(), Fault> {
        let mut groups: Vec<String> = news.iter().map(|new| new.text("security_group_id")).collect();
        groups.dedup();
        if groups.len() > 1 {
            return Err(Fault::RulesOfSeveralGroups {});
        }
        let mut seen: Vec<Json> = Vec::new();
        for new in news {
            let mut same = Json::Object(new.0.clone());
            same["description"] = Json::Null;
            if seen.contains(&same) {
                return Err(Fault::DuplicateRuleInPost {});
            }
            seen.push(same);
        }
        Ok(())
    }

    async fn create(work: &mut Work<'_>, new: &Attributes) -> Result<String, Stop> {
        let group = new.text("security_group_id");
        // Locks the group, so that two equal rules do not both find themselves alone.
        if !work.revise("security_groups", &group, 1).await? {
            return Err(Fault::SecurityGroupNotFound { id: group }.into());
        }
        let row = checked(work, new)?;
        if let Some(remote) = &row.remote_group_id {
            let rows = SecurityGroups::scope(select("").and("id = ?").bind(remote), work.caller);
            let found: Option<SecurityGroup> = work.tx.maybe(rows).await?;
            found.ok_or_else(|| Fault::SecurityGroupNotFound { id: remote.clone() })?;
        }
        let others = work.tx.all(select::<RuleRow>("WHERE security_group_id = ?").bind(&group)).await?;
        if let Some(other) = others.iter().find(|other| same(other, &row)) {
            return Err(Fault::SecurityGroupRuleExists { rule_id: other.id.clone() }.into());
        }
        work.tx.insert(&row).await?;
        work.touched.groups.insert(group);
        Ok(row.id)
    }

    async fn update(_: &mut Work<'_>, _: RuleRow, _: &Attributes) -> Result<(), Stop> {
        Err(crate::fault::plain("Rules do not change").into())
    }

    async fn remove(work: &mut Work<'_>, row: RuleRow) -> Result<(), Stop> {
        work.revise("security_groups", &row.security_group_id, 1).await?;
        work.tx.run(sql("DELETE FROM security_group_rules WHERE id = ?").bind(&row.id)).await?;
        work.touched.groups.insert(row.security_group_id);
        Ok(())
    }
}

fn plain(row: &RuleRow, default: bool) -> Json {
    json!({
        "id": row.id,
        "project_id": row.project_id,
        "tenant_id": row.project_id,
        "security_group_id": row.security_group_id,
        "ethertype": row.ethertype,
        "direction": row.direction,
        "protocol": row.protocol,
        "port_range_min": row.port_range_min,
        "port_range_max": row.port_range_max,
        "remote_ip_prefix": row.remote_ip_prefix,
        "remote_group_id": row.remote_group_id,
        "remote_address_group_id": row.remote_address_group_id,
        "normalized_cidr": row.remote_ip_prefix.as_deref().and_then(ip::net_or_address).map(|net| net.trunc().to_string()),
        "description": row.description,
        "belongs_to_default_sg": default,
        "created_at": stamp(row.created_at),
        "updated_at": stamp(row.updated_at),
        "revision_number": row.revision_number,
    })
}

/// A rule inside its group. Upstream: there it shows two more keys.
pub fn nested(row: &RuleRow, default: bool) -> Json {
    let mut item = plain(row, default);
    item["tags"] = json!([]);
    let digits: String = row.id.chars().take(7).collect();
    item["standard_attr_id"] = json!(i64::from_str_radix(&digits, 16).unwrap_or_default());
    item
}

fn bare(now: Time, group: &SecurityGroup, direction: &str, ethertype: &str) -> RuleRow {
    RuleRow {
        id: base::id::uuid(),
        project_id: group.project_id.clone(),
        security_group_id: group.id.clone(),
        direction: direction.into(),
        ethertype: ethertype.into(),
        protocol: None,
        port_range_min: None,
        port_range_max: None,
        remote_ip_prefix: None,
        remote_group_id: None,
        remote_address_group_id: None,
        description: None,
        created_at: now,
        updated_at: now,
        revision_number: 0,
    }
}

/// The rules that every new group has: everything may go out.
pub fn outgoing(now: Time, group: &SecurityGroup) -> Vec<RuleRow> {
    vec![bare(now, group, "egress", "IPv4"), bare(now, group, "egress", "IPv6")]
}

/// The rules that a default group has, too: its members reach each other.
pub fn from_itself(now: Time, group: &SecurityGroup) -> Vec<RuleRow> {
    let from =
        |ethertype| RuleRow { remote_group_id: Some(group.id.clone()), ..bare(now, group, "ingress", ethertype) };
    vec![from("IPv4"), from("IPv6")]
}

/// Names that upstream knows, and their numbers.
const PROTOCOLS: &[(&str, u8)] = &[
    ("ah", 51),
    ("dccp", 33),
    ("egp", 8),
    ("esp", 50),
    ("gre", 47),
    ("hopopt", 0),
    ("icmp", 1),
    ("icmpv6", 58),
    ("igmp", 2),
    ("ip", 0),
    ("ipip", 4),
    ("ipv6-encap", 41),
    ("ipv6-frag", 44),
    ("ipv6-icmp", 58),
    ("ipv6-nonxt", 59),
    ("ipv6-opts", 60),
    ("ipv6-route", 43),
    ("ospf", 89),
    ("pgm", 113),
    ("rsvp", 46),
    ("sctp", 132),
    ("tcp", 6),
    ("udp", 17),
    ("udplite", 136),
    ("vrrp", 112),
];

/// The protocol's number; `any` and `ip` stand for all of them.
pub fn number(protocol: &str) -> Option<u8> {
    if ["any", "ip", "hopopt", "0"].contains(&protocol) {
        return None;
    }
    let named = PROTOCOLS.iter().find(|(name, _)| *name == protocol).map(|(_, number)| *number);
    named.or_else(|| protocol.parse().ok())
}

fn protocol(value: Json) -> Result<Json, String> {
    match &value {
        Json::Null => Ok(value),
        Json::Number(number) => Ok(json!(number.to_string())),
        Json::String(text) => Ok(json!(text.to_ascii_lowercase())),
        other => Err(format!("'{}' is not a valid protocol", python::plain(other))),
    }
}

fn port(value: Json) -> Result<Json, String> {
    // What is no port is told apart in `checked`, where the protocol is known.
    match &value {
        Json::String(text) if text.is_empty() => Ok(Json::Null),
        Json::Null => Ok(value),
        other => rule::integer(other, i64::MIN, i64::MAX),
    }
}

fn ethertype(value: Json) -> Result<Json, String> {
    let text = value.as_str().unwrap_or_default();
    Ok(match text.to_ascii_lowercase().as_str() {
        "ipv4" => json!("IPv4"),
        "ipv6" => json!("IPv6"),
        // Refused by `checked`, in upstream's words.
        _ => json!(python::plain(&value)),
    })
}

fn prefix(value: Json) -> Result<Json, String> {
    let Some(text) = value.as_str() else {
        return if value.is_null() {
            Ok(value)
        } else {
            Err(format!("'{}' is not a valid IP subnet", python::plain(&value)))
        };
    };
    match (text.parse::<IpNet>(), text.parse::<std::net::IpAddr>()) {
        (Ok(_), _) => Ok(value),
        (_, Ok(address)) => Ok(json!(IpNet::from(address).to_string())),
        _ if text.is_empty() => Ok(Json::Null),
        _ => Err(format!("'{text}' is not a valid IP subnet")),
    }
}

fn checked(work: &Work<'_>, new: &Attributes) -> Result<RuleRow, Fault> {
    let mut row = RuleRow {
        id: base::id::uuid(),
        project_id: new.text("project_id"),
        security_group_id: new.text("security_group_id"),
        direction: new.text("direction"),
        ethertype: new.text("ethertype"),
        protocol: new.maybe("protocol").filter(|text| !text.is_empty()),
        port_range_min: new.number("port_range_min"),
        port_range_max: new.number("port_range_max"),
        remote_ip_prefix: new.maybe("remote_ip_prefix"),
        remote_group_id: new.maybe("remote_group_id"),
        remote_address_group_id: new.maybe("remote_address_group_id"),
        description: Some(new.text("description")),
        created_at: work.now,
        updated_at: work.now,
        revision_number: 0,
    };
    if row.ethertype != "IPv4" && row.ethertype != "IPv6" {
        return Err(Fault::RuleInvalidEtherType { ethertype: row.ethertype });
    }
    known_protocol(&mut row)?;
    ports(&row)?;
    let remotes = [&row.remote_ip_prefix, &row.remote_group_id, &row.remote_address_group_id];
    if remotes.iter().filter(|remote| remote.is_some()).count() > 1 {
        return Err(Fault::MultipleRemotes {});
    }
    if let Some(cidr) = &row.remote_ip_prefix {
        let v6 = cidr.contains(':');
        if v6 != (row.ethertype == "IPv6") {
            return Err(Fault::RuleParameterConflict { ethertype: row.ethertype, cidr: cidr.clone() });
        }
    }
    // Later: address groups.
    if let Some(id) = &row.remote_address_group_id {
        return Err(crate::fault::invalid(format!("Address group {id} could not be found")));
    }
    Ok(row)
}

fn known_protocol(row: &mut RuleRow) -> Result<(), Fault> {
    let Some(protocol) = row.protocol.clone() else {
        return Ok(());
    };
    let listed = PROTOCOLS.iter().any(|(name, _)| *name == protocol) || protocol == "any";
    if !listed && protocol.parse::<u8>().is_err() {
        let mut names: Vec<String> = PROTOCOLS.iter().map(|(name, _)| format!("'{name}'")).collect();
        names.sort();
        return Err(Fault::RuleInvalidProtocol { protocol, values: format!("[{}]", names.join(", ")) });
    }
    if row.ethertype == "IPv6" && protocol == "icmp" {
        row.protocol = Some("ipv6-icmp".into());
    }
    let six = protocol.starts_with("ipv6-") || protocol == "icmpv6";
    match six && row.ethertype == "IPv4" {
        true => Err(Fault::EthertypeConflict { ethertype: row.ethertype.clone(), protocol }),
        false => Ok(()),
    }
}

const WITH_PORTS: [u8; 5] = [6, 17, 33, 132, 136];

fn ports(row: &RuleRow) -> Result<(), Fault> {
    let (min, max) = (row.port_range_min, row.port_range_max);
    if min.is_none() && max.is_none() {
        return Ok(());
    }
    let Some(protocol) = &row.protocol else {
        return Err(Fault::ProtocolRequired {});
    };
    match number(protocol) {
        Some(number) if WITH_PORTS.contains(&number) => match (min, max) {
            (Some(bad), _) if !(1..=65_535).contains(&bad) => Err(Fault::InvalidPortValue { port: bad.to_string() }),
            (_, Some(bad)) if !(1..=65_535).contains(&bad) => Err(Fault::InvalidPortValue { port: bad.to_string() }),
            (Some(min), Some(max)) if min <= max => Ok(()),
            _ => Err(Fault::InvalidPortRange {}),
        },
        Some(1 | 58) => {
            for (field, attr, value) in [("type", "port_range_min", min), ("code", "port_range_max", max)] {
                if let Some(value) = value.filter(|value| !(0..=255).contains(value)) {
                    return Err(Fault::InvalidIcmpValue { field, attr, value });
                }
            }
            match (min, max) {
                (None, Some(value)) => Err(Fault::MissingIcmpType { value }),
                _ => Ok(()),
            }
        }
        _ => Err(Fault::InvalidProtocolForPort {
            protocol: protocol.clone(),
            valid: "tcp, udp, udplite, sctp, dccp, 6, 17, 136, 132, 33",
        }),
    }
}

/// Whether two rules let the same pass.
fn same(one: &RuleRow, other: &RuleRow) -> bool {
    let kind = |row: &RuleRow| {
        let protocol = row.protocol.as_deref().and_then(number);
        let net = row.remote_ip_prefix.as_deref().and_then(ip::net_or_address).map(|net| net.trunc());
        // Everywhere is the same as nowhere in particular.
        let net = net.filter(|net| net.prefix_len() > 0);
        (protocol, row.port_range_min, row.port_range_max, net)
    };
    one.direction == other.direction
        && one.ethertype == other.ethertype
        && one.remote_group_id == other.remote_group_id
        && one.remote_address_group_id == other.remote_address_group_id
        && kind(one) == kind(other)
}

fn by_protocol(values: &[&str], _: &Caller) -> Condition {
    Condition::any_of("protocol IN (?)", values)
}

fn by_default(values: &[&str], _: &Caller) -> Condition {
    let condition =
        Condition::plain("security_group_id IN (SELECT id FROM security_groups WHERE default_of IS NOT NULL)");
    match values.first().and_then(|value| api::listing::flag_value(value)) {
        Some(false) => condition.negated(),
        _ => condition,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_have_numbers() {
        assert_eq!(number("tcp"), Some(6));
        assert_eq!(number("47"), Some(47));
        assert_eq!(number("any"), None);
        assert_eq!(prefix(json!("10.0.0.5")), Ok(json!("10.0.0.5/32")));
    }
}
