//! Which request this is, in every line of the log and in requests to other services.

use base::id;

use crate::message::HeaderMap;

tokio::task_local! {
    static LASTING: String;
}

/// The header by which a request keeps its id from service to service.
pub const HEADER: &str = "x-openstack-request-id";

/// The id that follows the user's request through all services, inside of one.
pub fn current() -> Option<String> {
    LASTING.try_with(String::clone).ok()
}

/// Runs `work` as a part of the request `lasting`.
pub(crate) async fn within<T>(lasting: String, work: impl Future<Output = T>) -> T {
    LASTING.scope(lasting, work).await
}

/// The id that the request had before it came here. Anything else than a request id is left out, as it goes to the log.
pub(crate) fn global_id(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(HEADER)?.to_str().ok()?;
    let uuid = text.strip_prefix("req-")?;
    (uuid.len() == 36 && id::is_uuid(uuid)).then(|| text.to_string())
}

/// What every line of the log about this request begins with.
pub(crate) fn span(service: &'static str, request: &str, global: Option<&str>) -> tracing::Span {
    match global {
        Some(global) => tracing::error_span!("request", service, id = request, global),
        None => tracing::error_span!("request", service, id = request),
    }
}
