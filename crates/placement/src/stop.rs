//! Why a transaction ends early: a refusal for the client, or a failure that may be worth another try.

use api::Refusal;

/// What `?` returns inside a transaction.
#[derive(Debug)]
pub enum Stop {
    Refused(Refusal),
    Database(db::Error),
    /// Another transaction was faster, and what it did decides; look again.
    Raced,
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Stop {
        Stop::Refused(refusal)
    }
}

impl From<db::Error> for Stop {
    fn from(error: db::Error) -> Stop {
        Stop::Database(error)
    }
}

impl From<Stop> for Refusal {
    fn from(stop: Stop) -> Refusal {
        match stop {
            Stop::Refused(refusal) => refusal,
            Stop::Database(error) if error.is_conflict() => concurrent(DATA),
            Stop::Database(error) => error.into(),
            Stop::Raced => concurrent(DATA),
        }
    }
}

impl db::MayConflict for Stop {
    fn is_conflict(&self) -> bool {
        matches!(self, Stop::Raced) || matches!(self, Stop::Database(error) if error.is_conflict())
    }
}

/// Upstream's words when somebody else changed a provider meanwhile.
pub const PROVIDER: &str = "Another thread concurrently updated the resource provider data. Please retry your update";
const DATA: &str = "Another thread concurrently updated the data. Please retry your update";

/// Somebody else was there first; the client reads again and retries.
pub fn concurrent(message: impl Into<String>) -> Refusal {
    Refusal::new(409, "placement.concurrent_update", message)
}
