//! Compute as its users see it, on fake hosts and fake neighbours.

// Tests may unwrap; clippy does not know that what they share is a test, too.
#![allow(clippy::unwrap_used)]

mod boot;
mod cloud;
mod consoles;
mod fakes;
mod flavors;
mod flows;
mod groups;
mod hosts;
mod keypairs;
mod metadata;
mod quotas;
mod scheduling;
mod servers;
mod usage;
