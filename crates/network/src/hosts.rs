//! Hosts: what they say of themselves, what they ask for, what they report. The door of the bus.
//!
//! ```text
//! HELLO   here I am          → rows of hosts and agents; routers without a host may come here
//! DESIRED what should be     → desired.rs
//! REPORT  what is            → status of ports, routers' ports and floating IPs; events for compute
//! ```

use std::collections::HashSet;

use base::{Json, Time, clock, json};
use contract::message::{DESIRED, HELLO, REPORT};
use contract::network::{Host, Physical, Report};
use db::{Queries, record, select, sql};

use crate::events::Event;
use crate::ports::PortRow;
use crate::settings::Settings;
use crate::stop::Stop;
use crate::work::Work;
use crate::{Network, agents, desired, routers};

/// Tells a host that something changed; a lost word does no harm.
pub trait Pokes: Send + Sync {
    fn poke(&self, host: &str);
}

/// For tests and for services without hosts.
impl Pokes for () {
    fn poke(&self, _: &str) {}
}

/// Why a host's message is refused; `code` is for programs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} ({code})")]
pub struct HostRefusal {
    pub code: &'static str,
    pub message: String,
}

record! {
    pub struct HostRow in "hosts" {
        pub name: String,
        pub uuid: String,
        pub tunnel_address: String,
        pub physical: Json,
        pub driver: String,
        pub lacks: Vec<String>,
        pub started_at: Time,
        pub heard_at: Time,
    }
}

impl HostRow {
    pub fn physical(&self) -> Vec<Physical> {
        serde_json::from_value(self.physical.clone()).unwrap_or_default()
    }
}

pub async fn row(mut db: impl Queries, name: &str) -> Result<Option<HostRow>, db::Error> {
    db.maybe(select::<HostRow>("WHERE name = ?").bind(name)).await
}

/// Whether the host was heard of lately.
pub fn alive(host: &HostRow, settings: &Settings) -> bool {
    host.heard_at >= clock::now().plus_seconds(-settings.agent_down_seconds)
}

/// Limit: a host that asks often is not written down each time.
const HEARD_SECONDS: i64 = 10;
/// Limit: things in one report that are named by one query.
const CHUNK: usize = 8000;

impl Network {
    /// Handles a message of a host: `kind` and body as in `contract::message`.
    pub async fn handle(&self, kind: &str, body: Json) -> Result<Json, HostRefusal> {
        let name = || body["host"].as_str().map(String::from).ok_or_else(|| malformed("the message names no host"));
        match kind {
            HELLO => {
                let host: Host = serde_json::from_value(body).map_err(|error| malformed(error.to_string()))?;
                self.hello(&host).await
            }
            DESIRED => {
                let host = name()?;
                self.heard(&host).await?;
                let desired = desired::of(self, &host).await.map_err(failed)?;
                serde_json::to_value(desired).map_err(|error| malformed(error.to_string()))
            }
            REPORT => {
                let host = name()?;
                let report =
                    serde_json::from_value(body["report"].clone()).map_err(|error| malformed(error.to_string()))?;
                self.heard(&host).await?;
                self.report(&host, &report).await?;
                Ok(json!({}))
            }
            other => Err(HostRefusal { code: "unknown_kind", message: format!("network does not know '{other}'") }),
        }
    }

    async fn hello(&self, host: &Host) -> Result<Json, HostRefusal> {
        let nobody = api::Caller::default();
        let done = self.db.retry(|| async {
            let mut work = Work::begin(self, &nobody).await?;
            let known = row(&mut work.tx, &host.name).await?;
            if let Some(known) = known.as_ref().filter(|known| known.uuid != host.uuid) {
                return Ok::<_, Stop>(Some(known.uuid.clone()));
            }
            let next = HostRow {
                name: host.name.clone(),
                uuid: host.uuid.clone(),
                tunnel_address: host.tunnel_address.to_string(),
                physical: json!(host.physical),
                driver: host.driver.clone(),
                lacks: host.lacks.clone(),
                started_at: known.as_ref().map_or(work.now, |known| known.started_at),
                heard_at: work.now,
            };
            let moved = known.as_ref().is_none_or(|known| known.tunnel_address != next.tunnel_address);
            work.tx.upsert(&next, &["name"]).await?;
            agents::register(&mut work, &host.name).await?;
            routers::adopt(&mut work, &host.name).await?;
            if moved {
                // Its peers must learn where to send frames.
                let networks = sql("SELECT DISTINCT network_id FROM ports WHERE host = ?").bind(&host.name);
                for row in work.tx.rows(networks).await? {
                    work.touched.networks.insert(row.get(0)?);
                }
            }
            work.touched.host(&host.name);
            work.commit().await?;
            Ok(None)
        });
        match done.await.map_err(stopped)? {
            None => Ok(json!({})),
            Some(uuid) => Err(HostRefusal {
                code: "host_taken",
                message: format!("the name {} belongs to the host {uuid}; give this one another name", host.name),
            }),
        }
    }

