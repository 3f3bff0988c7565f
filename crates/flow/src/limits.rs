//! Every bound of the flow engine, by name. Durations that tests shorten are in [`crate::Pace`].

use std::time::Duration;

/// Limit: flows that one engine works on at once; flows that wait for something outside do not count.
pub(crate) const RUNNING: usize = 64;

/// Limit: flows that one engine owns, waiting ones included.
pub(crate) const OWNED: usize = 4096;

/// Limit: unclaimed flows looked at in one round.
pub(crate) const ROUND: usize = 256;

/// Limit: one try of a step or an undo, unless the step says otherwise.
pub(crate) const STEP_TIME: Duration = Duration::from_secs(300);

/// How often a step is tried again after a failure that may pass, unless the step says otherwise.
pub(crate) const RETRIES: u32 = 5;

/// Limit: an order or a step's result in the journal.
pub(crate) const DOCUMENT_BYTES: usize = 1 << 20;

/// Limit: characters of an error kept in the journal.
pub(crate) const ERROR_CHARS: usize = 4000;

/// How long finished flows stay to be looked at.
pub(crate) const KEPT_SECONDS: i64 = 7 * 24 * 3600;

/// How long a flow tries to write its journal while the database is away, before it lets go.
pub(crate) const JOURNAL_PATIENCE: Duration = Duration::from_secs(30);
