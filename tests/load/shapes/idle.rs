//! Many connections with little traffic (W3): the memory of a connection, and how fast connections come.

use std::time::{Duration, Instant};

use super::fanout::together;
use super::millis;
use crate::peer::{Peer, Running};
use crate::publisher::{Load, prepare};
use crate::table::Sample;
use crate::usage::memory;
use crate::watchers::Watchers;

/// Number of calls that the connections follow.
const TOPICS: u32 = 1000;

/// Connects `count` watchers, speaks ten turns a second, and measures the server's memory before and after.
#[must_use]
pub fn sample(peer: Peer, count: u32, database: Option<&str>) -> Sample {
    let server = Running::start(peer, database);
    prepare(&server, TOPICS);
    // What the first connections bring into memory does not belong to each connection.
    drop(Watchers::connect(&server, 0..100));
    std::thread::sleep(Duration::from_millis(500));
    let before = memory(&server.pids());
    let began = Instant::now();
    let mut watchers = Watchers::connect(&server, (0..count).map(|at| at % TOPICS));
    let connecting = began.elapsed();
    let fan = u64::from(count / TOPICS);
    let load = Load {
        first: 0,
        topics: TOPICS,
        count: None,
        rate: Some(200.0),
        time: Duration::from_secs(5),
        clients: 4,
        fan,
        window: super::WINDOW,
    };
    let mut next = Vec::new();
    let published = together(&mut watchers, &server, &load, &mut next);
    let after = memory(&server.pids());
    let seen = watchers.finish(&published.turns);
    Sample {
        peer,
        figures: vec![
            ("KB a connection", (after as f64 - before as f64) / f64::from(count) / 1000.0),
            ("connections/s", f64::from(count) / connecting.as_secs_f64()),
            ("p50 ms", millis(&seen.late, 0.5)),
            ("p99 ms", millis(&seen.late, 0.99)),
            ("lost", seen.lost as f64),
            ("doubled", seen.doubled as f64),
        ],
    }
}
