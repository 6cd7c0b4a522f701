//! Calls with subscribers: one call with many (W1), many calls with a few (W2).

use std::time::Duration;

use super::{WINDOW, figures, micros};
use crate::message::now;
use crate::peer::{Peer, Running};
use crate::publisher::{Load, Published, prepare, publish};
use crate::table::Sample;
use crate::usage::cpu;
use crate::watchers::{Seen, Tally, Watchers};

#[derive(Debug, Clone, Copy)]
pub struct Fanout {
    /// Number of calls.
    pub topics: u32,
    /// Subscribers of each call.
    pub subscribers: u32,
    /// Turns a second; `None` means as fast as they are delivered.
    pub rate: Option<f64>,
    pub time: Duration,
}

impl Fanout {
    fn load(&self) -> Load {
        Load {
            first: 0,
            count: None,
            topics: self.topics,
            rate: self.rate,
            time: self.time,
            clients: if self.rate.is_some_and(|rate| rate < 100.0) { 4 } else { 64 },
            fan: u64::from(self.subscribers),
            window: WINDOW,
        }
    }

    /// Runs the shape and, if `also_without`, shows what a turn costs without any subscriber.
    #[must_use]
    pub fn sample(&self, peer: Peer, database: Option<&str>, also_without: bool) -> Sample {
        let (cpu, published, seen) = self.run(peer, database);
        let mut figures = figures(cpu, &published, &seen);
        if also_without {
            let (alone, unheard, _) = Self { subscribers: 0, ..*self }.run(peer, database);
            let beyond = micros(cpu, published.total) - micros(alone, unheard.total);
            figures.insert(2, ("CPU µs a delivery, without ingest", beyond / f64::from(self.subscribers)));
        }
        Sample { peer, figures }
    }

    /// Runs the shape against a new server.
    #[must_use]
    pub fn run(&self, peer: Peer, database: Option<&str>) -> (Duration, Published, Seen) {
        let server = Running::start(peer, database);
        self.run_on(&server)
    }

    /// Runs the shape against a server.
    #[must_use]
    pub fn run_on(&self, server: &Running) -> (Duration, Published, Seen) {
        let load = self.load();
        prepare(server, self.topics);
        let topics = (0..self.topics).flat_map(|topic| std::iter::repeat_n(topic, self.subscribers as usize));
        let mut watchers = Watchers::connect(server, topics);
        let mut next = Vec::new();
        // The additional cost of a first turn is not measured.
        let warm = Load { rate: Some(load.rate.unwrap_or(500.0)), time: Duration::from_millis(500), ..load };
        let _ = together(&mut watchers, server, &warm, &mut next);
        watchers.forget_lateness();
        let before = cpu(&server.pids());
        let published = together(&mut watchers, server, &load, &mut next);
        let used = cpu(&server.pids()) - before;
        let mut seen = watchers.finish(&published.turns);
        seen.received -=
            u64::from(self.subscribers) * (next.iter().map(|n| u64::from(*n)).sum::<u64>() - published.total);
        (used, published, seen)
    }
}

/// Publishes while the watchers read, until everything has arrived.
pub fn together(watchers: &mut Watchers, server: &Running, load: &Load, next: &mut Vec<u32>) -> Published {
    let _ = now();
    let tally = Tally::default();
    let before = watchers.received();
    tally.received.store(before, std::sync::atomic::Ordering::Release);
    let published = std::thread::scope(|scope| {
        let reading = scope.spawn(|| watchers.follow(&tally));
        let published = publish(server, load, &tally, next);
        tally.stop.store(true, std::sync::atomic::Ordering::Release);
        reading.join().expect("the watchers' thread does not panic");
        published
    });
    watchers.settle(before + published.total * load.fan);
    published
}
