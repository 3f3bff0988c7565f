//! Queues on RabbitMQ: one connection per process, one channel out, one channel for each subject served.
//!
//! ```text
//!            outgoing                     queue ferrostack.<subject>
//! request ──► [····] ──► channel out ────────────► [····] ──► channel of a server ──► handler
//!    ▲                                                               │
//!    └──────── Pending ◄── amq.rabbitmq.reply-to ◄───────────────────┘
//! ```
//! When the connection is lost, the keeper makes another one and every server opens its channel again. Requests that
//! were on their way then are not repeated: their outcome is unknown and their callers are told so by the timeout.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::address::Broker;
use crate::limits::{BACKOFF, CONNECT, HANDLERS, HEARTBEAT_SECONDS, OUTGOING, QUEUE_IDLE, QUEUED, QUEUED_BYTES};
use crate::pending::Pending;
use crate::{Full, Parcel, Take, Transport};

/// RabbitMQ's pseudo-queue that brings answers straight back to the channel that asked.
const REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// The connection of the moment, or none during an outage.
type Current = watch::Receiver<Option<Arc<Connection>>>;

pub(crate) struct Rabbit {
    outgoing: mpsc::Sender<Parcel>,
    current: Current,
}

impl Rabbit {
    pub(crate) fn start(brokers: Vec<Broker>, pending: Arc<Pending>) -> Rabbit {
        let (outgoing, parcels) = mpsc::channel(OUTGOING);
        let (publish, current) = watch::channel(None);
        tokio::spawn(keep(brokers, pending, parcels, publish));
        Rabbit { outgoing, current }
    }
}

impl Transport for Rabbit {
    fn send(&self, parcel: Parcel) -> Result<(), Full> {
        self.outgoing.try_send(parcel).map_err(|_| Full)
    }

    fn consume(&self, subject: String, take: Take, stopped: oneshot::Receiver<()>) {
        tokio::spawn(serve(self.current.clone(), subject, take, stopped));
    }
}

/// Keeps a connection for as long as the bus lives.
async fn keep(
    brokers: Vec<Broker>,
    pending: Arc<Pending>,
    mut parcels: mpsc::Receiver<Parcel>,
    publish: watch::Sender<Option<Arc<Connection>>>,
) {
    let mut pause = BACKOFF.0;
    for broker in brokers.iter().cycle() {
        match connected(broker).await {
            Ok(connection) => {
                tracing::info!(?broker, "connected to RabbitMQ");
                let connection = Arc::new(connection);
                publish.send_replace(Some(connection.clone()));
                let ended = pump(&connection, &pending, &mut parcels).await;
                publish.send_replace(None);
                match ended {
                    Ok(()) => return,
                    Err(error) => tracing::warn!(?broker, %error, "the connection to RabbitMQ is lost"),
                }
                pause = BACKOFF.0;
            }
            Err(error) => tracing::warn!(?broker, error, "RabbitMQ cannot be reached"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(BACKOFF.1);
        if parcels.is_closed() {
            return;
        }
    }
}

async fn connected(broker: &Broker) -> Result<Connection, String> {
    let uri = AMQPUri {
        scheme: AMQPScheme::AMQP,
        authority: AMQPAuthority {
            userinfo: AMQPUserInfo { username: broker.user.clone(), password: broker.password.clone() },
            host: broker.host.clone(),
            port: broker.port,
        },
        vhost: broker.virtual_host.clone(),
        query: AMQPQueryString { heartbeat: Some(HEARTBEAT_SECONDS), ..Default::default() },
    };
    let properties = ConnectionProperties::default().with_connection_name("ferrostack".into());
    match tokio::time::timeout(CONNECT, Connection::connect_uri(uri, properties)).await {
        Ok(connection) => connection.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no connection within {} s", CONNECT.as_secs())),
    }
}

/// Carries messages out and answers in, until the connection breaks (an error) or the bus is dropped.
async fn pump(
    connection: &Connection,
    pending: &Pending,
    parcels: &mut mpsc::Receiver<Parcel>,
) -> Result<(), lapin::Error> {
    let channel = connection.create_channel().await?;
    let unacknowledged = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let mut answers = channel.basic_consume(REPLY_TO.into(), "".into(), unacknowledged, FieldTable::default()).await?;
    let mut declared = HashSet::new();

    loop {
        tokio::select! {
            parcel = parcels.recv() => match parcel {
                Some(parcel) => publish(&channel, &mut declared, parcel).await?,
                None => return Ok(()),
            },
            answer = answers.next() => {
                let answer = answer.transpose()?.ok_or(lapin::ErrorKind::InvalidConnectionState(
                    lapin::ConnectionState::Closed,
                ))?;
                if let Some(id) = answer.properties.correlation_id() {
                    pending.answer(id.as_str(), answer.data);
                }
            }
        }
    }
}

async fn publish(channel: &Channel, declared: &mut HashSet<String>, parcel: Parcel) -> Result<(), lapin::Error> {
    let left = parcel.deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Ok(());
    }
    // Whoever comes first makes the queue, so that a request may wait for its server.
    if declared.insert(parcel.subject.clone()) {
        declare(channel, &parcel.subject).await?;
    }
    let mut properties = BasicProperties::default().with_expiration(left.as_millis().to_string().into());
    if let Some(id) = parcel.correlation {
        properties = properties.with_reply_to(REPLY_TO.into()).with_correlation_id(id.into());
    }
    let to = queue(&parcel.subject);
    channel.basic_publish("".into(), to, BasicPublishOptions::default(), &parcel.payload, properties).await?;
    Ok(())
}

fn queue(subject: &str) -> ShortString {
    format!("ferrostack.{subject}").into()
}

/// Invariant: every release declares a queue with the same arguments, or RabbitMQ refuses the second one.
async fn declare(channel: &Channel, subject: &str) -> Result<(), lapin::Error> {
    let mut arguments = FieldTable::default();
    arguments.insert("x-expires".into(), AMQPValue::LongLongInt(QUEUE_IDLE.as_millis() as i64));
    arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(QUEUED as i64));
    arguments.insert("x-max-length-bytes".into(), AMQPValue::LongLongInt(QUEUED_BYTES));
    arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
    channel.queue_declare(queue(subject), QueueDeclareOptions::durable(), arguments).await?;
    Ok(())
}

