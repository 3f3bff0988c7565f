//! The compute service: servers and what they are made of.
//!
//! ```text
//! client → api::App → operations (one file per resource) → rows, flows
//!                                     flows → placement, network, image   (crates/clients)
//!                                     hosts ⇄ bus: HELLO, DESIRED, REPORT, POKE
//! ```
//!
//! - [`documents`] version documents, outside the table

pub mod actions;
pub mod aggregates;
pub mod audit_log;
pub mod console_proxy;
pub mod consoles;
mod documents;
pub mod extensions;
pub mod external_events;
pub mod flavors;
pub mod hosts;
pub mod hypervisors;
pub mod keypairs;
pub mod metadata;
pub mod migrations;
mod names;
pub mod older_hosts;
mod orders;
mod projects;
mod query;
pub mod quotas;
pub mod removed;
pub mod scheduler;
pub mod server_groups;
pub mod servers;
pub mod services;
pub mod usage;
pub mod zones;

use std::sync::Arc;

use api::{App, Authenticator, Envelope, Operation, Policy, Reply, Request, Service, Shape, Versions, v};
use clients::Peer;
use db::{Db, Migration, Schema};
use flow::{Definition, Flow, Flows};

/// What the calls of compute lean on.
pub struct Compute {
    pub db: Db,
    pub peers: Peers,
    pub bus: bus::Bus,
    pub flows: Flows,
    pub ratios: Ratios,
    pub scheduler: scheduler::Settings,
    pub consoles: consoles::Consoles,
}

/// How often a host's resources are given out: `[DEFAULT] cpu_allocation_ratio` and its kin.
#[derive(Debug, Clone, Copy)]
pub struct Ratios {
    pub cpu: f64,
    pub memory: f64,
    pub disk: f64,
}

impl Ratios {
    /// `[DEFAULT] cpu_allocation_ratio` and its kin.
    pub fn read(config: &base::config::Config) -> Result<Ratios, base::config::ConfigError> {
        let ratio = |name: &str, default: f64| match config.text("DEFAULT", name) {
            None => Ok(default),
            Some(text) => match text.parse::<f64>() {
                Ok(ratio) if ratio > 0.0 => Ok(ratio),
                _ => Err(base::config::ConfigError::Value {
                    section: "DEFAULT".into(),
                    name: name.into(),
                    value: text.into(),
                    why: "not a number above zero",
                }),
            },
        };
        let usual = Ratios::default();
        Ok(Ratios {
            cpu: ratio("cpu_allocation_ratio", usual.cpu)?,
            memory: ratio("ram_allocation_ratio", usual.memory)?,
            disk: ratio("disk_allocation_ratio", usual.disk)?,
        })
    }
}

impl Default for Ratios {
    /// Upstream's initial ratios.
    fn default() -> Ratios {
        Ratios { cpu: 4.0, memory: 1.0, disk: 1.0 }
    }
}

/// The services that compute asks for things.
#[derive(Clone)]
pub struct Peers {
    pub placement: Peer,
    pub image: Peer,
    pub network: Peer,
    pub identity: Peer,
}

impl Service for Compute {
    const SHAPE: Shape = Shape {
        name: "compute",
        envelope: Envelope::Compute,
        versions: Some(Versions {
            word: "compute",
            older_header: Some("x-openstack-nova-api-version"),
            min: v(2, 1),
            max: v(2, 104),
        }),
        mounts: &["/v2.1", "/v2"],
        project_in_path: true,
    };

    fn document(&self, request: &Request) -> Option<Reply> {
        documents::answer(request)
    }
}

/// The tables of compute.
pub const SCHEMA: Schema = Schema {
    service: "compute",
    migrations: &[
        Migration { number: 1, name: "quotas", sql: api::quota::MIGRATION },
        Migration { number: 2, name: "flows", sql: flow::MIGRATION },
        Migration { number: 3, name: "flavors", sql: include_str!("../migrations/0003_flavors.sql") },
        Migration { number: 4, name: "keypairs", sql: include_str!("../migrations/0004_keypairs.sql") },
        Migration { number: 5, name: "servers", sql: include_str!("../migrations/0005_servers.sql") },
        Migration { number: 6, name: "groups", sql: include_str!("../migrations/0006_groups.sql") },
        Migration { number: 7, name: "consoles", sql: include_str!("../migrations/0007_consoles.sql") },
        Migration { number: 8, name: "claims", sql: include_str!("../migrations/0008_claims.sql") },
    ],
};

/// Everything that a client can ask of compute.
pub fn operations() -> Vec<Operation<Compute>> {
    let tables = [
        actions::operations(),
        aggregates::operations(),
        audit_log::operations(),
        consoles::operations(),
        extensions::operations(),
        external_events::operations(),
        flavors::operations(),
        hypervisors::operations(),
        keypairs::operations(),
        migrations::operations(),
        older_hosts::operations(),
        quotas::operations(),
        removed::operations(),
        server_groups::operations(),
        servers::operations(),
        services::operations(),
        usage::operations(),
        zones::operations(),
    ];
    tables.into_iter().flatten().collect()
}

/// Everything that compute does beyond a request.
pub fn flows() -> Vec<Definition<Compute>> {
    use servers::{CREATE_SERVER, DELETE_SERVER, POWER_SERVER};
    vec![
        Flow::new(CREATE_SERVER, servers::create_server).failed(servers::creation_failed).into(),
        Flow::new(DELETE_SERVER, servers::delete_server).failed(servers::deletion_failed).unstoppable().into(),
        Flow::new(POWER_SERVER, servers::power_server).failed(servers::power_failed).into(),
    ]
}

/// Compute, ready to answer.
pub fn app(
    compute: Arc<Compute>,
    policy_overrides: Option<&str>,
    authenticator: Arc<dyn Authenticator>,
) -> Result<App<Compute>, api::policy::PolicyError> {
    let policy = Policy::new(include_str!("../policy.tsv"), policy_overrides)?;
    let missing = include_str!("../../../tests/ratchet/operations/compute.txt");
    Ok(App::new(compute, operations(), missing, policy, authenticator))
}
