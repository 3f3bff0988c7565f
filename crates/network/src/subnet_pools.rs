//! Subnet pools: prefixes from which subnets are cut, so that nobody has to choose one.

use api::{Answer, Call, Caller, Limit, Operation, Path, Refusal, Reply, delete, get, post, put};
use base::{Json, json};
use db::{Queries, Select, Value, select, sql};
use ipnet::IpNet;

use crate::Network;
use crate::engine::attribute::{CREATED, DESCRIPTION, Given, ID, NAME, PROJECT, REVISION, TAGS, TENANT, UPDATED, attr};
use crate::engine::rule::{self, Rule};
use crate::engine::{self, Attributes, Kind, Resource, entity, stamp};
use crate::fault::{Fault, invalid};
use crate::stop::Stop;
use crate::subnets::Subnet;
use crate::work::Work;
use crate::{address_scopes, ip, rbac, tags};

pub const KIND: Kind = Kind {
    one: "subnetpool",
    many: "subnetpools",
    attributes: &[
        ID,
        NAME,
        DESCRIPTION,
        PROJECT,
        TENANT,
        attr("prefixes", Rule::Cidrs).required().put(),
        attr("default_quota", Rule::IntegerOrNull(0, i32::MAX as i64)).default(Given::Null).put().number(),
        attr("ip_version", Rule::Any).number(),
        attr("default_prefixlen", Rule::Integer(0, 128)).optional().put().number(),
        attr("min_prefixlen", Rule::Integer(0, 128)).optional().put().number(),
        attr("max_prefixlen", Rule::Integer(0, 128)).optional().put().number(),
        attr("is_default", Rule::Flag).default(Given::False).put().flag(),
        attr("shared", Rule::Flag).default(Given::False).by(rbac::shared_filter),
        attr("address_scope_id", Rule::UuidOrNull).default(Given::Null).put().text(),
        TAGS,
        CREATED,
        UPDATED,
        REVISION,
    ],
};

const QUOTA: Limit =
    Limit { name: "subnetpool", default: -1, count: "SELECT COUNT(*) FROM subnetpools WHERE project_id = ?" };

entity! {
    pub struct SubnetPool in "subnetpools" {
        name: String,
        description: String,
        ip_version: i64,
        prefixes: Vec<String>,
        default_prefixlen: i64,
        min_prefixlen: i64,
        max_prefixlen: i64,
        default_quota: Option<i64>,
        is_default: bool,
        address_scope_id: Option<String>,
    }
}

pub struct SubnetPools;

pub fn operations() -> Vec<Operation<Network>> {
    vec![
        get("/subnetpools", engine::list::<SubnetPools>).rule("get_subnetpool"),
        post("/subnetpools", engine::create::<SubnetPools>).rule("create_subnetpool"),
        get("/subnetpools/{subnetpool_id}", engine::show::<SubnetPools>).rule("get_subnetpool"),
        put("/subnetpools/{subnetpool_id}", engine::update::<SubnetPools>).rule("update_subnetpool"),
        delete("/subnetpools/{subnetpool_id}", engine::remove::<SubnetPools>).rule("delete_subnetpool"),
        put("/subnetpools/{subnetpool_id}/add_prefixes", add_prefixes).rule("add_prefixes"),
        put("/subnetpools/{subnetpool_id}/remove_prefixes", remove_prefixes).rule("remove_prefixes"),
    ]
}

impl Resource for SubnetPools {
    const KIND: &'static Kind = &KIND;
    const QUOTA: Option<&'static Limit> = Some(&QUOTA);
    type Row = SubnetPool;

    fn not_found(id: &str) -> Fault {
        Fault::SubnetPoolNotFound { id: id.to_string() }
    }

    fn scope(rows: Select<SubnetPool>, caller: &Caller) -> Select<SubnetPool> {
        rbac::scope(rows, "subnetpool", caller)
    }

