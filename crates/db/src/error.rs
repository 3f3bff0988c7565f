//! What a query may come back with instead of rows, sorted by what a caller can do about it.

/// The library's error below ours, for the log.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A row with these unique values exists. The name of the constraint differs between databases: log it, no more.
    #[error("a row with the same {constraint} exists")]
    Duplicate { constraint: String },
    /// Another row refers to this one, a row referred to does not exist, or a column must not be NULL.
    #[error("the rows would not fit together")]
    Constraint { source: Cause },
    #[error("no row was found")]
    Missing,
    #[error("the marker was not found")]
    MarkerNotFound,
    /// Somebody else was faster: a deadlock, a serialization failure, or a database that stayed locked.
    /// The whole transaction may be tried again; see [`crate::Db::retry`].
    #[error("another transaction was in the way")]
    Conflict { source: Cause },
    #[error("the database cannot be reached")]
    Unreachable { source: Cause },
    #[error("column {column} holds {why}")]
    Column { column: String, why: String },
    #[error("the database URL {shown}: {why}")]
    Url { shown: String, why: String },
    /// The database belongs to another program; it is not touched.
    #[error("the database has tables but none of ours, so it is left alone; give {service} an empty database")]
    Foreign { service: &'static str },
    /// A newer program was here before.
    #[error(
        "the {service} database has schema {found} and this program knows {known}: run the newer program, \
         or bring back the copy that was made before the upgrade"
    )]
    Newer { service: &'static str, found: u32, known: u32 },
    /// The schema is behind the program.
    #[error(
        "the {service} database has schema {found} and this program needs {known}: run `db_sync` for {service} first"
    )]
    Older { service: &'static str, found: u32, known: u32 },
    #[error("{doing}")]
    Other { doing: String, source: Cause },
}

impl Error {
    /// Whether the whole transaction may be tried again.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Error::Conflict { .. })
    }

    /// Whether an equal row was there before.
    pub fn is_duplicate(&self) -> bool {
        matches!(self, Error::Duplicate { .. })
    }

    /// A failure that only the log can use.
    pub(crate) fn other(doing: impl Into<String>, source: impl Into<Cause>) -> Error {
        Error::Other { doing: doing.into(), source: source.into() }
    }
}

/// An error of a higher floor that may hide a [`Error::Conflict`]; [`crate::Db::retry`] asks.
pub trait MayConflict {
    fn is_conflict(&self) -> bool;
}

impl MayConflict for Error {
    fn is_conflict(&self) -> bool {
        Error::is_conflict(self)
    }
}

/// What a database said, before it is known what to make of it.
pub(crate) enum Verdict {
    Duplicate(String),
    Constraint,
    Conflict,
    Unreachable,
    Unknown,
}

/// Limit: how much of a statement is repeated in an error.
const SHOWN_SQL: usize = 160;

/// Turns the library's error into ours. `judge` knows one database's codes.
pub(crate) fn judged(error: sqlx::Error, text: &str, judge: fn(&dyn sqlx::error::DatabaseError) -> Verdict) -> Error {
    use sqlx::Error as Below;
    let verdict = match &error {
        Below::Database(said) => judge(said.as_ref()),
        Below::Io(_) | Below::Tls(_) | Below::PoolTimedOut | Below::PoolClosed | Below::WorkerCrashed => {
            Verdict::Unreachable
        }
        _ => Verdict::Unknown,
    };
    match verdict {
        Verdict::Duplicate(constraint) => Error::Duplicate { constraint },
        Verdict::Constraint => Error::Constraint { source: error.into() },
        Verdict::Conflict => Error::Conflict { source: error.into() },
        Verdict::Unreachable => Error::Unreachable { source: error.into() },
        Verdict::Unknown => {
            let short: String = text.chars().take(SHOWN_SQL).collect();
            Error::other(format!("running {short:?}"), error)
        }
    }
}
