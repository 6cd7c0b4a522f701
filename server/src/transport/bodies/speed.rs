//! The speed of an arriving body, and the deadline for its next bytes.

use std::time::Duration;

use tokio::time::Instant;

/// The speed of a body is an average over the last one to two windows.
const WINDOW: Duration = Duration::from_secs(1);
/// Age below which the speed of a body is unknown, so that it cannot be evicted.
const MIN_AGE: Duration = Duration::from_secs(1);

/// Measures the recent speed of a body. With an average since its beginning, a sender could be fast at first and then
/// stall.
#[derive(Debug)]
pub(super) struct SpeedMeter {
    began: Instant,
    /// How long past waits for memory took. They do not count as the sender's time.
    past_waits: Duration,
    waiting_since: Option<Instant>,
    received: u64,
    /// For the present window and the one before: the active time at which it began, and the bytes received by then.
    windows: [(Duration, u64); 2],
}

impl SpeedMeter {
    pub fn new(began: Instant, received: u64) -> Self {
        Self { began, past_waits: Duration::ZERO, waiting_since: None, received, windows: [(Duration::ZERO, 0); 2] }
    }

    /// Returns how long the body has waited for memory, without a wait that has not ended.
    pub fn total_wait(&self) -> Duration {
        self.past_waits
    }

    /// Notes that a wait for memory begins or ends at `now`.
    pub fn set_waiting(&mut self, is_waiting: bool, now: Instant) {
        if let Some(since) = self.waiting_since.take() {
            self.past_waits += now.saturating_duration_since(since);
        }
        self.waiting_since = is_waiting.then_some(now);
    }

    /// Notes how many bytes have arrived in all.
    pub fn set_received(&mut self, bytes: u64, now: Instant) {
        let active = self.active(now);
        match active.saturating_sub(self.windows[0].0) {
            // After a longer silence only its last window counts, so that the speed recovers soon.
            age if age >= 2 * WINDOW => self.windows = [(active - WINDOW, self.received); 2],
            age if age >= WINDOW => self.windows = [(active, self.received), self.windows[0]],
            _ => {}
        }
        self.received = bytes;
    }

    /// Returns the speed in bytes a second, or `None` before `MIN_AGE`.
    pub fn speed(&self, now: Instant) -> Option<f64> {
        let active = self.active(now);
        let [present, before] = self.windows;
        let (began, bytes) = if active.saturating_sub(present.0) >= WINDOW { present } else { before };
        #[allow(clippy::cast_precision_loss)]
        let speed = self.received.saturating_sub(bytes) as f64 / active.saturating_sub(began).as_secs_f64().max(1e-3);
        (now.saturating_duration_since(self.began) >= MIN_AGE).then_some(speed)
    }

    /// Returns the age of the body without its waits.
    fn active(&self, now: Instant) -> Duration {
        let waiting = self.waiting_since.map(|since| now.saturating_duration_since(since)).unwrap_or_default();
        now.saturating_duration_since(self.began).saturating_sub(self.past_waits + waiting)
    }
}

/// The deadline for the next bytes of a body. Each byte extends it, but never beyond a maximum from now, so that a
/// sender that was fast at first cannot stall for long.
#[derive(Debug, Clone, Copy)]
pub struct ReadDeadline {
    at: Instant,
    max_lag: Duration,
    min_speed: u64,
}

impl ReadDeadline {
    /// Starts the deadline of a body that begins at `began` and must arrive at `min_speed` bytes a second. At first the
    /// body may lag behind that speed by `initial_lag`, and by up to `max_lag` after it was faster.
    #[must_use]
    pub fn new(began: Instant, initial_lag: Duration, max_lag: Duration, min_speed: u64) -> Self {
        Self { at: began + initial_lag, max_lag, min_speed }
    }

    /// Returns when the body counts as too slow, unless bytes arrive before.
    #[must_use]
    pub fn at(&self) -> Instant {
        self.at
    }

    /// Extends the deadline by the time that `bytes` more bytes may take.
    pub fn extend_for_bytes(&mut self, bytes: u64, now: Instant) {
        let allowed = Duration::from_micros(bytes.saturating_mul(1_000_000) / self.min_speed);
        self.at = (self.at + allowed).min(now + self.max_lag);
    }

    /// Extends the deadline by a time in which the server did not read the body.
    pub fn extend_by(&mut self, unread_time: Duration) {
        self.at += unread_time;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn waits_for_memory_do_not_lower_the_speed() {
        let began = Instant::now();
        let meter = |past_waits: u64, waiting_since: Option<u64>| SpeedMeter {
            past_waits: ms(past_waits),
            waiting_since: waiting_since.map(|at| began + ms(at)),
            ..SpeedMeter::new(began, 1_000)
        };
        assert_eq!(meter(0, None).speed(began + ms(999)), None);
        assert_eq!(meter(0, None).speed(began + ms(1_000)), Some(1_000.0));
        assert_eq!(meter(8_000, None).speed(began + ms(10_000)), Some(500.0));
        assert_eq!(meter(8_000, Some(9_000)).speed(began + ms(10_000)), Some(1_000.0));
        assert_eq!(meter(8_000, Some(8_000)).speed(began + ms(10_000)), Some(1e6));
    }

    #[test]
    fn a_fast_beginning_does_not_make_up_for_a_stall() {
        let began = Instant::now();
        let mut meter = SpeedMeter::new(began, 0);
        for tenth in 1..=20 {
            meter.set_received(tenth * 1_000_000, began + ms(tenth * 100));
        }
        let fast = meter.speed(began + ms(2_000)).unwrap();
        assert!((9e6..=11e6).contains(&fast), "{fast}");
        // After that, one byte arrives each second.
        for second in 3..=5 {
            meter.set_received(20_000_000 + second, began + ms(second * 1_000));
        }
        assert!(meter.speed(began + ms(5_500)).unwrap() < 10.0);
        // Then nothing arrives.
        assert_eq!(meter.speed(began + ms(60_000)).unwrap().floor(), 0.0);
        // Once bytes arrive again, the stall soon stops counting.
        meter.set_received(21_000_000, began + ms(60_100));
        meter.set_received(22_000_000, began + ms(60_200));
        assert!(meter.speed(began + ms(60_200)).unwrap() > 1e6);
    }

    #[test]
    fn bytes_extend_the_deadline_up_to_a_bound() {
        let began = Instant::now();
        let mut deadline = ReadDeadline::new(began, ms(10_000), ms(30_000), 1_000);
        assert_eq!(deadline.at(), began + ms(10_000));
        deadline.extend_for_bytes(100_000_000, began + ms(1_000));
        assert_eq!(deadline.at(), began + ms(31_000));
        deadline.extend_for_bytes(1_000, began + ms(5_000));
        assert_eq!(deadline.at(), began + ms(32_000));
        deadline.extend_by(ms(500));
        deadline.extend_for_bytes(0, began + ms(12_000));
        assert_eq!(deadline.at(), began + ms(32_500));
    }
}
