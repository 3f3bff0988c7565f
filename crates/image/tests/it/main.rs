//! API tests of the image service: the real router, policy, SQL and files.

mod cloud;
mod crash;
mod data;
mod documents;
mod golden;
mod images;
mod lists;
mod members;
mod metadefs;
mod patches;
