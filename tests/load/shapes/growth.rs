//! Growth: the cost of a delivery by the number of subscribers, and the cost of a webhook by the number of calls in the
//! database. Neither should grow.

use std::time::Duration;

use super::fanout::Fanout;
use super::{ingest, micros_each};
use crate::peer::{Peer, PeerServer};
use crate::publisher::create_calls;
use crate::table::Sample;

/// Measures the cost that a delivery adds to a turn, with 10 to 10,000 subscribers of one call. The rates are low, so
/// that deliveries are not joined into one write.
#[must_use]
pub fn by_subscribers(peer: Peer, duration: Duration) -> Sample {
    let cost = |subscribers, rate| {
        let shape = Fanout { topics: 1, subscribers, rate: Some(rate), duration };
        let (used, published, _) = shape.run(peer, None);
        let (ingest_cpu, ingested, _) = Fanout { subscribers: 0, ..shape }.run(peer, None);
        (micros_each(used, published.total) - micros_each(ingest_cpu, ingested.total)) / f64::from(subscribers)
    };
    let (ten, hundred) = (cost(10, 1000.0), cost(100, 250.0));
    let figures = vec![("10", ten), ("100", hundred), ("1,000", cost(1_000, 50.0)), ("10,000", cost(10_000, 5.0))];
    Sample { peer, figures }
}

/// Measures a webhook with 10 and with 100,000 calls in the database.
#[must_use]
pub fn by_calls(peer: Peer, duration: Duration) -> Sample {
    let cost = |calls: u32| {
        let server = PeerServer::start(peer, None);
        create_calls(&server, calls);
        let sample = ingest::sample_on(&server, 64, 10, duration, None);
        sample.figures.iter().find(|(name, _)| name.starts_with("CPU")).map_or(0.0, |(_, value)| *value)
    };
    let (few, many) = (cost(10), cost(100_000));
    Sample { peer, figures: vec![("10 calls, µs", few), ("100,000 calls, µs", many), ("ratio", many / few)] }
}
