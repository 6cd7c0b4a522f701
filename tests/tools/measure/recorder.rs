//! Subscribers that record when each event came.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::Mutex;
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use callscope_tests::Subscriber;
use callscope_tests::subscriber::Received;

/// What a subscriber received.
#[derive(Debug, Default)]
pub struct Recording {
    /// Seq of the newest event.
    pub seq: AtomicI64,
    /// Each event's seq and arrival.
    pub events: Mutex<Vec<(i64, Instant)>>,
    /// Number of events that were not the next one.
    pub wrong: AtomicI64,
}

/// Follows `call_sid` at `url` after the event `after`, until the connection ends with the returned code.
pub async fn follow(url: &str, token: &str, call_sid: &str, after: i64) -> (Arc<Recording>, JoinHandle<u16>) {
    let mut subscriber = Subscriber::connect(url, token).await;
    subscriber.send(json!({"subscribe": call_sid, "after": after})).await;
    subscriber.expect("subscription_confirmed").await;
    let recording = Arc::new(Recording::default());
    recording.seq.store(after, Ordering::SeqCst);
    let written = Arc::clone(&recording);
    let task = tokio::spawn(async move {
        loop {
            match subscriber.next_whenever().await {
                Received::Json(message) => {
                    if let Some(seq) = message["seq"].as_i64() {
                        if written.seq.swap(seq, Ordering::SeqCst) + 1 != seq {
                            written.wrong.fetch_add(1, Ordering::SeqCst);
                        }
                        written.events.lock().push((seq, Instant::now()));
                    }
                }
                Received::Closed(code) => return code,
            }
        }
    });
    (recording, task)
}
