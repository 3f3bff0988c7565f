//! The API kit: everything that all services of the cloud have in common, once.
//!
//! A service is a table of [`Operation`]s. The kit negotiates versions, checks bodies, asks the policy, pages, counts
//! quotas, words refusals, and measures.
//!
//! - [`operation`] the table: `get("/servers/{id}", show).rule("…")`
//! - [`app`], `routes` from a request to its operation; [`server`], [`client`], [`front`] the sockets; [`trace`] its id
//! - [`call`], [`input`], [`view`], [`permit`] what a handler gets and gives
//! - [`wire`] bodies; [`listing`] queries; [`quota`] limits of projects; [`fault`] refusals
//! - [`caller`], [`policy`] who asks and what they may
//! - [`version`] microversions; [`limits`] what comes from outside is bounded; [`docs`] the generated documents

pub mod app;
pub mod call;
pub mod caller;
pub mod client;
pub mod docs;
pub mod fault;
pub mod front;
pub mod input;
pub mod limits;
pub mod listing;
pub mod message;
mod metrics;
pub mod operation;
pub mod permit;
pub mod policy;
pub mod quota;
mod routes;
pub mod server;
pub mod trace;
pub mod version;
pub mod view;
pub mod wire;

pub use app::App;
pub use base::{Json, json};
pub use call::Call;
pub use caller::{AccessRule, AuthError, Authenticator, Caller, Secret};
pub use fault::{Answer, Envelope, OrConflict, Refusal, failed};
pub use input::{Action, AnyBody, Body, Input, NoInput, Path, Upload};
pub use listing::Listing;
pub use message::{Content, Endpoint, Method, Query, Reply, Request};
pub use operation::{Operation, Service, Shape, action, delete, get, head, patch, post, put};
pub use permit::{OfProject, Own, Permitted};
pub use policy::{Policy, Target};
pub use quota::Limit;
pub use serde_json::Map as JsonObject;
pub use version::{Version, Versions, v};
pub use view::{Accepted, Created, Document, Done, Listed, Output, Reader, Show, View};

/// An object of JSON values.
pub type JsonMap = serde_json::Map<String, Json>;
