//! Availability zones, as far as servers and the scheduler need them.

use api::{Answer, Call};
use db::Db;

use crate::Compute;

/// The zone of hosts that no aggregate puts into another. Upstream's `default_availability_zone`.
pub const DEFAULT_ZONE: &str = "nova";

/// Whether a server may be asked for in `zone`.
pub async fn exists(_call: &Call<Compute>, zone: &str) -> Answer<bool> {
    Ok(zone == DEFAULT_ZONE)
}

/// The zone of a host.
pub async fn of_host(_db: &Db, _host: &str) -> Result<String, db::Error> {
    Ok(DEFAULT_ZONE.to_string())
}
