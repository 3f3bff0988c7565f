//! The hosts as filters and weighers see them, and what is wanted of them.

use std::collections::{BTreeMap, BTreeSet};

use api::{Json, json};
use clients::Rights;
use contract::guest::Host as Facts;
use db::{Queries, sql};

use super::demand::Demand;
use super::hints::{self, FORCED_HOST, REQUESTED_HOST};
use super::{NoHost, Settings};
use crate::hosts::{self, Host};
use crate::server_groups::{self, Group};
use crate::servers::store::Server;
use crate::{Compute, aggregates, zones};

/// What is wanted, and what the filters ask about beside.
pub struct Wanted<'a> {
    pub server: &'a Server,
    pub settings: &'a Settings,
    pub group: Option<Group>,
    /// The hosts of the group's other servers, one entry for each.
    pub members: Vec<String>,
    /// The hosts of the servers that the hints name.
    pub same_host: Option<Vec<String>>,
    pub different_host: Vec<String>,
}

impl<'a> Wanted<'a> {
    pub async fn read(compute: &'a Compute, server: &'a Server) -> Result<Wanted<'a>, db::Error> {
        let group = match &server.group_id {
            Some(id) => server_groups::find(&compute.db, id).await?,
            None => None,
        };
        let members = match &group {
            Some(group) => members(&compute.db, &group.id, &server.id).await?,
            None => Vec::new(),
        };
        let same = hints::servers(&server.scheduler_hints, "same_host");
        let different = hints::servers(&server.scheduler_hints, "different_host");
        Ok(Wanted {
            server,
            settings: &compute.scheduler,
            group,
            members,
            same_host: if same.is_empty() { None } else { Some(hosts_of(&compute.db, &same).await?) },
            different_host: hosts_of(&compute.db, &different).await?,
        })
    }

    /// A host that an administrator chose without asking whether it suits.
    pub fn forced_host(&self) -> Option<&str> {
        self.server.scheduler_hints[FORCED_HOST].as_str()
    }

    /// A host that was chosen, and must suit.
    pub fn requested_host(&self) -> Option<&str> {
        self.server.scheduler_hints[REQUESTED_HOST].as_str()
    }

    pub fn extra_specs(&self) -> impl Iterator<Item = (&str, &str)> {
        super::demand::texts(&self.server.flavor["extra_specs"])
    }

    pub fn image_property(&self, name: &str) -> Option<&str> {
        self.server.image["properties"][name].as_str().filter(|text| !text.is_empty())
    }
}

/// The hosts of a group's servers but `this` one, where they are or will be.
pub async fn members(mut db: impl Queries, group: &str, this: &str) -> Result<Vec<String>, db::Error> {
    let query = sql("SELECT COALESCE(host, claimed_host) FROM servers WHERE group_id = ? AND id <> ?");
    let rows = db.rows(query.bind(group).bind(this)).await?;
    let hosts: Result<Vec<Option<String>>, db::Error> = rows.iter().map(|row| row.get(0)).collect();
    Ok(hosts?.into_iter().flatten().collect())
}

async fn hosts_of(mut db: impl Queries, servers: &[&str]) -> Result<Vec<String>, db::Error> {
    if servers.is_empty() {
        return Ok(Vec::new());
    }
    let query = sql("SELECT host FROM servers WHERE id IN (?) AND host IS NOT NULL").bind_list(servers.iter().copied());
    db.rows(query).await?.iter().map(|row| row.get(0)).collect()
}

/// What placement offers on one host.
pub struct Offer {
    /// What to claim, provider by provider.
    pub allocations: Json,
    /// Capacity and usage of the host itself, class by class.
    resources: Json,
}

/// One host.
pub struct Place {
    pub host: Host,
    pub facts: Option<Facts>,
    pub zone: String,
    /// The metadata of its aggregates: every value that a key has.
    pub metadata: BTreeMap<String, BTreeSet<String>>,
    pub servers: i64,
    pub building: i64,
    pub offer: Option<Offer>,
}

impl Place {
    fn held(&self, class: &str, key: &str) -> i64 {
        self.offer.as_ref().and_then(|offer| offer.resources[class][key].as_i64()).unwrap_or(0)
    }

    /// What is left of a class.
    pub fn free(&self, class: &str) -> i64 {
        self.held(class, "capacity") - self.held(class, "used")
    }

    pub fn arch(&self) -> Option<&str> {
        self.facts.as_ref().and_then(|facts| facts.cpu["arch"].as_str())
    }

