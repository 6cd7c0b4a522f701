//! Decides when the next delivery of any call may be sent: by `--rate`, by the target's `Retry-After`, and by a stop.

use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// A rate limiter that all deliveries share, which can also pause and stop them.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Time between two deliveries; zero without a rate.
    interval: Duration,
    /// When the next delivery may be sent.
    next_slot: Mutex<Instant>,
    stop: watch::Sender<bool>,
}

impl Default for Pace {
    fn default() -> Self {
        Self::new(None)
    }
}

impl Pace {
    /// Without a rate, only [`Pace::pause`] delays a delivery.
    pub(crate) fn new(rate: Option<Rate>) -> Self {
        let interval = rate.map_or(Duration::ZERO, |Rate(rate)| Duration::from_secs_f64(1.0 / rate));
        Self { interval, next_slot: Mutex::new(Instant::now()), stop: watch::Sender::new(false) }
    }

    /// Waits until `due` and until a slot is free. Returns `false` if the sending was stopped.
    pub(crate) async fn wait_for_slot(&self, due: Instant) -> bool {
        if !self.sleep_until(due).await {
            return false;
        }
        loop {
            let slot = {
                let mut next_slot = self.next_slot.lock().unwrap_or_else(PoisonError::into_inner);
                let slot = (*next_slot).max(Instant::now());
                if slot <= Instant::now() || !self.interval.is_zero() {
                    *next_slot = slot + self.interval;
                    Ok(slot)
                } else {
                    // Paused, without a rate: the slot is looked up again after the pause, which may have become
                    // longer.
                    Err(slot)
                }
            };
            match slot {
                Ok(slot) => return self.sleep_until(slot).await,
                Err(pause_end) if !self.sleep_until(pause_end).await => return false,
                Err(_) => {}
            }
        }
    }

    /// Sends nothing for at least `wait`, which the target asked for.
    pub(crate) fn pause(&self, wait: Duration) {
        let mut next_slot = self.next_slot.lock().unwrap_or_else(PoisonError::into_inner);
        *next_slot = (*next_slot).max(Instant::now() + wait);
    }

    /// Sleeps until `at`. Returns `false` if the sending was stopped.
    pub(crate) async fn sleep_until(&self, at: Instant) -> bool {
        if at <= Instant::now() {
            return !self.is_stopped();
        }
        tokio::select! {
            () = sleep_until(at) => !self.is_stopped(),
            () = self.stopped() => false,
        }
    }

    /// Stops the sending of deliveries and wakes those that wait.
    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }

    /// Waits until [`Pace::stop`] is called.
    pub(crate) async fn stopped(&self) {
        // An error would mean that the sender is gone, but `self` owns it.
        let _ = self.stop.subscribe().wait_for(|stopped| *stopped).await;
    }
}

/// Deliveries per second, written `50`, `50/s`, `30/m` or `100/h`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rate(pub(crate) f64);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a rate is a number of deliveries a second, or 30/m, 100/h")]
pub(crate) struct InvalidRate;

impl FromStr for Rate {
    type Err = InvalidRate;

    fn from_str(text: &str) -> Result<Self, InvalidRate> {
        let (number, unit_secs) = match text.split_once('/') {
            None | Some((_, "s")) => (text.strip_suffix("/s").unwrap_or(text), 1.0),
            Some((number, "m")) => (number, 60.0),
            Some((number, "h")) => (number, 3600.0),
            // An unknown unit: the empty text is not a number.
            Some(_) => ("", 1.0),
        };
        let rate = number.parse::<f64>().ok().map(|number| number / unit_secs);
        let rate = rate.filter(|rate| (0.0001..=100_000.0).contains(rate));
        rate.map(Self).ok_or(InvalidRate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_rate_spaces_deliveries_evenly() {
        let pace = Pace::new(Some(Rate(10.0)));
        let started = Instant::now();
        for _ in 0..11 {
            assert!(pace.wait_for_slot(started).await);
        }
        assert_eq!(started.elapsed().as_millis(), 1000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_delays_all_deliveries_until_it_is_over() {
        let pace = Pace::default();
        let started = Instant::now();
        assert!(pace.wait_for_slot(started).await);
        pace.pause(Duration::from_secs(3));
        assert!(pace.wait_for_slot(started).await);
        assert_eq!(started.elapsed().as_secs(), 3);
        assert!(pace.wait_for_slot(started).await);
        assert_eq!(started.elapsed().as_secs(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn stopping_wakes_waiting_deliveries() {
        let pace = Pace::default();
        let later = Instant::now() + Duration::from_secs(3600);
        let (may_send, ()) = tokio::join!(pace.wait_for_slot(later), async { pace.stop() });
        assert!(!may_send && !pace.wait_for_slot(Instant::now()).await);
    }

    #[test]
    fn rates_are_parsed() {
        assert_eq!("30/m".parse(), Ok(Rate(0.5)));
        assert_eq!("50/s".parse(), Ok(Rate(50.0)));
        for wrong in ["0", "5/d", "/s", "fast", "-1"] {
            assert!(wrong.parse::<Rate>().is_err(), "{wrong}");
        }
    }
}
