//! All services under one port, each below its own prefix: `/identity`, `/compute`, ….

use std::sync::Arc;

use crate::message::{BoxFuture, Endpoint, Reply, Request};

/// Hands a request to the service whose prefix it has.
#[derive(Default)]
pub struct Front {
    services: Vec<(String, Arc<dyn Endpoint>)>,
}

impl Front {
    /// Adds a service under `/name`.
    pub fn with(mut self, name: &str, endpoint: Arc<dyn Endpoint>) -> Front {
        self.services.push((format!("/{name}"), endpoint));
        self
    }
}

impl Endpoint for Front {
    fn call(&self, mut request: Request) -> BoxFuture<'_, Reply> {
        let below = |prefix: &str| {
            request.path.strip_prefix(prefix).filter(|rest| rest.is_empty() || rest.starts_with('/')).map(String::from)
        };
        let found = self.services.iter().find_map(|(prefix, endpoint)| Some((prefix, endpoint, below(prefix)?)));
        match found {
            None => Box::pin(async { Reply::text(404, "text/plain", "No service has this prefix.\n") }),
            Some((prefix, endpoint, rest)) => {
                request.base_url.push_str(prefix);
                request.path = if rest.is_empty() { "/".to_string() } else { rest };
                endpoint.call(request)
            }
        }
    }
}
