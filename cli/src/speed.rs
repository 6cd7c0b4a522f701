//! How fast a call is spoken.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A factor on the call's own pace, or no waiting at all.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Speed(Option<f64>);

impl Speed {
    /// How many times the call's own pace; `None` for no waiting at all.
    pub(crate) fn factor(self) -> Option<f64> {
        self.0
    }

    /// How long after the start something is due that lies `secs` into the call.
    pub(crate) fn wait(self, secs: f64) -> Duration {
        let Some(factor) = self.0 else { return Duration::ZERO };
        // A day is longer than any call; it also keeps what a hostile payload says within what clocks can hold.
        Duration::from_secs_f64((secs / factor).clamp(0.0, 86_400.0))
    }
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(factor) => write!(f, "{factor}x"),
            None => f.write_str("max"),
        }
    }
}

/// A text that is no speed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a speed is 1x, 10x, any other factor from 0.01x to 10000x, or max")]
pub(crate) struct InvalidSpeed;

impl FromStr for Speed {
    type Err = InvalidSpeed;

    fn from_str(text: &str) -> Result<Self, InvalidSpeed> {
        if text == "max" {
            return Ok(Self(None));
        }
        let factor: Option<f64> = text.strip_suffix('x').unwrap_or(text).parse().ok();
        match factor.filter(|factor| (0.01..=10_000.0).contains(factor)) {
            Some(factor) => Ok(Self(Some(factor))),
            None => Err(InvalidSpeed),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn wait(speed: &str, secs: f64) -> Duration {
        speed.parse::<Speed>().unwrap().wait(secs)
    }

    #[test]
    fn the_pace_is_the_calls_own_times_a_factor() {
        assert_eq!(wait("1x", 4.0), Duration::from_secs(4));
        assert_eq!(wait("10x", 4.0), Duration::from_millis(400));
        assert_eq!(wait("0.5", 4.0), Duration::from_secs(8));
        assert_eq!(wait("max", 4.0), Duration::ZERO);
        assert_eq!(wait("1x", f64::MAX), Duration::from_secs(86_400));
    }

    #[test]
    fn nonsense_is_refused() {
        for wrong in ["", "0", "-1x", "fast", "NaN", "inf"] {
            assert!(wrong.parse::<Speed>().is_err(), "{wrong}");
        }
    }
}
