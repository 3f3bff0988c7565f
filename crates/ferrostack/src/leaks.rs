//! What has no owner: servers, claims, ports, guests, networks and files, compared pairwise.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use api::Json;
use clients::{Peer, Rights};
use compute::Compute;
use contract::{message, network as wires};

use crate::agents::Door;

/// Looks at the running cloud from all sides.
pub struct Inspector {
    pub compute: Arc<Compute>,
    pub images: Arc<image::Images>,
    pub network: Peer,
    pub placement: Peer,
    pub hosts: Vec<Inspected>,
}

/// One host of this process.
pub struct Inspected {
    pub name: String,
    pub guests: host_hypervisor::Agent,
    pub wires: Arc<host_network::Driver>,
    pub orders: Door,
}

impl Inspector {
    /// A line for each thing without an owner.
    pub async fn leaks(&self) -> Result<Vec<String>> {
        let servers = self.servers().await?;
        let mut found = Vec::new();
        self.ports(&servers, &mut found).await?;
        self.claims(&servers, &mut found).await?;
        for host in &self.hosts {
            host.leaks(&mut found).await?;
        }
        found.extend(
            self.images
                .leaks()
                .await
                .map_err(|refusal| anyhow::anyhow!(refusal.message))?
                .into_iter()
                .map(|what| format!("image: {what}")),
        );
        found.sort();
        Ok(found)
    }

    async fn servers(&self) -> Result<BTreeSet<String>> {
        let rows = self.compute.db.rows(db::sql("SELECT id FROM servers")).await?;
        rows.iter().map(|row| Ok(row.get::<String>("id")?)).collect()
    }

    /// Ports of servers that are gone.
    async fn ports(&self, servers: &BTreeSet<String>, found: &mut Vec<String>) -> Result<()> {
        let target = "/v2.0/ports?fields=id&fields=device_id&fields=device_owner";
        let ports = self.network.get(Rights::Service, target).await.context("asking network for its ports")?;
        for port in list(&ports, "ports") {
            let text = |key: &str| port[key].as_str().unwrap_or_default();
            if text("device_owner").starts_with("compute:") && !servers.contains(text("device_id")) {
                found.push(format!("port {}: of server {}, which is gone", text("id"), text("device_id")));
            }
        }
        Ok(())
    }

    /// Claims at placement of servers that are gone.
    async fn claims(&self, servers: &BTreeSet<String>, found: &mut Vec<String>) -> Result<()> {
        let placement = &self.placement;
        let providers = placement.get(Rights::Service, "/resource_providers").await.context("asking placement")?;
        for provider in list(&providers, "resource_providers") {
            let id = provider["uuid"].as_str().unwrap_or_default();
            let path = format!("/resource_providers/{id}/allocations");
            let held = placement.get(Rights::Service, &path).await?;
            for consumer in held["allocations"].as_object().into_iter().flatten().map(|(consumer, _)| consumer) {
                if !servers.contains(consumer) {
                    found.push(format!("allocation of {consumer} at {}: the server is gone", provider["name"]));
                }
            }
        }
        Ok(())
    }

    /// Why a server is as it is: its fault and the record of its flows.
    pub async fn explain(&self, server: &str) -> Result<String> {
        let live = compute::servers::store::find(&self.compute.db, server).await?;
        let row = match live {
            Some(row) => Some(row),
            None => compute::servers::store::archived(&self.compute.db, server).await?,
        };
        let Some(row) = row else { bail!("there is and was no server {server}") };
        let mut text = format!("server {} ({}): {}", row.id, row.name, row.status());
        if let Some(task) = &row.task_state {
            text.push_str(&format!(", being {task}"));
        }
        text.push_str(&format!("\nhost: {}\n", row.host.as_deref().unwrap_or("none")));
        if let Some(fault) = &row.fault {
            text.push_str(&format!("fault: {}\n", fault["message"].as_str().unwrap_or_default()));
        }
        if let Some(report) = &row.report {
            text.push_str(&format!("the host reports: {report}\n"));
        }
        for flow in self.compute.flows.of(server).await? {
            text.push_str(&format!("flow {} {}: {:?}\n", flow.kind, flow.id, flow.state));
        }
        Ok(text)
    }

    /// The cloud's invariants that do not hold, a line each.
    pub async fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        match self.leaks().await {
            Ok(leaks) => wrong.extend(leaks.into_iter().map(|leak| format!("without an owner: {leak}"))),
            Err(error) => wrong.push(format!("the cloud cannot be inspected: {error:#}")),
        }
        match compute::hosts::all(&self.compute.db).await {
            Ok(hosts) => {
                let down = hosts.iter().filter(|host| !host.is_up());
                wrong.extend(down.map(|host| format!("the host {} is down; look at its agents", host.name)));
            }
            Err(error) => wrong.push(format!("compute's database cannot be read: {error}")),
        }
        wrong
    }
}

impl Inspected {
    async fn leaks(&self, found: &mut Vec<String>) -> Result<()> {
        let guests = self.guests.leaks().await?;
        found.extend(guests.into_iter().map(|what| format!("host {}: {what}", self.name)));
        let order = self.orders.ask(message::DESIRED, api::json!({"host": self.name})).await?;
        let order: wires::Desired = serde_json::from_value(order).context("reading the host's network order")?;
        let left = self.wires.leaks(&order).await;
        found.extend(left.into_iter().map(|what| format!("host {}: {what}", self.name)));
        Ok(())
    }
}

fn list<'a>(body: &'a Json, key: &str) -> impl Iterator<Item = &'a Json> {
    body[key].as_array().into_iter().flatten()
}
