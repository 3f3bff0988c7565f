//! Placement through its front door, on whichever database the environment names.

#![allow(clippy::unwrap_used)]

mod allocations;
mod candidates;
mod classes;
mod cloud;
mod concurrency;
mod golden;
mod index;
mod inventories;
mod providers;
mod reshaper;
mod rules;
mod trees;
mod usages;
