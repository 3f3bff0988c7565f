//! Binding: which host carries a port, and how a guest's device is joined to it there.
//!
//! ```text
//! unbound ──host named──▶ bridge            the host can carry the network
//!            │            binding_failed    it cannot, or nobody has heard of it
//! any state ──host taken away──▶ unbound
//! ```

use base::json;
use db::select;

use super::PortRow;
use crate::hosts::{self, HostRow};
use crate::segments::Segment;
use crate::stop::Stop;
use crate::work::Work;

/// What upstream calls a port that no driver wants.
pub const FAILED: &str = "binding_failed";

/// Binds a port to a host; the caller writes the row.
pub async fn bind(work: &mut Work<'_>, row: &mut PortRow, host: &str) -> Result<(), Stop> {
    work.touched.host(&row.host);
    row.host = host.to_string();
    row.status = if row.is_trusted() { row.status.clone() } else { "DOWN".into() };
    let carrier = hosts::row(&mut work.tx, host).await?;
    let segment = work.tx.maybe(select::<Segment>("WHERE network_id = ?").bind(&row.network_id)).await?;
    let carried = match (&carrier, &segment) {
        (Some(carrier), Some(segment)) => hosts::alive(carrier, &work.service.settings) && carries(carrier, segment),
        _ => false,
    };
    let supported = ["normal", "direct-physical", "baremetal"].contains(&row.vnic_type.as_str());
    if carried && supported {
        row.vif_type = "bridge".into();
        row.vif_details = json!({
            "port_filter": true,
            "connectivity": "l2",
            "bridge_name": format!("brq{}", row.network_id.chars().take(11).collect::<String>()),
            "bound_drivers": {"0": "linuxbridge"},
        });
    } else {
        tracing::warn!(port = row.id, host, "a port cannot be bound: the host is not there or lacks its network");
        row.vif_type = FAILED.into();
        row.vif_details = json!({});
    }
    work.touched.host(host);
    Ok(())
}

pub fn unbind(work: &mut Work<'_>, row: &mut PortRow) {
    work.touched.host(&row.host);
    row.host = String::new();
    row.status = "DOWN".into();
    row.vif_type = "unbound".into();
    row.vif_details = json!({});
}

/// Whether a host is joined to what carries the network.
pub fn carries(host: &HostRow, segment: &Segment) -> bool {
    let joined = |physical: &str| host.physical().iter().any(|known| known.network == physical);
    match (segment.network_type.as_str(), &segment.physical_network) {
        ("flat" | "vlan", Some(physical)) => joined(physical),
        _ => true,
    }
}
