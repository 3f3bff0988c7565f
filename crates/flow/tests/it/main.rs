//! Flows and reconcilers on a real database, with a little cloud of their own.

#![allow(clippy::unwrap_used)]

mod cancelling;
mod cloud;
mod crashing;
mod journey;
mod ownership;
mod reconcilers;
mod torture;
mod waiting;
