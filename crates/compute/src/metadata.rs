//! What a server learns about itself: the config drive and the metadata service.

use std::collections::BTreeMap;

use crate::Compute;
use crate::servers::store::Server;

/// The files of a server's config drive by path.
pub async fn config_drive(_c: &Compute, _server: &Server) -> Result<BTreeMap<String, Vec<u8>>, db::Error> {
    Ok(BTreeMap::new())
}
