//! What controllers and hosts tell each other: desired state, reported state and the messages that carry them.
//!
//! A host holds no truth. It asks for what should be ([`guest::Desired`], [`network::Desired`]), compares, repairs, and
//! reports what is. A lost message is made good by the next comparison; an order older than what a host has already
//! applied is refused by its generation.
//!
//! - [`guest`]   servers on a host
//! - [`network`] the wires of a host
//! - [`message`] kinds and subjects on the bus

pub mod guest;
pub mod message;
pub mod network;

/// What a host could not do. Says only what the caller can act on; details are in the source chain.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// It may work later: try again within the step's limit.
    #[error("{what} did not work this time")]
    Again { what: String, source: Option<Box<dyn std::error::Error + Send + Sync>> },
    /// It will never work: tell the user.
    #[error("{what}")]
    Never { what: String, source: Option<Box<dyn std::error::Error + Send + Sync>> },
    /// The thing is not there.
    #[error("{what} is not on this host")]
    Missing { what: String },
}

impl HostError {
    pub fn again(what: impl Into<String>) -> HostError {
        HostError::Again { what: what.into(), source: None }
    }

    pub fn never(what: impl Into<String>) -> HostError {
        HostError::Never { what: what.into(), source: None }
    }

    pub fn missing(what: impl Into<String>) -> HostError {
        HostError::Missing { what: what.into() }
    }

    /// Keeps `source` as the cause of this error.
    pub fn because(self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> HostError {
        match self {
            HostError::Again { what, .. } => HostError::Again { what, source: Some(cause.into()) },
            HostError::Never { what, .. } => HostError::Never { what, source: Some(cause.into()) },
            missing => missing,
        }
    }
}
