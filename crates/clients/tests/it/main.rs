//! Tests of the doors between services.

// Tests may unwrap; clippy does not know that what they share is a test, too.
#![allow(clippy::unwrap_used)]

mod accounts;
mod identity;
mod peers;
mod stand_in;
