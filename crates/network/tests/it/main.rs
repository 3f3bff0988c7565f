//! API tests of the network service: the real router, policy and SQL, in memory.

// A fixture that fails is a test that fails.
#![allow(clippy::unwrap_used)]

mod cloud;
mod golden;
mod groups;
mod hosts;
mod lists;
mod networks;
mod ports;
mod routers;
mod shared;
mod subnets;
mod together;
