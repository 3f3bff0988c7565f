//! What a client sends: one [`wire!`](crate::wire) struct, read and checked in one pass.
//!
//! Problems are worded as the JSON-schema library that upstream uses words them, because people search for them.

pub mod field;
pub mod rule;

use base::Json;
use serde_json::Map;

pub use field::{Field, Maybe};
pub use rule::{Rule, any, cidr, flag, integer, ip, list, mac, map, nested, number, object, one_of, text, uuid};

use crate::fault::{Envelope, Refusal};
use crate::version::Version;

/// Where in the body we are and at which version.
#[derive(Debug, Clone)]
pub struct At {
    pub version: Version,
    pub path: Vec<String>,
}

impl At {
    pub fn top(version: Version) -> At {
        At { version, path: Vec::new() }
    }

    pub fn inside<T>(&mut self, key: &str, read: impl FnOnce(&mut At) -> Result<T, Problem>) -> Result<T, Problem> {
        self.path.push(key.to_string());
        let result = read(self);
        if result.is_ok() {
            self.path.pop();
        }
        result
    }

    pub fn problem(&self, value: &Json, message: String) -> Problem {
        Problem { path: self.path.clone(), value: value.clone(), message }
    }
}

/// What is wrong with a body.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// Keys and indexes from the top of the body.
    pub path: Vec<String>,
    pub value: Json,
    pub message: String,
}

impl Problem {
    pub fn refusal(self, envelope: Envelope) -> Refusal {
        let Problem { path, value, message } = self;
        let last = path.last().cloned().unwrap_or_default();
        let text = match envelope {
            Envelope::Compute | Envelope::Identity if last.is_empty() => message,
            Envelope::Compute | Envelope::Identity => {
                let shown = value.as_str().map_or_else(|| rule::python(&value), String::from);
                format!("Invalid input for field/attribute {last}. Value: {shown}. {message}")
            }
            Envelope::Image => format!("Provided object does not match schema 'image': {message}"),
            Envelope::Network if last.is_empty() => message,
            Envelope::Network => format!("Invalid input for {last}. Reason: {message}."),
            Envelope::Placement => format!("JSON does not validate: {message}"),
        };
        Refusal::bad_request(text)
    }
}

/// The first text in `value` that holds a NUL, which not every database can keep.
pub(crate) fn nul_in(value: &Json, at: &mut At) -> Option<Problem> {
    match value {
        Json::String(text) if text.contains('\0') => {
            Some(at.problem(value, format!("{} does not match '^[^\\\\x00]*$'", rule::python(value))))
        }
        Json::Array(items) => {
            let mut numbered = items.iter().enumerate();
            numbered.find_map(|(index, item)| {
                at.inside(&index.to_string(), |at| nul_in(item, at).map_or(Ok(()), Err)).err()
            })
        }
        Json::Object(map) => map.iter().find_map(|(key, item)| match key.contains('\0') {
            true => {
                let message = format!("Additional properties are not allowed ('{key}' was unexpected)");
                Some(at.problem(&Json::from(key.as_str()), message))
            }
            false => at.inside(key, |at| nul_in(item, at).map_or(Ok(()), Err)).err(),
        }),
        _ => None,
    }
}

/// A body, or a part of one. Made by [`wire!`](crate::wire).
pub trait Wire: Sized + Send + 'static {
    /// The single key around the body, if any.
    const ENVELOPE: Option<&'static str>;
    /// Whether unknown keys are kept instead of refused.
    const OPEN: bool;

    fn fields() -> Vec<(&'static str, Rule)>;
    fn build(taken: Taken) -> Result<Self, Problem>;

    /// Reads the value inside the envelope.
    fn read(value: Json, at: &mut At) -> Result<Self, Problem> {
        let Json::Object(mut map) = value else {
            return Err(at.problem(&value, format!("{} is not of type 'object'", rule::python(&value))));
        };
        let mut taken = Vec::new();
        for (key, rule) in Self::fields() {
            if !rule.serves(at.version) {
                continue;
            }
            match map.remove(key) {
                Some(value) => {
                    let value = at.inside(key, |at| rule.check(value, at))?;
                    taken.push((key, value));
                }
                None if rule.wanted(at.version) => {
                    return Err(at.problem(&Json::Object(map), format!("'{key}' is a required property")));
                }
                None => {}
            }
        }
        if !Self::OPEN && !map.is_empty() {
            let message = unexpected(&map);
            return Err(at.problem(&Json::Object(map), message));
        }
        Self::build(Taken { values: taken, rest: map, at: at.clone() })
    }

    /// Reads a whole body, envelope and all.
    fn read_body(body: Json, at: &mut At) -> Result<Self, Problem> {
        let Some(envelope) = Self::ENVELOPE else {
            return Self::read(body, at);
        };
        let Json::Object(mut map) = body else {
            return Err(at.problem(&body, format!("{} is not of type 'object'", rule::python(&body))));
        };
        let Some(inner) = map.remove(envelope) else {
            return Err(at.problem(&Json::Object(map), format!("'{envelope}' is a required property")));
        };
        if !Self::OPEN && !map.is_empty() {
            let message = unexpected(&map);
            return Err(at.problem(&Json::Object(map), message));
        }
        at.inside(envelope, |at| Self::read(inner, at))
    }

    /// The JSON schema of this body at a version, for the generated documents.
    fn schema(version: Version) -> Json {
        let mut properties = Map::new();
        let mut required = Vec::new();
        for (key, rule) in Self::fields() {
            if rule.serves(version) {
                properties.insert(key.to_string(), rule.schema(version));
                if rule.wanted(version) {
                    required.push(Json::from(key));
                }
            }
        }
        let mut inner = base::json!({"type": "object", "properties": properties, "additionalProperties": Self::OPEN});
        if !required.is_empty() {
            inner["required"] = Json::Array(required);
        }
        match Self::ENVELOPE {
            None => inner,
            Some(key) => base::json!({"type": "object", "properties": {key: inner}, "required": [key]}),
        }
    }
}

