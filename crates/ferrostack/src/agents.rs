//! The agents of a host, and their ways to the controllers.

use std::sync::Arc;
use std::time::Duration;

use api::{Json, Method, Request, json};
use base::clock;
use bus::{Bus, Message, Refusal, Subscription};
use bytes::Bytes;
use clients::{Peer, Rights};
use contract::{HostError, message};
use futures_util::StreamExt;
use host_hypervisor::hypervisor::{Images, Work};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Limit: until a controller has answered an agent.
const ANSWER: Duration = Duration::from_secs(30);

/// The way of one agent to its controllers.
#[derive(Clone)]
pub struct Door {
    pub bus: Bus,
    pub subject: &'static str,
}

impl Door {
    pub async fn ask(&self, kind: &str, body: Json) -> Result<Json, HostError> {
        self.bus.request(self.subject, kind, body, ANSWER).await.map_err(|error| match error {
            bus::Error::Refused { ref code, .. } if code == "taken" => HostError::never(error.to_string()),
            error => HostError::again(format!("asking {} for {kind}", self.subject)).because(error),
        })
    }
}

impl host_network::agent::Door for Door {
    fn request<'a>(&'a self, kind: &'a str, body: Json) -> host_network::agent::Answer<'a> {
        Box::pin(self.ask(kind, body))
    }
}

impl host_hypervisor::agent::Controllers for Door {
    fn request<'a>(&'a self, kind: &'a str, body: Json) -> Work<'a, Json> {
        Box::pin(self.ask(kind, body))
    }
}

/// Base images, from the image service with the service user's rights.
pub struct ImageSource {
    pub image: Peer,
}

impl Images for ImageSource {
    fn fetch<'a>(&'a self, image: &'a str, to: mpsc::Sender<Bytes>) -> Work<'a, ()> {
        Box::pin(async move {
            let what = format!("fetching image {image}");
            let request = Request::new(Method::GET, &format!("/v2/images/{image}/file"));
            let reply = self.image.send(Rights::Service, request).await;
            match reply.status.as_u16() {
                200 => {}
                404 | 204 => return Err(HostError::never(format!("image {image} has no data any more"))),
                status => return Err(HostError::again(what).because(format!("image answered {status}"))),
            }
            let mut chunks = reply.content.chunks();
            while let Some(chunk) = chunks.next().await {
                let chunk = chunk.map_err(|error| HostError::again(what.clone()).because(error))?;
                if to.send(chunk).await.is_err() {
                    return Ok(());
                }
            }
            Ok(())
        })
    }
}

/// Answers what controllers send to one host's agent.
pub fn serve_guests(bus: &Bus, agent: &host_hypervisor::Agent, host: &str) -> Subscription {
    let agent = agent.clone();
    bus.serve(&message::host("compute", host), move |message: Message| {
        let agent = agent.clone();
        async move { agent.answer(&message.kind, &message.body).await.map_err(|error| refusal(&error)) }
    })
}

pub fn serve_wires(bus: &Bus, agent: &Arc<host_network::agent::Agent>, host: &str) -> Subscription {
    let agent = agent.clone();
    bus.serve(&message::host("network", host), move |message: Message| {
        let agent = agent.clone();
        async move {
            match message.kind.as_str() {
                message::POKE => {
                    agent.poke();
                    Ok(json!({}))
                }
                other => Err(Refusal::unknown_kind(other)),
            }
        }
    })
}

fn refusal(error: &HostError) -> Refusal {
    let code = match error {
        HostError::Again { .. } => "again",
        HostError::Never { .. } => "never",
        HostError::Missing { .. } => "missing",
    };
    Refusal::new(code, error.to_string())
}

/// The agents of one host, running.
pub struct Host {
    pub name: String,
    pub guests: host_hypervisor::Agent,
    pub wires: Arc<host_network::Driver>,
    _subscriptions: Vec<Subscription>,
    tasks: JoinSet<()>,
}

impl Host {
    pub fn start(
        bus: &Bus,
        name: &str,
        guests: host_hypervisor::Agent,
        wires: Arc<host_network::agent::Agent>,
    ) -> Host {
        let subscriptions = vec![serve_guests(bus, &guests, name), serve_wires(bus, &wires, name)];
        let mut tasks = JoinSet::new();
        let (kept, driver) = (guests.clone(), wires.driver().clone());
        tasks.spawn(async move { guests.run().await });
        tasks.spawn(async move { wires.run().await });
        tracing::info!(host = name, at = clock::now().iso_z(), "the host's agents run");
        Host { name: name.to_string(), guests: kept, wires: driver, _subscriptions: subscriptions, tasks }
    }

    /// Stops the agents. Guests and networks stay as they are.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}
