//! A drain of many connections: each is closed with 1001 or leaves by itself, and none arrives elsewhere before its
//! turn.

use std::collections::BTreeMap;
use std::time::Duration;

use callscope_common::Timestamp;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use crate::turns::speak;
use callscope_tests::server::{admin_token, http};
use callscope_tests::subscriber::Received;
use callscope_tests::{Database, Engine, Process, Subscriber, quantile};

const CALL: &str = "EL_drain_1";

#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Flags {
    /// Number of connections
    #[arg(long, default_value_t = 5_000)]
    pub connections: usize,
    /// The server's drain_rate: connections told to leave in a second
    #[arg(long, default_value_t = 500.0)]
    pub rate: f64,
    /// The server's drain_deadline, in seconds
    #[arg(long, default_value_t = 14.0)]
    pub deadline: f64,
    /// How many of ten clients wait for the close instead of leaving by themselves
    #[arg(long, default_value_t = 3)]
    pub stubborn: usize,
}

/// One client's end at the old server and arrival at the new one.
struct Moved {
    code: u16,
    arrived: Instant,
    missed: bool,
}

/// Measures and prints a table.
pub async fn run(flags: Flags) {
    let database = Database::new(Engine::Postgres).await;
    let (rate, deadline) = (flags.rate.to_string(), flags.deadline.to_string());
    let given = [
        ("CALLSCOPE_DRAIN_RATE", &*rate),
        ("CALLSCOPE_DRAIN_DEADLINE", &*deadline),
        ("CALLSCOPE_LOG", "warn,callscope_server::command=info"),
    ];
    let (old, new) = (Process::with(&database, 0, &given).await, Process::with(&database, 0, &given).await);
    let (token, http) = (admin_token("measure"), http());
    speak(&http, &old.url, CALL, "turn 0", 300).await;
    let (moved, mut all) = mpsc::channel(flags.connections);
    for index in 0..flags.connections {
        let mut subscriber = Subscriber::connect(&old.url, &token).await;
        subscriber.subscribe(CALL).await;
        let (url, token, moved) = (new.url.clone(), token.clone(), moved.clone());
        let is_stubborn = index % 10 < flags.stubborn;
        tokio::spawn(async move {
            let _ = moved.send(move_over(subscriber, &url, &token, is_stubborn).await).await;
        });
    }
    drop(moved);
    println!("{} connections, {} a second, deadline {} s", flags.connections, flags.rate, flags.deadline);
    let began = Instant::now();
    let stopping = tokio::spawn(old.stop());
    // Turns go on at the other server during the drain.
    let talking = tokio::spawn({
        let url = new.url.clone();
        async move { crate::turns::talk(&url, CALL, (1, 2.0), Duration::from_secs(10), 300).await }
    });
    let mut moves = Vec::new();
    while let Some(one) = all.recv().await {
        moves.push(one);
    }
    let turns = talking.await.unwrap();
    assert!(stopping.await.unwrap(), "the drained server ended with an error");
    let mut codes: BTreeMap<u16, usize> = BTreeMap::new();
    moves.iter().for_each(|one| *codes.entry(one.code).or_default() += 1);
    let mut arrivals: Vec<u64> =
        moves.iter().map(|one| u64::try_from((one.arrived - began).as_millis()).unwrap()).collect();
    arrivals.sort_unstable();
    let most =
        arrivals.iter().map(|at| arrivals.partition_point(|a| *a < at + 1_000) - arrivals.partition_point(|a| a < at));
    println!("closed with (1000: left by itself): {codes:?}");
    println!(
        "arrivals, ms: p50 {}, last {}; most in any second: {}",
        quantile(&arrivals, 0.5),
        quantile(&arrivals, 1.0),
        most.max().unwrap_or(0)
    );
    println!(
        "turns spoken meanwhile: {turns}; clients that missed any: {}",
        moves.iter().filter(|one| one.missed).count()
    );
    assert!(!codes.contains_key(&1006));
    assert!(moves.iter().all(|one| !one.missed));
    println!("{}", Timestamp::from_system_time(std::time::SystemTime::now()));
}

/// Follows at the old server until it is told to leave, then at the new one until the last turn.
async fn move_over(mut subscriber: Subscriber, url: &str, token: &str, is_stubborn: bool) -> Moved {
    let mut seq = 0;
    let mut missed = false;
    let mut leave: Option<Instant> = None;
    let code = loop {
        let next = match leave.filter(|_| !is_stubborn) {
            Some(at) => tokio::select! {
                next = subscriber.next_whenever() => next,
                () = sleep_until(at) => {
                    subscriber.close().await;
                    break 1000;
                }
            },
            None => subscriber.next_whenever().await,
        };
        match next {
            Received::Json(message) if message["type"] == "reconnect" => {
                leave = Some(Instant::now() + Duration::from_millis(message["after_ms"].as_u64().unwrap()));
            }
            Received::Json(message) => {
                if let Some(next) = message["seq"].as_i64() {
                    missed |= next != seq + 1;
                    seq = next;
                }
            }
            Received::Closed(code) => break code,
        }
    };
    if let Some(at) = leave {
        sleep_until(at).await;
    }
    let mut again = Subscriber::connect(url, token).await;
    let arrived = Instant::now();
    again.send(json!({"subscribe": CALL, "after": seq})).await;
    let head = again.expect("subscription_confirmed").await["seq"].as_i64().unwrap();
    while seq < head {
        let Ok(Received::Json(message)) = timeout(callscope_tests::PATIENCE, again.next_whenever()).await else {
            break;
        };
        missed |= message["seq"] != seq + 1;
        seq += 1;
    }
    missed |= seq < head;
    Moved { code, arrived, missed }
}
