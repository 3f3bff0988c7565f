//! How fast an engine looks, waits and gives up on others.

use std::time::Duration;

/// The rhythm of an [`crate::Engine`].
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// How often the table is looked at without being told.
    pub poll: Duration,
    /// How often an owner shows that it lives.
    pub beat: Duration,
    /// An owner that did not beat for so long, on the observer's clock, has lost its flows.
    pub lapse: Duration,
    /// The first and the longest pause before a step or an undo is tried again.
    pub backoff: (Duration, Duration),
    /// The first and the longest pause between looks at something awaited, if nobody wakes the flow.
    pub look: (Duration, Duration),
}

impl Default for Pace {
    fn default() -> Pace {
        Pace {
            poll: Duration::from_millis(250),
            beat: Duration::from_secs(3),
            lapse: Duration::from_secs(12),
            backoff: (Duration::from_millis(200), Duration::from_secs(20)),
            look: (Duration::from_secs(1), Duration::from_secs(15)),
        }
    }
}

impl Pace {
    /// For tests: the same things, sooner.
    pub fn test() -> Pace {
        Pace {
            poll: Duration::from_millis(5),
            beat: Duration::from_millis(20),
            lapse: Duration::from_millis(200),
            backoff: (Duration::from_millis(1), Duration::from_millis(2)),
            look: (Duration::from_millis(5), Duration::from_millis(5)),
        }
    }
}

/// The pause before try number `tries` + 1: doubling, with a ceiling.
pub(crate) fn pause((first, longest): (Duration, Duration), tries: u32) -> Duration {
    first.saturating_mul(1 << tries.min(16)).min(longest)
}
