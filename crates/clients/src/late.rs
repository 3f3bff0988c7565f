//! A door that is hung after the room: services in one process need each other's endpoints before all of them exist.

use std::sync::{Arc, OnceLock};

use api::message::BoxFuture;
use api::{Endpoint, Reply, Request};

/// An endpoint that is set once, after it has been handed out. Until then it answers 503.
#[derive(Default)]
pub struct Late {
    endpoint: OnceLock<Arc<dyn Endpoint>>,
}

impl Late {
    pub fn new() -> Arc<Late> {
        Arc::new(Late::default())
    }

    /// Later calls change nothing.
    pub fn set(&self, endpoint: Arc<dyn Endpoint>) {
        let _ = self.endpoint.set(endpoint);
    }
}

impl Endpoint for Late {
    fn call(&self, request: Request) -> BoxFuture<'_, Reply> {
        match self.endpoint.get() {
            Some(endpoint) => endpoint.call(request),
            None => Box::pin(async { Reply::json(503, &base::json!({"message": "the service is still starting"})) }),
        }
    }
}
