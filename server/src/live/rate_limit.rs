//! How many messages a client may send.

use std::time::{Duration, Instant};

use crate::token_bucket::TokenBucket;

/// Messages a second in the long run.
const RATE: u32 = 50;
/// Messages at once.
const BURST: u32 = 200;
/// For how long a client may stay over the rate.
const PATIENCE: Duration = Duration::from_secs(10);
/// A client that kept within the rate for this long is no longer over it.
const PAUSE: Duration = Duration::from_secs(1);

/// The rate limit of a client.
#[derive(Debug)]
pub(super) struct RateLimit {
    bucket: TokenBucket<RATE, BURST>,
    /// First and last message over the rate, on end.
    over: Option<Box<(Instant, Instant)>>,
}

/// What a message may expect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RateDecision {
    Allow,
    Drop,
    /// Over the rate for too long.
    Disconnect,
}

impl RateLimit {
    pub fn new(now: Instant) -> Self {
        Self { bucket: TokenBucket::new(now), over: None }
    }

    /// Counts a message.
    pub fn take(&mut self, now: Instant) -> RateDecision {
        if self.bucket.take(now) {
            return RateDecision::Allow;
        }
        let first = match self.over.as_deref() {
            Some(&(first, last)) if now.saturating_duration_since(last) < PAUSE => first,
            _ => now,
        };
        self.over = Some(Box::new((first, now)));
        if now.saturating_duration_since(first) >= PATIENCE { RateDecision::Disconnect } else { RateDecision::Drop }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flood(per_second: u32, seconds: u32) -> Vec<RateDecision> {
        let start = Instant::now();
        let mut limit = RateLimit::new(start);
        (0..per_second * seconds).map(|i| limit.take(start + Duration::from_secs(1) * i / per_second)).collect()
    }

    #[test]
    fn a_burst_and_the_rate_are_allowed() {
        assert!(flood(50, 60).iter().all(|allowed| *allowed == RateDecision::Allow));
        let now = Instant::now();
        let mut limit = RateLimit::new(now);
        assert!((0..200).all(|_| limit.take(now) == RateDecision::Allow));
        assert_eq!(limit.take(now), RateDecision::Drop);
    }

    #[test]
    fn who_stays_over_the_rate_is_cut_off_after_ten_seconds() {
        let allowed = flood(100, 20);
        let first = allowed.iter().position(|allowed| *allowed == RateDecision::Drop).expect("over the rate");
        let never = allowed.iter().position(|allowed| *allowed == RateDecision::Disconnect).expect("cut off");
        assert!((990..=1_010).contains(&(never - first)), "{first} {never}");
    }

    #[test]
    fn a_pause_forgives() {
        let start = Instant::now();
        let mut limit = RateLimit::new(start);
        for second in 0..30 {
            // Every other second a burst over the rate, never two on end.
            let now = start + Duration::from_secs(second * 3);
            assert!((0..220).all(|_| limit.take(now) != RateDecision::Disconnect));
        }
    }
}
