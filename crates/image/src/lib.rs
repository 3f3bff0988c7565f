//! The image service: keeps the disks that servers boot from, and tells who may see them.
//!
//! - [`inspect`] reads the header of an upload before anything else opens it.
//! - [`store`] keeps the files.
//! - [`digest`] sums them up while they pass.

pub mod digest;
pub mod inspect;
pub mod store;
