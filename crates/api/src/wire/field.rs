//! From checked JSON to Rust: the types that a `wire!` field may have.

use std::collections::BTreeMap;

use base::Json;

use super::{At, Problem};

/// A type that a `wire!` field may have. [`Rule::check`](super::Rule::check) has run before `read`.
pub trait Field: Sized {
    fn read(value: Json, at: &mut At) -> Result<Self, Problem>;

    /// What it is when the client sends nothing; `None` means that something must be sent.
    fn absent() -> Option<Self> {
        None
    }
}

/// Missing, null and a value are three things.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Maybe<T> {
    #[default]
    Absent,
    Null,
    Value(T),
}

impl<T> Maybe<T> {
    /// The value, when there is one.
    pub fn value(self) -> Option<T> {
        match self {
            Maybe::Value(value) => Some(value),
            _ => None,
        }
    }

    /// What the client sent: nothing, or something that may be null.
    pub fn sent(self) -> Option<Option<T>> {
        match self {
            Maybe::Absent => None,
            Maybe::Null => Some(None),
            Maybe::Value(value) => Some(Some(value)),
        }
    }

    pub fn is_absent(&self) -> bool {
        matches!(self, Maybe::Absent)
    }
}

impl<T: Field> Field for Maybe<T> {
    fn read(value: Json, at: &mut At) -> Result<Self, Problem> {
        match value {
            Json::Null => Ok(Maybe::Null),
            value => T::read(value, at).map(Maybe::Value),
        }
    }

    fn absent() -> Option<Self> {
        Some(Maybe::Absent)
    }
}

impl<T: Field> Field for Option<T> {
    fn read(value: Json, at: &mut At) -> Result<Self, Problem> {
        match value {
            Json::Null => Ok(None),
            value => T::read(value, at).map(Some),
        }
    }

    fn absent() -> Option<Self> {
        Some(None)
    }
}

impl<T: Field> Field for Vec<T> {
    fn read(value: Json, at: &mut At) -> Result<Self, Problem> {
        let Json::Array(items) = value else {
            return Err(unfit(&value, "array", at));
        };
        let numbered = items.into_iter().enumerate();
        numbered.map(|(index, item)| at.inside(&index.to_string(), |at| T::read(item, at))).collect()
    }
}

impl<T: Field> Field for BTreeMap<String, T> {
    fn read(value: Json, at: &mut At) -> Result<Self, Problem> {
        let Json::Object(map) = value else {
            return Err(unfit(&value, "object", at));
        };
        map.into_iter().map(|(key, item)| Ok((key.clone(), at.inside(&key, |at| T::read(item, at))?))).collect()
    }
}

impl Field for Json {
    fn read(value: Json, _: &mut At) -> Result<Self, Problem> {
        Ok(value)
    }
}

impl Field for serde_json::Map<String, Json> {
    fn read(value: Json, at: &mut At) -> Result<Self, Problem> {
        match value {
            Json::Object(map) => Ok(map),
            other => Err(unfit(&other, "object", at)),
        }
    }
}

impl Field for String {
    fn read(value: Json, at: &mut At) -> Result<Self, Problem> {
        match value {
            Json::String(text) => Ok(text),
            other => Err(unfit(&other, "string", at)),
        }
    }
}

impl Field for bool {
    fn read(value: Json, at: &mut At) -> Result<Self, Problem> {
        value.as_bool().ok_or_else(|| unfit(&value, "boolean", at))
    }
}

impl Field for f64 {
    fn read(value: Json, at: &mut At) -> Result<Self, Problem> {
        value.as_f64().ok_or_else(|| unfit(&value, "number", at))
    }
}

macro_rules! whole_numbers {
    ($($type:ty),*) => {$(
        impl Field for $type {
            fn read(value: Json, at: &mut At) -> Result<Self, Problem> {
                let number = value.as_i64().and_then(|number| <$type>::try_from(number).ok());
                number.ok_or_else(|| unfit(&value, "integer", at))
            }
        }
    )*};
}
whole_numbers!(i64, u64, i32, u32, u16);

fn unfit(value: &Json, kind: &str, at: &At) -> Problem {
    at.problem(value, format!("{} is not of type '{kind}'", super::rule::python(value)))
}
