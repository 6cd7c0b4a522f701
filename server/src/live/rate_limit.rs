//! The rate limit for the messages of a client.

use std::time::{Duration, Instant};

use crate::token_bucket::TokenBucket;

const MESSAGES_PER_SECOND: u32 = 50;
/// Messages that a client may send at once.
const BURST_MESSAGES: u32 = 200;
/// A client that has been over the rate for this long is disconnected.
const MAX_TIME_OVER_RATE: Duration = Duration::from_secs(10);
/// After this long without a message over the rate, the client's time over the rate starts again.
const RECOVERY_TIME: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct RateLimit {
    bucket: TokenBucket<MESSAGES_PER_SECOND, BURST_MESSAGES>,
    /// When the client's time over the rate started, and its last message over the rate.
    over_rate: Option<Box<(Instant, Instant)>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RateDecision {
    Allow,
    Drop,
    /// The client was over the rate for too long.
    Disconnect,
}

impl RateLimit {
    pub fn new(now: Instant) -> Self {
        Self { bucket: TokenBucket::new(now), over_rate: None }
    }

    /// Counts a message and decides on it.
    pub fn count(&mut self, now: Instant) -> RateDecision {
        if self.bucket.take(now) {
            return RateDecision::Allow;
        }
        let since = match self.over_rate.as_deref() {
            Some(&(since, last)) if now.saturating_duration_since(last) < RECOVERY_TIME => since,
            _ => now,
        };
        self.over_rate = Some(Box::new((since, now)));
        let is_too_long = now.saturating_duration_since(since) >= MAX_TIME_OVER_RATE;
        if is_too_long { RateDecision::Disconnect } else { RateDecision::Drop }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flood(per_second: u32, seconds: u32) -> Vec<RateDecision> {
        let start = Instant::now();
        let mut limit = RateLimit::new(start);
        (0..per_second * seconds).map(|i| limit.count(start + Duration::from_secs(1) * i / per_second)).collect()
    }

    #[test]
    fn a_burst_and_the_rate_are_allowed() {
        assert!(flood(50, 60).iter().all(|decision| *decision == RateDecision::Allow));
        let now = Instant::now();
        let mut limit = RateLimit::new(now);
        assert!((0..200).all(|_| limit.count(now) == RateDecision::Allow));
        assert_eq!(limit.count(now), RateDecision::Drop);
    }

    #[test]
    fn a_client_that_stays_over_the_rate_is_disconnected_after_ten_seconds() {
        let decisions = flood(100, 20);
        let position = |wanted| decisions.iter().position(|decision| *decision == wanted);
        let dropped = position(RateDecision::Drop).expect("over the rate");
        let disconnected = position(RateDecision::Disconnect).expect("over the rate for too long");
        assert!((990..=1_010).contains(&(disconnected - dropped)), "{dropped} {disconnected}");
    }

    #[test]
    fn the_time_over_the_rate_starts_again_after_a_pause() {
        let start = Instant::now();
        let mut limit = RateLimit::new(start);
        for second in 0..30 {
            // A burst over the rate every three seconds.
            let now = start + Duration::from_secs(second * 3);
            assert!((0..220).all(|_| limit.count(now) != RateDecision::Disconnect));
        }
    }
}
