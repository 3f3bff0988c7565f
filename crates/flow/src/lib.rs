//! Work that outlives a request: flows (verbs) that survive crashes, and reconcilers (nouns) that repair.
//!
//! A service makes one [`Flows`], keeps it in its state, starts flows inside its transactions, and runs an [`Engine`]
//! in the processes that have the role.
//!
//! ```text
//! handler ── Flows::start(&mut tx, KIND, &order) ──► table flows ◄── Engine: claim, run, journal, undo, take over
//!                                                    table flow_steps        └── Reconciler: when poked, on a timer
//!                                                    table leases
//! ```
//!
//! - [`Kind`], [`Order`], [`Flow`]     what a flow is called, what it is told, what it does
//! - [`Run`], [`Step`], [`StepError`]  the story's view of itself
//! - [`Flows`]                         start, cancel, wake, poke: from anywhere in the service
//! - [`Engine`], [`Pace`]              runs what is there to run
//! - [`Reconciler`]                    compares and repairs
//! - [`torture`]                       crashes and fails a flow at each of its steps
//! - `journal` the rows, `unwind` the way back, `lease` who lives, `faults` where to crash

mod definition;
mod engine;
mod faults;
mod flows;
mod journal;
mod lease;
mod limits;
mod pace;
mod reconcile;
mod run;
mod step;
pub mod torture;
mod unwind;

pub use definition::{Definition, Flow, Kind, Order, Story};
pub use engine::{Engine, Work};
pub use flows::Flows;
pub use journal::{FlowRow, State};
pub use pace::Pace;
pub use reconcile::Reconciler;
pub use run::{Run, Stop, request_id};
pub use step::{Failure, Step, StepError};

/// The tables of this crate, as one migration of each service that has flows or reconcilers.
pub const MIGRATION: &str = include_str!("flows.sql");
