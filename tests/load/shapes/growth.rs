//! What stays the same when there is more of everything: the cost of a delivery by the number of subscribers, and the
//! cost of a webhook by the number of calls in the database.

use std::time::Duration;

use super::fanout::Fanout;
use super::{ingest, micros};
use crate::peer::{Peer, Running};
use crate::publisher::prepare;
use crate::table::Sample;

/// Measures what a delivery adds to a turn, with 10, 100, 1,000 and 10,000 subscribers of one call. Turns have a fixed
/// rate, so every delivery is a write of its own.
#[must_use]
pub fn subscribers(peer: Peer, time: Duration) -> Sample {
    let of = |subscribers, rate| {
        let shape = Fanout { topics: 1, subscribers, rate: Some(rate), time };
        let (used, published, _) = shape.run(peer, None);
        let (alone, unheard, _) = Fanout { subscribers: 0, ..shape }.run(peer, None);
        (micros(used, published.total) - micros(alone, unheard.total)) / f64::from(subscribers)
    };
    let figures =
        vec![("10", of(10, 1000.0)), ("100", of(100, 250.0)), ("1,000", of(1_000, 50.0)), ("10,000", of(10_000, 5.0))];
    Sample { peer, figures }
}

/// Measures a webhook with 10 and with 100,000 calls in the database.
#[must_use]
pub fn calls(peer: Peer, time: Duration) -> Sample {
    let of = |calls: u32| {
        let server = Running::start(peer, None);
        prepare(&server, calls);
        let sample = ingest::sample_on(&server, 64, 10, time, None);
        sample.figures.iter().find(|(name, _)| name.starts_with("CPU")).map_or(0.0, |(_, value)| *value)
    };
    let (few, many) = (of(10), of(100_000));
    Sample { peer, figures: vec![("10 calls, µs", few), ("100,000 calls, µs", many), ("ratio", many / few)] }
}
