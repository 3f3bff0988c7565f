//! Clouds split over processes and hosts, with real databases, a real broker, real guests and real packets.
//!
//! The hosts are network namespaces joined by an underlay. Nothing runs unless `FERROSTACK_HOST_TESTS` is 1;
//! `FERROSTACK_GUEST_IMAGE` names the guest's disk, `FERROSTACK` the program [default: beside the tests].

// Tests may unwrap; clippy does not know that what they share is a test, too.
#![allow(clippy::unwrap_used)]

mod admin;
mod cloud;
mod console;
mod site;
mod split;