    /// What a condition calls `name`, with the words of upstream's host state.
    pub fn attribute(&self, name: &str) -> Option<Json> {
        let facts = self.facts.as_ref()?;
        Some(match name {
            "host" | "hypervisor_hostname" | "nodename" => json!(self.host.name),
            "uuid" => json!(self.host.uuid),
            "id" | "service_id" => json!(self.host.number),
            "host_ip" => json!(facts.address),
            "hypervisor_type" => json!(facts.hypervisor_type),
            "hypervisor_version" => json!(facts.hypervisor_version),
            "cpu_info" => facts.cpu.clone(),
            "vcpus" | "vcpus_total" => json!(facts.vcpus),
            "vcpus_used" => json!(self.held("VCPU", "used")),
            "memory_mb" | "total_usable_ram_mb" => json!(facts.memory_mb),
            "memory_mb_used" => json!(self.held("MEMORY_MB", "used")),
            "free_ram_mb" => json!(self.free("MEMORY_MB")),
            "local_gb" | "total_usable_disk_gb" => json!(facts.disk_gb),
            "local_gb_used" => json!(self.held("DISK_GB", "used")),
            "disk_mb_used" => json!(self.held("DISK_GB", "used") * 1024),
            "free_disk_gb" | "disk_available_least" => json!(self.free("DISK_GB")),
            "free_disk_mb" => json!(self.free("DISK_GB") * 1024),
            "num_instances" | "running_vms" => json!(self.servers),
            "num_io_ops" | "current_workload" => json!(self.building),
            _ => return None,
        })
    }
}

/// Every host, with what placement offers there.
pub async fn read(compute: &Compute, wanted: &Wanted<'_>, demand: &Demand) -> Result<Vec<Place>, NoHost> {
    let all = hosts::all(&compute.db).await?;
    // Limit: upstream's, but never fewer than there are hosts: a zone must not be lost among the others.
    let limit = wanted.settings.max_placement_results.max(all.len());
    let mut offers = offers(compute, demand, limit).await?;
    let mut zones = zones::of_hosts(&compute.db).await?;
    let mut metadata = metadata(compute).await?;
    let counts = counts(compute).await?;
    let places = all.into_iter().map(|host| {
        let (servers, building) = counts.get(&host.name).copied().unwrap_or_default();
        Place {
            facts: host.facts(),
            zone: zones.remove(&host.name).unwrap_or_else(|| zones::DEFAULT_ZONE.to_string()),
            metadata: metadata.remove(&host.name).unwrap_or_default(),
            servers,
            building,
            offer: offers.remove(&host.uuid),
            host,
        }
    });
    Ok(places.collect())
}

/// The first candidate of each tree, by its root.
async fn offers(compute: &Compute, demand: &Demand, limit: usize) -> Result<BTreeMap<String, Offer>, NoHost> {
    let Some(query) = demand.query(limit) else {
        return Err(NoHost::Fits("The flavor asks for nothing.".into()));
    };
    let target = format!("/allocation_candidates?{query}");
    let answer = match compute.peers.placement.get(Rights::Service, &target).await {
        // A class or trait that placement does not know will not be known the next time either.
        Err(error) if error.status() == 400 => {
            let reason = error.message().trim().rsplit("\n\n").next().unwrap_or_default().trim();
            return Err(NoHost::Fits(format!("Placement: {reason}")));
        }
        answer => answer?,
    };
    let summaries = &answer["provider_summaries"];
    let mut offers = BTreeMap::new();
    for request in answer["allocation_requests"].as_array().into_iter().flatten() {
        let allocations = &request["allocations"];
        let provider = allocations.as_object().and_then(|map| map.keys().next());
        let Some(root) = provider.and_then(|id| summaries[id]["root_provider_uuid"].as_str()) else { continue };
        offers.entry(root.to_string()).or_insert_with(|| Offer {
            allocations: allocations.clone(),
            resources: summaries[root]["resources"].clone(),
        });
    }
    Ok(offers)
}

async fn metadata(compute: &Compute) -> Result<BTreeMap<String, BTreeMap<String, BTreeSet<String>>>, db::Error> {
    let members = aggregates::members(&compute.db).await?;
    let mut metadata: BTreeMap<String, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for aggregate in aggregates::all(&compute.db).await? {
        for host in members.get(&aggregate.id).into_iter().flatten() {
            let of_host = metadata.entry(host.clone()).or_default();
            for (key, value) in &aggregate.metadata {
                // Upstream: a value may be several, with commas between them.
                let values = value.split(',').map(|part| part.trim().to_string());
                of_host.entry(key.clone()).or_default().extend(values);
            }
        }
    }
    Ok(metadata)
}

/// How many servers each host has, and how many of them are still being made.
async fn counts(compute: &Compute) -> Result<BTreeMap<String, (i64, i64)>, db::Error> {
    let query = sql("SELECT host, COUNT(*), SUM(CASE WHEN vm_state = 'building' THEN 1 ELSE 0 END) FROM servers \
                     WHERE host IS NOT NULL GROUP BY host");
    let rows = compute.db.rows(query).await?;
    rows.iter().map(|row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?)))).collect()
}
