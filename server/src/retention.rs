//! Retention: deletes calls that ended long ago, and strips the headers and bodies of old deliveries (docs/adr/0008).

use std::time::Duration;

use callscope_common::Timestamp;
use tokio::time::sleep;
use tracing::{info, warn};
use uuid::Uuid;

use crate::clock;
use crate::log::{Delete, Operation, Outcome};
use crate::policy::DeliveryRetention;
use crate::store::deliveries::{DeliveryRange, least_uncommitted_id};
use crate::store::{LogWriter, Maintenance, Store, StoreError};

/// Time between two rounds of each task.
const ROUND_INTERVAL: Duration = Duration::from_secs(600);
/// Maximum number of calls that are listed and deleted at once.
const CALLS_PAGE: i64 = 100;
/// Time between two transactions that strip deliveries. Meanwhile the log writer commits webhooks.
const STRIP_PAUSE: Duration = Duration::from_millis(20);

/// Strips deliveries beyond the limits of `kept`, in rounds that never end.
pub(crate) async fn strip_deliveries(store: Store, log_writer: LogWriter, kept: DeliveryRetention) {
    let mut stripped_to = Uuid::nil();
    loop {
        match strip_once(&store, &log_writer, kept, &mut stripped_to).await {
            Ok(0) => {}
            Ok(steps) => {
                info!(steps, days = kept.days, megabytes = kept.megabytes, "stripped headers and bodies of deliveries")
            }
            Err(error) => warn!(%error, "cannot strip headers and bodies of deliveries"),
        }
        sleep(ROUND_INTERVAL).await;
    }
}

/// Strips the deliveries beyond the limits of `kept`, the oldest first. Afterwards, every delivery up to `stripped_to`
/// is stripped. Returns the number of transactions.
async fn strip_once(
    store: &Store,
    log_writer: &LogWriter,
    kept: DeliveryRetention,
    stripped_to: &mut Uuid,
) -> Result<u64, StoreError> {
    let before = (kept.days > 0).then(|| days_ago(kept.days));
    let max_bytes = (kept.megabytes > 0).then(|| i64::from(kept.megabytes) << 20);
    let Some(last) = store.last_to_strip(before, max_bytes, *stripped_to).await? else { return Ok(0) };
    let mut steps = 0;
    // A delivery that was committed late may have a lower id than `stripped_to`.
    let mut from = least_uncommitted_id(*stripped_to);
    while let Some(DeliveryRange { first, last }) = store.next_to_strip(from, last).await? {
        log_writer.maintain(Maintenance::StripDeliveries(DeliveryRange { first, last })).await?;
        (from, steps) = (last, steps + 1);
        sleep(STRIP_PAUSE).await;
    }
    *stripped_to = last;
    Ok(steps)
}

fn days_ago(days: u32) -> Timestamp {
    clock::now().plus_secs(-i64::from(days) * 86_400)
}

/// Deletes calls that ended more than `days` ago, in rounds that never end.
pub(crate) async fn delete_ended_calls(store: Store, log_writer: LogWriter, days: u32) {
    loop {
        match delete_once(&store, &log_writer, days).await {
            Ok(0) => {}
            Ok(deleted) => info!(deleted, days, "deleted calls past their retention"),
            Err(error) => warn!(%error, "cannot delete calls past their retention"),
        }
        sleep(ROUND_INTERVAL).await;
    }
}

/// Returns the number of deleted calls.
async fn delete_once(store: &Store, log_writer: &LogWriter, days: u32) -> Result<u64, StoreError> {
    let before = days_ago(days);
    let mut deleted = 0;
    loop {
        let calls = store.ended_before(before, CALLS_PAGE).await?;
        if calls.is_empty() {
            return Ok(deleted);
        }
        let mut deleted_of_page = 0;
        for call_id in calls {
            // The transaction checks the end again, because the call may have changed or been merged since it was
            // listed.
            let delete = Delete { call_id, ended_before: Some(before) };
            if let Outcome::Done(_) = log_writer.submit(Operation::Delete(delete)).await? {
                deleted_of_page += 1;
            }
        }
        if deleted_of_page == 0 {
            // All these calls have changed. Listing them again at once could loop without end.
            return Ok(deleted);
        }
        deleted += deleted_of_page;
    }
}
