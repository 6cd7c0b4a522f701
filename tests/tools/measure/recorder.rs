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
pub struct Got {
    /// Seq of the newest event.
    pub seq: AtomicI64,
    /// Each event's seq and arrival.
    pub events: Mutex<Vec<(i64, Instant)>>,
    /// Number of events that were not the next one.
    pub wrong: AtomicI64,
}

/// Follows `call_sid` at `url` after the event `after`, until the connection ends with the returned code.
pub async fn follow(url: &str, token: &str, call_sid: &str, after: i64) -> (Arc<Got>, JoinHandle<u16>) {
    let mut subscriber = Subscriber::connect(url, token).await;
    subscriber.send(json!({"subscribe": call_sid, "after": after})).await;
    subscriber.expect("subscription_confirmed").await;
    let got = Arc::new(Got::default());
    got.seq.store(after, Ordering::SeqCst);
    let noted = Arc::clone(&got);
    let task = tokio::spawn(async move {
        loop {
            match subscriber.next_whenever().await {
                Received::Json(message) => {
                    if let Some(seq) = message["seq"].as_i64() {
                        if noted.seq.swap(seq, Ordering::SeqCst) + 1 != seq {
                            noted.wrong.fetch_add(1, Ordering::SeqCst);
                        }
                        noted.events.lock().push((seq, Instant::now()));
                    }
                }
                Received::Closed(code) => return code,
            }
        }
    });
    (got, task)
}
