//! What services ask of each other: clients of the public APIs, in memory or over HTTP.
//!
//! A call inside the process goes to the other service's router: same code path, no socket, no token. Between processes
//! the same request goes over HTTP with the user's token or with the service's own.
//!
//! - [`peer`]     one other service, and whose rights a request carries
//! - [`account`]  the service user
//! - [`late`]     endpoints that are handed out before they exist
//! - [`identity`] validating tokens against an identity service elsewhere

pub mod account;
pub mod identity;
pub mod late;
pub mod peer;

pub use account::{Account, Login};
pub use late::Late;
pub use peer::{Peer, PeerError, Rights};
