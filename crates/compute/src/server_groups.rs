//! Server groups: servers that should be together or apart.

use api::{Answer, Call};

use crate::Compute;

/// Whether the caller's project has the group.
pub async fn exists(_call: &Call<Compute>, _id: &str) -> Answer<bool> {
    Ok(false)
}
