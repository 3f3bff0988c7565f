//! What happens when RabbitMQ goes away.

use std::time::Duration;

use base::json;
use bus::{Bus, Error};
use engines::RabbitMq;

use crate::contract::{SOON, echo};
use crate::proxy::Wire;

#[tokio::test]
async fn requests_fail_during_an_outage_and_servers_come_back_by_themselves() {
    let broker = RabbitMq::start().unwrap();
    let url = broker.url("/");
    let address = url.trim_start_matches("rabbit://guest:guest@").trim_end_matches("//").to_string();
    let wire = Wire::to(address.clone()).await;
    let url = url.replace(&address, &wire.address.to_string());
    let (asker, server) = (Bus::connect(&url).unwrap(), Bus::connect(&url).unwrap());
    let _served = server.serve("compute", echo);
    assert_eq!(asker.request("compute", "echo", json!(1), SOON).await, Ok(json!(1)));

    wire.cut();
    let error = asker.request("compute", "echo", json!(2), Duration::from_millis(300)).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }));
    asker.poke("compute", "poke", json!({}));

    wire.mend();
    // Asked while the connections are still being made anew.
    assert_eq!(asker.request("compute", "echo", json!(3), SOON * 3).await, Ok(json!(3)));
}

#[tokio::test]
async fn a_bus_starts_without_its_broker() {
    let bus = Bus::connect("rabbit://guest:guest@127.0.0.1:1//").unwrap();
    let error = bus.request("compute", "echo", json!(1), Duration::from_millis(100)).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }));
}
