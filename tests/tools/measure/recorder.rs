//! Subscribers that record when each event arrived.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::Mutex;
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use callscope_tests::Subscriber;
use callscope_tests::subscriber::Received;

/// The events that a subscriber has received.
#[derive(Debug, Default)]
pub struct Recording {
    pub last_seq: AtomicI64,
    /// Seq and time of arrival of each event.
    pub events: Mutex<Vec<(i64, Instant)>>,
    /// Number of events whose seq was not the next one.
    pub out_of_order: AtomicI64,
}

/// Follows `call_sid` at `url` after the seq `after`. The task ends with the connection and returns the close code.
pub async fn follow(url: &str, token: &str, call_sid: &str, after: i64) -> (Arc<Recording>, JoinHandle<u16>) {
    let mut subscriber = Subscriber::connect(url, token).await;
    subscriber.send(json!({"subscribe": call_sid, "after": after})).await;
    subscriber.expect("subscription_confirmed").await;
    let recording = Arc::new(Recording::default());
    recording.last_seq.store(after, Ordering::SeqCst);
    let recorded = Arc::clone(&recording);
    let task = tokio::spawn(async move {
        loop {
            match subscriber.next_without_timeout().await {
                Received::Json(message) => {
                    if let Some(seq) = message["seq"].as_i64() {
                        if recorded.last_seq.swap(seq, Ordering::SeqCst) + 1 != seq {
                            recorded.out_of_order.fetch_add(1, Ordering::SeqCst);
                        }
                        recorded.events.lock().push((seq, Instant::now()));
                    }
                }
                Received::Closed(code) => return code,
            }
        }
    });
    (recording, task)
}
