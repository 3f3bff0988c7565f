//! The agent between a controller and a host, on the fake driver.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use contract::network::{Desired, Host, Report, Segment};
use contract::{HostError, message};
use host_network::agent::Answer;
use host_network::{Agent, Door, Driver, Fake};
use serde_json::{Value as Json, json};
use tokio::sync::mpsc;

use crate::lab::{network, port};

const INTERVAL: Duration = Duration::from_millis(300);

/// A controller that keeps one order and tells what it hears.
struct Controller {
    order: Mutex<Desired>,
    refusals: Mutex<u32>,
    heard: mpsc::UnboundedSender<(String, Json)>,
}

impl Door for Controller {
    fn request<'a>(&'a self, kind: &'a str, body: Json) -> Answer<'a> {
        self.heard.send((kind.into(), body)).ok();
        Box::pin(async move {
            let mut refusals = self.refusals.lock().unwrap();
            if *refusals > 0 {
                *refusals -= 1;
                return Err(HostError::again("the controller is not there"));
            }
            match kind {
                message::DESIRED => Ok(serde_json::to_value(&*self.order.lock().unwrap()).unwrap()),
                _ => Ok(json!({})),
            }
        })
    }
}

struct Stage {
    controller: Arc<Controller>,
    agent: Arc<Agent>,
    heard: mpsc::UnboundedReceiver<(String, Json)>,
}

fn stage(refusals: u32) -> Stage {
    let net = network(Segment::Local);
    let order =
        Desired { generation: 1, ports: vec![port(&net, &["10.0.0.5"])], networks: vec![net], ..Default::default() };
    let (heard, hears) = mpsc::unbounded_channel();
    let controller = Arc::new(Controller { order: Mutex::new(order), refusals: Mutex::new(refusals), heard });
    let (uuid, name, driver) = ("u".into(), "host1".into(), String::new());
    let tunnel_address = [127, 0, 0, 1].into();
    let host = Host { uuid, name, tunnel_address, physical: vec![], lacks: vec![], driver };
    let agent = Agent::new(Arc::new(Driver::Fake(Fake::new(host))), controller.clone(), INTERVAL);
    let runs = agent.clone();
    tokio::spawn(async move { runs.run().await });
    Stage { controller, agent, heard: hears }
}

impl Stage {
    async fn hear(&mut self) -> (String, Json) {
        self.heard.recv().await.unwrap()
    }

    async fn report(&mut self) -> Report {
        loop {
            let (kind, body) = self.hear().await;
            if kind == message::REPORT {
                assert_eq!(body["host"], "host1");
                return serde_json::from_value(body["report"].clone()).unwrap();
            }
        }
    }
}

#[tokio::test]
async fn an_agent_says_hello_until_it_is_heard_then_asks_and_reports() {
    let mut stage = stage(2);
    for _ in 0..3 {
        let (kind, body) = stage.hear().await;
        assert_eq!((kind.as_str(), &body["name"]), (message::HELLO, &json!("host1")));
    }
    let (kind, body) = stage.hear().await;
    assert_eq!((kind.as_str(), body), (message::DESIRED, json!({ "host": "host1" })));
    assert_eq!(stage.report().await.wired.len(), 1);
}

#[tokio::test]
async fn a_poke_brings_a_new_report_at_once_and_quiet_ones_come_with_the_interval() {
    let mut stage = stage(0);
    assert_eq!(stage.report().await.generation, 1);
    let begin = tokio::time::Instant::now();
    stage.controller.order.lock().unwrap().generation = 2;
    stage.agent.poke();
    assert_eq!(stage.report().await.generation, 2);
    let poked = begin.elapsed();
    assert_eq!(stage.report().await.generation, 2);
    assert!(begin.elapsed() >= INTERVAL / 2 && poked < begin.elapsed());
}

#[tokio::test]
async fn an_unreachable_controller_changes_nothing_and_is_asked_again() {
    let mut stage = stage(0);
    stage.report().await;
    *stage.controller.refusals.lock().unwrap() = 2;
    stage.controller.order.lock().unwrap().generation = 5;
    stage.agent.poke();
    let driver = stage.agent.driver().clone();
    let Driver::Fake(fake) = &*driver else { unreachable!() };
    assert_eq!(fake.applied().generation, 1);
    while stage.report().await.generation != 5 {}
    assert_eq!(fake.applied().generation, 5);
}