    async fn items<Q: Queries>(mut db: Q, rows: Vec<SubnetPool>, caller: &Caller) -> Result<Vec<Json>, db::Error> {
        let ids: Vec<String> = rows.iter().map(|row| row.id.clone()).collect();
        let shared = rbac::shared(&mut db, &ids, caller).await?;
        let tags = tags::of(&mut db, &ids).await?;
        let item = |row: SubnetPool| {
            json!({
                "shared": shared.contains(&row.id),
                "tags": tags.get(&row.id).cloned().unwrap_or_default(),
                "id": row.id,
                "name": row.name,
                "description": row.description,
                "project_id": row.project_id,
                "tenant_id": row.project_id,
                "ip_version": row.ip_version,
                "prefixes": row.prefixes,
                // Upstream: these lengths are texts.
                "default_prefixlen": row.default_prefixlen.to_string(),
                "min_prefixlen": row.min_prefixlen.to_string(),
                "max_prefixlen": row.max_prefixlen.to_string(),
                "default_quota": row.default_quota,
                "is_default": row.is_default,
                "address_scope_id": row.address_scope_id,
                "created_at": stamp(row.created_at),
                "updated_at": stamp(row.updated_at),
                "revision_number": row.revision_number,
            })
        };
        Ok(rows.into_iter().map(item).collect())
    }

    async fn create(work: &mut Work<'_>, new: &Attributes) -> Result<String, Stop> {
        let prefixes = compact(&new.texts("prefixes"))?;
        let version = family(&prefixes)?;
        let (low, high) = if version == 4 { (8, 32) } else { (64, 128) };
        let min = new.number("min_prefixlen").unwrap_or(low);
        let row = SubnetPool {
            id: base::id::uuid(),
            project_id: new.text("project_id"),
            name: new.text("name"),
            description: new.text("description"),
            ip_version: version,
            prefixes: prefixes.iter().map(IpNet::to_string).collect(),
            default_prefixlen: new.number("default_prefixlen").unwrap_or(min),
            min_prefixlen: min,
            max_prefixlen: new.number("max_prefixlen").unwrap_or(high),
            default_quota: new.number("default_quota"),
            is_default: new.flag("is_default").unwrap_or(false),
            address_scope_id: new.maybe("address_scope_id"),
            created_at: work.now,
            updated_at: work.now,
            revision_number: if new.flag("shared") == Some(true) { -1 } else { 0 },
        };
        lengths(&row)?;
        alone(work, &row).await?;
        within_scope(work, &row).await?;
        work.tx.insert(&row).await?;
        if new.flag("shared") == Some(true) {
            rbac::share(work, "subnetpool", &row.id, &row.project_id, true).await?;
        }
        Ok(row.id)
    }

    async fn update(work: &mut Work<'_>, row: SubnetPool, change: &Attributes) -> Result<(), Stop> {
        let mut next = row.clone();
        if change.has("prefixes") {
            let prefixes = compact(&change.texts("prefixes"))?;
            let old: Vec<IpNet> = row.prefixes.iter().filter_map(|text| ip::net(text)).collect();
            if !old.iter().all(|old| prefixes.iter().any(|new| new.contains(old))) {
                let msg = "Existing prefixes must be a subset of the new prefixes".to_string();
                return Err(Fault::IllegalSubnetPoolPrefixUpdate { msg }.into());
            }
            family(&prefixes)?;
            next.prefixes = prefixes.iter().map(IpNet::to_string).collect();
        }
        next.name = change.maybe("name").unwrap_or(next.name);
        next.description = change.maybe("description").unwrap_or(next.description);
        next.default_prefixlen = change.number("default_prefixlen").unwrap_or(next.default_prefixlen);
        next.min_prefixlen = change.number("min_prefixlen").unwrap_or(next.min_prefixlen);
        next.max_prefixlen = change.number("max_prefixlen").unwrap_or(next.max_prefixlen);
        next.is_default = change.flag("is_default").unwrap_or(next.is_default);
        if change.has("default_quota") {
            next.default_quota = change.number("default_quota");
        }
        if change.has("address_scope_id") {
            next.address_scope_id = change.maybe("address_scope_id");
        }
        lengths(&next)?;
        if next.is_default && !row.is_default {
            alone(work, &next).await?;
        }
        within_scope(work, &next).await?;
        work.rewrite(&next).await?;
        Ok(())
    }

