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
use crate::watchers::WatchStats;

/// Returns a quantile of the sorted microseconds, in milliseconds.
pub fn quantile_ms(sorted_micros: &[u32], quantile: f64) -> f64 {
    f64::from(callscope_tests::quantile(sorted_micros, quantile)) / 1000.0
}

/// Returns `time` divided by `count`, in microseconds.
pub fn micros_each(time: Duration, count: u64) -> f64 {
    time.as_secs_f64() * 1e6 / count.max(1) as f64
}

/// Returns the columns of a table about deliveries to watchers.
pub fn figures(cpu: Duration, published: &Published, stats: &WatchStats) -> Vec<(&'static str, f64)> {
    vec![
        ("CPU µs a turn", micros_each(cpu, published.total)),
        ("CPU µs a delivery", micros_each(cpu, stats.received)),
        ("turns/s", published.total as f64 / published.elapsed.as_secs_f64()),
        ("p50 ms", quantile_ms(&stats.delay_micros, 0.5)),
        ("p99 ms", quantile_ms(&stats.delay_micros, 0.99)),
        ("p99.9 ms", quantile_ms(&stats.delay_micros, 0.999)),
        ("lost", stats.lost as f64),
        ("doubled", stats.doubled as f64),
        ("out of order", stats.disordered as f64),
    ]
}
