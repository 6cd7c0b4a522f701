//! How late events came, and which disturbances of the run explain it.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

/// Number of samples kept; further ones are not measured.
const MAX_SAMPLES: usize = 2_000_000;
/// How long a disturbance has effects after its end, such as reconnecting and catching up.
const AFTERMATH: Duration = Duration::from_secs(2);

/// A disturbance that makes events late without the server's fault, or that the table counts separately.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disturbance {
    /// Something that an event has to pass is stopped or slow.
    Rough,
    /// Redis is away, so servers learn of each other's events only by comparing heads.
    NoRedis,
}

/// The disturbances and the samples of one run.
#[derive(Debug, Default)]
pub struct Disturbances {
    periods: Mutex<Vec<(Disturbance, Instant, Option<Instant>)>>,
    samples: Mutex<Vec<(Instant, Instant)>>,
}

/// Distribution of latencies, in milliseconds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Staleness {
    pub count: usize,
    pub p50: u128,
    pub p99: u128,
    pub max: u128,
}

/// A disturbance that lasts until this guard is dropped.
#[derive(Debug)]
pub struct DisturbanceGuard<'l> {
    log: &'l Disturbances,
    at: usize,
}

impl Drop for DisturbanceGuard<'_> {
    fn drop(&mut self) {
        self.log.periods.lock().unwrap()[self.at].2 = Some(Instant::now());
    }
}

impl Disturbances {
    pub fn begin(&self, disturbance: Disturbance) -> DisturbanceGuard<'_> {
        let mut periods = self.periods.lock().unwrap();
        periods.push((disturbance, Instant::now(), None));
        DisturbanceGuard { log: self, at: periods.len() - 1 }
    }

    /// Records that a connected subscriber received at `received` what was acknowledged at `acknowledged`.
    pub fn sample(&self, acknowledged: Instant, received: Instant) {
        let mut samples = self.samples.lock().unwrap();
        if samples.len() < MAX_SAMPLES {
            samples.push((acknowledged, received));
        }
    }

    /// Returns the staleness of undisturbed times, and the staleness while Redis was away.
    #[must_use]
    pub fn staleness(&self) -> (Staleness, Staleness) {
        let (rough, away) = (self.times_of(Disturbance::Rough), self.times_of(Disturbance::NoRedis));
        let (mut fair, mut no_redis) = (Vec::new(), Vec::new());
        for sample in self.samples.lock().unwrap().iter() {
            let millis = sample.1.saturating_duration_since(sample.0).as_millis();
            if lies_in(&rough, *sample) {
                continue;
            }
            if lies_in(&away, *sample) { &mut no_redis } else { &mut fair }.push(millis);
        }
        (Staleness::of(fair), Staleness::of(no_redis))
    }

    /// Returns the periods of this disturbance with their aftermath, in order and without overlap.
    fn times_of(&self, disturbance: Disturbance) -> Vec<(Instant, Instant)> {
        let mut times: Vec<(Instant, Instant)> = Vec::new();
        for (_, begin, end) in self.periods.lock().unwrap().iter().filter(|(kind, ..)| *kind == disturbance) {
            let end = end.unwrap_or_else(Instant::now) + AFTERMATH;
            match times.last_mut() {
                Some(last) if *begin <= last.1 => last.1 = last.1.max(end),
                _ => times.push((*begin, end)),
            }
        }
        times
    }
}

impl Staleness {
    fn of(mut millis: Vec<u128>) -> Self {
        millis.sort_unstable();
        let at = |share: f64| {
            #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let place = (share * millis.len() as f64) as usize;
            millis.get(place.min(millis.len().saturating_sub(1))).copied().unwrap_or(0)
        };
        Self { count: millis.len(), p50: at(0.5), p99: at(0.99), max: at(1.0) }
    }
}

fn lies_in(times: &[(Instant, Instant)], (from, to): (Instant, Instant)) -> bool {
    let next = times.partition_point(|(_, end)| *end < from);
    times.get(next).is_some_and(|(begin, _)| *begin <= to)
}
