//! The promises of the bus, kept in process and on RabbitMQ alike.

#![allow(clippy::unwrap_used)]

mod contract;
mod outage;
mod proxy;
