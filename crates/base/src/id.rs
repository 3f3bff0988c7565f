//! The formats of identifiers: most services use dashed UUIDs, identity uses 32 hex digits.

use uuid::Uuid;

/// A fresh random UUID with dashes, as compute, network, image and placement mint them.
pub fn uuid() -> String {
    Uuid::new_v4().to_string()
}

/// A fresh random UUID without dashes, as identity mints them.
pub fn hex() -> String {
    Uuid::new_v4().simple().to_string()
}

/// A fresh request id: `req-` and a UUID.
pub fn request() -> String {
    format!("req-{}", Uuid::new_v4())
}

/// Reads a UUID in either spelling and returns the dashed form.
pub fn dashed(text: &str) -> Option<String> {
    match text.len() {
        32 | 36 => Uuid::try_parse(text).ok().map(|id| id.to_string()),
        _ => None,
    }
}

/// Whether `text` is a UUID in the dashed or the plain spelling.
pub fn is_uuid(text: &str) -> bool {
    dashed(text).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_are_the_same_uuid() {
        let plain = hex();
        assert_eq!(plain.len(), 32);
        assert_eq!(dashed(&plain).map(|id| id.replace('-', "")), Some(plain));
        assert!(!is_uuid("default"));
        assert!(!is_uuid("{8ba7b810-9dad-11d1-80b4-00c04fd430c8}"));
    }
}
