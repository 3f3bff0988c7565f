//! Compute as its users see it, on fake hosts and fake neighbours.

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
mod servers;
mod usage;
