//! Webhooks without followers (W4).

use std::time::Duration;

use callscope_tests::usage::{cpu_time, process_tree};

use super::{micros_each, quantile_ms};
use crate::peer::{Peer, PeerServer};
use crate::publisher::{Load, create_calls, publish};
use crate::table::Sample;
use crate::watchers::Tally;

/// Number of calls that the webhooks belong to.
const TOPICS: u32 = 1000;

/// Sends signed webhooks over `clients` connections as fast as they are answered. `database` holds the URL and the
/// process id of PostgreSQL.
#[must_use]
pub fn sample(peer: Peer, clients: usize, duration: Duration, database: Option<(&str, u32)>) -> Sample {
    let server = PeerServer::start(peer, database.map(|(url, _)| url));
    create_calls(&server, TOPICS);
    sample_on(&server, clients, TOPICS, duration, database.map(|(_, pid)| pid))
}

/// Does the same with a running server whose first `calls` topics exist. `database` is the process id of PostgreSQL.
#[must_use]
pub fn sample_on(server: &PeerServer, clients: usize, calls: u32, duration: Duration, database: Option<u32>) -> Sample {
    let load = Load { clients, ..Load::of(calls, duration) };
    let (tally, mut next_turns) = (Tally::default(), Vec::new());
    // The first turns cost more, so they are not measured.
    let _ = publish(server, &Load { duration: Duration::from_millis(500), ..load }, &tally, &mut next_turns);
    let database_cpu = || cpu_time(&database.map(process_tree).unwrap_or_default());
    let before = (cpu_time(&server.pids()), database_cpu());
    let published = publish(server, &load, &tally, &mut next_turns);
    let used = cpu_time(&server.pids()) - before.0;
    let database_used = database_cpu().saturating_sub(before.1);
    Sample {
        peer: server.peer,
        figures: vec![
            ("acknowledged/s", published.total as f64 / published.elapsed.as_secs_f64()),
            ("CPU µs a webhook", micros_each(used, published.total)),
            ("and of the database", micros_each(database_used, published.total)),
            ("p50 ms", quantile_ms(&published.answer_micros, 0.5)),
            ("p99 ms", quantile_ms(&published.answer_micros, 0.99)),
        ],
    }
}
