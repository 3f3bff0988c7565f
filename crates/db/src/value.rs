//! What fits into a column, and how Rust types get in and out.

use std::collections::BTreeMap;

use base::{Json, Time};

/// One value as the databases agree on it.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null,
    Int(i64),
    Real(f64),
    Text(String),
    Blob(Vec<u8>),
}

/// The storage class of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Int,
    Real,
    Text,
    Blob,
}

/// What may be bound to a `?`. Every [`Column`] is, and so are `&str` and references.
pub trait Bind {
    fn to_value(&self) -> Value;

    /// Like [`Bind::to_value`], for types that can give their text away.
    fn into_value(self) -> Value
    where
        Self: Sized,
    {
        self.to_value()
    }
}

/// A type that is kept in a column. States and ids of a service implement this and [`Bind`].
pub trait Column: Bind + Sized {
    const KIND: Kind = Kind::Text;
    const NULLABLE: bool = false;

    /// `Err` says in a few words what is wrong with the value; [`crate::Row::get`] adds the column's name.
    fn from_value(value: Value) -> Result<Self, String>;
}

impl Bind for Value {
    fn to_value(&self) -> Value {
        self.clone()
    }

    fn into_value(self) -> Value {
        self
    }
}

impl<T: Bind + ?Sized> Bind for &T {
    fn to_value(&self) -> Value {
        (**self).to_value()
    }
}

impl Bind for str {
    fn to_value(&self) -> Value {
        Value::Text(self.to_string())
    }
}

impl Bind for [u8] {
    fn to_value(&self) -> Value {
        Value::Blob(self.to_vec())
    }
}

impl Bind for String {
    fn to_value(&self) -> Value {
        Value::Text(self.clone())
    }

    fn into_value(self) -> Value {
        Value::Text(self)
    }
}

impl Column for String {
    fn from_value(value: Value) -> Result<Self, String> {
        match value {
            Value::Text(text) => Ok(text),
            Value::Blob(bytes) => String::from_utf8(bytes).map_err(|_| "bytes that are not text".into()),
            other => Err(unfit(&other, "text")),
        }
    }
}

impl Bind for Vec<u8> {
    fn to_value(&self) -> Value {
        Value::Blob(self.clone())
    }

    fn into_value(self) -> Value {
        Value::Blob(self)
    }
}

impl Column for Vec<u8> {
    const KIND: Kind = Kind::Blob;

    fn from_value(value: Value) -> Result<Self, String> {
        match value {
            Value::Blob(bytes) => Ok(bytes),
            Value::Text(text) => Ok(text.into_bytes()),
            other => Err(unfit(&other, "bytes")),
        }
    }
}

impl<T: Bind> Bind for Option<T> {
    fn to_value(&self) -> Value {
        self.as_ref().map_or(Value::Null, Bind::to_value)
    }

    fn into_value(self) -> Value {
        self.map_or(Value::Null, Bind::into_value)
    }
}

impl<T: Column> Column for Option<T> {
    const KIND: Kind = T::KIND;
    const NULLABLE: bool = true;

    fn from_value(value: Value) -> Result<Self, String> {
        match value {
            Value::Null => Ok(None),
            some => T::from_value(some).map(Some),
        }
    }
}

/// Whole numbers, kept in a BIGINT. A `u64` beyond `i64::MAX` is kept as `i64::MAX`: nothing we count gets there.
macro_rules! whole {
    ($($number:ty),*) => {$(
        impl Bind for $number {
            fn to_value(&self) -> Value {
                Value::Int(i64::try_from(*self).unwrap_or(i64::MAX))
            }
        }

        impl Column for $number {
            const KIND: Kind = Kind::Int;

            fn from_value(value: Value) -> Result<Self, String> {
                let number = i64_from(value)?;
                Self::try_from(number).map_err(|_| format!("{number}, which does not fit {}", stringify!($number)))
            }
        }
    )*};
}

whole!(i64, i32, u32, u64, u16, usize);

impl Bind for bool {
    fn to_value(&self) -> Value {
        Value::Int(i64::from(*self))
    }
}

impl Column for bool {
    const KIND: Kind = Kind::Int;

    fn from_value(value: Value) -> Result<Self, String> {
        Ok(i64_from(value)? != 0)
    }
}

impl Bind for Time {
    fn to_value(&self) -> Value {
        Value::Int(self.0)
    }
}

impl Column for Time {
    const KIND: Kind = Kind::Int;

    fn from_value(value: Value) -> Result<Self, String> {
        i64_from(value).map(Time)
    }
}

impl Bind for f64 {
    fn to_value(&self) -> Value {
        Value::Real(*self)
    }
}

impl Column for f64 {
    const KIND: Kind = Kind::Real;

    fn from_value(value: Value) -> Result<Self, String> {
        match value {
            Value::Real(number) => Ok(number),
            Value::Int(number) => Ok(number as f64),
            other => Err(unfit(&other, "a number")),
        }
    }
}

/// Documents, kept as JSON text.
macro_rules! document {
    ($($document:ty),*) => {$(
        impl Bind for $document {
            fn to_value(&self) -> Value {
                Value::Text(serde_json::to_string(self).expect("text, lists and JSON always have a JSON form"))
            }
        }

        impl Column for $document {
            fn from_value(value: Value) -> Result<Self, String> {
                let text = String::from_value(value)?;
                serde_json::from_str(&text).map_err(|error| format!("a broken document: {error}"))
            }
        }
    )*};
}

document!(Json, BTreeMap<String, String>, Vec<String>);

/// Reads a whole number, also where a database widened it (`SUM` gives NUMERIC on two of them).
fn i64_from(value: Value) -> Result<i64, String> {
    match value {
        Value::Int(number) => Ok(number),
        Value::Real(number) if number.fract() == 0.0 && number.abs() < 9.2e18 => Ok(number as i64),
        other => Err(unfit(&other, "a whole number")),
    }
}

fn unfit(found: &Value, wanted: &str) -> String {
    let found = match found {
        Value::Null => "NULL",
        Value::Int(_) => "a whole number",
        Value::Real(_) => "a fraction",
        Value::Text(_) => "text",
        Value::Blob(_) => "bytes",
    };
    format!("{found}, not {wanted}")
}
