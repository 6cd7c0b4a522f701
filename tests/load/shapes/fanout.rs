//! Calls with subscribers: one call with many (W1), many calls with a few (W2).

use std::time::Duration;

use callscope_tests::usage::cpu_time;

use super::{figures, micros_each};
use crate::message::now;
use crate::peer::{Peer, PeerServer};
use crate::publisher::{Load, Published, create_calls, publish};
use crate::table::Sample;
use crate::watchers::{Tally, WatchStats, Watchers};

#[derive(Debug, Clone, Copy)]
pub struct Fanout {
    /// Number of calls.
    pub topics: u32,
    /// Subscribers of each call.
    pub subscribers: u32,
    /// Turns a second; `None` means as fast as they are delivered.
    pub rate: Option<f64>,
    pub duration: Duration,
}

impl Fanout {
    fn load(&self) -> Load {
        // A slow rate needs few connections.
        let clients = if self.rate.is_some_and(|rate| rate < 100.0) { 4 } else { 64 };
        let deliveries_per_turn = u64::from(self.subscribers);
        Load { rate: self.rate, clients, deliveries_per_turn, ..Load::of(self.topics, self.duration) }
    }

    /// Runs the shape. If `subtract_ingest`, it is also run without subscribers, and a column shows the cost of a
    /// delivery without that of the webhook.
    #[must_use]
    pub fn sample(&self, peer: Peer, database: Option<&str>, subtract_ingest: bool) -> Sample {
        let (cpu, published, stats) = self.run(peer, database);
        let mut figures = figures(cpu, &published, &stats);
        if subtract_ingest {
            let (ingest_cpu, ingested, _) = Self { subscribers: 0, ..*self }.run(peer, database);
            let fanout = micros_each(cpu, published.total) - micros_each(ingest_cpu, ingested.total);
            figures.insert(2, ("CPU µs a delivery, without ingest", fanout / f64::from(self.subscribers)));
        }
        Sample { peer, figures }
    }

    /// Runs the shape against a new server and returns its CPU time, the published turns and the deliveries.
    #[must_use]
    pub fn run(&self, peer: Peer, database: Option<&str>) -> (Duration, Published, WatchStats) {
        let server = PeerServer::start(peer, database);
        self.run_on(&server)
    }

    /// Does the same against a running server.
    #[must_use]
    pub fn run_on(&self, server: &PeerServer) -> (Duration, Published, WatchStats) {
        let load = self.load();
        create_calls(server, self.topics);
        let topics = (0..self.topics).flat_map(|topic| std::iter::repeat_n(topic, self.subscribers as usize));
        let mut watchers = Watchers::connect(server, topics);
        let mut next_turns = Vec::new();
        // The first turns cost more, so they are not measured.
        let warm_up = Load { rate: Some(load.rate.unwrap_or(500.0)), duration: Duration::from_millis(500), ..load };
        let _ = publish_and_read(&mut watchers, server, &warm_up, &mut next_turns);
        watchers.discard_delays();
        let before = cpu_time(&server.pids());
        let published = publish_and_read(&mut watchers, server, &load, &mut next_turns);
        let used = cpu_time(&server.pids()) - before;
        let mut stats = watchers.finish(&published.turns);
        let warm_up_turns = next_turns.iter().map(|turns| u64::from(*turns)).sum::<u64>() - published.total;
        stats.received -= u64::from(self.subscribers) * warm_up_turns;
        (used, published, stats)
    }
}

/// Publishes while the watchers read, and waits until all deliveries have arrived.
pub fn publish_and_read(
    watchers: &mut Watchers,
    server: &PeerServer,
    load: &Load,
    next_turns: &mut Vec<u32>,
) -> Published {
    // The first reading of the clock is its zero, before any turn is due.
    let _ = now();
    let tally = Tally::default();
    let before = watchers.received();
    tally.received.store(before, std::sync::atomic::Ordering::Release);
    let published = std::thread::scope(|scope| {
        let reader = scope.spawn(|| watchers.follow(&tally));
        let published = publish(server, load, &tally, next_turns);
        tally.stop.store(true, std::sync::atomic::Ordering::Release);
        reader.join().expect("the watchers' thread does not panic");
        published
    });
    watchers.wait_for(before + published.total * load.deliveries_per_turn);
    published
}
