//! The only door to the wall clock. Times are UTC microseconds; each service renders them its own way.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Iso8601;
use time::macros::format_description;

/// A moment: microseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Time(pub i64);

/// Microseconds at which a test stopped the clock; `i64::MIN` means that it runs.
static STOPPED: AtomicI64 = AtomicI64::new(i64::MIN);

/// The present moment.
pub fn now() -> Time {
    match STOPPED.load(Ordering::Relaxed) {
        i64::MIN => {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            Time(since.as_micros() as i64)
        }
        stopped => Time(stopped),
    }
}

/// Stops the clock of this process at `time`. For tests only.
pub fn stop_at(time: Time) {
    STOPPED.store(time.0, Ordering::Relaxed);
}

impl Time {
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    pub const fn from_seconds(seconds: i64) -> Time {
        Time(seconds * 1_000_000)
    }

    /// This moment moved by `seconds`, which may be negative.
    pub const fn plus_seconds(self, seconds: i64) -> Time {
        Time(self.0 + seconds * 1_000_000)
    }

    /// `2026-11-21T06:15:10Z`: compute, network and image.
    pub fn iso_z(self) -> String {
        let form = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
        self.moment().format(form).unwrap_or_default()
    }

    /// `2026-11-21T06:15:10.000000`: volume, and compute's older documents.
    pub fn iso_micros(self) -> String {
        let form = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]");
        self.moment().format(form).unwrap_or_default()
    }

    /// `2026-11-21T06:15:10.000000Z`: identity.
    pub fn iso_micros_z(self) -> String {
        self.iso_micros() + "Z"
    }

    /// `Sat, 21 Nov 2026 06:15:10 GMT`: headers of HTTP.
    pub fn http(self) -> String {
        let form =
            format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");
        self.moment().format(form).unwrap_or_default()
    }

    /// Reads the ISO 8601 forms that clients send; a missing offset means UTC.
    pub fn parse(text: &str) -> Option<Time> {
        let spaced = text.trim().replacen(' ', "T", 1);
        let dated = if spaced.contains('T') { spaced } else { spaced + "T00:00:00" };
        let bare = dated.find('T').is_some_and(|t| !dated[t..].contains(['Z', '+', '-']));
        let full = if bare { dated + "Z" } else { dated };
        let moment = OffsetDateTime::parse(&full, &Iso8601::DEFAULT).ok()?;
        Some(Time((moment.unix_timestamp_nanos() / 1_000) as i64))
    }

    fn moment(self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_rendered_and_read_back() {
        let time = Time(1_795_241_710_123_456);
        assert_eq!(time.iso_micros_z(), "2026-11-21T06:15:10.123456Z");
        assert_eq!(Time::parse(&time.iso_micros_z()), Some(time));
        assert_eq!(Time::parse("2026-11-21T06:15:10"), Some(Time::from_seconds(time.seconds())));
        assert_eq!(Time::parse("2026-11-21"), Time::parse("2026-11-21T00:00:00Z"));
        assert_eq!(Time::parse("2026-11-21 06:15:10"), Time::parse("2026-11-21T08:15:10+02:00"));
        assert_eq!(Time::parse("yesterday"), None);
        assert_eq!(time.http(), "Sat, 21 Nov 2026 06:15:10 GMT");
    }
}
