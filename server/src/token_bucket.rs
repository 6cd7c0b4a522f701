//! A token bucket: a rate in the long run, with bursts.

use std::time::Instant;

/// Holds up to `BURST` tokens and gains `PER_SECOND` of them each second.
#[derive(Debug)]
pub(crate) struct TokenBucket<const PER_SECOND: u32, const BURST: u32> {
    tokens: f64,
    filled_at: Instant,
}

impl<const PER_SECOND: u32, const BURST: u32> TokenBucket<PER_SECOND, BURST> {
    /// Starts with a full bucket.
    pub fn new(now: Instant) -> Self {
        Self { tokens: BURST.into(), filled_at: now }
    }

    /// Takes a token, if there is one.
    pub fn take(&mut self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.filled_at).as_secs_f64();
        self.tokens = (self.tokens + elapsed * f64::from(PER_SECOND)).min(BURST.into());
        self.filled_at = now;
        let has_token = self.tokens >= 1.0;
        if has_token {
            self.tokens -= 1.0;
        }
        has_token
    }
}
