//! When the next delivery may go out, over all calls at once: `--rate`, a target's `Retry-After`, and the wish to stop.

use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// Lets deliveries go, one after the other.
#[derive(Debug)]
pub(crate) struct Pace {
    gap: Duration,
    /// The next free moment.
    next: Mutex<Instant>,
    stop: watch::Sender<bool>,
}

impl Default for Pace {
    fn default() -> Self {
        Self::new(None)
    }
}

impl Pace {
    /// At most `rate`.
    pub(crate) fn new(rate: Option<Rate>) -> Self {
        let gap = rate.map_or(Duration::ZERO, |Rate(rate)| Duration::from_secs_f64(1.0 / rate));
        Self { gap, next: Mutex::new(Instant::now()), stop: watch::Sender::new(false) }
    }

    /// Waits until `due` has come and it is this one's turn; `false` when nothing more is to be sent.
    pub(crate) async fn turn(&self, due: Instant) -> bool {
        if !self.until(due).await {
            return false;
        }
        loop {
            let mine = {
                let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
                let mine = (*next).max(Instant::now());
                if mine <= Instant::now() || !self.gap.is_zero() {
                    *next = mine + self.gap;
                    Ok(mine)
                } else {
                    // Held back: the delivery that comes next finds out whether the target is still away.
                    Err(mine)
                }
            };
            match mine {
                Ok(mine) => return self.until(mine).await,
                Err(later) if !self.until(later).await => return false,
                Err(_) => {}
            }
        }
    }

    /// Nothing goes out before `wait` is over: the target asked for it.
    pub(crate) fn hold(&self, wait: Duration) {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        *next = (*next).max(Instant::now() + wait);
    }

    /// Sleeps until `at`; `false` when nothing more is to be sent.
    pub(crate) async fn until(&self, at: Instant) -> bool {
        if at <= Instant::now() {
            return !self.is_stopped();
        }
        tokio::select! {
            () = sleep_until(at) => !self.is_stopped(),
            () = self.stopped() => false,
        }
    }

    /// From now on nothing new is sent.
    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Whether [`Pace::stop`] was called.
    pub(crate) fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }

    /// Waits for [`Pace::stop`].
    pub(crate) async fn stopped(&self) {
        // The sender lives as long as `self`, so this ends only when it is so.
        let _ = self.stop.subscribe().wait_for(|stopped| *stopped).await;
    }
}

/// Deliveries a second: `50`, `50/s`, `30/m`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rate(pub(crate) f64);

/// A text that is no rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a rate is a number of deliveries a second, or 30/m, 100/h")]
pub(crate) struct InvalidRate;

impl FromStr for Rate {
    type Err = InvalidRate;

    fn from_str(text: &str) -> Result<Self, InvalidRate> {
        let (number, per) = match text.split_once('/') {
            None | Some((_, "s")) => (text.strip_suffix("/s").unwrap_or(text), 1.0),
            Some((number, "m")) => (number, 60.0),
            Some((number, "h")) => (number, 3600.0),
            Some(_) => ("", 1.0),
        };
        let rate = number.parse::<f64>().ok().map(|number| number / per);
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
        let began = Instant::now();
        for _ in 0..11 {
            assert!(pace.turn(began).await);
        }
        assert_eq!(began.elapsed().as_millis(), 1000);
    }

    #[tokio::test(start_paused = true)]
    async fn all_wait_when_the_target_asks_for_it_and_none_once_it_is_over() {
        let pace = Pace::default();
        let began = Instant::now();
        assert!(pace.turn(began).await);
        pace.hold(Duration::from_secs(3));
        assert!(pace.turn(began).await);
        assert_eq!(began.elapsed().as_secs(), 3);
        assert!(pace.turn(began).await);
        assert_eq!(began.elapsed().as_secs(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn stopping_wakes_those_that_wait() {
        let pace = Pace::default();
        let later = Instant::now() + Duration::from_secs(3600);
        let (went, ()) = tokio::join!(pace.turn(later), async { pace.stop() });
        assert!(!went && !pace.turn(Instant::now()).await);
    }

    #[test]
    fn rates_are_read() {
        assert_eq!("30/m".parse(), Ok(Rate(0.5)));
        assert_eq!("50/s".parse(), Ok(Rate(50.0)));
        for wrong in ["0", "5/d", "/s", "fast", "-1"] {
            assert!(wrong.parse::<Rate>().is_err(), "{wrong}");
        }
    }
}
