//! Tests of the drivers: one contract for all of them, and what only real guests can show.
//!
//! Real guests need root, QEMU and the image of `images/build-guest-image.sh`; they run when `FERROSTACK_HOST_TESTS=1`,
//! in network namespaces that the tests make.

// What stands between the tests is part of them.
#![allow(clippy::unwrap_used)]

mod agent;
mod contract;
mod qemu;
mod stage;
