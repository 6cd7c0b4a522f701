//! Turns that are posted at a given rate.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, interval};

use callscope_tests::server::{http, post_webhook};

/// Posts a turn at `url` until it is acknowledged. `text` is its id, and the beginning of its message of `bytes`.
pub async fn post_turn(http: &reqwest::Client, url: &str, call_sid: &str, text: &str, bytes: usize) {
    let message = format!("{text} {}", "x".repeat(bytes.saturating_sub(text.len() + 1)));
    let body = json!({"call_sid": call_sid, "speaker": "user", "message": message, "turn_id": text}).to_string();
    loop {
        match post_webhook(http, url, "transcription", &body).await {
            Ok(reply) if reply.status == 201 => return,
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Posts `rate` turns a second for `duration`, numbered from `first` on, and returns their number.
pub async fn post_turns(url: &str, call_sid: &str, (first, rate): (u64, f64), duration: Duration, bytes: usize) -> u64 {
    let http = http();
    let mut ticks = interval(Duration::from_secs_f64(1.0 / rate));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (began, mut number) = (Instant::now(), first);
    while began.elapsed() < duration {
        ticks.tick().await;
        post_turn(&http, url, call_sid, &format!("turn {number}"), bytes).await;
        number += 1;
    }
    number - first
}
