//! Tests of the whole cloud, and walks over the tables of all its operations.

// Tests may unwrap; clippy does not know that what they share is a test, too.
#![allow(clippy::unwrap_used)]

mod nonsense;
mod servers;
mod strangers;
mod tables;
