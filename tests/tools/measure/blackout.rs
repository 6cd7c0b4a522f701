//! Redis dead under load: how late events come from one server to the followers of another.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::recorder;
use crate::turns::speak;
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
    /// Seconds during which Redis is dead
    #[arg(long, default_value_t = 60)]
    pub seconds: u64,
    /// Number of servers
    #[arg(long, default_value_t = 3)]
    pub nodes: usize,
}

/// Measures and prints a table.
pub async fn run(flags: Flags) {
    let database = Database::new(Engine::Postgres).await;
    let redis = Redis::start().await;
    let redis_url = redis.url();
    let given = [("CALLSCOPE_REDIS_URL", redis_url.as_str()), ("CALLSCOPE_LOG", "warn,callscope_server::command=info")];
    let (token, http) = (admin_token("measure"), http());
    let mut nodes = Vec::new();
    for _ in 0..flags.nodes {
        nodes.push(Process::with(&database, 0, &given).await);
    }
    let sids: Vec<String> = (0..flags.calls).map(|call| format!("EL_blackout_{call}")).collect();
    let mut recordings = Vec::new();
    for sid in &sids {
        speak(&http, &nodes[0].url, sid, "turn 0", 300).await;
        for node in &nodes {
            recordings.push((sid, recorder::follow(&node.url, &token, sid, 1).await.0));
        }
    }
    println!("{:<28}{:>10}{:>10}{:>10}{:>10}", "staleness, ms", "events", "p50", "p99", "max");
    let mut number = 1;
    for (name, time) in [("Redis there", 10), ("Redis dead", flags.seconds), ("Redis back", 10)] {
        match name {
            "Redis dead" => redis.end().await,
            "Redis back" => redis.launch().await,
            _ => sleep(Duration::from_secs(1)).await,
        }
        let mut acknowledged = std::collections::HashMap::new();
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(time) {
            let due = began + Duration::from_secs_f64(acknowledged.len() as f64 / flags.rate);
            tokio::time::sleep_until(due).await;
            let sid = &sids[number % sids.len()];
            speak(&http, &nodes[number % nodes.len()].url, sid, &format!("turn {number}"), 300).await;
            let seq = i64::try_from((number - 1) / sids.len() + 2).unwrap();
            acknowledged.insert((sid, seq), Instant::now());
            number += 1;
        }
        report(name, &recordings, &acknowledged).await;
    }
    let wrong: i64 = recordings.iter().map(|(_, recording)| recording.wrong.load(Ordering::SeqCst)).sum();
    println!("missing, doubled or out of order: {wrong}");
    assert_eq!(wrong, 0);
}

type Acknowledged<'s> = std::collections::HashMap<(&'s String, i64), Instant>;

async fn report(
    name: &str,
    recordings: &[(&String, std::sync::Arc<recorder::Recording>)],
    acknowledged: &Acknowledged<'_>,
) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let heads = |sid: &String| acknowledged.keys().filter(|(s, _)| *s == sid).map(|(_, seq)| *seq).max().unwrap_or(0);
    while recordings.iter().any(|(sid, recording)| recording.seq.load(Ordering::SeqCst) < heads(sid)) {
        assert!(Instant::now() < deadline, "events are missing");
        sleep(Duration::from_millis(20)).await;
    }
    let mut late: Vec<u64> = Vec::new();
    for (sid, recording) in recordings {
        for (seq, at) in std::mem::take(&mut *recording.events.lock()) {
            if let Some(acknowledged) = acknowledged.get(&(*sid, seq)) {
                late.push(u64::try_from(at.saturating_duration_since(*acknowledged).as_micros()).unwrap());
            }
        }
    }
    late.sort_unstable();
    let [p50, p99, max] = [0.5, 0.99, 1.0].map(|of| quantile(&late, of) as f64 / 1_000.0);
    println!("{name:<28}{:>10}{p50:>10.1}{p99:>10.1}{max:>10.1}", late.len());
}
