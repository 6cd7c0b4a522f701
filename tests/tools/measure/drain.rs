//! A drain of many connections: when their clients arrive at another server, and whether they miss an event. A client
//! leaves at the time that the server told it, or waits to be closed.

use std::collections::BTreeMap;
use std::time::Duration;

use callscope_common::Timestamp;
use callscope_common::protocol::CloseReason;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use crate::turns::post_turn;
use callscope_tests::server::{admin_token, http};
use callscope_tests::socket::CONNECTION_LOST;
use callscope_tests::subscriber::Received;
use callscope_tests::{Database, Engine, Process, Subscriber, quantile};

const CALL: &str = "EL_drain_1";

#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Flags {
    /// Number of connections
    #[arg(long, default_value_t = 5_000)]
    pub connections: usize,
    /// The server's drain_rate: the number of connections that are told to leave in a second
    #[arg(long, default_value_t = 500.0)]
    pub rate: f64,
    /// The server's drain_deadline, in seconds
    #[arg(long, default_value_t = 14.0)]
    pub deadline: f64,
    /// Number of clients out of ten that wait for the close instead of leaving by themselves
    #[arg(long, default_value_t = 3)]
    pub stubborn: usize,
}

/// The move of a client from the drained server to the other one.
struct ClientMove {
    close_code: u16,
    arrived_at: Instant,
    /// Whether an event was missing.
    has_gap: bool,
}

/// Drains a server with many connections, and prints close codes, arrivals and the clients that missed an event.
pub async fn run(flags: Flags) {
    let database = Database::new(Engine::Postgres).await;
    let (rate, deadline) = (flags.rate.to_string(), flags.deadline.to_string());
    let settings = [
        ("CALLSCOPE_DRAIN_RATE", &*rate),
        ("CALLSCOPE_DRAIN_DEADLINE", &*deadline),
        ("CALLSCOPE_LOG", "warn,callscope_server::command=info"),
    ];
    let (drained, other) =
        (Process::start_with(&database, 0, &settings).await, Process::start_with(&database, 0, &settings).await);
    let (token, http) = (admin_token("measure"), http());
    post_turn(&http, &drained.url, CALL, "turn 0", 300).await;
    let (send_move, mut receive_move) = mpsc::channel(flags.connections);
    for index in 0..flags.connections {
        let mut subscriber = Subscriber::connect(&drained.url, &token).await;
        subscriber.subscribe(CALL).await;
        let (url, token, send_move) = (other.url.clone(), token.clone(), send_move.clone());
        let is_stubborn = index % 10 < flags.stubborn;
        tokio::spawn(async move {
            let _ = send_move.send(move_to(subscriber, &url, &token, is_stubborn).await).await;
        });
    }
    drop(send_move);
    println!("{} connections, {} a second, deadline {} s", flags.connections, flags.rate, flags.deadline);
    let began = Instant::now();
    let stopping = tokio::spawn(drained.stop());
    // The other server receives turns during the drain.
    let speaker = tokio::spawn({
        let url = other.url.clone();
        async move { crate::turns::post_turns(&url, CALL, (1, 2.0), Duration::from_secs(10), 300).await }
    });
    let mut moves = Vec::new();
    while let Some(client_move) = receive_move.recv().await {
        moves.push(client_move);
    }
    let turns = speaker.await.unwrap();
    assert!(stopping.await.unwrap(), "the drained server ended with an error");
    let mut codes: BTreeMap<u16, usize> = BTreeMap::new();
    moves.iter().for_each(|client| *codes.entry(client.close_code).or_default() += 1);
    let mut arrivals: Vec<u64> =
        moves.iter().map(|client| u64::try_from((client.arrived_at - began).as_millis()).unwrap()).collect();
    arrivals.sort_unstable();
    // For each arrival, the number of arrivals in the second that starts with it.
    let in_one_second =
        arrivals.iter().map(|at| arrivals.partition_point(|a| *a < at + 1_000) - arrivals.partition_point(|a| a < at));
    println!("closed with (1000: left by itself): {codes:?}");
    println!(
        "arrivals, ms: p50 {}, last {}; most in any second: {}",
        quantile(&arrivals, 0.5),
        quantile(&arrivals, 1.0),
        in_one_second.max().unwrap_or(0)
    );
    println!(
        "turns spoken meanwhile: {turns}; clients that missed any: {}",
        moves.iter().filter(|client| client.has_gap).count()
    );
    assert!(!codes.contains_key(&CONNECTION_LOST));
    assert!(moves.iter().all(|client| !client.has_gap));
    println!("{}", Timestamp::from_system_time(std::time::SystemTime::now()));
}

/// Follows until the drained server ends the connection or the client leaves, then resumes at `url` up to the head.
async fn move_to(mut subscriber: Subscriber, url: &str, token: &str, is_stubborn: bool) -> ClientMove {
    let mut last_seq = 0;
    let mut has_gap = false;
    let mut leave_at: Option<Instant> = None;
    let close_code = loop {
        let received = match leave_at.filter(|_| !is_stubborn) {
            Some(leave_at) => tokio::select! {
                received = subscriber.next_without_timeout() => received,
                () = sleep_until(leave_at) => {
                    subscriber.close().await;
                    break CloseReason::Normal.code();
                }
            },
            None => subscriber.next_without_timeout().await,
        };
        match received {
            Received::Json(message) if message["type"] == "reconnect" => {
                leave_at = Some(Instant::now() + Duration::from_millis(message["after_ms"].as_u64().unwrap()));
            }
            Received::Json(message) => {
                if let Some(seq) = message["seq"].as_i64() {
                    has_gap |= seq != last_seq + 1;
                    last_seq = seq;
                }
            }
            Received::Closed(code) => break code,
        }
    };
    // A client that was closed earlier still keeps the time at which it was told to reconnect.
    if let Some(leave_at) = leave_at {
        sleep_until(leave_at).await;
    }
    let mut resumed = Subscriber::connect(url, token).await;
    let arrived_at = Instant::now();
    resumed.send(json!({"subscribe": CALL, "after": last_seq})).await;
    let head = resumed.expect("subscription_confirmed").await["seq"].as_i64().unwrap();
    while last_seq < head {
        let Ok(Received::Json(message)) = timeout(callscope_tests::WAIT_TIMEOUT, resumed.next_without_timeout()).await
        else {
            break;
        };
        has_gap |= message["seq"] != last_seq + 1;
        last_seq += 1;
    }
    has_gap |= last_seq < head;
    ClientMove { close_code, arrived_at, has_gap }
}
