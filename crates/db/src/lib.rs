//! One face over SQLite, MariaDB and PostgreSQL: services write portable SQL and never learn which one answers.
//!
//! - [`Db`], [`Tx`], [`Queries`]  where queries run: on their own, in a transaction, or in code that serves both
//! - [`select`], [`sql`]          what runs: text with `?`, and values bound in the order of the text
//! - [`record!`], [`Record`]      a struct that is a row
//! - [`Column`], [`Value`]        what fits into a column
//! - [`Page`], [`Filter`]         keyset paging, sorting and filtering of lists
//! - [`Schema`], [`Migration`]    numbered, forward-only migrations
//! - [`Error`]                    what a caller can act on
//!
//! The three arms live in `sqlite.rs`, `mariadb.rs` and `postgres.rs`; nothing outside this crate names the
//! library below. `address.rs` reads upstream's database URLs, `ddl.rs` turns portable schema text into each dialect.

mod address;
mod ddl;
mod engine;
mod error;
mod mariadb;
mod migrate;
mod page;
mod postgres;
mod queries;
mod query;
mod record;
mod row;
mod sqlite;
mod tx;
mod value;

pub use engine::{Db, Dialect, Options};
pub use error::{Cause, Error, MayConflict};
pub use migrate::{Migration, Schema};
pub use page::{Filter, Order, Page, Test};
pub use queries::Queries;
pub use query::{MAX_LIST, Select, Statement, select, sql};
pub use record::Record;
pub use row::{Place, Row};
pub use tx::Tx;
pub use value::{Bind, Column, Kind, Value};

#[doc(hidden)]
pub use record::column_name;
