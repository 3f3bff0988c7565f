//! Every limit on what comes from outside, by name.

use std::time::Duration;

/// Limit: a JSON body; upstream's largest legitimate one is a bulk create of ports.
pub const JSON_BODY_BYTES: usize = 4 << 20;
/// Limit: a reply read from another service as JSON.
pub const JSON_REPLY_BYTES: usize = 256 << 20;
/// Limit: the request line's path and query; proxies cut at 8 KiB, openstacksdk sends long `in:` filters.
pub const URI_BYTES: usize = 64 << 10;
/// Limit: all headers of a request; a token with many roles is under 1 KiB.
pub const HEADER_BYTES: usize = 128 << 10;
/// Limit: headers of a request, by count.
pub const HEADERS: usize = 128;
/// Limit: rows of a page when the client names none; upstream's default for most services.
pub const PAGE: u32 = 1000;
/// Limit: parameters of a query; the longest URI has room for 1 600 filters by id.
pub const QUERY_PAIRS: usize = 4096;
/// Limit: how long a client may take to send its headers, and a connection may stay without a request.
pub const HEADER_TIME: Duration = Duration::from_secs(30);
/// Limit: how long a client may take to send a JSON body.
pub const JSON_BODY_TIME: Duration = Duration::from_secs(60);
/// Limit: the longest pause inside of a body that is sent to us.
pub const READ_PAUSE: Duration = Duration::from_secs(60);
/// Limit: how long a client may take nothing of what is sent to it.
pub const WRITE_PAUSE: Duration = Duration::from_secs(60);
/// Limit: how long requests in progress may take once the process is told to stop.
pub const DRAIN_TIME: Duration = Duration::from_secs(10);
/// Limit: connections of one listener.
pub const CONNECTIONS: usize = 4096;
