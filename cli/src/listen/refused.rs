//! Polls the list of webhooks that the server refused because of their signature. They are not stored as deliveries,
//! so the stream of deliveries does not contain them.

use std::time::Duration;

use callscope_common::Timestamp;
use callscope_common::api::Attempt;
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::api::Client;

const POLL_INTERVAL: Duration = Duration::from_secs(2);
/// How many attempts one poll asks for, which is as many as a server returns. Older ones are not shown.
const MAX_POLLED_ATTEMPTS: usize = 500;

/// Sends the attempts that are refused from now on to `out`, oldest first, until `out` is closed. While `out` is full,
/// nothing is polled.
pub(crate) async fn watch(client: Client, out: mpsc::Sender<Attempt>) {
    // An attempt is new if it is later than all of the previous poll. The clock of this machine may differ.
    let mut newest: Option<Timestamp> = None;
    let mut is_first = true;
    while !out.is_closed() {
        // An error is ignored, because the stream of deliveries reports that the server is unreachable.
        if let Ok(list) = client.attempts(&[("limit", MAX_POLLED_ATTEMPTS.to_string())]).await {
            let mut new: Vec<Attempt> =
                list.unverified.into_iter().filter(|attempt| newest.is_none_or(|newest| attempt.at > newest)).collect();
            new.truncate(MAX_POLLED_ATTEMPTS);
            newest = new.iter().map(|attempt| attempt.at).chain(newest).max();
            // The first poll only finds out what was refused before.
            if !std::mem::take(&mut is_first) {
                for attempt in new.into_iter().rev() {
                    if out.send(attempt).await.is_err() {
                        return;
                    }
                }
            }
        }
        sleep(POLL_INTERVAL).await;
    }
}
