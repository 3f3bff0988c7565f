//! The network of hosts, made for real: namespaces are hosts, and namespaces with a wire into a host are guests.
//!
//! Root's rights are needed; the tests run only when `FERROSTACK_HOST_TESTS=1`, except those of the fake.

// Tests may unwrap; clippy does not know that what they share is a test, too.
#![allow(clippy::unwrap_used)]

mod agent;
mod dhcp_client;
mod fake;
mod groups;
mod hosts;
mod lab;
mod metadata;
mod ports;
mod repair;
mod routers;
mod speed;
