//! API tests of the image service: the real router, policy, SQL and files.

// Tests may unwrap; clippy does not know that what they share is a test, too.
#![allow(clippy::unwrap_used)]

mod cloud;
mod crash;
mod documents;
mod golden;
mod images;
mod lists;
mod members;
mod metadefs;
mod patches;
mod transfers;
