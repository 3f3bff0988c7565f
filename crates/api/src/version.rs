//! API microversions: what a client asks for, what an operation serves.

use std::fmt;

/// A microversion, `major.minor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u16, pub u16);

/// Shorthand for tables of operations: `v(2, 92)`.
pub const fn v(major: u16, minor: u16) -> Version {
    Version(major, minor)
}

impl Version {
    pub const MAX: Version = Version(u16::MAX, u16::MAX);

    /// Reads `2.92`; upstream refuses leading zeros and signs.
    pub fn parse(text: &str) -> Option<Version> {
        let (major, minor) = text.split_once('.')?;
        let number = |digits: &str| {
            let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            let padded = digits.len() > 1 && digits.starts_with('0');
            if plain && !padded { digits.parse::<u16>().ok() } else { None }
        };
        Some(Version(number(major)?, number(minor)?))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// How a service negotiates microversions.
#[derive(Debug, Clone, Copy)]
pub struct Versions {
    /// The word in `OpenStack-API-Version: <word> 2.1`.
    pub word: &'static str,
    /// The service's older header, whose value is the bare version.
    pub older_header: Option<&'static str>,
    pub min: Version,
    pub max: Version,
}

/// What a request's headers ask for.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    Version(Version),
    /// Readable, but not served.
    OutOfRange(Version),
    Unreadable(String),
}

impl Versions {
    /// Picks the version for a request. Without a header it is the minimum; `latest` is the maximum.
    pub fn negotiate(&self, headers: &http::HeaderMap) -> Asked {
        match self.asked(headers).as_deref() {
            None => Asked::Version(self.min),
            Some("latest") => Asked::Version(self.max),
            Some(text) => match Version::parse(text) {
                None => Asked::Unreadable(text.to_string()),
                Some(version) if version < self.min || version > self.max => Asked::OutOfRange(version),
                Some(version) => Asked::Version(version),
            },
        }
    }

    /// The newer header wins; it may list several services, separated by commas or repeated.
    fn asked(&self, headers: &http::HeaderMap) -> Option<String> {
        for line in headers.get_all("openstack-api-version") {
            for entry in line.to_str().unwrap_or_default().split(',') {
                let mut words = entry.split_whitespace();
                if words.next().is_some_and(|word| word.eq_ignore_ascii_case(self.word)) {
                    return Some(words.next().unwrap_or_default().to_ascii_lowercase());
                }
            }
        }
        let older = headers.get(self.older_header?)?.to_str().ok()?;
        Some(older.trim().to_ascii_lowercase())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPUTE: Versions =
        Versions { word: "compute", older_header: Some("x-openstack-nova-api-version"), min: v(2, 1), max: v(2, 104) };

    fn ask(name: &'static str, value: &str) -> Asked {
        let mut headers = http::HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        COMPUTE.negotiate(&headers)
    }

    #[test]
    fn a_client_gets_the_version_it_asks_for() {
        assert_eq!(COMPUTE.negotiate(&http::HeaderMap::new()), Asked::Version(v(2, 1)));
        assert_eq!(ask("openstack-api-version", "compute 2.90"), Asked::Version(v(2, 90)));
        assert_eq!(ask("openstack-api-version", "volume 3.1, compute latest"), Asked::Version(v(2, 104)));
        assert_eq!(ask("x-openstack-nova-api-version", "2.10"), Asked::Version(v(2, 10)));
        assert_eq!(ask("openstack-api-version", "placement 1.0"), Asked::Version(v(2, 1)));
        assert_eq!(ask("openstack-api-version", "compute 2.105"), Asked::OutOfRange(v(2, 105)));
        assert_eq!(ask("openstack-api-version", "compute 2.01"), Asked::Unreadable("2.01".into()));
    }
}
