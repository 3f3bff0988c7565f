//! Logs the service user in, and knows every project but one.

use api::message::BoxFuture;
use api::{Endpoint, Reply, Request, json};

use super::missing;

/// The project that identity does not know.
pub const NOWHERE: &str = "nowhere";

pub struct FakeIdentity;

impl Endpoint for FakeIdentity {
    fn call(&self, request: Request) -> BoxFuture<'_, Reply> {
        let unknown = request.path.ends_with(NOWHERE);
        let body = json!({"token": {"expires_at": "2999-01-01T00:00:00.000000Z"}});
        Box::pin(async move {
            if unknown { missing("The project") } else { Reply::json(201, &body).header("x-subject-token", "nova") }
        })
    }
}
