//! How long to wait before trying again.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(10);

/// Waits that double from 0.25 s to 10 s, each shortened by up to half at random, so that many clients of a server that
/// went away do not come back all at once.
#[derive(Debug, Default, Clone)]
pub(crate) struct Backoff {
    attempt: u32,
}

impl Backoff {
    /// The next wait; at least what the server `asked` for, where it did.
    pub(crate) fn next(&mut self, asked: Option<Duration>) -> Duration {
        self.attempt += 1;
        let longest = FIRST.saturating_mul(1 << (self.attempt - 1).min(10)).min(LONGEST);
        let jittered = longest.mul_f64(1.0 - fastrand::f64() / 2.0);
        asked.map_or(jittered, |asked| asked.max(jittered.min(FIRST)))
    }

    /// How many waits there were.
    pub(crate) fn attempt(&self) -> u32 {
        self.attempt
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_ten_seconds() {
        let mut backoff = Backoff::default();
        for longest in [250, 500, 1000, 2000, 4000, 8000, 10_000, 10_000] {
            let wait = backoff.next(None).as_millis();
            assert!((longest / 2..=longest).contains(&wait), "{wait} ms of {longest}");
        }
        assert_eq!(backoff.attempt(), 8);
    }

    #[test]
    fn the_servers_wish_counts() {
        assert_eq!(Backoff::default().next(Some(Duration::from_secs(3))), Duration::from_secs(3));
    }

    #[test]
    fn clients_spread_out() {
        let waits: std::collections::HashSet<_> = (0..20).map(|_| Backoff::default().next(None)).collect();
        assert!(waits.len() > 10, "{waits:?}");
    }
}