    /// Remembers that a host spoke; one that never said hello must do so first.
    async fn heard(&self, name: &str) -> Result<(), HostRefusal> {
        let host = row(&self.db, name).await.map_err(failed)?;
        let host =
            host.ok_or_else(|| HostRefusal { code: "unknown_host", message: format!("{name} must say hello first") })?;
        let now = clock::now();
        if host.heard_at < now.plus_seconds(-HEARD_SECONDS) {
            let heard = sql("UPDATE hosts SET heard_at = ? WHERE name = ?").bind(now).bind(name);
            self.db.run(heard).await.map_err(failed)?;
        }
        Ok(())
    }

    async fn report(&self, host: &str, report: &Report) -> Result<(), HostRefusal> {
        for failure in &report.errors {
            tracing::warn!(host, id = failure.id, what = failure.what, "a host could not do what it should");
        }
        let nobody = api::Caller::default();
        let done = self.db.retry(|| async {
            let wired = news(self, host, &report.wired, "ACTIVE").await?;
            let unwired = news(self, host, &report.unwired, "DOWN").await?;
            let routed = routed(self, host, report).await?;
            if wired.is_empty() && unwired.is_empty() && routed.is_empty() {
                return Ok::<_, Stop>(());
            }
            let mut work = Work::begin(self, &nobody).await?;
            for port in &wired {
                if turn(&mut work, port, "ACTIVE").await? && port.is_compute() {
                    work.tell(Event::vif_plugged(port)).await?;
                }
            }
            for port in &unwired {
                if turn(&mut work, port, "DOWN").await? && port.is_compute() {
                    work.tell(Event::vif_unplugged(port)).await?;
                }
            }
            for statement in routed {
                work.tx.run(statement).await?;
            }
            work.commit().await
        });
        done.await.map_err(stopped)
    }
}

/// Of the ports reported, those of this host that were not so before.
async fn news(network: &Network, host: &str, ids: &[String], status: &str) -> Result<Vec<PortRow>, db::Error> {
    let mut found = Vec::new();
    for chunk in ids.chunks(CHUNK) {
        let rows = select::<PortRow>("WHERE host = ? AND status <> ?").bind(host).bind(status).in_list("id", chunk);
        found.extend(network.db.all(rows).await?);
    }
    // Who was never up does not go down.
    found.retain(|port| status != "DOWN" || port.status == "ACTIVE");
    Ok(found)
}

/// Compare and swap: of two reports of the same, one tells of it.
async fn turn(work: &mut Work<'_>, port: &PortRow, status: &str) -> Result<bool, Stop> {
    let text = "UPDATE ports SET status = ?, updated_at = ?, revision_number = revision_number + 1 WHERE id = ? AND \
                status = ? AND host = ?";
    let turned = sql(text).bind(status).bind(work.now).bind(&port.id).bind(&port.status).bind(&port.host);
    Ok(work.tx.run(turned).await? > 0)
}

/// What a report makes active: the ports of routers that forward, and of those that are told not to, which are as
/// wired as they will be; and the floating IPs that the host has applied.
async fn routed(network: &Network, host: &str, report: &Report) -> Result<Vec<db::Statement>, db::Error> {
    let down = "device_owner LIKE 'network:router%' AND status <> 'ACTIVE'";
    let waiting = "status <> 'ACTIVE' AND port_id IS NOT NULL AND generation <= ?";
    let ask = |text: String| sql(text).bind(host);
    let mine = "SELECT id FROM routers WHERE host = ?";
    let floating = ask(format!("SELECT id, router_id FROM floatingips WHERE router_id IN ({mine}) AND {waiting}"));
    let floating = network.db.rows(floating.bind(report.generation)).await?;
    let ports = ask(format!(
        "SELECT ports.id, routers.id, routers.admin_state_up FROM ports JOIN routers ON routers.id = ports.device_id \
         WHERE routers.host = ? AND ports.{}",
        down.replace("AND status", "AND ports.status")
    ));
    let ports = network.db.rows(ports).await?;

    let forwards: HashSet<&str> = report.routers.iter().map(String::as_str).collect();
    let mut up: Vec<String> = Vec::new();
    for row in &ports {
        let (router, admin_up): (String, bool) = (row.get(1)?, row.get(2)?);
        if !admin_up || forwards.contains(router.as_str()) {
            up.push(row.get(0)?);
        }
    }
    let mut joined: Vec<String> = Vec::new();
    for row in &floating {
        if forwards.contains(row.get::<String>(1)?.as_str()) {
            joined.push(row.get(0)?);
        }
    }
    let mut statements = Vec::new();
    for (table, ids) in [("ports", up), ("floatingips", joined)] {
        for chunk in ids.chunks(CHUNK) {
            let text = format!("UPDATE {table} SET status = 'ACTIVE', updated_at = ?");
            let statement = sql(text).bind(clock::now()).in_list("id", chunk);
            statements.push(if table == "ports" { statement } else { statement.and("port_id IS NOT NULL") });
        }
    }
    Ok(statements)
}

fn malformed(message: impl Into<String>) -> HostRefusal {
    HostRefusal { code: "malformed", message: message.into() }
}

fn failed(error: db::Error) -> HostRefusal {
    tracing::error!(%error, "a host's message failed");
    HostRefusal { code: "failure", message: "the network service failed; its log has the cause".into() }
}

fn stopped(stop: Stop) -> HostRefusal {
    match stop {
        Stop::Database(error) => failed(error),
        Stop::Refused(refusal) => HostRefusal { code: "refused", message: refusal.message },
    }
}
