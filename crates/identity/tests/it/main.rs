//! API tests of identity: the real router, policy, SQL and tokens.

mod assignments;
mod catalog;
mod cloud;
mod golden;
mod groups;
mod projects;
mod tokens;
mod users;
mod ways_in;
