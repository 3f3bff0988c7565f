//! API tests of the kit: small services with the real router, policy, SQL and sockets.

// Tests may unwrap; clippy does not know that what they share is a test, too.
#![allow(clippy::unwrap_used)]

mod bodies;
mod limits;
mod pages;
mod quotas;
mod remote;
mod rights;
mod routing;
mod sockets;
mod toy;
mod versions;
