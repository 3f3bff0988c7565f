//! Projects, which live in identity.

use api::{Call, message};
use clients::Rights;

use crate::Compute;

/// Whether identity knows a project. Upstream: an identity that does not answer, or may not, is taken for a yes.
pub async fn exists(call: &Call<Compute>, project: &str) -> bool {
    if call.caller.project_id.as_deref() == Some(project) {
        return true;
    }
    let path = format!("/v3/projects/{}", message::encode(project));
    match call.peers.identity.get(Rights::Service, &path).await {
        Err(error) => !error.is_missing(),
        Ok(_) => true,
    }
}
