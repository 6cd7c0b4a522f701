//! A mixture (W5): a call with many followers, many calls with a few, clients that resume, clients that read nothing,
//! and webhooks for calls without followers.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::fanout::together;
use super::{WINDOW, figures};
use crate::peer::{Peer, Running};
use crate::publisher::{Load, prepare, publish};
use crate::table::Sample;
use crate::usage::cpu;
use crate::watchers::{Seen, StartAt, Tally, Watchers, requests};

/// Calls with a few followers each.
const CALLS: u32 = 300;
/// Events of the call that clients resume.
const MISSED: u32 = 1000;
/// Followers that read nothing.
const STALLED: u32 = 20;

/// Runs the mixture for `time`.
#[must_use]
pub fn sample(peer: Peer, time: Duration, database: Option<&str>) -> Sample {
    let server = Running::start(peer, database);
    prepare(&server, 2 + CALLS + 100);
    let (hot, past, few) = (0, 1, 2);
    let load =
        |first, topics, rate, fan| Load { first, topics, rate, count: None, time, clients: 16, fan, window: WINDOW };
    let history = Load { count: Some(u64::from(MISSED)), time: Duration::from_secs(600), ..load(past, 1, None, 0) };
    let missed = publish(&server, &history, &Tally::default(), &mut Vec::new());
    let stalled: Vec<TcpStream> = (0..STALLED).map(|_| stall(&server, hot)).collect();
    let mut many = Watchers::connect(&server, (0..500).map(|_| hot));
    let mut some = Watchers::connect(&server, (0..CALLS).flat_map(|at| [few + at; 3]));
    let is_over = AtomicBool::new(false);
    let before = cpu(&server.pids());
    let (mut one, mut two) = (Vec::new(), Vec::new());
    let (published, came_back) = std::thread::scope(|scope| {
        let coming_back = scope.spawn(|| {
            let mut all = Seen::default();
            while !is_over.load(Ordering::Acquire) {
                let mut watchers = Watchers::new(&server);
                watchers.join(&server, (0..50).map(|_| (past, StartAt { after: Some(1), first: 0 })));
                watchers.settle(u64::from(50 * MISSED));
                all.add(&watchers.finish(&missed.turns));
            }
            all
        });
        scope.spawn(|| publish(&server, &load(few + CALLS, 100, Some(1000.0), 0), &Tally::default(), &mut Vec::new()));
        let few = scope.spawn(|| together(&mut some, &server, &load(few, CALLS, Some(300.0), 3), &mut two));
        let hot = together(&mut many, &server, &load(hot, 1, Some(20.0), 500), &mut one);
        let few = few.join().expect("the thread does not panic");
        is_over.store(true, Ordering::Release);
        ((hot, few), coming_back.join().expect("the thread does not panic"))
    });
    let used = cpu(&server.pids()) - before;
    drop(stalled);
    let mut seen = many.finish(&published.0.turns);
    seen.add(&some.finish(&published.1.turns));
    seen.late.sort_unstable();
    let late = std::mem::take(&mut seen.late);
    seen.add(&came_back);
    seen.late = late;
    let mut figures = figures(used, &published.1, &seen);
    figures.retain(|(name, _)| !name.ends_with("turn") && !name.starts_with("turns"));
    figures.push(("deliveries", seen.received as f64));
    Sample { peer, figures }
}

/// Connects a client that follows and reads nothing.
fn stall(server: &Running, topic: u32) -> TcpStream {
    let mut stream = TcpStream::connect(server.subscribe).expect("the server accepts");
    let (upgrade, hello) = requests(server, topic);
    stream.write_all(upgrade.as_bytes()).expect("the server takes a request");
    stream.write_all(&hello).expect("the server takes a request");
    stream
}
