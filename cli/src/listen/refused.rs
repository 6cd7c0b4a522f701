//! Webhooks that the server refused because their signature does not fit. They are no deliveries, nothing of them
//! is kept but the facts, and the stream does not tell of them; so the server's list of them is looked at again and
//! again.

use std::time::Duration;

use callscope_common::Timestamp;
use callscope_common::api::Attempt;
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::api::Client;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(2);
/// Most attempts told of at one look; the newest ones. Servers give no more.
const MOST: usize = 500;

/// Sends the attempts that are refused from now on, oldest first, until no one takes them any more. While the queue
/// is full, no look is taken.
pub(crate) async fn watch(client: Client, out: mpsc::Sender<Attempt>) {
    // The clock is the server's, so what is new is told by what its list held before.
    let mut newest: Option<Timestamp> = None;
    let mut is_first = true;
    while !out.is_closed() {
        // A server that cannot be asked now is told of by the stream of deliveries.
        if let Ok(list) = client.attempts(&[("limit", MOST.to_string())]).await {
            let mut new: Vec<Attempt> =
                list.unverified.into_iter().filter(|attempt| newest.is_none_or(|newest| attempt.at > newest)).collect();
            new.truncate(MOST);
            newest = new.iter().map(|attempt| attempt.at).chain(newest).max();
            if !std::mem::take(&mut is_first) {
                for attempt in new.into_iter().rev() {
                    if out.send(attempt).await.is_err() {
                        return;
                    }
                }
            }
        }
        sleep(EVERY).await;
    }
}
