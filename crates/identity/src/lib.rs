//! Identity: who somebody is, what they may do, and where the services are.

pub mod passwords;
pub mod tokens;
