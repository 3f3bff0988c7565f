//! Names that clients give to things.

use api::{Answer, Refusal};

/// Refuses what upstream does not take as a name: blanks around it, or characters that do not print.
pub fn check(field: &str, name: &str) -> Answer<()> {
    if is_plain(name) {
        return Ok(());
    }
    let words = "printable characters. Can not start or end with whitespace.";
    Err(Refusal::bad_request(format!("An invalid '{field}' value was provided. The {field} must be: {words}")))
}

/// The same for availability zones, where `:` would begin the name of a host.
pub fn check_zone(name: &str) -> Answer<()> {
    if is_plain(name) && !name.contains(':') {
        return Ok(());
    }
    let words = "printable characters except :.Can not start or end with whitespace.";
    let message = format!("An invalid 'availability_zone' value was provided. The availability_zone must be: {words}");
    Err(Refusal::bad_request(message))
}

/// Refuses a host name with anything but letters, digits, `-`, `.` and `_`.
pub fn check_host(name: &str) -> Answer<()> {
    if name.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c)) {
        return Ok(());
    }
    let message = "does not match '^[a-zA-Z0-9-._]*$'";
    Err(Refusal::bad_request(format!("Invalid input for field/attribute host. Value: {name}. '{name}' {message}")))
}

fn is_plain(name: &str) -> bool {
    let prints =
        |c: char| !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}' | '\u{200b}'..='\u{200f}' | '\u{feff}');
    name.chars().all(prints) && name.trim() == name && !name.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_prints_and_has_no_blanks_around_it() {
        assert!(check("name", "m1.tiny 测试").is_ok());
        for bad in ["", " a", "a ", "a\u{a0}", "a\nb", "\u{7}"] {
            assert!(check("name", bad).is_err(), "{bad:?}");
        }
        assert!(check_zone("a:b").is_err());
        assert!(check_host("node-1.example").is_ok() && check_host("a b").is_err());
    }
}
