//! The SQLite arm: one writer, a few readers, one file.

use std::path::Path;
use std::time::Duration;

use sqlx::error::{BoxDynError, DatabaseError};
use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteConnection, SqlitePool, SqlitePoolOptions, SqliteRow,
    SqliteSynchronous, SqliteValueRef,
};
use sqlx::{Arguments as _, Decode, Executor as _, Row as _, Sqlite, TypeInfo as _, ValueRef as _};

use crate::engine::{Options, STATEMENTS};
use crate::error::{Error, Verdict, judged};
use crate::query::Ready;
use crate::row::{Kept, Row};
use crate::value::Value;

/// Limit: rows a reader's thread may be ahead of us, so that a page arrives in one go.
const ROWS_AHEAD: usize = 1_100;

/// Limit: how often a new file is asked for its mode, and the pause in between.
const MODE_TRIES: u32 = 400;
const MODE_PAUSE: Duration = Duration::from_millis(5);

/// Invariant: everything that writes goes through `writer`, whose only connection is the queue of the writers.
/// Readers see the last committed state and never wait for it.
pub(crate) struct Pools {
    pub(crate) writer: SqlitePool,
    pub(crate) readers: SqlitePool,
}

impl Pools {
    pub(crate) fn open(file: &Path, options: &Options) -> Pools {
        let synchronous = if options.test { SqliteSynchronous::Off } else { SqliteSynchronous::Normal };
        let connection = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .foreign_keys(true)
            .synchronous(synchronous)
            .busy_timeout(Duration::from_millis(options.wait_ms))
            .statement_cache_capacity(STATEMENTS)
            .row_buffer_size(ROWS_AHEAD)
            // The other two tell the cases of LIKE apart.
            .pragma("case_sensitive_like", "ON")
            .pragma("temp_store", "MEMORY")
            .pragma("cache_size", "-8000");
        let pool = |connections| {
            SqlitePoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(Duration::from_millis(options.wait_ms))
                .idle_timeout(None)
                .max_lifetime(None)
                .test_before_acquire(false)
        };
        Pools {
            writer: pool(1)
                .after_connect(|connection, _| Box::pin(write_ahead(connection)))
                .connect_lazy_with(connection.clone()),
            readers: pool(options.readers.max(1)).connect_lazy_with(connection.pragma("query_only", "ON")),
        }
    }
}

/// Puts the file into its mode. While somebody else reads a new file, SQLite says at once that it is busy instead of
/// waiting; later there is nothing to change and nothing to wait for.
async fn write_ahead(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    for _ in 1..MODE_TRIES {
        match connection.execute("PRAGMA journal_mode = WAL").await {
            Err(sqlx::Error::Database(error)) if matches!(judge(error.as_ref()), Verdict::Conflict) => {
                tokio::time::sleep(MODE_PAUSE).await;
            }
            done => return done.map(drop),
        }
    }
    connection.execute("PRAGMA journal_mode = WAL").await.map(drop)
}

pub(crate) async fn fetch(connection: &mut SqliteConnection, ready: Ready) -> Result<Vec<Row>, Error> {
    let query = sqlx::query_with::<Sqlite, _>(&ready.text, arguments(ready.values)?).persistent(!ready.once);
    let rows = query.fetch_all(connection).await.map_err(|error| judged(error, &ready.text, judge))?;
    Ok(rows.into_iter().map(|row| Row(Kept::Sqlite(row))).collect())
}

pub(crate) async fn execute(connection: &mut SqliteConnection, ready: Ready) -> Result<u64, Error> {
    let query = sqlx::query_with::<Sqlite, _>(&ready.text, arguments(ready.values)?).persistent(!ready.once);
    let done = query.execute(connection).await.map_err(|error| judged(error, &ready.text, judge))?;
    Ok(done.rows_affected())
}

fn arguments(values: Vec<Value>) -> Result<SqliteArguments<'static>, Error> {
    let mut arguments = SqliteArguments::default();
    arguments.reserve(values.len(), 0);
    for value in values {
        match value {
            Value::Null => arguments.add(None::<i64>),
            Value::Int(number) => arguments.add(number),
            Value::Real(number) => arguments.add(number),
            Value::Text(text) => arguments.add(text),
            Value::Blob(bytes) => arguments.add(bytes),
        }
        .map_err(|error| Error::other("binding a value", error))?;
    }
    Ok(arguments)
}

pub(crate) fn value(row: &SqliteRow, position: usize) -> Result<Value, String> {
    let raw = row.try_get_raw(position).map_err(|error| error.to_string())?;
    if raw.is_null() {
        return Ok(Value::Null);
    }
    let kind = raw.type_info().into_owned();
    let value = match kind.name() {
        "INTEGER" => read::<i64>(raw).map(Value::Int),
        "REAL" => read::<f64>(raw).map(Value::Real),
        "TEXT" => read::<String>(raw).map(Value::Text),
        _ => read::<Vec<u8>>(raw).map(Value::Blob),
    };
    value.map_err(|error| error.to_string())
}

fn read<'r, T: Decode<'r, Sqlite>>(raw: SqliteValueRef<'r>) -> Result<T, BoxDynError> {
    T::decode(raw)
}

/// Extended result codes, as SQLite's `sqlite3.h` numbers them.
pub(crate) fn judge(error: &dyn DatabaseError) -> Verdict {
    let code: i32 = error.code().and_then(|code| code.parse().ok()).unwrap_or_default();
    match (code, code & 0xff) {
        // PRIMARYKEY, UNIQUE and ROWID; the message names the columns after the colon.
        (1555 | 2067 | 2579, _) => {
            let columns = error.message().split_once(": ").map_or("", |(_, columns)| columns);
            Verdict::Duplicate(columns.to_string())
        }
        (_, 19) => Verdict::Constraint,
        // BUSY and LOCKED.
        (_, 5 | 6) => Verdict::Conflict,
        // IOERR, FULL and CANTOPEN.
        (_, 10 | 13 | 14) => Verdict::Unreachable,
        _ => Verdict::Unknown,
    }
}
