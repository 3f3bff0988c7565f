//! What hosts without a candidate lack, in words that are the same each time.

use std::collections::BTreeMap;

use clients::Rights;

use super::demand::Demand;
use crate::Compute;
use crate::hosts::Host;

/// One sentence that names every host and what it lacked. A host without words is looked at more closely.
pub async fn words(compute: &Compute, demand: &Demand, objections: Vec<(Host, Option<String>)>) -> String {
    let mut found = BTreeMap::new();
    for (host, why) in objections {
        let why = match why {
            Some(why) => why,
            None => lacks(compute, demand, &host).await,
        };
        found.insert(host.name, why);
    }
    match found.is_empty() {
        true => "There is no host.".to_string(),
        false => found.iter().map(|(host, why)| format!("{host}: {why}")).collect::<Vec<_>>().join("; "),
    }
}

/// What of the demand placement does not find on a host.
async fn lacks(compute: &Compute, demand: &Demand, host: &Host) -> String {
    let ask = async |what: &str| {
        let path = format!("/resource_providers/{}/{what}", host.uuid);
        compute.peers.placement.get(Rights::Service, &path).await
    };
    let (Ok(inventories), Ok(usages), Ok(traits)) =
        (ask("inventories").await, ask("usages").await, ask("traits").await)
    else {
        return "placement does not know what it has".into();
    };
    let mut lacks = Vec::new();
    for group in demand.groups.values() {
        for (class, wanted) in &group.resources {
            let held = &inventories["inventories"][class];
            let number = |key: &str| held[key].as_f64().unwrap_or(0.0);
            let capacity = ((number("total") - number("reserved")) * number("allocation_ratio")) as i64;
            let free = (capacity - usages["usages"][class].as_i64().unwrap_or(0)).max(0);
            let most = held["max_unit"].as_i64().unwrap_or(0);
            if free < *wanted {
                lacks.push(format!("{class}: {wanted} wanted, {free} of {capacity} free"));
            } else if most < *wanted {
                lacks.push(format!("{class}: {wanted} wanted, a server may have {most}"));
            }
        }
        let has = |name: &str| traits["traits"].as_array().into_iter().flatten().any(|held| held == name);
        for name in &group.traits {
            match name.strip_prefix('!') {
                Some(forbidden) if has(forbidden) => lacks.push(format!("has the trait {forbidden}")),
                None if !has(name) => lacks.push(format!("lacks the trait {name}")),
                _ => {}
            }
        }
    }
    match lacks.is_empty() {
        true => "placement offers nothing here".into(),
        false => lacks.join(", "),
    }
}
