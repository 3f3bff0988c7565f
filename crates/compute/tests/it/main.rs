//! Compute as its users see it, on fake hosts and fake neighbours.

mod boot;
mod cloud;
mod consoles;
mod fakes;
mod flows;
mod metadata;
mod servers;
