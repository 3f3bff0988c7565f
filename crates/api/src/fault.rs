//! Refusals: an answer the client can act on, and how each service words it.
//!
//! A resource declares its own with [`faults!`](crate::faults); the [`Envelope`] of the service gives them their shape.

use base::{Json, json};
use bytes::Bytes;

use crate::message::Reply;
use crate::version::Versions;

/// Why a request is not carried out.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    pub status: u16,
    /// The service's word for this refusal: a fault key of compute, an exception type of network, an error code of
    /// placement. Empty means the usual one for the status.
    pub kind: String,
    pub message: String,
    pub headers: Vec<(&'static str, String)>,
    /// Keys beside the usual ones in the error object.
    pub extra: Vec<(&'static str, Json)>,
}

pub type Answer<T> = Result<T, Refusal>;

impl Refusal {
    pub fn new(status: u16, kind: impl Into<String>, message: impl Into<String>) -> Refusal {
        Refusal { status, kind: kind.into(), message: message.into(), headers: Vec::new(), extra: Vec::new() }
    }

    pub fn bad_request(message: impl Into<String>) -> Refusal {
        Refusal::new(400, "", message)
    }

    pub fn unauthorized() -> Refusal {
        Refusal::new(401, "", "The request you have made requires authentication.")
    }

    pub fn forbidden(message: impl Into<String>) -> Refusal {
        Refusal::new(403, "", message)
    }

    pub fn not_found(message: impl Into<String>) -> Refusal {
        Refusal::new(404, "", message)
    }

    pub fn conflict(message: impl Into<String>) -> Refusal {
        Refusal::new(409, "", message)
    }

    /// We failed, not the client. The cause belongs in the log, not in here.
    pub fn failure() -> Refusal {
        Refusal::new(500, "", "")
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Refusal {
        self.headers.push((name, value.into()));
        self
    }

    pub fn with(mut self, key: &'static str, value: Json) -> Refusal {
        self.extra.push((key, value));
        self
    }

    pub fn kind(mut self, kind: &str) -> Refusal {
        self.kind = kind.to_string();
        self
    }
}

/// A failure below ends here: logged once with its chain, answered as 500, or as 503 when another try may succeed.
impl From<db::Error> for Refusal {
    fn from(error: db::Error) -> Refusal {
        match error {
            db::Error::MarkerNotFound => Refusal::new(400, MARKER, ""),
            db::Error::Conflict { .. } | db::Error::Unreachable { .. } => {
                log("the database", &error);
                Refusal::new(503, "", "The service is busy; try again.").header("retry-after", "1")
            }
            error => failed("the database", &error),
        }
    }
}

/// The kind of a refusal whose words need the request: the marker is not among the rows.
pub(crate) const MARKER: &str = "MarkerNotFound";

/// Logs `error` with its causes and answers 500.
pub fn failed(what: &str, error: &dyn std::error::Error) -> Refusal {
    log(what, error);
    Refusal::failure()
}

fn log(what: &str, error: &dyn std::error::Error) {
    let mut chain = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        chain.push_str(": ");
        chain.push_str(&error.to_string());
        cause = error.source();
    }
    tracing::error!(what, error = chain, "a request failed");
}

/// Turns the database's «there is one already» into a refusal.
pub trait OrConflict<T> {
    fn or_conflict<R: Into<Refusal>>(self, refusal: impl FnOnce() -> R) -> Answer<T>;
}

impl<T> OrConflict<T> for Result<T, db::Error> {
    fn or_conflict<R: Into<Refusal>>(self, refusal: impl FnOnce() -> R) -> Answer<T> {
        self.map_err(|error| if error.is_duplicate() { refusal().into() } else { error.into() })
    }
}

/// Declares why the calls of one resource may be refused.
///
/// ```
/// api::faults! {
///     /// Why a keypair call may be refused.
///     pub enum KeypairFault {
///         NotFound(name: String) = 404 "itemNotFound" "Keypair {name} could not be found.",
///         Full() = 403 "forbidden" "Quota exceeded, too many key pairs.",
///     }
/// }
/// let refusal: api::Refusal = KeypairFault::NotFound { name: "k".into() }.into();
/// assert_eq!(refusal.message, "Keypair k could not be found.");
/// ```
#[macro_export]
macro_rules! faults {
    ($(#[$meta:meta])* $vis:vis enum $name:ident {
        $($(#[$vmeta:meta])* $variant:ident($($field:ident: $type:ty),* $(,)?) = $status:literal $kind:literal $message:literal),* $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone)]
        $vis enum $name {
            $($(#[$vmeta])* $variant { $($field: $type),* },)*
        }

        impl From<$name> for $crate::Refusal {
            fn from(fault: $name) -> $crate::Refusal {
                match fault {
                    $($name::$variant { $($field),* } => $crate::Refusal::new($status, $kind, format!($message)),)*
                }
            }
        }
    };
}

/// The shape in which a service words its refusals. Upstream: every service has its own; FORMATS of the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Envelope {
    /// `{"itemNotFound": {"code": 404, "message": …}}`
    Compute,
    /// `{"error": {"code": 404, "message": …, "title": …}}`
    Identity,
    /// An HTML page, or `{"message", "code", "title"}` where the client prefers JSON.
    Image,
    /// `{"NeutronError": {"type", "message", "detail"}}`
    Network,
    /// `{"errors": [{"status", "title", "detail", "code", "request_id"}]}`
    Placement,
}

/// What an envelope may need to know of the request.
#[derive(Debug, Clone, Default)]
pub struct Occasion {
    pub method: http::Method,
    pub accepts_json: bool,
    pub request_id: String,
    pub version: Option<crate::Version>,
    pub base_url: String,
}

impl Envelope {
    /// Whether a HEAD is answered where there is a GET.
    pub(crate) fn head_is_get(self) -> bool {
        // Upstream: these two know HEAD where it is spelled out, and nowhere else.
        !matches!(self, Envelope::Network | Envelope::Placement)
    }

    pub fn reply(self, refusal: &Refusal, occasion: &Occasion) -> Reply {
        let mut reply = match (self, refusal.status) {
            (Envelope::Compute | Envelope::Network | Envelope::Placement, 401) => middleware_401(),
            (Envelope::Compute, _) => compute(refusal),
            (Envelope::Identity, _) => identity(refusal),
            (Envelope::Image, _) => image(refusal, occasion),
            (Envelope::Network, _) => network(refusal),
            (Envelope::Placement, _) => placement(refusal, occasion),
        };
        for (name, value) in &refusal.headers {
            reply = reply.header(name, value);
        }
        reply
    }

    /// A path that the service does not know.
    pub fn unknown_path(self, occasion: &Occasion) -> Reply {
        const TEXT: &str = "The resource could not be found.";
        match self {
            Envelope::Compute => web_page(404, TEXT, occasion.accepts_json),
            Envelope::Identity => Reply::text(404, "text/html; charset=utf-8", FLASK_PAGE),
            Envelope::Image => web_page(404, TEXT, occasion.accepts_json),
            Envelope::Network => network(&Refusal::new(404, "HTTPNotFound", TEXT)),
            Envelope::Placement => placement(&Refusal::not_found(""), occasion),
        }
    }

    /// An operation that other versions have.
    pub fn absent(self, occasion: &Occasion) -> Reply {
        match self {
            Envelope::Placement => self.unknown_path(occasion),
            _ => self.reply(&Refusal::not_found("The resource could not be found."), occasion),
        }
    }

    /// A known path with a method that it does not have. Compute says 404 there.
    pub fn unknown_method(self, allowed: &str, occasion: &Occasion) -> Reply {
        let reply = match self {
            Envelope::Compute => return self.unknown_path(occasion),
            Envelope::Identity => return flask_method(allowed, occasion),
            Envelope::Network => {
                let text = "The server could not comply with the request since it is either malformed or otherwise \
                            incorrect.";
                return network(&Refusal::new(405, "HTTPMethodNotAllowed", text));
            }
            Envelope::Image => web_page(405, "The method is not allowed for this resource.", occasion.accepts_json),
            Envelope::Placement => {
                placement(&Refusal::new(405, "", "The method specified is not allowed for this resource."), occasion)
            }
        };
        reply.header("allow", allowed)
    }

    /// A microversion that cannot be read or is not served.
    pub fn bad_version(self, asked: &str, readable: bool, versions: &Versions, occasion: &Occasion) -> Reply {
        let Versions { min, max, .. } = versions;
        match (self, readable) {
            (Envelope::Placement, false) => {
                let text = format!("Invalid microversion: invalid version string: {asked}");
                placement(&Refusal::bad_request(text), occasion)
            }
            (Envelope::Placement, true) => {
                let text = format!("Invalid microversion: Unacceptable version header: {asked}");
                let refusal = Refusal::new(406, "", text);
                let refusal = refusal.with("max_version", json!(max.to_string()));
                placement(&refusal.with("min_version", json!(min.to_string())), occasion)
            }
            (_, false) => {
                let text =
                    format!("API Version String {asked} is of invalid format. Must be of format MajorNum.MinorNum.");
                self.reply(&Refusal::bad_request(text), occasion)
            }
            (_, true) => {
                let text =
                    format!("Version {asked} is not supported by the API. Minimum is {min} and maximum is {max}.");
                self.reply(&Refusal::new(406, "computeFault", text), occasion)
            }
        }
    }

    /// The row that a page was to begin after is not there.
    pub(crate) fn missing_marker(self, marker: &str) -> Refusal {
        match self {
            Envelope::Compute => Refusal::bad_request(format!("marker [{marker}] not found")),
            Envelope::Identity => Refusal::not_found(format!("Marker {marker} could not be found.")),
            Envelope::Network => {
                let text = format!("Invalid input for operation: marker {marker} not found.");
                Refusal::new(400, "InvalidInput", text)
            }
            Envelope::Image | Envelope::Placement => {
                Refusal::bad_request(format!("Marker {marker} could not be found."))
            }
        }
    }

    /// The words for a denied rule.
    pub fn denied(self, rule: &str) -> Refusal {
        match self {
            Envelope::Compute => Refusal::forbidden(format!("Policy doesn't allow {rule} to be performed.")),
            Envelope::Identity => {
                Refusal::forbidden(format!("You are not authorized to perform the requested action: {rule}."))
            }
            Envelope::Image => Refusal::forbidden(format!("You are not authorized to complete {rule} action.")),
            Envelope::Network => {
                Refusal::new(403, "PolicyNotAuthorized", format!("rule:{rule} is disallowed by policy"))
            }
            Envelope::Placement => Refusal::forbidden(format!("Policy does not allow {rule} to be performed.")),
        }
    }
}

/// Upstream: the page of the web framework under identity.
const FLASK_PAGE: &str = "<!doctype html>\n<html lang=en>\n<title>404 Not Found</title>\n<h1>Not Found</h1>\n<p>The \
    requested URL was not found on the server. If you entered the URL manually please check your spelling and try \
    again.</p>\n";

/// Upstream: the web framework under identity adds what every path has, and answers OPTIONS itself.
fn flask_method(allowed: &str, occasion: &Occasion) -> Reply {
    let mut methods: Vec<&str> = allowed.split(", ").filter(|method| !method.is_empty()).collect();
    if methods.contains(&"GET") && !methods.contains(&"HEAD") {
        methods.push("HEAD");
    }
    methods.push("OPTIONS");
    let reply = match occasion.method.as_str() {
        "OPTIONS" => Reply::text(200, "text/html; charset=utf-8", ""),
        _ => Reply::json(405, &json!({"message": "The method is not allowed for the requested URL."})),
    };
    reply.header("allow", &methods.join(", "))
}

/// The usual title of a status.
pub fn title(status: u16) -> &'static str {
    // Upstream: two words that Python has kept from an older HTTP.
    match status {
        413 => return "Request Entity Too Large",
        416 => return "Request Range Not Satisfiable",
        _ => {}
    }
    http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("Error")
}

/// Upstream: the middleware in front of these services answers, in identity's shape.
fn middleware_401() -> Reply {
    let message = "The request you have made requires authentication.";
    Reply::json(401, &json!({"error": {"code": 401, "title": "Unauthorized", "message": message}}))
}

fn compute(refusal: &Refusal) -> Reply {
    let usual = match refusal.status {
        400 => "badRequest",
        401 => "unauthorized",
        403 => "forbidden",
        404 => "itemNotFound",
        405 => "badMethod",
        409 => "conflictingRequest",
        413 | 429 => "overLimit",
        415 => "badMediaType",
        501 => "notImplemented",
        503 => "serviceUnavailable",
        _ => "computeFault",
    };
    let kind = if refusal.kind.is_empty() { usual } else { &refusal.kind };
    let message = match refusal.status {
        500 if refusal.message.is_empty() => {
            "Unexpected API Error. The cause is in the log of this service, under the request id of this reply."
        }
        _ => &refusal.message,
    };
    let mut fault = json!({"code": refusal.status, "message": message});
    if matches!(refusal.status, 413 | 429) {
        fault["retryAfter"] = json!("0");
    }
    extend(&mut fault, &refusal.extra);
    let mut body = json!({});
    body[kind] = fault;
    Reply::json(refusal.status, &body).header("content-type", "application/json; charset=UTF-8")
}

fn identity(refusal: &Refusal) -> Reply {
    let message = match refusal.status {
        500 if refusal.message.is_empty() => "An unexpected error prevented the server from fulfilling your request.",
        _ => &refusal.message,
    };
    let title = if refusal.kind.is_empty() { title(refusal.status) } else { &refusal.kind };
    let mut body = json!({"error": {"code": refusal.status, "message": message, "title": title}});
    extend(&mut body, &refusal.extra);
    Reply::json(refusal.status, &body)
}

fn image(refusal: &Refusal, occasion: &Occasion) -> Reply {
    let message = match refusal.status {
        401 => {
            "This server could not verify that you are authorized to access the document you requested. Either you \
             supplied the wrong credentials (e.g., bad password), or your browser does not understand how to supply \
             the credentials required."
        }
        500 if refusal.message.is_empty() => {
            "The server has either erred or is incapable of performing the requested operation."
        }
        // Upstream: these two have a sentence of their own, and the cause after it. The kind is the media type.
        415 => {
            let first = format!("The request media type {} is not supported by this server.\n", refusal.kind);
            return web_page_of(415, &first, &refusal.message, occasion.accepts_json);
        }
        416 => {
            let first = "The Range requested is not available.";
            return web_page_of(416, first, &format!("{}\n\n", refusal.message), occasion.accepts_json);
        }
        _ => &refusal.message,
    };
    web_page(refusal.status, message, occasion.accepts_json)
}

/// Upstream: the pages of the WebOb library, which clients of image and of unknown paths see.
fn web_page(status: u16, message: &str, as_json: bool) -> Reply {
    web_page_of(status, message, "\n\n", as_json)
}

fn web_page_of(status: u16, message: &str, detail: &str, as_json: bool) -> Reply {
    let head = format!("{status} {}", title(status));
    if as_json {
        let message = format!("{message}<br /><br />\n{detail}");
        return Reply::json(status, &json!({"message": message, "code": head, "title": title(status)}));
    }
    let safe = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let (message, detail) = (safe(message), safe(detail));
    let page = format!(
        "<html>\n <head>\n  <title>{head}</title>\n </head>\n <body>\n  <h1>{head}</h1>\n  {message}<br /><br />\n{detail}\n </body>\n</html>"
    );
    Reply::text(status, "text/html; charset=UTF-8", Bytes::from(page))
}

fn network(refusal: &Refusal) -> Reply {
    let usual = match refusal.status {
        400 => "HTTPBadRequest",
        403 => "PolicyNotAuthorized",
        404 => "HTTPNotFound",
        409 => "HTTPConflict",
        500 => "HTTPInternalServerError",
        501 => "HTTPNotImplemented",
        503 => "HTTPServiceUnavailable",
        _ => "HTTPClientError",
    };
    let kind = if refusal.kind.is_empty() { usual } else { &refusal.kind };
    let message = match refusal.status {
        500 if refusal.message.is_empty() => "Request Failed: internal server error while processing your request.",
        _ => &refusal.message,
    };
    let mut error = json!({"type": kind, "message": message, "detail": ""});
    extend(&mut error, &refusal.extra);
    Reply::json(refusal.status, &json!({"NeutronError": error}))
}

fn placement(refusal: &Refusal, occasion: &Occasion) -> Reply {
    let preamble = match refusal.status {
        400 => "The server could not comply with the request since it is either malformed or otherwise incorrect.",
        403 => "Access was denied to this resource.",
        404 => "The resource could not be found.",
        409 => "There was a conflict when trying to complete your request.",
        500 => "The server has either erred or is incapable of performing the requested operation.",
        _ => title(refusal.status),
    };
    let message = &refusal.message;
    // Upstream: these three have pages of their own in the library below.
    let detail = match refusal.status {
        405 => format!("The method {} is not allowed for this resource. \n\n {message}", occasion.method),
        406 => {
            let text = "The resource could not be generated that was acceptable to your browser (content of type";
            format!("{text} application/json. \n\n {message}")
        }
        415 => message.clone(),
        _ => format!("{preamble}\n\n {message}  "),
    };
    let mut error = json!({"status": refusal.status, "title": title(refusal.status), "detail": detail});
    error["request_id"] = json!(occasion.request_id);
    if occasion.version.is_some_and(|version| version >= crate::v(1, 23)) {
        let code = if refusal.kind.is_empty() { "placement.undefined_code" } else { &refusal.kind };
        error["code"] = json!(code);
    }
    extend(&mut error, &refusal.extra);
    Reply::json(refusal.status, &json!({"errors": [error]}))
}

fn extend(object: &mut Json, extra: &[(&'static str, Json)]) {
    for (key, value) in extra {
        object[*key] = value.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Content;

    fn body(reply: Reply) -> Json {
        match reply.content {
            Content::Bytes(bytes) => serde_json::from_slice(&bytes).unwrap(),
            _ => Json::Null,
        }
    }

    #[test]
    fn each_service_words_a_missing_thing_in_its_own_way() {
        let refusal = Refusal::new(404, "", "No such thing.");
        let occasion = Occasion { accepts_json: true, version: Some(crate::v(1, 30)), ..Occasion::default() };
        let said = |envelope: Envelope| body(envelope.reply(&refusal, &occasion));
        assert_eq!(said(Envelope::Compute), json!({"itemNotFound": {"code": 404, "message": "No such thing."}}));
        assert_eq!(said(Envelope::Identity)["error"]["title"], "Not Found");
        assert_eq!(said(Envelope::Image)["code"], "404 Not Found");
        assert_eq!(said(Envelope::Network)["NeutronError"]["detail"], "");
        assert_eq!(said(Envelope::Placement)["errors"][0]["code"], "placement.undefined_code");
    }

    #[test]
    fn a_page_does_not_carry_the_clients_markup() {
        let reply = Envelope::Image.reply(&Refusal::not_found("<script>"), &Occasion::default());
        let Content::Bytes(page) = reply.content else { panic!("a page") };
        assert!(!String::from_utf8_lossy(&page).contains("<script>"));
    }
}
