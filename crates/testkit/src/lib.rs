//! A whole cloud inside a test: all services with real databases, a bus, flow engines, fake hosts, and people.
//!
//! ```text
//! member → client ──token──► identity · image · placement · network · compute     (one set for each controller)
//!                                         databases · bus · image files            (shared)
//!                                         fake hosts: hypervisor and network agents
//! ```
//!
//! ```no_run
//! # async fn example() {
//! use testkit::{Cloud, json};
//! let cloud = Cloud::new().await;
//! let alice = cloud.member("alice").await;
//! let reply = alice.compute(2, 1).post("/os-keypairs", &json!({"keypair": {"name": "k"}})).await;
//! assert_eq!(reply.ok(200)["keypair"]["name"], "k");
//! # }
//! ```
//!
//! - [`cloud`] the cloud, and how to ask for more than one controller or host; [`controller`] one set of services
//! - [`tables`] every operation of every service as data
//! - [`host`] a fake host that can be told to misbehave
//! - [`member`] somebody with a token; [`client`] requests and replies; [`world`] the usual things that people have

// What is shared by tests may unwrap like a test.
#![allow(clippy::unwrap_used)]

pub mod client;
pub mod cloud;
pub mod controller;
pub mod host;
pub mod member;
pub mod tables;
pub mod world;

pub use api::{Json, Method, json};
pub use client::{Client, Reply};
pub use cloud::{Cloud, Plan};
pub use controller::Controller;
pub use expect_test::expect;
pub use host::Host;
pub use host_hypervisor::FakeBehaviour;
pub use member::Member;
pub use world::World;
