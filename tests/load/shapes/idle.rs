//! Many connections with little traffic (W3): the memory of a connection, and the connections a second.

use std::time::{Duration, Instant};

use callscope_tests::usage::pss_bytes;

use super::fanout::publish_and_read;
use super::quantile_ms;
use crate::peer::{Peer, PeerServer};
use crate::publisher::{Load, create_calls};
use crate::table::Sample;
use crate::watchers::Watchers;

/// Number of calls that the connections follow.
const TOPICS: u32 = 1000;

/// Connects `count` watchers, publishes 200 turns a second, and measures the server's memory before and after.
#[must_use]
pub fn sample(peer: Peer, count: u32, database: Option<&str>) -> Sample {
    let server = PeerServer::start(peer, database);
    create_calls(&server, TOPICS);
    // Memory that only the first connections need is not counted.
    drop(Watchers::connect(&server, 0..100));
    std::thread::sleep(Duration::from_millis(500));
    let before = pss_bytes(&server.pids());
    let began = Instant::now();
    let mut watchers = Watchers::connect(&server, (0..count).map(|index| index % TOPICS));
    let connect_time = began.elapsed();
    let (deliveries_per_turn, duration) = (u64::from(count / TOPICS), Duration::from_secs(5));
    let load = Load { rate: Some(200.0), clients: 4, deliveries_per_turn, ..Load::of(TOPICS, duration) };
    let published = publish_and_read(&mut watchers, &server, &load, &mut Vec::new());
    let after = pss_bytes(&server.pids());
    let stats = watchers.finish(&published.turns);
    Sample {
        peer,
        figures: vec![
            ("KB a connection", (after as f64 - before as f64) / f64::from(count) / 1000.0),
            ("connections/s", f64::from(count) / connect_time.as_secs_f64()),
            ("p50 ms", quantile_ms(&stats.delay_micros, 0.5)),
            ("p99 ms", quantile_ms(&stats.delay_micros, 0.99)),
            ("lost", stats.lost as f64),
            ("doubled", stats.doubled as f64),
        ],
    }
}
