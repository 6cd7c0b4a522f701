//! One stalled client among a thousand: what it costs the others, and what it costs the server.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::recorder;
use crate::turns::{speak, talk};
use callscope_tests::server::{admin_token, http};
use callscope_tests::socket::host;
use callscope_tests::{Database, Engine, Process, Socket, quantile};

const CALL: &str = "EL_stalled_1";
/// Long enough to fill every buffer on the way to a client that does not read.
const TURN_BYTES: usize = 4_000;

#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Flags {
    /// Clients that read
    #[arg(long, default_value_t = 1_000)]
    pub followers: usize,
    /// Turns a second
    #[arg(long, default_value_t = 10.0)]
    pub rate: f64,
    /// Seconds of each round
    #[arg(long, default_value_t = 20)]
    pub seconds: u64,
    /// Rounds, every second one with a stalled client
    #[arg(long, default_value_t = 6)]
    pub rounds: u64,
    /// Stalled clients whose memory is measured
    #[arg(long, default_value_t = 200)]
    pub stalled: usize,
}

/// Measures and prints a table.
pub async fn run(flags: Flags) {
    let database = Database::new(Engine::Sqlite).await;
    // Stalled clients are meant to stay connected.
    let server = Process::with(
        &database,
        0,
        &[("CALLSCOPE_WRITE_DEADLINE", "3600"), ("CALLSCOPE_LOG", "warn,callscope_server::command=info")],
    )
    .await;
    let (url, token) = (server.url.clone(), admin_token("measure"));
    speak(&http(), &url, CALL, "turn 0", TURN_BYTES).await;
    let (mut recordings, mut tasks) = (Vec::new(), Vec::new());
    for _ in 0..flags.followers {
        let (recording, task) = recorder::follow(&url, &token, CALL, 1).await;
        recordings.push(recording);
        tasks.push(task);
    }
    let mut turns = 1;
    println!("{:<28}{:>10}{:>10}{:>10}", format!("{} followers, ms", flags.followers), "p50", "p99", "max");
    let mut p99s = [Vec::new(), Vec::new()];
    for round in 0..flags.rounds {
        let is_stalled = round % 2 == 1;
        let stalled = if is_stalled { Some(stall(&url, &token).await) } else { None };
        let before = Instant::now();
        let spoken = talk(&url, CALL, (turns, flags.rate), Duration::from_secs(flags.seconds), TURN_BYTES).await;
        turns += spoken;
        let mut late = lateness(&recordings, before, i64::try_from(turns).unwrap()).await;
        late.sort_unstable();
        let [p50, p99, max] = [0.5, 0.99, 1.0].map(|of| quantile(&late, of) as f64 / 1_000.0);
        let name = if is_stalled { "  one more is stalled" } else { "  all read" };
        println!("{name:<28}{p50:>10.2}{p99:>10.2}{max:>10.2}");
        p99s[usize::from(is_stalled)].push(p99);
        drop(stalled);
    }
    let [without, with] = p99s.map(|mut list| {
        list.sort_by(f64::total_cmp);
        list[list.len() / 2]
    });
    println!("p99 with over without, medians: {:.3}", with / without);
    for recording in &recordings {
        assert_eq!(recording.wrong.load(std::sync::atomic::Ordering::SeqCst), 0, "an event was missing or came twice");
    }
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    memory(&server, &token, flags).await;
}

/// Returns for each event and follower the microseconds after the first follower that received the event.
async fn lateness(recordings: &[std::sync::Arc<recorder::Recording>], since: Instant, head: i64) -> Vec<u64> {
    let all = Instant::now() + Duration::from_secs(60);
    while recordings.iter().any(|recording| recording.seq.load(std::sync::atomic::Ordering::SeqCst) < head) {
        assert!(Instant::now() < all, "events are missing");
        sleep(Duration::from_millis(10)).await;
    }
    let mut first = std::collections::HashMap::new();
    let lists: Vec<_> = recordings.iter().map(|recording| std::mem::take(&mut *recording.events.lock())).collect();
    let new = || lists.iter().flatten().filter(|(_, at)| *at >= since);
    for (seq, at) in new() {
        let earliest = first.entry(*seq).or_insert(*at);
        *earliest = (*earliest).min(*at);
    }
    new().map(|(seq, at)| u64::try_from((*at - first[seq]).as_micros()).unwrap()).collect()
}

/// Returns a connection with a small buffer that subscribes and never reads.
async fn stall(url: &str, token: &str) -> Socket {
    let mut socket = Socket::connect(host(url).parse().unwrap(), token, Some(4_096)).await.unwrap();
    socket.send(&json!({"subscribe": CALL})).await.unwrap();
    socket
}

/// Prints the server's memory with and without many stalled clients.
async fn memory(server: &Process, token: &str, flags: Flags) {
    sleep(Duration::from_secs(1)).await;
    let before = server.memory();
    let mut streams = Vec::new();
    for _ in 0..flags.stalled {
        streams.push(stall(&server.url, token).await);
    }
    talk(&server.url, CALL, (1_000_000, 50.0), Duration::from_secs(5), TURN_BYTES).await;
    let after = server.memory();
    println!(
        "server memory: {} KiB, with {} stalled clients {} KiB: {:.1} KiB each",
        before,
        flags.stalled,
        after,
        (after as f64 - before as f64) / flags.stalled as f64
    );
}
