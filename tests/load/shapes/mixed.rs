//! A mixture (W5): a call with many followers, many calls with three followers each, clients that resume, clients that
//! read nothing, and webhooks for calls without followers.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use callscope_tests::usage::cpu_time;

use super::fanout::publish_and_read;
use super::figures;
use crate::peer::{Peer, PeerServer};
use crate::publisher::{Load, create_calls, publish};
use crate::table::Sample;
use crate::watchers::{StartAt, Tally, WatchStats, Watchers, client_requests};

/// Followers of the call with many followers.
const POPULAR_FOLLOWERS: u32 = 500;
/// Number of calls with few followers.
const SMALL_CALLS: u32 = 300;
/// Followers of each call with few followers.
const SMALL_FOLLOWERS: usize = 3;
/// Number of calls without followers.
const UNFOLLOWED_CALLS: u32 = 100;
/// Clients that resume at the same time.
const RESUMING_CLIENTS: u32 = 50;
/// Events that each resuming client has missed.
const MISSED_EVENTS: u32 = 1000;
/// Followers that read nothing.
const STALLED_CLIENTS: u32 = 20;

/// The topics, by what they are used for.
const POPULAR: u32 = 0;
const RESUMED: u32 = 1;
const FIRST_SMALL: u32 = 2;
const FIRST_UNFOLLOWED: u32 = FIRST_SMALL + SMALL_CALLS;

#[must_use]
pub fn sample(peer: Peer, duration: Duration, database: Option<&str>) -> Sample {
    let server = PeerServer::start(peer, database);
    create_calls(&server, FIRST_UNFOLLOWED + UNFOLLOWED_CALLS);
    let load = |first_topic, topics, rate, deliveries_per_turn| Load {
        first_topic,
        rate,
        clients: 16,
        deliveries_per_turn,
        ..Load::of(topics, duration)
    };
    let (max_turns, time_limit) = (Some(u64::from(MISSED_EVENTS)), Duration::from_secs(600));
    let history = Load { max_turns, duration: time_limit, ..load(RESUMED, 1, None, 0) };
    let missed = publish(&server, &history, &Tally::default(), &mut Vec::new());
    let stalled: Vec<TcpStream> = (0..STALLED_CLIENTS).map(|_| connect_stalled(&server, POPULAR)).collect();
    let mut popular_watchers = Watchers::connect(&server, (0..POPULAR_FOLLOWERS).map(|_| POPULAR));
    let small_topics = (0..SMALL_CALLS).flat_map(|call| [FIRST_SMALL + call; SMALL_FOLLOWERS]);
    let mut small_watchers = Watchers::connect(&server, small_topics);
    let popular_load = load(POPULAR, 1, Some(20.0), u64::from(POPULAR_FOLLOWERS));
    let small_load = load(FIRST_SMALL, SMALL_CALLS, Some(300.0), SMALL_FOLLOWERS as u64);
    let unfollowed_load = load(FIRST_UNFOLLOWED, UNFOLLOWED_CALLS, Some(1000.0), 0);
    let is_over = AtomicBool::new(false);
    let before = cpu_time(&server.pids());
    let ((popular, small), resumed) = std::thread::scope(|scope| {
        let resuming = scope.spawn(|| {
            let mut all = WatchStats::default();
            while !is_over.load(Ordering::Acquire) {
                let mut watchers = Watchers::new(&server);
                let start = StartAt { after: Some(1), first_turn: 0 };
                watchers.connect_more(&server, (0..RESUMING_CLIENTS).map(|_| (RESUMED, start)));
                watchers.wait_for(u64::from(RESUMING_CLIENTS * MISSED_EVENTS));
                all.add(&watchers.finish(&missed.turns));
            }
            all
        });
        scope.spawn(|| publish(&server, &unfollowed_load, &Tally::default(), &mut Vec::new()));
        let small = scope.spawn(|| publish_and_read(&mut small_watchers, &server, &small_load, &mut Vec::new()));
        let popular = publish_and_read(&mut popular_watchers, &server, &popular_load, &mut Vec::new());
        let small = small.join().expect("the thread does not panic");
        is_over.store(true, Ordering::Release);
        ((popular, small), resuming.join().expect("the thread does not panic"))
    });
    let used = cpu_time(&server.pids()) - before;
    drop(stalled);
    let mut stats = popular_watchers.finish(&popular.turns);
    stats.add(&small_watchers.finish(&small.turns));
    stats.delay_micros.sort_unstable();
    // The delays of resuming clients say how long ago the events were published, so they are left out.
    let live_delays = std::mem::take(&mut stats.delay_micros);
    stats.add(&resumed);
    stats.delay_micros = live_delays;
    let mut figures = figures(used, &small, &stats);
    figures.retain(|(name, _)| !name.ends_with("turn") && !name.starts_with("turns"));
    figures.push(("deliveries", stats.received as f64));
    Sample { peer, figures }
}

/// Connects a client that subscribes and reads nothing.
fn connect_stalled(server: &PeerServer, topic: u32) -> TcpStream {
    let mut stream = TcpStream::connect(server.subscribe_address).expect("the server accepts");
    let (upgrade, subscribe) = client_requests(server, topic);
    stream.write_all(upgrade.as_bytes()).expect("the server accepts a request");
    stream.write_all(&subscribe).expect("the server accepts a request");
    stream
}
