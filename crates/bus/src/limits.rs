//! Every bound of the bus, by name.

use std::time::Duration;

/// Limit: one message or answer. RabbitMQ 4 takes 16 MiB; whoever has more to say sends pages.
pub const MESSAGE_BYTES: usize = 4 << 20;

/// Limit: messages that wait on one subject for somebody to serve it; more are dropped.
pub const QUEUED: usize = 10_000;

/// Limit: bytes that wait on one subject, on RabbitMQ.
pub const QUEUED_BYTES: i64 = 256 << 20;

/// Limit: messages on their way out of this process, while RabbitMQ is slow or away.
pub const OUTGOING: usize = 10_000;

/// Limit: messages that one subscription handles at once.
pub const HANDLERS: usize = 64;

/// How long a poke is worth delivering; the periodic comparison makes good for older ones.
pub const POKE_LIFETIME: Duration = Duration::from_secs(60);

/// A queue that nobody served or asked for this long is removed by RabbitMQ.
pub const QUEUE_IDLE: Duration = Duration::from_secs(3600);

/// The first and the longest pause between attempts to reach RabbitMQ.
pub const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// How long one attempt to connect may take.
pub const CONNECT: Duration = Duration::from_secs(10);

/// A silent connection is dead after about twice this.
pub const HEARTBEAT_SECONDS: u16 = 15;
