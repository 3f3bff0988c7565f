//! What compute must hear of: ports that are wired, unplugged, deleted, or have other addresses.
//!
//! An event is a row, written with the change that it tells of, so that no crash loses one. The courier takes the oldest
//! ones, posts them to compute in one request, and deletes them; what does not get through is tried again.

use std::sync::Arc;
use std::time::Duration;

use base::{Time, clock, json};
use clients::{Peer, PeerError, Rights};
use db::{record, select, sql};

use crate::Network;
use crate::ports::PortRow;

/// Limit: events of one request.
const BATCH: usize = 100;
/// Limit: nobody waits for an event that is older; compute's own wait is 300 s.
const OLDEST_SECONDS: i64 = 600;
/// Limit: the pause after a request that compute did not take.
const PAUSE: Duration = Duration::from_secs(2);
/// Limit: how long events of another controller that died may lie about.
const SWEEP: Duration = Duration::from_secs(15);

record! {
    pub struct Event in "events" {
        pub id: String,
        pub created_at: Time,
        pub name: String,
        pub server_id: String,
        pub port_id: Option<String>,
        pub status: String,
    }
}

impl Event {
    fn about(port: &PortRow, name: &str) -> Event {
        Event {
            id: base::id::uuid(),
            created_at: clock::now(),
            name: name.to_string(),
            server_id: port.device_id.clone(),
            port_id: Some(port.id.clone()),
            status: "completed".into(),
        }
    }

    pub fn vif_plugged(port: &PortRow) -> Event {
        Event::about(port, "network-vif-plugged")
    }

    pub fn vif_failed(port: &PortRow) -> Event {
        Event { status: "failed".into(), ..Event::about(port, "network-vif-plugged") }
    }

    pub fn vif_unplugged(port: &PortRow) -> Event {
        Event::about(port, "network-vif-unplugged")
    }

    pub fn vif_deleted(port: &PortRow) -> Event {
        Event::about(port, "network-vif-deleted")
    }

    pub fn network_changed(port: &PortRow) -> Event {
        Event::about(port, "network-changed")
    }
}

/// Carries events to compute, for as long as the task that runs it lives.
pub async fn carry(network: Arc<Network>) {
    let Some(compute) = network.compute.clone() else {
        return;
    };
    loop {
        match deliver(&network, &compute).await {
            Ok(delivered) if delivered == BATCH => {}
            Ok(_) => {
                // Woken by the next event, or looking on its own for what somebody else left.
                let _ = tokio::time::timeout(SWEEP, network.courier.notified()).await;
            }
            Err(why) => {
                tracing::warn!(why, "events for compute wait");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Posts the oldest events; returns how many.
pub async fn deliver(network: &Network, compute: &Peer) -> Result<usize, String> {
    let words = |error: db::Error| error.to_string();
    let old = clock::now().plus_seconds(-OLDEST_SECONDS);
    network.db.run(sql("DELETE FROM events WHERE created_at < ?").bind(old)).await.map_err(words)?;
    let rows = select::<Event>(format!("ORDER BY created_at, id LIMIT {BATCH}"));
    let events = network.db.all(rows).await.map_err(words)?;
    if events.is_empty() {
        return Ok(0);
    }
    let list: Vec<base::Json> = events
        .iter()
        .map(|event| {
            json!({
                "name": event.name, "server_uuid": event.server_id, "tag": event.port_id, "status": event.status,
            })
        })
        .collect();
    let posted = compute.post(Rights::Service, "/v2.1/os-server-external-events", &json!({"events": list})).await;
    match posted {
        // A refusal means servers that are gone; asking again would not bring them back.
        Ok(_) | Err(PeerError::Refused { .. }) => {}
        Err(failed) => return Err(failed.to_string()),
    }
    let ids = events.iter().map(|event| &event.id);
    network.db.run(sql("DELETE FROM events").in_list("id", ids)).await.map_err(words)?;
    Ok(events.len())
}
