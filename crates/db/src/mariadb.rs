//! The MariaDB arm: READ COMMITTED, strict, and as close to standard SQL as its modes allow.

use std::time::Duration;

use sqlx::error::{BoxDynError, DatabaseError};
use sqlx::mysql::{
    MySqlArguments, MySqlConnectOptions, MySqlConnection, MySqlDatabaseError, MySqlPool, MySqlPoolOptions, MySqlRow,
    MySqlSslMode, MySqlValueRef,
};
use sqlx::{Arguments as _, Decode, Executor as _, MySql, Row as _, TypeInfo as _, ValueRef as _};

use crate::address::Server;
use crate::engine::{FRESH, Options, SERVER_STATEMENTS};
use crate::error::{Error, Verdict, judged};
use crate::query::Ready;
use crate::row::{Kept, Row};
use crate::value::Value;

/// What every connection is told first. The modes make quotes, `||` and backslashes mean what they mean on the
/// other two, and refuse what does not fit instead of cutting it off.
const GREETING: &str = "SET SESSION sql_mode = 'STRICT_ALL_TABLES,ONLY_FULL_GROUP_BY,NO_ZERO_IN_DATE,NO_ZERO_DATE,\
    ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION,ANSI_QUOTES,PIPES_AS_CONCAT,NO_BACKSLASH_ESCAPES', \
    SESSION tx_isolation = 'READ-COMMITTED', time_zone = '+00:00', NAMES utf8mb4 COLLATE utf8mb4_nopad_bin";

pub(crate) fn open(server: &Server, options: &Options) -> MySqlPool {
    let mut connection = MySqlConnectOptions::new()
        .host(&server.host)
        .port(server.port.unwrap_or(3306))
        .username(&server.user)
        .database(&server.database)
        .ssl_mode(MySqlSslMode::Disabled)
        .statement_cache_capacity(SERVER_STATEMENTS)
        .pipes_as_concat(false)
        .no_engine_substitution(false)
        .timezone(None)
        .set_names(false);
    if let Some(password) = &server.password {
        connection = connection.password(password);
    }
    if let Some(socket) = &server.socket {
        connection = connection.socket(socket);
    }
    MySqlPoolOptions::new()
        .max_connections(options.connections)
        .acquire_timeout(Duration::from_millis(options.wait_ms))
        .test_before_acquire(false)
        .before_acquire(|connection, age| {
            Box::pin(async move { Ok(age.idle_for < FRESH || sqlx::Connection::ping(connection).await.is_ok()) })
        })
        .after_connect(|connection, _| {
            Box::pin(async move {
                connection.execute(GREETING).await?;
                Ok(())
            })
        })
        .connect_lazy_with(connection)
}

pub(crate) async fn fetch(connection: &mut MySqlConnection, ready: Ready) -> Result<Vec<Row>, Error> {
    let query = sqlx::query_with::<MySql, _>(&ready.text, arguments(ready.values)?).persistent(!ready.once);
    let rows = query.fetch_all(connection).await.map_err(|error| judged(error, &ready.text, judge))?;
    Ok(rows.into_iter().map(|row| Row(Kept::MariaDb(row))).collect())
}

/// Rows matched, also where nothing changed: the library asks for CLIENT_FOUND_ROWS.
pub(crate) async fn execute(connection: &mut MySqlConnection, ready: Ready) -> Result<u64, Error> {
    let query = sqlx::query_with::<MySql, _>(&ready.text, arguments(ready.values)?).persistent(!ready.once);
    let done = query.execute(connection).await.map_err(|error| judged(error, &ready.text, judge))?;
    Ok(done.rows_affected())
}

fn arguments(values: Vec<Value>) -> Result<MySqlArguments, Error> {
    let mut arguments = MySqlArguments::default();
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

pub(crate) fn value(row: &MySqlRow, position: usize) -> Result<Value, String> {
    let raw = row.try_get_raw(position).map_err(|error| error.to_string())?;
    if raw.is_null() {
        return Ok(Value::Null);
    }
    let kind = raw.type_info().into_owned();
    let value = match kind.name() {
        "BIGINT" | "INT" | "TINYINT" | "SMALLINT" | "MEDIUMINT" | "BOOLEAN" => read::<i64>(raw).map(Value::Int),
        name if name.ends_with("UNSIGNED") || name == "BIT" => {
            read::<u64>(raw).and_then(|number| Ok(Value::Int(i64::try_from(number)?)))
        }
        "DOUBLE" | "FLOAT" => read::<f64>(raw).map(Value::Real),
        "DECIMAL" => read::<String>(raw).and_then(|text| decimal(&text)),
        // A text column of a binary collation cannot be told from a BLOB here; `Column` takes either.
        _ => read::<Vec<u8>>(raw).map(|bytes| match String::from_utf8(bytes) {
            Ok(text) => Value::Text(text),
            Err(other) => Value::Blob(other.into_bytes()),
        }),
    };
    value.map_err(|error| error.to_string())
}

fn read<'r, T: Decode<'r, MySql>>(raw: MySqlValueRef<'r>) -> Result<T, BoxDynError> {
    T::decode(raw)
}

/// `SUM` of whole numbers is a DECIMAL.
fn decimal(text: &str) -> Result<Value, BoxDynError> {
    match text.parse::<i64>() {
        Ok(number) => Ok(Value::Int(number)),
        Err(_) => Ok(Value::Real(text.parse()?)),
    }
}

/// Error numbers, as MariaDB's reference lists them.
pub(crate) fn judge(error: &dyn DatabaseError) -> Verdict {
    let Some(known) = error.try_downcast_ref::<MySqlDatabaseError>() else { return Verdict::Unknown };
    match known.number() {
        1062 | 1586 => Verdict::Duplicate(duplicated(error.message())),
        1048 | 1216 | 1217 | 1451 | 1452 | 4025 => Verdict::Constraint,
        // Lock wait timeout, deadlock, and a row that changed since it was read.
        1205 | 1213 | 1020 => Verdict::Conflict,
        // Too many connections, shutting down, or not the primary any more.
        1040 | 1047 | 1053 | 1203 | 1290 | 1927 => Verdict::Unreachable,
        _ => Verdict::Unknown,
    }
}

/// Whether a definition failed because it was carried out before: a table, column or key exists, or is gone.
pub(crate) fn is_done_already(error: &Error) -> bool {
    let Error::Other { source, .. } = error else { return false };
    let below = source.downcast_ref::<sqlx::Error>().and_then(|error| error.as_database_error());
    let known = below.and_then(|error| error.try_downcast_ref::<MySqlDatabaseError>());
    known.is_some_and(|error| matches!(error.number(), 1050 | 1051 | 1054 | 1060 | 1061 | 1091 | 1146))
}

/// The index in `Duplicate entry 'x' for key 'index'`.
fn duplicated(message: &str) -> String {
    message.rsplit('\'').nth(1).unwrap_or(message).to_string()
}
