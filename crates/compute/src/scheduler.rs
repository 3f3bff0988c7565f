//! Choosing a host: placement's candidates, then what only compute knows. A refusal names each host and what it lacked.

use std::collections::HashMap;

use api::{Json, json};
use clients::{Peer, PeerError, Rights};

use crate::Compute;
use crate::hosts::{self, Host};
use crate::servers::store::Server;

/// Why no host could be chosen.
#[derive(Debug, thiserror::Error)]
pub enum NoHost {
    /// In words for the user.
    #[error("No valid host was found. {0}")]
    Fits(String),
    #[error("placement cannot be asked")]
    Placement(#[from] PeerError),
    #[error("the database cannot be asked")]
    Database(#[from] db::Error),
}

/// Limit: candidates asked for at once.
const CANDIDATES: u32 = 1000;
/// Limit: looks at the candidates before giving up; each one that was in vain means that somebody else won.
const CLAIMS: usize = 10;

/// Claims a host for a server and returns its name. Asking again for a server that has its claim returns the same host.
pub async fn claim(compute: &Compute, server: &Server) -> Result<String, NoHost> {
    let placement = &compute.peers.placement;
    let all = hosts::all(&compute.db).await?;
    if let Some(host) = claimed(placement, server, &all).await? {
        return Ok(host);
    }
    let resources = resources(server);
    for _ in 1..CLAIMS {
        if let Some(host) = attempt(placement, server, &all, &resources, false).await? {
            return Ok(host);
        }
    }
    let last = attempt(placement, server, &all, &resources, true).await?;
    last.ok_or_else(|| NoHost::Fits("Others were faster each time.".into()))
}

/// One look at the candidates and one try of each host that will do. None: others were faster, so look again, unless
/// this is the `last` attempt.
async fn attempt(
    placement: &Peer,
    server: &Server,
    all: &[Host],
    resources: &[(String, i64)],
    last: bool,
) -> Result<Option<String>, NoHost> {
    let candidates = candidates(placement, resources).await?;
    let forced = server.scheduler_hints["forced_host"].as_str();
    let mut chosen = Vec::new();
    let mut refusals = Vec::new();
    for host in all {
        match objection(host, server, forced, &candidates) {
            Some(why) => refusals.push(format!("{}: {why}", host.name)),
            None => chosen.push(host),
        }
    }
    // The emptiest host first, as upstream's default weighers do.
    chosen.sort_by_key(|host| std::cmp::Reverse(candidates.get(&host.uuid).map_or(0, free_memory)));
    for host in &chosen {
        match allocate(placement, server, &host.uuid, resources).await {
            Ok(()) => return Ok(Some(host.name.clone())),
            Err(error) if error.status() == 409 => refusals.push(format!("{}: taken by another server", host.name)),
            Err(error) => return Err(error.into()),
        }
    }
    if !chosen.is_empty() && !last {
        return Ok(None);
    }
    refusals.extend(lacking(placement, all, resources, &candidates).await);
    refusals.sort();
    refusals.dedup();
    let text = if refusals.is_empty() { "There is no host.".to_string() } else { refusals.join("; ") };
    Err(NoHost::Fits(text))
}

/// Gives the claim back. Nothing happens when there is none.
pub async fn release(compute: &Compute, server: &str) -> Result<(), PeerError> {
    let gone = compute.peers.placement.delete(Rights::Service, &format!("/allocations/{server}")).await;
    match gone {
        Err(error) if error.is_missing() => Ok(()),
        other => other.map(|_| ()),
    }
}

async fn claimed(placement: &Peer, server: &Server, all: &[Host]) -> Result<Option<String>, PeerError> {
    let held = placement.get(Rights::Service, &format!("/allocations/{}", server.id)).await?;
    let holds = |host: &&Host| held["allocations"].get(&host.uuid).is_some();
    Ok(all.iter().find(holds).map(|host| host.name.clone()))
}

/// What a server takes from a host.
pub fn resources(server: &Server) -> Vec<(String, i64)> {
    let disk = server.flavor_number("root_gb") + server.flavor_number("ephemeral_gb");
    let swap_gb = (server.flavor_number("swap_mb") + 1023) / 1024;
    let mut wanted = vec![
        ("VCPU".to_string(), server.flavor_number("vcpus")),
        ("MEMORY_MB".to_string(), server.flavor_number("memory_mb")),
    ];
    if disk + swap_gb > 0 {
        wanted.push(("DISK_GB".to_string(), disk + swap_gb));
    }
    // Extra specs may ask for more, or for none: `resources:CUSTOM_GOLD=1`, `resources:VCPU=0`.
    for (key, value) in server.flavor["extra_specs"].as_object().into_iter().flatten() {
        let Some(class) = key.strip_prefix("resources:") else { continue };
        let amount = value.as_str().and_then(|text| text.parse().ok()).unwrap_or(0);
        wanted.retain(|(known, _)| known != class);
        if amount > 0 {
            wanted.push((class.to_string(), amount));
        }
    }
    wanted
}

type Candidates = HashMap<String, Json>;

async fn candidates(placement: &Peer, resources: &[(String, i64)]) -> Result<Candidates, PeerError> {
    let list: Vec<String> = resources.iter().map(|(class, amount)| format!("{class}:{amount}")).collect();
    let target = format!("/allocation_candidates?resources={}&limit={CANDIDATES}", list.join(","));
    let answer = placement.get(Rights::Service, &target).await?;
    let summaries = answer["provider_summaries"].as_object().cloned().unwrap_or_default();
    Ok(summaries.into_iter().collect())
}

/// Why a host is not taken, although it may have the room.
fn objection(host: &Host, server: &Server, forced: Option<&str>, candidates: &Candidates) -> Option<String> {
    if forced.is_some_and(|name| name != host.name) {
        return Some("another host was asked for".into());
    }
    if host.disabled {
        let reason = host.disabled_reason.clone().unwrap_or_else(|| "no reason given".into());
        return Some(format!("disabled ({reason})"));
    }
    if !host.is_up() {
        return Some("down".into());
    }
    if server.pinned_zone.as_deref().is_some_and(|zone| zone != crate::zones::DEFAULT_ZONE) {
        // Later: zones beside the default one come with aggregates.
        return Some("in another availability zone".into());
    }
    (!candidates.contains_key(&host.uuid)).then(|| "not enough room".into())
}

fn free_memory(summary: &Json) -> i64 {
    let memory = &summary["resources"]["MEMORY_MB"];
    memory["capacity"].as_i64().unwrap_or(0) - memory["used"].as_i64().unwrap_or(0)
}

async fn allocate(
    placement: &Peer,
    server: &Server,
    provider: &str,
    resources: &[(String, i64)],
) -> Result<(), PeerError> {
    let mut amounts = json!({});
    for (class, amount) in resources {
        amounts[class] = json!(amount);
    }
    let mut allocations = json!({});
    allocations[provider] = json!({"resources": amounts});
    let body = json!({
        "allocations": allocations,
        "project_id": server.project_id,
        "user_id": server.user_id,
        "consumer_generation": null,
        "consumer_type": "INSTANCE",
    });
    placement.put(Rights::Service, &format!("/allocations/{}", server.id), &body).await.map(|_| ())
}

/// What each host without enough room lacks, with its numbers.
async fn lacking(placement: &Peer, all: &[Host], resources: &[(String, i64)], candidates: &Candidates) -> Vec<String> {
    let mut found = Vec::new();
    for host in all.iter().filter(|host| !candidates.contains_key(&host.uuid)) {
        let path = |what: &str| format!("/resource_providers/{}/{what}", host.uuid);
        let inventories = placement.get(Rights::Service, &path("inventories")).await.unwrap_or_default();
        let usages = placement.get(Rights::Service, &path("usages")).await.unwrap_or_default();
        for (class, wanted) in resources {
            let held = &inventories["inventories"][class];
            let number = |key: &str| held[key].as_f64().unwrap_or(0.0);
            let capacity = ((number("total") - number("reserved")) * number("allocation_ratio")) as i64;
            let used = usages["usages"][class].as_i64().unwrap_or(0);
            if capacity - used < *wanted || held["max_unit"].as_i64().unwrap_or(0) < *wanted {
                let free = (capacity - used).max(0);
                found.push(format!("{}: {class}: {wanted} wanted, {free} of {capacity} free", host.name));
            }
        }
    }
    found
}
