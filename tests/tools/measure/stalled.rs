//! One stalled client among a thousand: the delays that it causes for the others, and the memory that it takes.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::recorder;
use crate::turns::{post_turn, post_turns};
use callscope_tests::server::{admin_token, http};
use callscope_tests::socket::host;
use callscope_tests::{Database, Engine, Process, Socket, quantile};

const CALL: &str = "EL_stalled_1";
/// Length of a turn, enough to fill every buffer on the way to a client that does not read.
const TURN_BYTES: usize = 4_000;

#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Flags {
    /// Number of clients that read
    #[arg(long, default_value_t = 1_000)]
    pub followers: usize,
    /// Turns a second
    #[arg(long, default_value_t = 10.0)]
    pub rate: f64,
    /// Seconds of each round
    #[arg(long, default_value_t = 20)]
    pub seconds: u64,
    /// Number of rounds; every second one has a stalled client
    #[arg(long, default_value_t = 6)]
    pub rounds: u64,
    /// Number of stalled clients whose memory is measured
    #[arg(long, default_value_t = 200)]
    pub stalled: usize,
}

/// Measures rounds with and without a stalled client, then the memory of many, and prints a table.
pub async fn run(flags: Flags) {
    let database = Database::new(Engine::Sqlite).await;
    // With the default write deadline, the server would close the stalled clients.
    let server = Process::start_with(
        &database,
        0,
        &[("CALLSCOPE_WRITE_DEADLINE", "3600"), ("CALLSCOPE_LOG", "warn,callscope_server::command=info")],
    )
    .await;
    let (url, token) = (server.url.clone(), admin_token("measure"));
    post_turn(&http(), &url, CALL, "turn 0", TURN_BYTES).await;
    let (mut recordings, mut tasks) = (Vec::new(), Vec::new());
    for _ in 0..flags.followers {
        let (recording, task) = recorder::follow(&url, &token, CALL, 1).await;
        recordings.push(recording);
        tasks.push(task);
    }
    let mut turn_count = 1;
    println!("{:<28}{:>10}{:>10}{:>10}", format!("{} followers, ms", flags.followers), "p50", "p99", "max");
    let mut p99s = [Vec::new(), Vec::new()];
    for round in 0..flags.rounds {
        let is_stalled = round % 2 == 1;
        let stalled = if is_stalled { Some(connect_stalled(&url, &token).await) } else { None };
        let round_start = Instant::now();
        turn_count +=
            post_turns(&url, CALL, (turn_count, flags.rate), Duration::from_secs(flags.seconds), TURN_BYTES).await;
        let mut delays = delay_micros(&recordings, round_start, i64::try_from(turn_count).unwrap()).await;
        delays.sort_unstable();
        let [p50, p99, max] = [0.5, 0.99, 1.0].map(|share| quantile(&delays, share) as f64 / 1_000.0);
        let name = if is_stalled { "  one more is stalled" } else { "  all read" };
        println!("{name:<28}{p50:>10.2}{p99:>10.2}{max:>10.2}");
        p99s[usize::from(is_stalled)].push(p99);
        drop(stalled);
    }
    let [without, with] = p99s.map(|mut rounds| {
        rounds.sort_by(f64::total_cmp);
        rounds[rounds.len() / 2]
    });
    println!("p99 with over without, medians: {:.3}", with / without);
    for recording in &recordings {
        let out_of_order = recording.out_of_order.load(std::sync::atomic::Ordering::SeqCst);
        assert_eq!(out_of_order, 0, "an event was missing or came twice");
    }
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    measure_memory(&server, &token, flags).await;
}

/// Returns, for each event since `since` and each follower, the microseconds between its arrival at the first follower
/// and its arrival at this one. Waits until all followers have reached `head`.
async fn delay_micros(recordings: &[std::sync::Arc<recorder::Recording>], since: Instant, head: i64) -> Vec<u64> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while recordings.iter().any(|recording| recording.last_seq.load(std::sync::atomic::Ordering::SeqCst) < head) {
        assert!(Instant::now() < deadline, "events are missing");
        sleep(Duration::from_millis(10)).await;
    }
    let mut first_arrival = std::collections::HashMap::new();
    let lists: Vec<_> = recordings.iter().map(|recording| std::mem::take(&mut *recording.events.lock())).collect();
    let new_events = || lists.iter().flatten().filter(|(_, arrival)| *arrival >= since);
    for (seq, arrival) in new_events() {
        let first = first_arrival.entry(*seq).or_insert(*arrival);
        *first = (*first).min(*arrival);
    }
    new_events().map(|(seq, arrival)| u64::try_from((*arrival - first_arrival[seq]).as_micros()).unwrap()).collect()
}

/// Opens a connection with a small receive buffer that subscribes and never reads.
async fn connect_stalled(url: &str, token: &str) -> Socket {
    let mut socket = Socket::connect(host(url).parse().unwrap(), token, Some(4_096)).await.unwrap();
    socket.send(&json!({"subscribe": CALL})).await.unwrap();
    socket
}

/// Prints the server's memory with and without many stalled clients.
async fn measure_memory(server: &Process, token: &str, flags: Flags) {
    sleep(Duration::from_secs(1)).await;
    let before = server.resident_kib();
    let mut sockets = Vec::new();
    for _ in 0..flags.stalled {
        sockets.push(connect_stalled(&server.url, token).await);
    }
    // The numbers are far beyond those of the rounds, so that no turn is a repeat.
    post_turns(&server.url, CALL, (1_000_000, 50.0), Duration::from_secs(5), TURN_BYTES).await;
    let after = server.resident_kib();
    println!(
        "server memory: {} KiB, with {} stalled clients {} KiB: {:.1} KiB each",
        before,
        flags.stalled,
        after,
        (after as f64 - before as f64) / flags.stalled as f64
    );
}
