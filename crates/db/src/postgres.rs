//! The PostgreSQL arm: READ COMMITTED, `$n` for `?`, and NULLs without a type.

use std::time::Duration;

use sqlx::encode::IsNull;
use sqlx::error::{BoxDynError, DatabaseError};
use sqlx::postgres::types::Oid;
use sqlx::postgres::{
    PgArgumentBuffer, PgArguments, PgConnectOptions, PgConnection, PgPool, PgPoolOptions, PgRow, PgSslMode, PgTypeInfo,
    PgValueFormat, PgValueRef,
};
use sqlx::{Arguments as _, Decode, Encode, Executor as _, Postgres, Row as _, Type, TypeInfo as _, ValueRef as _};

use crate::address::Server;
use crate::engine::{FRESH, Options, SERVER_STATEMENTS};
use crate::error::{Error, Verdict, judged};
use crate::query::Ready;
use crate::row::{Kept, Row};
use crate::value::Value;

const GREETING: &str = "SET default_transaction_isolation = 'read committed'; SET standard_conforming_strings = on";

pub(crate) fn open(server: &Server, options: &Options) -> PgPool {
    let mut connection = PgConnectOptions::new_without_pgpass()
        .host(&server.host)
        .port(server.port.unwrap_or(5432))
        .username(&server.user)
        .database(&server.database)
        .ssl_mode(PgSslMode::Disable)
        .statement_cache_capacity(SERVER_STATEMENTS);
    if let Some(password) = &server.password {
        connection = connection.password(password);
    }
    if let Some(socket) = &server.socket {
        connection = connection.socket(socket);
    }
    PgPoolOptions::new()
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

pub(crate) async fn fetch(connection: &mut PgConnection, ready: Ready) -> Result<Vec<Row>, Error> {
    let query = sqlx::query_with::<Postgres, _>(&ready.text, arguments(ready.values)?).persistent(!ready.once);
    let rows = query.fetch_all(connection).await.map_err(|error| judged(error, &ready.text, judge))?;
    Ok(rows.into_iter().map(|row| Row(Kept::Postgres(row))).collect())
}

pub(crate) async fn execute(connection: &mut PgConnection, ready: Ready) -> Result<u64, Error> {
    let query = sqlx::query_with::<Postgres, _>(&ready.text, arguments(ready.values)?).persistent(!ready.once);
    let done = query.execute(connection).await.map_err(|error| judged(error, &ready.text, judge))?;
    Ok(done.rows_affected())
}

/// A NULL of the type its place wants: a typed one would not fit columns of other types.
struct Untyped;

impl Type<Postgres> for Untyped {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(0))
    }
}

impl Encode<'_, Postgres> for Untyped {
    fn encode_by_ref(&self, _: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        Ok(IsNull::Yes)
    }
}

fn arguments(values: Vec<Value>) -> Result<PgArguments, Error> {
    let mut arguments = PgArguments::default();
    arguments.reserve(values.len(), values.len() * 16);
    for value in values {
        match value {
            Value::Null => arguments.add(Untyped),
            Value::Int(number) => arguments.add(number),
            Value::Real(number) => arguments.add(number),
            Value::Text(text) => arguments.add(text),
            Value::Blob(bytes) => arguments.add(bytes),
        }
        .map_err(|error| Error::other("binding a value", error))?;
    }
    Ok(arguments)
}

pub(crate) fn value(row: &PgRow, position: usize) -> Result<Value, String> {
    let raw = row.try_get_raw(position).map_err(|error| error.to_string())?;
    if raw.is_null() {
        return Ok(Value::Null);
    }
    let kind = raw.type_info().into_owned();
    let value = match kind.name() {
        "INT8" => read::<i64>(raw).map(Value::Int),
        "INT4" => read::<i32>(raw).map(|number| Value::Int(number.into())),
        "INT2" => read::<i16>(raw).map(|number| Value::Int(number.into())),
        "BOOL" => read::<bool>(raw).map(|flag| Value::Int(flag.into())),
        "FLOAT8" => read::<f64>(raw).map(Value::Real),
        "FLOAT4" => read::<f32>(raw).map(|number| Value::Real(number.into())),
        "NUMERIC" => numeric(raw),
        "BYTEA" => read::<Vec<u8>>(raw).map(Value::Blob),
        _ => read::<String>(raw).map(Value::Text),
    };
    value.map_err(|error| error.to_string())
}

fn read<'r, T: Decode<'r, Postgres>>(raw: PgValueRef<'r>) -> Result<T, BoxDynError> {
    T::decode(raw)
}

/// `SUM` of BIGINTs is a NUMERIC: how many digits of base 10 000, the weight of the first, the sign, the scale, and
/// the digits, two bytes each.
fn numeric(raw: PgValueRef<'_>) -> Result<Value, BoxDynError> {
    if raw.format() == PgValueFormat::Text {
        let text = raw.as_str()?;
        return text.parse().map(Value::Int).or_else(|_| Ok(Value::Real(text.parse()?)));
    }
    let halves: Vec<u16> = raw.as_bytes()?.chunks_exact(2).map(|two| u16::from_be_bytes([two[0], two[1]])).collect();
    let [_, weight, sign, _, digits @ ..] = halves.as_slice() else { return Err("a broken NUMERIC".into()) };
    let weight = i32::from(*weight as i16);
    let fraction = digits.len() as i32 > weight + 1;
    if !fraction && weight < 4 {
        let places = (weight + 1) as usize;
        let whole = (0..places).fold(0_i64, |sum, place| sum * 10_000 + i64::from(*digits.get(place).unwrap_or(&0)));
        return Ok(Value::Int(if *sign == 0x4000 { -whole } else { whole }));
    }
    let sum: f64 =
        digits.iter().zip(0..).map(|(digit, place)| f64::from(*digit) * 10_000_f64.powi(weight - place)).sum();
    match sign {
        0x0000 => Ok(Value::Real(sum)),
        0x4000 => Ok(Value::Real(-sum)),
        _ => Err("a NUMERIC that is not a number".into()),
    }
}

/// SQLSTATE codes, as PostgreSQL's appendix A lists them.
pub(crate) fn judge(error: &dyn DatabaseError) -> Verdict {
    match error.code().as_deref().unwrap_or_default() {
        "23505" => Verdict::Duplicate(error.constraint().unwrap_or_default().to_string()),
        code if code.starts_with("23") => Verdict::Constraint,
        // Serialization failure, deadlock, lock not available.
        "40001" | "40P01" | "55P03" => Verdict::Conflict,
        // Connection trouble, too many connections, shutting down, or only reading any more.
        code if code.starts_with("08") || code.starts_with("57P") => Verdict::Unreachable,
        "53300" | "25006" => Verdict::Unreachable,
        _ => Verdict::Unknown,
    }
}