    async fn remove(work: &mut Work<'_>, row: SubnetPool) -> Result<(), Stop> {
        let subnets = sql("SELECT COUNT(*) FROM subnets WHERE subnetpool_id = ?").bind(&row.id);
        if work.tx.count(subnets).await? > 0 {
            return Err(Fault::SubnetPoolDelete { reason: "Subnet pool has existing allocations".into() }.into());
        }
        rbac::forget(work, &row.id).await?;
        work.tx.run(sql("DELETE FROM subnetpools WHERE id = ?").bind(&row.id)).await?;
        Ok(())
    }
}

/// The prefixes without overlaps and as few as possible.
fn compact(texts: &[String]) -> Result<Vec<IpNet>, Fault> {
    let nets: Vec<IpNet> = texts.iter().filter_map(|text| ip::net(text)).collect();
    if nets.is_empty() {
        return Err(Fault::EmptySubnetPoolPrefixList {});
    }
    Ok(IpNet::aggregate(&nets))
}

fn family(prefixes: &[IpNet]) -> Result<i64, Fault> {
    let version = prefixes.first().map_or(4, ip::version);
    match prefixes.iter().all(|net| ip::version(net) == version) {
        true => Ok(version),
        false => Err(Fault::PrefixVersionMismatch {}),
    }
}

fn lengths(pool: &SubnetPool) -> Result<(), Fault> {
    let bounds = |prefix_type, prefixlen, base_prefix_type, base_prefixlen| {
        Err(Fault::IllegalSubnetPoolPrefixBounds { prefix_type, prefixlen, base_prefix_type, base_prefixlen })
    };
    let most = if pool.ip_version == 4 { 32 } else { 128 };
    let SubnetPool { default_prefixlen: default, min_prefixlen: min, max_prefixlen: max, .. } = pool;
    if *max > most {
        return bounds("max_prefixlen", *max, "ip_version max", most);
    }
    if min > max {
        return bounds("min_prefixlen", *min, "max_prefixlen", *max);
    }
    if default < min {
        return bounds("default_prefixlen", *default, "min_prefixlen", *min);
    }
    if default > max {
        return bounds("default_prefixlen", *default, "max_prefixlen", *max);
    }
    Ok(())
}

/// There is one default pool per family.
async fn alone(work: &mut Work<'_>, pool: &SubnetPool) -> Result<(), Stop> {
    if !pool.is_default {
        return Ok(());
    }
    let others = sql("SELECT COUNT(*) FROM subnetpools WHERE is_default = 1 AND ip_version = ? AND id <> ?");
    match work.tx.count(others.bind(pool.ip_version).bind(&pool.id)).await? {
        0 => Ok(()),
        _ => Err(invalid(
            "A default subnetpool for this IP family has already been set. Only one default may exist per IP family",
        )
        .into()),
    }
}

/// Pools of one scope have no address in common.
async fn within_scope(work: &mut Work<'_>, pool: &SubnetPool) -> Result<(), Stop> {
    let Some(scope) = &pool.address_scope_id else {
        return Ok(());
    };
    let (subnetpool_id, address_scope_id) = (pool.id.clone(), scope.clone());
    let row = address_scopes::row(&mut work.tx, scope).await?;
    let row = row.ok_or_else(|| Fault::AddressScopeNotFound { id: scope.clone() })?;
    if row.project_id != pool.project_id && !work.caller.has_role("admin") {
        return Err(Fault::IllegalSubnetPoolAssociation { subnetpool_id, address_scope_id }.into());
    }
    if row.ip_version != pool.ip_version {
        let ip_version = row.ip_version;
        return Err(Fault::IllegalSubnetPoolIpVersion { subnetpool_id, address_scope_id, ip_version }.into());
    }
    let others = select::<SubnetPool>("WHERE address_scope_id = ? AND id <> ?").bind(scope).bind(&pool.id);
    let others = work.tx.all(others).await?;
    let taken: Vec<IpNet> = others.iter().flat_map(|pool| &pool.prefixes).filter_map(|text| ip::net(text)).collect();
    let own: Vec<IpNet> = pool.prefixes.iter().filter_map(|text| ip::net(text)).collect();
    match own.iter().any(|own| taken.iter().any(|other| ip::overlap(own, other))) {
        true => Err(Fault::AddressScopePrefixConflict {}.into()),
        false => Ok(()),
    }
}

