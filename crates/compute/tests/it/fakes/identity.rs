//! Logs the service user in.

use api::message::BoxFuture;
use api::{Endpoint, Reply, Request, json};

pub struct FakeIdentity;

impl Endpoint for FakeIdentity {
    fn call(&self, _: Request) -> BoxFuture<'_, Reply> {
        let body = json!({"token": {"expires_at": "2999-01-01T00:00:00.000000Z"}});
        Box::pin(async move { Reply::json(201, &body).header("x-subject-token", "nova") })
    }
}
