//! Kinds and subjects on the bus.
//!
//! ```text
//! host  → controllers   subject "compute", "network"          request, answered
//! controllers → host    subject "compute.<host>", …           request, answered, or a poke
//! ```
//! The bus wraps each in an envelope with version and request id; see the `bus` crate.

/// Subject on which the controllers of a service listen.
pub const COMPUTE: &str = "compute";
pub const NETWORK: &str = "network";

/// Subject on which a host's agent of a service listens.
pub fn host(service: &str, name: &str) -> String {
    format!("{service}.{name}")
}

/// Host → controller: here I am. Body [`crate::guest::Host`] or [`crate::network::Host`]; answer `{}` or a refusal.
pub const HELLO: &str = "hello";
/// Host → controller: what should be here? Body `{"host": name}`; answer [`crate::guest::Desired`] or
/// [`crate::network::Desired`].
pub const DESIRED: &str = "desired";
/// Host → controller: this is so. Body `{"host": name, "reports": [crate::guest::Report]}`, answer
/// [`crate::guest::Received`]; or `{"host": name, "report": crate::network::Report}`, answer `{}`.
pub const REPORT: &str = "report";
/// Controller → host: something changed, compare now. No body, no answer.
pub const POKE: &str = "poke";
/// Controller → host: the console's last bytes. Body `{"guest": id, "bytes": n}`; answer `{"text": …}`.
pub const CONSOLE_LOG: &str = "console_log";
/// Controller → host: a VNC server for this guest. Body `{"guest": id}`; answer `{"address": "host:port"}` or
/// `{"socket": path}`.
pub const CONSOLE_VNC: &str = "console_vnc";
/// Controller → host: inject a non-maskable interrupt. Body `{"guest": id}`.
pub const CRASH_DUMP: &str = "crash_dump";
/// Controller → host: processor, memory, disk and NIC counters. Body `{"guest": id}`.
pub const DIAGNOSTICS: &str = "diagnostics";
