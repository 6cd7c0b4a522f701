//! Two servers on one PostgreSQL and one Redis (W7): webhooks go to one, and both have subscribers.

use std::sync::atomic::Ordering;

use callscope_tests::usage::cpu_time;

use super::{micros_each, quantile_ms};
use crate::peer::{Peer, PeerServer};
use crate::publisher::{Load, create_calls, publish};
use crate::table::Sample;
use crate::watchers::{Tally, WatchStats, Watchers};

/// Subscribers at each server.
const SUBSCRIBERS: u32 = 500;

/// Publishes 50 turns a second of one call to one server, with subscribers at both.
#[must_use]
pub fn sample(peer: Peer, duration: std::time::Duration, database: &str, redis: &str) -> Sample {
    let servers = [0, 1].map(|_| PeerServer::with(peer, Some(database), &[("CALLSCOPE_REDIS_URL", redis)]));
    create_calls(&servers[0], 1);
    let mut watchers = servers.each_ref().map(|server| Watchers::connect(server, (0..SUBSCRIBERS).map(|_| 0)));
    let cpu_times = || servers.each_ref().map(|server| cpu_time(&server.pids()));
    let deliveries_per_turn = u64::from(SUBSCRIBERS);
    let load = Load { rate: Some(50.0), clients: 4, deliveries_per_turn, ..Load::of(1, duration) };
    let before = cpu_times();
    let tallies: [Tally; 2] = Default::default();
    let published = std::thread::scope(|scope| {
        for (watchers, tally) in watchers.iter_mut().zip(&tallies) {
            scope.spawn(|| watchers.follow(tally));
        }
        let published = publish(&servers[0], &load, &tallies[0], &mut Vec::new());
        // From here on, `wait_for` reads the deliveries that are still on their way.
        tallies.iter().for_each(|tally| tally.stop.store(true, Ordering::Release));
        published
    });
    watchers.iter_mut().for_each(|watchers| watchers.wait_for(published.total * load.deliveries_per_turn));
    let after = cpu_times();
    let stats: [WatchStats; 2] = watchers.map(|watchers| watchers.finish(&published.turns));
    let deliveries = published.total * load.deliveries_per_turn;
    let cost = |server: usize| micros_each(after[server] - before[server], deliveries);
    Sample {
        peer,
        figures: vec![
            ("CPU µs a delivery, where the webhooks come in", cost(0)),
            ("CPU µs a delivery, at the other", cost(1)),
            ("p50 ms, here", quantile_ms(&stats[0].delay_micros, 0.5)),
            ("p99 ms, here", quantile_ms(&stats[0].delay_micros, 0.99)),
            ("p50 ms, there", quantile_ms(&stats[1].delay_micros, 0.5)),
            ("p99 ms, there", quantile_ms(&stats[1].delay_micros, 0.99)),
            ("lost", (stats[0].lost + stats[1].lost) as f64),
            ("doubled", (stats[0].doubled + stats[1].doubled) as f64),
            ("out of order", (stats[0].disordered + stats[1].disordered) as f64),
        ],
    }
}
