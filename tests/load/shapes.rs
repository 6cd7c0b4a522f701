//! The shapes of load, each of which makes a table.

pub mod cluster;
pub mod fanout;
pub mod growth;
pub mod idle;
pub mod ingest;
pub mod mixed;
pub mod storm;
pub mod strangers;

use std::time::Duration;

use crate::publisher::Published;
use crate::watchers::Seen;

/// Limit of the turns in progress if a shape goes as fast as it can.
pub const WINDOW: u64 = 512;

/// Returns in milliseconds the value below which the share `of` the sorted microseconds lies.
pub fn millis(sorted: &[u32], of: f64) -> f64 {
    f64::from(callscope_tests::quantile(sorted, of)) / 1000.0
}

/// Returns the microseconds for each of `count`.
pub fn micros(time: Duration, count: u64) -> f64 {
    time.as_secs_f64() * 1e6 / count.max(1) as f64
}

/// Returns the figures of every shape with watchers.
pub fn figures(cpu: Duration, published: &Published, seen: &Seen) -> Vec<(&'static str, f64)> {
    vec![
        ("CPU µs a turn", micros(cpu, published.total)),
        ("CPU µs a delivery", micros(cpu, seen.received)),
        ("turns/s", published.total as f64 / published.elapsed.as_secs_f64()),
        ("p50 ms", millis(&seen.late, 0.5)),
        ("p99 ms", millis(&seen.late, 0.99)),
        ("p99.9 ms", millis(&seen.late, 0.999)),
        ("lost", seen.lost as f64),
        ("doubled", seen.doubled as f64),
        ("out of order", seen.disordered as f64),
    ]
}