fn unexpected(map: &Map<String, Json>) -> String {
    let names: Vec<String> = map.keys().map(|key| format!("'{key}'")).collect();
    let verb = if names.len() == 1 { "was" } else { "were" };
    format!("Additional properties are not allowed ({} {verb} unexpected)", names.join(", "))
}

/// The checked values of one object, on their way into a struct.
pub struct Taken {
    values: Vec<(&'static str, Json)>,
    pub rest: Map<String, Json>,
    at: At,
}

impl Taken {
    pub fn take<T: Field>(&mut self, key: &'static str) -> Result<T, Problem> {
        let found = self.values.iter().position(|(name, _)| *name == key);
        match found.map(|index| self.values.swap_remove(index).1) {
            Some(value) => self.at.inside(key, |at| T::read(value, at)),
            None => T::absent().ok_or_else(|| self.at.problem(&Json::Null, format!("'{key}' is a required property"))),
        }
    }
}

/// Declares a body that clients send.
///
/// ```
/// use api::wire::{Wire, At, one_of, text};
/// api::wire! {
///     /// What a client sends to import a key.
///     pub struct NewKeypair in "keypair" {
///         name: String = text(1, 255).required(),
///         public_key: Option<String> = text(1, 16384).required_since(api::v(2, 92)),
///         kind as "type": Option<String> = one_of(&["ssh", "x509"]).since(api::v(2, 2)),
///     }
/// }
/// let body = serde_json::json!({"keypair": {"name": "k", "type": "ssh"}});
/// let early = NewKeypair::read_body(body.clone(), &mut At::top(api::v(2, 1))).map(|_| ());
/// assert_eq!(early.unwrap_err().message, "Additional properties are not allowed ('type' was unexpected)");
/// assert_eq!(NewKeypair::read_body(body, &mut At::top(api::v(2, 2))).unwrap().kind.as_deref(), Some("ssh"));
/// ```
///
/// Without `in "…"` the struct is a body without an envelope or a part of another body ([`nested`]). With `open` before
/// the brace, unknown keys are kept in a field `rest` instead of being refused.
#[macro_export]
macro_rules! wire {
    ($(#[$meta:meta])* $vis:vis struct $name:ident $(in $envelope:literal)? {
        $($(#[$fmeta:meta])* $field:ident $(as $key:literal)? : $type:ty = $rule:expr),* $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone)]
        $vis struct $name { $($(#[$fmeta])* pub $field: $type,)* }

        impl $crate::wire::Wire for $name {
            const ENVELOPE: Option<&'static str> = $crate::wire!(@envelope $($envelope)?);
            const OPEN: bool = false;

            fn fields() -> Vec<(&'static str, $crate::wire::Rule)> {
                vec![$(($crate::wire!(@key $field $($key)?), $rule)),*]
            }

            fn build(mut taken: $crate::wire::Taken) -> Result<Self, $crate::wire::Problem> {
                let _ = &mut taken;
                Ok($name { $($field: taken.take($crate::wire!(@key $field $($key)?))?,)* })
            }
        }

        impl $crate::wire::Field for $name {
            fn read(value: $crate::Json, at: &mut $crate::wire::At) -> Result<Self, $crate::wire::Problem> {
                <Self as $crate::wire::Wire>::read(value, at)
            }
        }
    };
    ($(#[$meta:meta])* $vis:vis struct $name:ident $(in $envelope:literal)? open {
        $($(#[$fmeta:meta])* $field:ident $(as $key:literal)? : $type:ty = $rule:expr),* $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone)]
        $vis struct $name {
            $($(#[$fmeta])* pub $field: $type,)*
            /// The keys that have no field here.
            pub rest: $crate::JsonMap,
        }

        impl $crate::wire::Wire for $name {
            const ENVELOPE: Option<&'static str> = $crate::wire!(@envelope $($envelope)?);
            const OPEN: bool = true;

            fn fields() -> Vec<(&'static str, $crate::wire::Rule)> {
                vec![$(($crate::wire!(@key $field $($key)?), $rule)),*]
            }

            fn build(mut taken: $crate::wire::Taken) -> Result<Self, $crate::wire::Problem> {
                Ok($name {
                    $($field: taken.take($crate::wire!(@key $field $($key)?))?,)*
                    rest: taken.rest,
                })
            }
        }

        impl $crate::wire::Field for $name {
            fn read(value: $crate::Json, at: &mut $crate::wire::At) -> Result<Self, $crate::wire::Problem> {
                <Self as $crate::wire::Wire>::read(value, at)
            }
        }
    };
    (@envelope) => { None };
    (@envelope $envelope:literal) => { Some($envelope) };
    (@key $field:ident) => { stringify!($field) };
    (@key $field:ident $key:literal) => { $key };
}