/// Serves one subject through every outage, until told to stop.
async fn serve(mut current: Current, subject: String, take: Take, mut stopped: oneshot::Receiver<()>) {
    loop {
        let connection = tokio::select! {
            _ = &mut stopped => return,
            found = current.wait_for(Option::is_some) => match found {
                Ok(connection) => connection.clone(),
                Err(_) => return,
            },
        };
        let Some(connection) = connection else { continue };
        match serve_over(&connection, &subject, &take, &mut stopped).await {
            Ok(()) => return,
            Err(error) => tracing::warn!(subject, %error, "serving is interrupted"),
        }
        // The keeper needs a moment to notice; a fault of this channel alone must not spin.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn serve_over(
    connection: &Connection,
    subject: &str,
    take: &Take,
    stopped: &mut oneshot::Receiver<()>,
) -> Result<(), lapin::Error> {
    let channel = connection.create_channel().await?;
    declare(&channel, subject).await?;
    channel.basic_qos(HANDLERS as u16, BasicQosOptions::default()).await?;
    let options = BasicConsumeOptions::default();
    let mut messages = channel.basic_consume(queue(subject), "".into(), options, FieldTable::default()).await?;
    let mut in_hand = JoinSet::new();

    loop {
        let message = tokio::select! {
            biased;
            _ = &mut *stopped => {
                stop(&channel, &messages).await?;
                while in_hand.join_next().await.is_some() {}
                return channel.close(200, "done".into()).await;
            }
            Some(_) = in_hand.join_next(), if !in_hand.is_empty() => continue,
            message = messages.next() => message,
        };
        let Some(message) = message.transpose()? else {
            return Err(lapin::ErrorKind::InvalidConnectionState(lapin::ConnectionState::Closed).into());
        };
        let (channel, take) = (channel.clone(), take.clone());
        in_hand.spawn(async move {
            let answer = take(message.data.clone()).await;
            if let Err(error) = finish(&channel, message, answer).await {
                tracing::debug!(%error, "an answer could not be sent");
            }
        });
    }
}

async fn stop(channel: &Channel, messages: &Consumer) -> Result<(), lapin::Error> {
    channel.basic_cancel(messages.tag(), Default::default()).await
}

/// Answers, then acknowledges: a message is gone only when its work is done.
async fn finish(channel: &Channel, message: lapin::message::Delivery, answer: Vec<u8>) -> Result<(), lapin::Error> {
    let properties = &message.properties;
    if let (Some(to), Some(id)) = (properties.reply_to(), properties.correlation_id()) {
        let reply = BasicProperties::default().with_correlation_id(id.clone());
        channel.basic_publish("".into(), to.clone(), BasicPublishOptions::default(), &answer, reply).await?;
    }
    message.ack(BasicAckOptions::default()).await?;
    Ok(())
}
