//! A resume storm (W6): clients come back all at once, each a thousand events behind, while a live call goes on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::fanout::together;
use super::{WINDOW, millis};
use crate::peer::{Peer, Running};
use crate::publisher::{Load, Published, prepare, publish};
use crate::table::Sample;
use crate::watchers::{Seen, StartAt, Tally, Watchers};

/// The topic of the live call.
const LIVE: u32 = 0;
/// Subscribers of the live call.
const WATCHING: u32 = 200;
/// Calls that the clients resume.
const CALLS: u32 = 50;
/// Events that each client missed.
const MISSED: u32 = 1000;

/// Measures the lateness of a live call's deliveries with and without `clients` coming back.
#[must_use]
pub fn sample(peer: Peer, clients: u32, time: Duration, database: Option<&str>) -> Sample {
    let server = Running::start(peer, database);
    prepare(&server, 1 + CALLS);
    // The live call has none, because its turns count from 0.
    let history = Load {
        first: 1,
        topics: CALLS,
        rate: None,
        count: Some(u64::from(CALLS * MISSED)),
        time: Duration::from_secs(600),
        clients: 64,
        fan: 0,
        window: WINDOW,
    };
    let mut past = Vec::new();
    let published = publish(&server, &history, &Tally::default(), &mut past);
    let live = Load {
        first: LIVE,
        topics: 1,
        rate: Some(50.0),
        count: None,
        time,
        clients: 4,
        fan: u64::from(WATCHING),
        window: WINDOW,
    };

    let (calm, ..) = watch(&server, &live, || true);
    let is_over = AtomicBool::new(false);
    let (stormy, came_back) = std::thread::scope(|scope| {
        let storm = scope.spawn(|| {
            let came_back = storm(&server, clients, &published);
            is_over.store(true, Ordering::Release);
            came_back
        });
        let live = Load { time: Duration::from_millis(500), ..live };
        let stormy = watch(&server, &live, || is_over.load(Ordering::Acquire));
        (stormy, storm.join().expect("the storm's thread does not panic"))
    });
    let (resumed, took) = came_back;
    let (stormy, published) = stormy;
    drop(published);
    Sample {
        peer,
        figures: vec![
            ("p50 ms calm", millis(&calm.late, 0.5)),
            ("p99 ms calm", millis(&calm.late, 0.99)),
            ("p50 ms in the storm", millis(&stormy.late, 0.5)),
            ("p99 ms in the storm", millis(&stormy.late, 0.99)),
            ("p99 ÷ p99", millis(&stormy.late, 0.99) / millis(&calm.late, 0.99)),
            ("storm s", took.as_secs_f64()),
            ("events/s", resumed.received as f64 / took.as_secs_f64()),
            ("lost", (calm.lost + stormy.lost + resumed.lost) as f64),
            ("doubled", (calm.doubled + stormy.doubled + resumed.doubled) as f64),
            ("out of order", (calm.disordered + stormy.disordered + resumed.disordered) as f64),
        ],
    }
}

/// Follows the live call while turns go to it, until `is_over`.
fn watch(server: &Running, load: &Load, is_over: impl Fn() -> bool) -> (Seen, Published) {
    let mut watchers = Watchers::connect(server, (0..WATCHING).map(|_| LIVE));
    let mut next = Vec::new();
    loop {
        let published = together(&mut watchers, server, load, &mut next);
        if is_over() {
            return (watchers.finish(&next), published);
        }
    }
}

/// Lets all clients come back; returns what they received, and how long it took.
fn storm(server: &Running, clients: u32, published: &Published) -> (Seen, Duration) {
    let began = Instant::now();
    let mut watchers = Watchers::new(server);
    // The call's first event is the one that created it.
    let start = StartAt { after: Some(1), first: 0 };
    watchers.join(server, (0..clients).map(|at| (1 + at % CALLS, start)));
    watchers.settle(u64::from(clients * MISSED));
    let took = began.elapsed();
    (watchers.finish(&published.turns), took)
}
