//! The network service: networks, ports, routers, filters, and what hosts are told of them.
//!
//! ```text
//! client → api::App → engine (one for all resources) → a resource's file → rows
//!                                                    ↘ Work: touched hosts, generation, events
//! host  ⇄ Network::handle: HELLO, DESIRED, REPORT           poke ← Work::commit
//! compute ← events::carry: network-vif-plugged, network-changed
//! ```
//!
//! - [`engine`]  attributes as data; list, show, create, update and delete, once
//! - [`networks`], [`segments`], [`subnets`], [`subnet_pools`], [`address_scopes`], [`ports`], [`addresses`]
//! - [`security_groups`], [`security_group_rules`], [`rbac`]
//! - [`routers`], [`floating_ips`], [`dhcp`]
//! - [`agents`], [`zones`], [`availabilities`], [`quotas`], [`tags`], [`extensions`], [`providers`]
//! - [`hosts`], [`desired`], [`events`]  the side of hosts and of compute
//! - [`work`]    one transaction; [`stop`] why it ends early; [`fault`] refusals by upstream's names

pub mod address_scopes;
pub mod addresses;
pub mod agents;
pub mod availabilities;
pub mod desired;
pub mod dhcp;
mod documents;
pub mod engine;
pub mod events;
pub mod extensions;
pub mod fault;
pub mod floating_ips;
pub mod hosts;
mod ip;
pub mod networks;
pub mod ports;
pub mod providers;
mod python;
pub mod quotas;
pub mod rbac;
pub mod routers;
pub mod security_group_rules;
pub mod security_groups;
pub mod segments;
mod settings;
mod stop;
pub mod subnet_pools;
pub mod subnets;
pub mod tags;
mod work;
pub mod zones;

use std::sync::Arc;

use api::{App, Authenticator, Envelope, Operation, Policy, Reply, Request, Service, Shape};
use base::config::{Config, ConfigError};
use clients::Peer;
use db::{Db, Migration, Schema};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

pub use hosts::{HostRefusal, Pokes};
pub use settings::Settings;

/// What the calls of network lean on.
pub struct Network {
    pub db: Db,
    pub settings: Settings,
    /// Woken when there are events for compute.
    pub(crate) courier: Notify,
    pub(crate) pokes: Arc<dyn Pokes>,
    pub(crate) compute: Option<Peer>,
}

impl Network {
    /// `pokes` tells hosts that something changed; without `compute` nobody hears of ports.
    pub fn new(db: Db, config: &Config, pokes: Arc<dyn Pokes>, compute: Option<Peer>) -> Result<Network, ConfigError> {
        Ok(Network { db, settings: Settings::read(config)?, courier: Notify::new(), pokes, compute })
    }
}

impl Service for Network {
    const SHAPE: Shape = Shape {
        name: "network",
        envelope: Envelope::Network,
        versions: None,
        mounts: &["/v2.0"],
        project_in_path: false,
    };

    fn document(&self, request: &Request) -> Option<Reply> {
        documents::answer(request)
    }
}

/// The tables of network.
pub const SCHEMA: Schema = Schema {
    service: "network",
    migrations: &[
        Migration { number: 1, name: "quotas", sql: api::quota::MIGRATION },
        Migration { number: 2, name: "networks", sql: include_str!("../migrations/0002_networks.sql") },
        Migration { number: 3, name: "routers", sql: include_str!("../migrations/0003_routers.sql") },
        Migration { number: 4, name: "hosts", sql: include_str!("../migrations/0004_hosts.sql") },
    ],
};

/// Everything that a client can ask of network.
pub fn operations() -> Vec<Operation<Network>> {
    let tables = [
        documents::operations(),
        extensions::operations(),
        networks::operations(),
        segments::operations(),
        subnets::operations(),
        subnet_pools::operations(),
        address_scopes::operations(),
        ports::operations(),
        security_groups::operations(),
        security_group_rules::operations(),
        rbac::operations(),
        routers::operations(),
        floating_ips::operations(),
        agents::operations(),
        zones::operations(),
        availabilities::operations(),
        quotas::operations(),
        providers::operations(),
        tags::operations::<networks::Networks>("/networks/{id}/tags", "/networks/{id}/tags/{tag}"),
        tags::operations::<subnets::Subnets>("/subnets/{id}/tags", "/subnets/{id}/tags/{tag}"),
        tags::operations::<subnet_pools::SubnetPools>("/subnetpools/{id}/tags", "/subnetpools/{id}/tags/{tag}"),
        tags::operations::<ports::Ports>("/ports/{id}/tags", "/ports/{id}/tags/{tag}"),
        tags::operations::<security_groups::SecurityGroups>(
            "/security-groups/{id}/tags",
            "/security-groups/{id}/tags/{tag}",
        ),
        tags::operations::<routers::Routers>("/routers/{id}/tags", "/routers/{id}/tags/{tag}"),
        tags::operations::<floating_ips::FloatingIps>("/floatingips/{id}/tags", "/floatingips/{id}/tags/{tag}"),
        tags::operations::<segments::Segments>("/segments/{id}/tags", "/segments/{id}/tags/{tag}"),
    ];
    tables.into_iter().flatten().collect()
}

/// Network, ready to answer.
pub fn app(
    network: Arc<Network>,
    policy_overrides: Option<&str>,
    authenticator: Arc<dyn Authenticator>,
) -> Result<App<Network>, api::policy::PolicyError> {
    let policy = Policy::new(include_str!("../policy.tsv"), policy_overrides)?;
    let missing = include_str!("../../../tests/ratchet/operations/network.txt");
    Ok(App::new(network, operations(), missing, policy, authenticator))
}

/// Starts the work that goes on beside calls: carrying events to compute.
pub fn start(network: &Arc<Network>) -> JoinHandle<()> {
    tokio::spawn(events::carry(network.clone()))
}