/// The default pool of a family.
pub async fn default(work: &mut Work<'_>, version: i64) -> Result<Option<SubnetPool>, Stop> {
    let rows = select::<SubnetPool>("WHERE is_default = 1 AND ip_version = ?").bind(version);
    Ok(work.tx.maybe(rows).await?)
}

/// Cuts a network out of a pool: the one asked for, or any of a length. The pool is locked until the end.
pub async fn cut(
    work: &mut Work<'_>,
    pool: &SubnetPool,
    project: &str,
    asked: Option<IpNet>,
    length: Option<i64>,
) -> Result<IpNet, Stop> {
    work.revise("subnetpools", &pool.id, 0).await?;
    let length = asked.map(|net| i64::from(net.prefix_len())).or(length).unwrap_or(pool.default_prefixlen);
    if length < pool.min_prefixlen {
        return Err(Fault::MinPrefix { prefixlen: length, min_prefixlen: pool.min_prefixlen }.into());
    }
    if length > pool.max_prefixlen {
        return Err(Fault::MaxPrefix { prefixlen: length, max_prefixlen: pool.max_prefixlen }.into());
    }
    let subnets = work.tx.all(select::<Subnet>("WHERE subnetpool_id = ?").bind(&pool.id)).await?;
    if let Some(quota) = pool.default_quota {
        let size = |net: &IpNet| match net {
            IpNet::V4(net) => 1_i64 << (32 - net.prefix_len()).min(62),
            IpNet::V6(net) => 1_i64 << (64_i64 - i64::from(net.prefix_len())).clamp(0, 62),
        };
        let used: i64 =
            subnets.iter().filter(|subnet| subnet.project_id == project).map(|subnet| size(&subnet.net())).sum();
        let like: IpNet = pool.prefixes.first().and_then(|text| ip::net(text)).unwrap_or_default();
        let more = IpNet::new(like.addr(), length as u8).map(|net| size(&net)).unwrap_or(i64::MAX / 2);
        if used + more > quota {
            return Err(Fault::SubnetPoolQuotaExceeded {}.into());
        }
    }
    let prefixes: Vec<IpNet> = pool.prefixes.iter().filter_map(|text| ip::net(text)).collect();
    let taken: Vec<IpNet> = subnets.iter().map(Subnet::net).collect();
    let found = match asked {
        Some(net) => {
            let inside = prefixes.iter().any(|prefix| prefix.contains(&net));
            (inside && !taken.iter().any(|other| ip::overlap(other, &net))).then_some(net)
        }
        None => prefixes.iter().find_map(|prefix| gap(prefix, &taken, length as u8)),
    };
    found.ok_or_else(|| {
        let reason = match asked {
            Some(_) => "Cannot allocate requested subnet from the available set of prefixes",
            None => "Insufficient prefix space to allocate subnet size",
        };
        let words = format!(
            "Failed to allocate subnet: {reason}{}.",
            if asked.is_none() { format!(" /{length}") } else { String::new() }
        );
        Refusal::new(409, "SubnetAllocationError", words).into()
    })
}

/// The first network of `length` in `prefix` that nobody has.
fn gap(prefix: &IpNet, taken: &[IpNet], length: u8) -> Option<IpNet> {
    if length < prefix.prefix_len() || length > prefix.max_prefix_len() {
        return None;
    }
    let (first, last) = ip::bounds(prefix);
    let step: u128 = 1_u128.checked_shl(u32::from(prefix.max_prefix_len() - length))?;
    let mut at = first;
    while at <= last {
        let net = IpNet::new(ip::address(at, prefix), length).ok()?;
        match taken.iter().find(|other| ip::overlap(other, &net)) {
            None => return Some(net),
            // Behind what is in the way, in steps of our own length.
            Some(other) => {
                let (_, end) = ip::bounds(other);
                at = first + ((end.max(at) - first) / step + 1) * step;
            }
        }
    }
    None
}

async fn add_prefixes(call: Call<Network>, Path(id): Path<String>) -> Answer<Reply> {
    change_prefixes(call, id, true).await
}

