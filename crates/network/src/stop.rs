//! Why a transaction ends early: a refusal for the client, or a failure that may be worth another try.

use api::Refusal;

use crate::fault::Fault;

/// What `?` returns inside a transaction.
#[derive(Debug)]
pub enum Stop {
    Refused(Refusal),
    Database(db::Error),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Stop {
        Stop::Refused(refusal)
    }
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Stop {
        Stop::Refused(fault.into())
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
            Stop::Database(error) => error.into(),
        }
    }
}

impl db::MayConflict for Stop {
    fn is_conflict(&self) -> bool {
        matches!(self, Stop::Database(error) if error.is_conflict())
    }
}
