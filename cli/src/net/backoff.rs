//! Exponential backoff with jitter.

use std::time::Duration;

const FIRST_DELAY: Duration = Duration::from_millis(250);
const MAX_DELAY: Duration = Duration::from_secs(10);

/// Delays that double from 0.25 s to 10 s. Each is shortened by up to half at random, so that the clients of a server
/// that restarts do not reconnect all at once.
#[derive(Debug, Default, Clone)]
pub(crate) struct Backoff {
    attempt: u32,
}

impl Backoff {
    /// Returns the next delay. It is at least `retry_after`, which the server asked for.
    pub(crate) fn next(&mut self, retry_after: Option<Duration>) -> Duration {
        self.attempt += 1;
        let full = FIRST_DELAY.saturating_mul(1 << (self.attempt - 1).min(10)).min(MAX_DELAY);
        let jittered = full.mul_f64(1.0 - fastrand::f64() / 2.0);
        retry_after.map_or(jittered, |retry_after| retry_after.max(jittered.min(FIRST_DELAY)))
    }

    /// Returns how many delays there were.
    pub(crate) fn attempt(&self) -> u32 {
        self.attempt
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_ten_seconds() {
        let mut backoff = Backoff::default();
        for longest in [250, 500, 1000, 2000, 4000, 8000, 10_000, 10_000] {
            let wait = backoff.next(None).as_millis();
            assert!((longest / 2..=longest).contains(&wait), "{wait} ms of {longest}");
        }
        assert_eq!(backoff.attempt(), 8);
    }

    #[test]
    fn a_delay_is_at_least_what_the_server_asked_for() {
        assert_eq!(Backoff::default().next(Some(Duration::from_secs(3))), Duration::from_secs(3));
    }

    #[test]
    fn delays_are_random() {
        let waits: std::collections::HashSet<_> = (0..20).map(|_| Backoff::default().next(None)).collect();
        assert!(waits.len() > 10, "{waits:?}");
    }
}
