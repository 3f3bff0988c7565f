//! API tests of identity: the real router, policy, SQL and tokens.

// A fixture that fails is a test that fails.
#![allow(clippy::unwrap_used)]

mod assignments;
mod catalog;
mod cloud;
mod golden;
mod groups;
mod projects;
mod tokens;
mod users;
mod ways_in;
