//! One transaction of the service: its rows, what it changes for hosts, and what compute must hear of.

use std::collections::BTreeSet;

use api::{Caller, Limit};
use base::{Time, clock};
use db::{Record, Tx, Value, sql};

use crate::Network;
use crate::engine::Entity;
use crate::events::Event;
use crate::fault::Fault;
use crate::stop::Stop;

/// A transaction; dropped without [`Work::commit`] nothing of it happened.
pub struct Work<'a> {
    pub service: &'a Network,
    pub caller: &'a Caller,
    pub tx: Tx,
    pub touched: Touched,
    pub now: Time,
    generation: Option<i64>,
    events: bool,
}

/// What changed that a host may see. Hosts are found when the transaction ends.
#[derive(Debug, Default)]
pub struct Touched {
    pub networks: BTreeSet<String>,
    pub groups: BTreeSet<String>,
    pub routers: BTreeSet<String>,
    /// Hosts that would not be found any more.
    pub hosts: BTreeSet<String>,
}

impl Touched {
    fn is_empty(&self) -> bool {
        self.networks.is_empty() && self.groups.is_empty() && self.routers.is_empty() && self.hosts.is_empty()
    }

    pub fn host(&mut self, name: &str) {
        if !name.is_empty() {
            self.hosts.insert(name.to_string());
        }
    }
}

impl<'a> Work<'a> {
    pub async fn begin(service: &'a Network, caller: &'a Caller) -> Result<Work<'a>, Stop> {
        let tx = service.db.begin().await?;
        let touched = Touched::default();
        Ok(Work { service, caller, tx, touched, now: clock::now(), generation: None, events: false })
    }

    /// Commits, and tells the hosts concerned and the courier of events.
    pub async fn commit(mut self) -> Result<(), Stop> {
        let mut hosts = BTreeSet::new();
        if !self.touched.is_empty() {
            hosts = self.concerned().await?;
            // Last, because every other transaction waits for this row.
            if !hosts.is_empty() {
                self.generation().await?;
            }
        }
        self.tx.commit().await?;
        for host in &hosts {
            self.service.pokes.poke(host);
        }
        if self.events {
            self.service.courier.notify_one();
        }
        Ok(())
    }

    /// The generation of what this transaction changes.
    pub async fn generation(&mut self) -> Result<i64, Stop> {
        if let Some(generation) = self.generation {
            return Ok(generation);
        }
        self.tx.run(sql("UPDATE generation SET value = value + 1 WHERE id = 1")).await?;
        let value = self.tx.count(sql("SELECT value FROM generation WHERE id = 1")).await?;
        self.generation = Some(value);
        Ok(value)
    }

    async fn concerned(&mut self) -> Result<BTreeSet<String>, Stop> {
        let Touched { networks, groups, routers, hosts } = &self.touched;
        let mut found = hosts.clone();
        let mut asks = Vec::new();
        if !networks.is_empty() {
            asks.push(sql("SELECT DISTINCT host FROM ports").in_list("network_id", networks));
        }
        if !routers.is_empty() {
            asks.push(sql("SELECT DISTINCT host FROM routers").in_list("id", routers));
        }
        if !groups.is_empty() {
            let referring =
                sql("SELECT DISTINCT security_group_id FROM security_group_rules").in_list("remote_group_id", groups);
            let mut all: BTreeSet<String> = groups.clone();
            for row in self.tx.rows(referring).await? {
                all.insert(row.get(0)?);
            }
            let members =
                sql("SELECT DISTINCT ports.host FROM ports JOIN port_groups ON port_groups.port_id = ports.id");
            asks.push(members.in_list("port_groups.group_id", all));
        }
        for ask in asks {
            for row in self.tx.rows(ask).await? {
                let host: String = row.get(0)?;
                if !host.is_empty() {
                    found.insert(host);
                }
            }
        }
        Ok(found)
    }

    /// Locks a row, stamps it, and raises its revision by `step`. False when there is none.
    pub async fn revise(&mut self, table: &'static str, id: &str, step: i64) -> Result<bool, Stop> {
        let text = format!("UPDATE {table} SET revision_number = revision_number + ?, updated_at = ? WHERE id = ?");
        Ok(self.tx.run(sql(text).bind(step).bind(self.now).bind(id)).await? > 0)
    }

    /// Writes columns of one row.
    pub async fn set<T: Record>(&mut self, id: &str, changes: Vec<(&'static str, Value)>) -> Result<(), Stop> {
        if changes.is_empty() {
            return Ok(());
        }
        let columns: Vec<String> = changes.iter().map(|(column, _)| format!("{column} = ?")).collect();
        let text = format!("UPDATE {} SET {} WHERE id = ?", T::TABLE, columns.join(", "));
        let values = changes.into_iter().map(|(_, value)| value);
        self.tx.run(sql(text).bind_all(values).bind(id)).await?;
        Ok(())
    }

    /// Writes a whole row again. The caller has locked it.
    pub async fn rewrite<T: Entity>(&mut self, row: &T) -> Result<(), Stop> {
        let columns: Vec<String> = T::COLUMNS.iter().map(|column| format!("\"{column}\" = ?")).collect();
        let text = format!("UPDATE {} SET {} WHERE id = ?", T::TABLE, columns.join(", "));
        self.tx.run(sql(text).bind_all(row.values()).bind(row.id())).await?;
        Ok(())
    }

    /// Checks that `requested` more fit into what the project may have; holds until the transaction ends.
    pub async fn within(&mut self, project: &str, quota: &'static Limit, requested: i64) -> Result<(), Stop> {
        let allowed = api::quota::limit(&mut self.tx, project, quota).await?;
        if allowed < 0 || project.is_empty() {
            return Ok(());
        }
        api::quota::lock(&mut self.tx, project).await.map_err(|error| match error.is_duplicate() {
            // Two requests made the project's first lock at once.
            true => db::Error::Conflict { source: error.into() },
            false => error,
        })?;
        let used = self.tx.count(sql(quota.count).bind(project)).await?;
        match used + requested <= allowed {
            true => Ok(()),
            false => Err(Fault::OverQuota { overs: quota.name.to_string() }.into()),
        }
    }

    /// Puts an event on its way to compute.
    pub async fn tell(&mut self, event: Event) -> Result<(), Stop> {
        if self.service.compute.is_some() {
            self.tx.insert(&event).await?;
            self.events = true;
        }
        Ok(())
    }
}
