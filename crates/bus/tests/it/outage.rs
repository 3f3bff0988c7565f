//! What happens when RabbitMQ goes away.

use std::time::Duration;

use base::json;
use bus::{Bus, Error};

use crate::broker::Broker;
use crate::contract::{SOON, echo};

#[tokio::test]
async fn requests_fail_during_an_outage_and_servers_come_back_by_themselves() {
    let mut broker = Broker::start().await;
    let (asker, server) =
        (Bus::connect(&broker.transport_url()).unwrap(), Bus::connect(&broker.transport_url()).unwrap());
    let _served = server.serve("compute", echo);
    assert_eq!(asker.request("compute", "echo", json!(1), SOON).await, Ok(json!(1)));

    broker.down();
    let error = asker.request("compute", "echo", json!(2), Duration::from_millis(300)).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }));
    asker.poke("compute", "poke", json!({}));

    broker.up().await;
    // Asked while the connections are still being made anew.
    assert_eq!(asker.request("compute", "echo", json!(3), Duration::from_secs(30)).await, Ok(json!(3)));
}

#[tokio::test]
async fn a_bus_starts_without_its_broker() {
    let bus = Bus::connect("rabbit://guest:guest@127.0.0.1:1//").unwrap();
    let error = bus.request("compute", "echo", json!(1), Duration::from_millis(100)).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }));
}
