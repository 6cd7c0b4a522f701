//! Two servers on one PostgreSQL and one Redis (W7): webhooks go to one, and both have subscribers.

use std::sync::atomic::Ordering;

use super::{WINDOW, micros, millis};
use crate::peer::{Peer, Running};
use crate::publisher::{Load, prepare, publish};
use crate::table::Sample;
use crate::usage::cpu;
use crate::watchers::{Seen, Tally, Watchers};

/// Subscribers at each server.
const SUBSCRIBERS: u32 = 500;

/// Runs one call with subscribers at both servers, with 50 turns a second.
#[must_use]
pub fn sample(peer: Peer, time: std::time::Duration, database: &str, redis: &str) -> Sample {
    let servers = [0, 1].map(|_| Running::with(peer, Some(database), &[("CALLSCOPE_REDIS_URL", redis)]));
    prepare(&servers[0], 1);
    let mut watchers = servers.each_ref().map(|server| Watchers::connect(server, (0..SUBSCRIBERS).map(|_| 0)));
    let used = || servers.each_ref().map(|server| cpu(&server.pids()));
    let load = Load {
        first: 0,
        topics: 1,
        rate: Some(50.0),
        count: None,
        time,
        clients: 4,
        fan: u64::from(SUBSCRIBERS),
        window: WINDOW,
    };
    let before = used();
    let tallies: [Tally; 2] = Default::default();
    let published = std::thread::scope(|scope| {
        for (watchers, tally) in watchers.iter_mut().zip(&tallies) {
            scope.spawn(|| watchers.follow(tally));
        }
        let published = publish(&servers[0], &load, &tallies[0], &mut Vec::new());
        // Each server's subscribers read to the end by themselves.
        tallies.iter().for_each(|tally| tally.stop.store(true, Ordering::Release));
        published
    });
    watchers.iter_mut().for_each(|watchers| watchers.settle(published.total * load.fan));
    let after = used();
    let seen: [Seen; 2] = watchers.map(|watchers| watchers.finish(&published.turns));
    let deliveries = published.total * load.fan;
    let cost = |at: usize| micros(after[at] - before[at], deliveries);
    Sample {
        peer,
        figures: vec![
            ("CPU µs a delivery, where the webhooks come in", cost(0)),
            ("CPU µs a delivery, at the other", cost(1)),
            ("p50 ms, here", millis(&seen[0].late, 0.5)),
            ("p99 ms, here", millis(&seen[0].late, 0.99)),
            ("p50 ms, there", millis(&seen[1].late, 0.5)),
            ("p99 ms, there", millis(&seen[1].late, 0.99)),
            ("lost", (seen[0].lost + seen[1].lost) as f64),
            ("doubled", (seen[0].doubled + seen[1].doubled) as f64),
            ("out of order", (seen[0].disordered + seen[1].disordered) as f64),
        ],
    }
}