async fn remove_prefixes(call: Call<Network>, Path(id): Path<String>) -> Answer<Reply> {
    change_prefixes(call, id, false).await
}

async fn change_prefixes(mut call: Call<Network>, id: String, add: bool) -> Answer<Reply> {
    let body = call.json().await?;
    let given = rule::each(body.get("prefixes").unwrap_or(&Json::Null), rule::cidr);
    let given =
        given.map_err(|reason| crate::fault::plain(format!("Invalid input for prefixes. Reason: {reason}.")))?;
    let given: Vec<String> =
        given.as_array().into_iter().flatten().filter_map(Json::as_str).map(String::from).collect();
    let item = engine::find::<SubnetPools>(&call, &id).await?;
    engine::hidden::<SubnetPools>(&call, &id, &item, call.allow_on(&item).map(drop))?;
    let prefixes = call
        .db
        .retry(|| async {
            let mut work = Work::begin(&call.service, &call.caller).await?;
            let row = engine::take::<SubnetPools>(&mut work, &id, None, true).await?;
            let next = if add { grown(&row, &given)? } else { shrunk(&mut work, &row, &given).await? };
            let next = SubnetPool { prefixes: next.iter().map(IpNet::to_string).collect(), ..row };
            within_scope(&mut work, &next).await?;
            let text = Value::Text(json!(next.prefixes).to_string());
            work.set::<SubnetPool>(&id, vec![("prefixes", text)]).await?;
            work.commit().await?;
            Ok::<_, Stop>(next.prefixes)
        })
        .await?;
    Ok(Reply::json(200, &json!({"prefixes": prefixes})))
}

fn grown(row: &SubnetPool, more: &[String]) -> Result<Vec<IpNet>, Fault> {
    let all: Vec<String> = row.prefixes.iter().chain(more).cloned().collect();
    let all = compact(&all)?;
    family(&all)?;
    Ok(all)
}

async fn shrunk(work: &mut Work<'_>, row: &SubnetPool, less: &[String]) -> Result<Vec<IpNet>, Stop> {
    let less: Vec<IpNet> = less.iter().filter_map(|text| ip::net(text)).collect();
    let subnets = work.tx.all(select::<Subnet>("WHERE subnetpool_id = ?").bind(&row.id)).await?;
    if subnets.iter().any(|subnet| less.iter().any(|net| ip::overlap(net, &subnet.net()))) {
        let msg = "One or more the prefixes to be removed is in use by a subnet".to_string();
        return Err(Fault::IllegalSubnetPoolPrefixUpdate { msg }.into());
    }
    let mut left = Vec::new();
    for prefix in row.prefixes.iter().filter_map(|text| ip::net(text)) {
        carve(prefix, &less, &mut left);
    }
    if left.is_empty() { Err(Fault::EmptySubnetPoolPrefixList {}.into()) } else { Ok(IpNet::aggregate(&left)) }
}

/// What is left of `net` without `less`.
fn carve(net: IpNet, less: &[IpNet], left: &mut Vec<IpNet>) {
    if less.iter().any(|other| other.contains(&net)) {
        return;
    }
    if !less.iter().any(|other| net.contains(other)) {
        left.push(net);
        return;
    }
    if let Ok(halves) = net.subnets(net.prefix_len() + 1) {
        halves.for_each(|half| carve(half, less, left));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn the_first_gap_is_found() {
        let taken = [net("10.0.0.0/24"), net("10.0.1.0/25")];
        assert_eq!(gap(&net("10.0.0.0/16"), &taken, 24), Some(net("10.0.2.0/24")));
        assert_eq!(gap(&net("10.0.0.0/16"), &taken, 25), Some(net("10.0.1.128/25")));
        assert_eq!(gap(&net("10.0.0.0/24"), &taken, 26), None);
        assert_eq!(gap(&net("fd00::/48"), &[net("fd00::/64")], 64), Some(net("fd00:0:0:1::/64")));
    }

    #[test]
    fn prefixes_are_carved_out() {
        let mut left = Vec::new();
        carve(net("10.0.0.0/24"), &[net("10.0.0.64/26")], &mut left);
        assert_eq!(left, [net("10.0.0.0/26"), net("10.0.0.128/25")]);
    }
}
