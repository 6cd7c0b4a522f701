//! Timestamps in UTC microseconds.

use std::fmt;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Microseconds since 1970-01-01T00:00:00Z. The text is RFC 3339 with microseconds and `Z`.
///
/// A timestamp lies within the years 0 to 9999, which RFC 3339 can express.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// 0000-01-01T00:00:00Z and 9999-12-31T23:59:59.999999Z.
const RANGE: std::ops::RangeInclusive<i64> = -62_167_219_200_000_000..=253_402_300_799_999_999;

impl Timestamp {
    /// The Unix epoch, 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self(0);

    /// Makes a timestamp from microseconds since the Unix epoch; `None` outside the years 0 to 9999.
    #[must_use]
    pub fn from_micros(micros: i64) -> Option<Self> {
        RANGE.contains(&micros).then_some(Self(micros))
    }

    /// Makes a timestamp from seconds since the Unix epoch; `None` outside the years 0 to 9999.
    #[must_use]
    pub fn from_unix_secs(secs: i64) -> Option<Self> {
        secs.checked_mul(1_000_000).and_then(Self::from_micros)
    }

    /// Makes a timestamp from seconds since the Unix epoch with a fraction; `None` if they are not a number or out of
    /// range.
    #[must_use]
    pub fn from_unix_secs_f64(secs: f64) -> Option<Self> {
        let micros = (secs * 1e6).round();
        // Beyond 2^53 the cast saturates to a value that lies outside the range.
        #[allow(clippy::cast_possible_truncation)]
        if micros.is_finite() { Self::from_micros(micros as i64) } else { None }
    }

    /// Makes a timestamp from a clock reading, clamped to the years 0 to 9999.
    #[must_use]
    pub fn from_system_time(now: std::time::SystemTime) -> Self {
        let micros = match now.duration_since(std::time::UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_micros()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_micros()).unwrap_or(i64::MAX),
        };
        Self(micros.clamp(*RANGE.start(), *RANGE.end()))
    }

    /// Parses RFC 3339 with any offset.
    #[must_use]
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let when = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        i64::try_from(when.unix_timestamp_nanos().div_euclid(1_000)).ok().and_then(Self::from_micros)
    }

    /// Returns the microseconds since the Unix epoch.
    #[must_use]
    pub fn as_micros(self) -> i64 {
        self.0
    }

    /// Returns the whole seconds since the Unix epoch, rounded down.
    #[must_use]
    pub fn as_unix_secs(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// Returns the timestamp `secs` later, or earlier if they are negative, clamped to the years 0 to 9999.
    #[must_use]
    pub fn plus_secs(self, secs: i64) -> Self {
        let micros = self.0.saturating_add(secs.saturating_mul(1_000_000));
        Self(micros.clamp(*RANGE.start(), *RANGE.end()))
    }

    /// Returns the seconds from `earlier` to `self`, which are negative if `self` is the earlier one.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub fn secs_since(self, earlier: Self) -> f64 {
        (self.0 - earlier.0) as f64 / 1e6
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let when =
            OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z",
            when.year(),
            u8::from(when.month()),
            when.day(),
            when.hour(),
            when.minute(),
            when.second(),
            when.microsecond()
        )
    }
}

impl Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Self::parse_rfc3339(&text).ok_or_else(|| serde::de::Error::custom("not an RFC 3339 time"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_microseconds_and_z() {
        let when = Timestamp::parse_rfc3339("2026-10-01T16:00:31.25+02:00").unwrap();
        assert_eq!(when.to_string(), "2026-10-01T14:00:31.250000Z");
        assert_eq!(Timestamp::from_unix_secs(0).unwrap().to_string(), "1970-01-01T00:00:00.000000Z");
        assert_eq!(Timestamp::from_micros(-1).unwrap().to_string(), "1969-12-31T23:59:59.999999Z");
    }

    #[test]
    fn values_out_of_range_are_refused_or_clamped() {
        assert_eq!(Timestamp::from_unix_secs(i64::MAX), None);
        assert_eq!(Timestamp::from_unix_secs_f64(f64::NAN), None);
        assert_eq!(Timestamp::from_unix_secs_f64(1e300), None);
        assert_eq!(
            Timestamp::from_unix_secs(0).unwrap().plus_secs(i64::MAX).to_string(),
            "9999-12-31T23:59:59.999999Z"
        );
    }

    #[test]
    fn the_text_is_parsed_back() {
        for micros in [0, 1, -1, 1_790_855_035_123_456, *RANGE.start(), *RANGE.end()] {
            let when = Timestamp::from_micros(micros).unwrap();
            assert_eq!(Timestamp::parse_rfc3339(&when.to_string()), Some(when));
        }
    }
}
