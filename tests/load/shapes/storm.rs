//! A resume storm (W6): many clients reconnect at once and resume a thousand events behind, while a live call goes on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::fanout::publish_and_read;
use super::quantile_ms;
use crate::peer::{Peer, PeerServer};
use crate::publisher::{Load, Published, create_calls, publish};
use crate::table::Sample;
use crate::watchers::{StartAt, Tally, WatchStats, Watchers};

/// The topic of the live call.
const LIVE: u32 = 0;
/// Subscribers of the live call.
const LIVE_SUBSCRIBERS: u32 = 200;
/// Calls that the clients resume. Their topics follow that of the live call.
const RESUMED_CALLS: u32 = 50;
/// Events that each client has missed.
const MISSED_EVENTS: u32 = 1000;

/// Measures the delays of a live call's deliveries without a storm, and while `clients` resume.
#[must_use]
pub fn sample(peer: Peer, clients: u32, duration: Duration, database: Option<&str>) -> Sample {
    let server = PeerServer::start(peer, database);
    create_calls(&server, 1 + RESUMED_CALLS);
    // The live call gets no history, because `follow_live` numbers its turns from 0.
    let max_turns = Some(u64::from(RESUMED_CALLS * MISSED_EVENTS));
    let history = Load { first_topic: 1, max_turns, ..Load::of(RESUMED_CALLS, Duration::from_secs(600)) };
    let published = publish(&server, &history, &Tally::default(), &mut Vec::new());
    let deliveries_per_turn = u64::from(LIVE_SUBSCRIBERS);
    let live = Load { first_topic: LIVE, rate: Some(50.0), clients: 4, deliveries_per_turn, ..Load::of(1, duration) };

    let calm = follow_live(&server, &live, || true);
    let is_over = AtomicBool::new(false);
    let (stormy, (resumed, storm_time)) = std::thread::scope(|scope| {
        let storm = scope.spawn(|| {
            let result = resume_all(&server, clients, &published);
            is_over.store(true, Ordering::Release);
            result
        });
        let live = Load { duration: Duration::from_millis(500), ..live };
        let stormy = follow_live(&server, &live, || is_over.load(Ordering::Acquire));
        (stormy, storm.join().expect("the storm's thread does not panic"))
    });
    Sample {
        peer,
        figures: vec![
            ("p50 ms calm", quantile_ms(&calm.delay_micros, 0.5)),
            ("p99 ms calm", quantile_ms(&calm.delay_micros, 0.99)),
            ("p50 ms in the storm", quantile_ms(&stormy.delay_micros, 0.5)),
            ("p99 ms in the storm", quantile_ms(&stormy.delay_micros, 0.99)),
            ("p99 ÷ p99", quantile_ms(&stormy.delay_micros, 0.99) / quantile_ms(&calm.delay_micros, 0.99)),
            ("storm s", storm_time.as_secs_f64()),
            ("events/s", resumed.received as f64 / storm_time.as_secs_f64()),
            ("lost", (calm.lost + stormy.lost + resumed.lost) as f64),
            ("doubled", (calm.doubled + stormy.doubled + resumed.doubled) as f64),
            ("out of order", (calm.disordered + stormy.disordered + resumed.disordered) as f64),
        ],
    }
}

/// Publishes to the live call and follows it until `is_over`, at least for the duration of `load`.
fn follow_live(server: &PeerServer, load: &Load, is_over: impl Fn() -> bool) -> WatchStats {
    let mut watchers = Watchers::connect(server, (0..LIVE_SUBSCRIBERS).map(|_| LIVE));
    let mut next_turns = Vec::new();
    loop {
        let _ = publish_and_read(&mut watchers, server, load, &mut next_turns);
        if is_over() {
            return watchers.finish(&next_turns);
        }
    }
}

/// Resumes with all clients at once, and returns what they received and how long it took.
fn resume_all(server: &PeerServer, clients: u32, published: &Published) -> (WatchStats, Duration) {
    let began = Instant::now();
    let mut watchers = Watchers::new(server);
    // Seq 1 is the turn that created the call, which is not part of the history.
    let start = StartAt { after: Some(1), first_turn: 0 };
    watchers.connect_more(server, (0..clients).map(|client| (1 + client % RESUMED_CALLS, start)));
    watchers.wait_for(u64::from(clients * MISSED_EVENTS));
    let storm_time = began.elapsed();
    (watchers.finish(&published.turns), storm_time)
}
