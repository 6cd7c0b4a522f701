//! Redis is killed under load: the delay of events from the server that stored them to the followers of each server.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::recorder;
use crate::turns::post_turn;
use callscope_tests::server::{admin_token, http};
use callscope_tests::{Database, Engine, Process, Redis, quantile};

#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Flags {
    /// Number of calls, each with a follower on every server
    #[arg(long, default_value_t = 20)]
    pub calls: usize,
    /// Turns a second over all calls
    #[arg(long, default_value_t = 50.0)]
    pub rate: f64,
    /// Seconds during which Redis is down
    #[arg(long, default_value_t = 60)]
    pub seconds: u64,
    /// Number of servers
    #[arg(long, default_value_t = 3)]
    pub nodes: usize,
}

/// Measures before, during and after the outage, and prints a table.
pub async fn run(flags: Flags) {
    let database = Database::new(Engine::Postgres).await;
    let redis = Redis::start().await;
    let redis_url = redis.url();
    let settings =
        [("CALLSCOPE_REDIS_URL", redis_url.as_str()), ("CALLSCOPE_LOG", "warn,callscope_server::command=info")];
    let (token, http) = (admin_token("measure"), http());
    let mut nodes = Vec::new();
    for _ in 0..flags.nodes {
        nodes.push(Process::start_with(&database, 0, &settings).await);
    }
    let sids: Vec<String> = (0..flags.calls).map(|call| format!("EL_blackout_{call}")).collect();
    let mut recordings = Vec::new();
    for sid in &sids {
        post_turn(&http, &nodes[0].url, sid, "turn 0", 300).await;
        for node in &nodes {
            recordings.push((sid, recorder::follow(&node.url, &token, sid, 1).await.0));
        }
    }
    println!("{:<28}{:>10}{:>10}{:>10}{:>10}", "staleness, ms", "events", "p50", "p99", "max");
    let mut turn = 1;
    for (name, seconds) in [("Redis there", 10), ("Redis dead", flags.seconds), ("Redis back", 10)] {
        match name {
            "Redis dead" => redis.kill().await,
            "Redis back" => redis.launch().await,
            _ => sleep(Duration::from_secs(1)).await,
        }
        // For each event of this phase, the time at which its webhook was acknowledged.
        let mut acknowledged = std::collections::HashMap::new();
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(seconds) {
            let due = began + Duration::from_secs_f64(acknowledged.len() as f64 / flags.rate);
            tokio::time::sleep_until(due).await;
            let sid = &sids[turn % sids.len()];
            post_turn(&http, &nodes[turn % nodes.len()].url, sid, &format!("turn {turn}"), 300).await;
            let seq = i64::try_from((turn - 1) / sids.len() + 2).unwrap();
            acknowledged.insert((sid, seq), Instant::now());
            turn += 1;
        }
        report(name, &recordings, &acknowledged).await;
    }
    let out_of_order: i64 = recordings.iter().map(|(_, recording)| recording.out_of_order.load(Ordering::SeqCst)).sum();
    println!("missing, doubled or out of order: {out_of_order}");
    assert_eq!(out_of_order, 0);
}

/// Times of acknowledgement by `call_sid` and seq.
type Acknowledged<'s> = std::collections::HashMap<(&'s String, i64), Instant>;

/// Waits until all acknowledged events have arrived, and prints a row of the table.
async fn report(
    name: &str,
    recordings: &[(&String, std::sync::Arc<recorder::Recording>)],
    acknowledged: &Acknowledged<'_>,
) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let head = |sid: &String| acknowledged.keys().filter(|(s, _)| *s == sid).map(|(_, seq)| *seq).max().unwrap_or(0);
    while recordings.iter().any(|(sid, recording)| recording.last_seq.load(Ordering::SeqCst) < head(sid)) {
        assert!(Instant::now() < deadline, "events are missing");
        sleep(Duration::from_millis(20)).await;
    }
    let mut delay_micros: Vec<u64> = Vec::new();
    for (sid, recording) in recordings {
        for (seq, received_at) in std::mem::take(&mut *recording.events.lock()) {
            if let Some(acknowledged_at) = acknowledged.get(&(*sid, seq)) {
                delay_micros
                    .push(u64::try_from(received_at.saturating_duration_since(*acknowledged_at).as_micros()).unwrap());
            }
        }
    }
    delay_micros.sort_unstable();
    let [p50, p99, max] = [0.5, 0.99, 1.0].map(|of| quantile(&delay_micros, of) as f64 / 1_000.0);
    println!("{name:<28}{:>10}{p50:>10.1}{p99:>10.1}{max:>10.1}", delay_micros.len());
}
