//! Webhooks without followers (W4).

use std::time::Duration;

use super::{micros, millis};
use crate::peer::{Peer, Running};
use crate::publisher::{Load, prepare, publish};
use crate::table::Sample;
use crate::usage::{cpu, family};
use crate::watchers::Tally;

/// Number of calls that the webhooks belong to.
const TOPICS: u32 = 1000;

/// Sends signed webhooks over `clients` connections as fast as they are answered. `database` is a PostgreSQL's URL and
/// process.
#[must_use]
pub fn sample(peer: Peer, clients: usize, time: Duration, database: Option<(&str, u32)>) -> Sample {
    let server = Running::start(peer, database.map(|(url, _)| url));
    prepare(&server, TOPICS);
    sample_on(&server, clients, TOPICS, time, database.map(|(_, pid)| pid))
}

/// Does the same with a server that runs, for its first calls.
#[must_use]
pub fn sample_on(server: &Running, clients: usize, calls: u32, time: Duration, database: Option<u32>) -> Sample {
    let load = Load { first: 0, topics: calls, count: None, rate: None, time, clients, fan: 0, window: 0 };
    let (tally, mut next) = (Tally::default(), Vec::new());
    let _ = publish(server, &Load { time: Duration::from_millis(500), ..load }, &tally, &mut next);
    let stored = || cpu(&database.map(family).unwrap_or_default());
    let before = (cpu(&server.pids()), stored());
    let published = publish(server, &load, &tally, &mut next);
    let used = cpu(&server.pids()) - before.0;
    let of_database = stored().saturating_sub(before.1);
    Sample {
        peer: server.peer,
        figures: vec![
            ("acknowledged/s", published.total as f64 / published.elapsed.as_secs_f64()),
            ("CPU µs a webhook", micros(used, published.total)),
            ("and of the database", micros(of_database, published.total)),
            ("p50 ms", millis(&published.answered, 0.5)),
            ("p99 ms", millis(&published.answered, 0.99)),
        ],
    }
}
