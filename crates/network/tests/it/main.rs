//! API tests of the network service: the real router, policy and SQL, in memory.

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
