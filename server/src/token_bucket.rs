//! A token bucket, which limits an average rate and allows bursts.

use std::time::Instant;

/// Holds up to `BURST` tokens and gains `PER_SECOND` of them each second.
#[derive(Debug)]
pub(crate) struct TokenBucket<const PER_SECOND: u32, const BURST: u32> {
    tokens: f64,
    refilled_at: Instant,
}

impl<const PER_SECOND: u32, const BURST: u32> TokenBucket<PER_SECOND, BURST> {
    /// Starts with a full bucket.
    pub fn new(now: Instant) -> Self {
        Self { tokens: BURST.into(), refilled_at: now }
    }

    /// Takes a token. Returns `false` if there is none.
    pub fn take(&mut self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.refilled_at).as_secs_f64();
        self.tokens = (self.tokens + elapsed * f64::from(PER_SECOND)).min(BURST.into());
        self.refilled_at = now;
        let has_token = self.tokens >= 1.0;
        if has_token {
            self.tokens -= 1.0;
        }
        has_token
    }
}
