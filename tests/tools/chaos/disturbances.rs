//! How late events arrived, and the disturbances of the run that excuse a delay.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

/// Number of delays that are recorded; later ones are ignored.
const MAX_DELAYS: usize = 2_000_000;
/// How long a disturbance has effects after its end, such as reconnecting and catching up.
const AFTERMATH: Duration = Duration::from_secs(2);

/// A disturbance whose delays are left out of the staleness, or reported separately.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disturbance {
    /// A component between the provider and the followers is stopped or slow. These delays are left out.
    SlowPath,
    /// Redis is away, so servers find each other's events only when they reconcile. These delays are separate.
    NoRedis,
}

/// The disturbances and the delays of one run.
#[derive(Debug, Default)]
pub struct Disturbances {
    /// Each disturbance with its start and its end; `None` while it lasts.
    periods: Mutex<Vec<(Disturbance, Instant, Option<Instant>)>>,
    /// For each turn, the time of its acknowledgement and the time of its arrival.
    delays: Mutex<Vec<(Instant, Instant)>>,
}

/// Distribution of the delays between acknowledgement and arrival, in milliseconds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Staleness {
    pub count: usize,
    pub p50: u128,
    pub p99: u128,
    pub max: u128,
}

/// A disturbance that lasts until this guard is dropped.
#[derive(Debug)]
pub struct DisturbanceGuard<'d> {
    disturbances: &'d Disturbances,
    index: usize,
}

impl Drop for DisturbanceGuard<'_> {
    fn drop(&mut self) {
        self.disturbances.periods.lock().unwrap()[self.index].2 = Some(Instant::now());
    }
}

impl Disturbances {
    pub fn begin(&self, disturbance: Disturbance) -> DisturbanceGuard<'_> {
        let mut periods = self.periods.lock().unwrap();
        periods.push((disturbance, Instant::now(), None));
        DisturbanceGuard { disturbances: self, index: periods.len() - 1 }
    }

    /// Records that a connected subscriber received a turn at `received` that was acknowledged at `acknowledged`.
    pub fn record_delay(&self, acknowledged: Instant, received: Instant) {
        let mut delays = self.delays.lock().unwrap();
        if delays.len() < MAX_DELAYS {
            delays.push((acknowledged, received));
        }
    }

    /// Returns the staleness without any disturbance, and the staleness while Redis was away.
    #[must_use]
    pub fn staleness(&self) -> (Staleness, Staleness) {
        let (slow_path, no_redis) = (self.periods_of(Disturbance::SlowPath), self.periods_of(Disturbance::NoRedis));
        let (mut undisturbed_ms, mut no_redis_ms) = (Vec::new(), Vec::new());
        for delay in self.delays.lock().unwrap().iter() {
            let millis = delay.1.saturating_duration_since(delay.0).as_millis();
            if overlaps(&slow_path, *delay) {
                continue;
            }
            if overlaps(&no_redis, *delay) { &mut no_redis_ms } else { &mut undisturbed_ms }.push(millis);
        }
        (Staleness::of(undisturbed_ms), Staleness::of(no_redis_ms))
    }

    /// Returns the periods of this disturbance with their aftermath, in order and without overlap.
    fn periods_of(&self, disturbance: Disturbance) -> Vec<(Instant, Instant)> {
        let mut periods: Vec<(Instant, Instant)> = Vec::new();
        for (_, begin, end) in self.periods.lock().unwrap().iter().filter(|(kind, ..)| *kind == disturbance) {
            let end = end.unwrap_or_else(Instant::now) + AFTERMATH;
            match periods.last_mut() {
                Some(last) if *begin <= last.1 => last.1 = last.1.max(end),
                _ => periods.push((*begin, end)),
            }
        }
        periods
    }
}

impl Staleness {
    fn of(mut millis: Vec<u128>) -> Self {
        millis.sort_unstable();
        let at = |share: f64| {
            #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let index = (share * millis.len() as f64) as usize;
            millis.get(index.min(millis.len().saturating_sub(1))).copied().unwrap_or(0)
        };
        Self { count: millis.len(), p50: at(0.5), p99: at(0.99), max: at(1.0) }
    }
}

/// Returns whether one of the sorted `periods` overlaps the time between `from` and `to`.
fn overlaps(periods: &[(Instant, Instant)], (from, to): (Instant, Instant)) -> bool {
    let first_ending_later = periods.partition_point(|(_, end)| *end < from);
    periods.get(first_ending_later).is_some_and(|(begin, _)| *begin <= to)
}
