//! What every other crate may lean on: ids, the clock, configuration, named limits, logging.
//!
//! - [`clock`]   the only door to the wall clock; tests stop it
//! - [`config`]  oslo.config files: upstream's sections and option names
//! - [`id`]      the formats of identifiers
//! - [`logging`] one line per event on stderr

pub mod clock;
pub mod config;
pub mod id;
pub mod logging;

pub use clock::Time;
pub use serde_json::{Value as Json, json};
