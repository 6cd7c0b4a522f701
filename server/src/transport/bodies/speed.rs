//! The speed of an arriving body, and the deadline for its next bytes.

use std::time::Duration;

use tokio::time::Instant;

/// Speed is measured over one to two of these windows.
const WINDOW: Duration = Duration::from_secs(1);
/// Age from which the speed of a body is known, and from which it can be evicted.
const MIN_AGE: Duration = Duration::from_secs(1);

/// Measures the recent speed of a body. An average over its whole life would let a fast start make up for standing
/// still.
#[derive(Debug)]
pub(super) struct SpeedMeter {
    began: Instant,
    /// Time that the body waited for memory, for which its sender is not to blame.
    waited: Duration,
    /// When the present wait for memory began.
    waits: Option<Instant>,
    received: u64,
    /// The beginning of the present window and of the one before: the time without waits, and the bytes received by
    /// then.
    windows: [(Duration, u64); 2],
}

impl SpeedMeter {
    pub fn new(began: Instant, received: u64) -> Self {
        Self { began, waited: Duration::ZERO, waits: None, received, windows: [(Duration::ZERO, 0); 2] }
    }

    /// Returns how long the body has waited for memory so far.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// Notes that a wait for memory begins or ends at `now`.
    pub fn wait(&mut self, waits: bool, now: Instant) {
        if let Some(since) = self.waits.take() {
            self.waited += now.saturating_duration_since(since);
        }
        self.waits = waits.then_some(now);
    }

    /// Notes how many bytes have arrived in all.
    pub fn received(&mut self, bytes: u64, now: Instant) {
        let active = self.active(now);
        match active.saturating_sub(self.windows[0].0) {
            // Of a silence, no more than one window counts.
            age if age >= 2 * WINDOW => self.windows = [(active - WINDOW, self.received); 2],
            age if age >= WINDOW => self.windows = [(active, self.received), self.windows[0]],
            _ => {}
        }
        self.received = bytes;
    }

    /// Returns the bytes a second, or `None` while the body is too young to tell.
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
        let waiting = self.waits.map(|since| now.saturating_duration_since(since)).unwrap_or_default();
        now.saturating_duration_since(self.began).saturating_sub(self.waited + waiting)
    }
}

/// The deadline for the next bytes. Each byte extends it, up to a bound, so that a sender that was fast at first cannot
/// stand still for long.
#[derive(Debug, Clone, Copy)]
pub struct ReadDeadline {
    at: Instant,
    most: Duration,
    speed: u64,
}

impl ReadDeadline {
    /// Starts the deadline of a body that begins at `began` and has to bring `speed` bytes a second. The body may be
    /// late by `grace` at first, and by up to `most` after it was faster than required.
    #[must_use]
    pub fn new(began: Instant, grace: Duration, most: Duration, speed: u64) -> Self {
        Self { at: began + grace, most, speed }
    }

    /// Returns when the body counts as too slow, unless bytes arrive before.
    #[must_use]
    pub fn at(&self) -> Instant {
        self.at
    }

    /// Extends the deadline for bytes that arrived.
    pub fn received(&mut self, bytes: u64, now: Instant) {
        let bought = Duration::from_micros(bytes.saturating_mul(1_000_000) / self.speed);
        self.at = (self.at + bought).min(now + self.most);
    }

    /// Extends the deadline by a time in which the body was not read for a reason other than its sender.
    pub fn waited(&mut self, time: Duration) {
        self.at += time;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn speed_is_that_of_the_time_that_was_not_waited() {
        let began = Instant::now();
        let meter = |waited: u64, waits: Option<u64>| SpeedMeter {
            waited: ms(waited),
            waits: waits.map(|at| began + ms(at)),
            ..SpeedMeter::new(began, 1_000)
        };
        assert_eq!(meter(0, None).speed(began + ms(999)), None);
        assert_eq!(meter(0, None).speed(began + ms(1_000)), Some(1_000.0));
        assert_eq!(meter(8_000, None).speed(began + ms(10_000)), Some(500.0));
        assert_eq!(meter(8_000, Some(9_000)).speed(began + ms(10_000)), Some(1_000.0));
        assert_eq!(meter(8_000, Some(8_000)).speed(began + ms(10_000)), Some(1e6));
    }

    #[test]
    fn a_quick_beginning_does_not_make_up_for_standing_still() {
        let began = Instant::now();
        let mut meter = SpeedMeter::new(began, 0);
        for tenth in 1..=20 {
            meter.received(tenth * 1_000_000, began + ms(tenth * 100));
        }
        let quick = meter.speed(began + ms(2_000)).unwrap();
        assert!((9e6..=11e6).contains(&quick), "{quick}");
        // After that it brings one byte a second.
        for second in 3..=5 {
            meter.received(20_000_000 + second, began + ms(second * 1_000));
        }
        assert!(meter.speed(began + ms(5_500)).unwrap() < 10.0);
        // Then it brings nothing.
        assert_eq!(meter.speed(began + ms(60_000)).unwrap().floor(), 0.0);
        // Once it continues, the silence is soon forgotten.
        meter.received(21_000_000, began + ms(60_100));
        meter.received(22_000_000, began + ms(60_200));
        assert!(meter.speed(began + ms(60_200)).unwrap() > 1e6);
    }

    #[test]
    fn bytes_buy_time_up_to_a_bound() {
        let began = Instant::now();
        let mut due = ReadDeadline::new(began, ms(10_000), ms(30_000), 1_000);
        assert_eq!(due.at(), began + ms(10_000));
        due.received(100_000_000, began + ms(1_000));
        assert_eq!(due.at(), began + ms(31_000));
        due.received(1_000, began + ms(5_000));
        assert_eq!(due.at(), began + ms(32_000));
        due.waited(ms(500));
        due.received(0, began + ms(12_000));
        assert_eq!(due.at(), began + ms(32_500));
    }
}
