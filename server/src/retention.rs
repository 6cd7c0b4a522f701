//! Retention: deletes ended calls that are older than the setting, and strips headers and bodies of deliveries
//! (docs/adr/0008).

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

/// Time between two rounds.
const INTERVAL: Duration = Duration::from_secs(600);
/// Maximum number of calls that are listed at once.
const PAGE: i64 = 100;

/// Time between two transactions that strip deliveries, so that webhooks come first.
const PAUSE: Duration = Duration::from_millis(20);

pub(crate) async fn strip_deliveries(store: Store, log_writer: LogWriter, kept: DeliveryRetention) {
    let mut stripped_to = Uuid::nil();
    loop {
        match strip_once(&store, &log_writer, kept, &mut stripped_to).await {
            Ok(0) => {}
            Ok(steps) => {
                info!(steps, days = kept.days, megabytes = kept.megabytes, "dropped headers and bodies of deliveries")
            }
            Err(error) => warn!(%error, "cannot drop headers and bodies of deliveries"),
        }
        sleep(INTERVAL).await;
    }
}

/// Strips what goes beyond `kept`, the oldest first, and remembers in `stripped_to` up to where every delivery is
/// stripped. Returns the number of transactions.
async fn strip_once(
    store: &Store,
    log_writer: &LogWriter,
    kept: DeliveryRetention,
    stripped_to: &mut Uuid,
) -> Result<u64, StoreError> {
    let end = (kept.days > 0).then(|| days_ago(kept.days));
    let bytes = (kept.megabytes > 0).then(|| i64::from(kept.megabytes) << 20);
    let Some(last) = store.last_to_strip(end, bytes, *stripped_to).await? else { return Ok(0) };
    let mut steps = 0;
    // A delivery that was committed late may have a lower id than those that are known to be stripped.
    let mut from = least_uncommitted_id(*stripped_to);
    while let Some(DeliveryRange { first, last }) = store.next_to_strip(from, last).await? {
        log_writer.maintain(Maintenance::StripDeliveries(DeliveryRange { first, last })).await?;
        (from, steps) = (last, steps + 1);
        sleep(PAUSE).await;
    }
    *stripped_to = last;
    Ok(steps)
}

fn days_ago(days: u32) -> Timestamp {
    clock::now().plus_secs(-i64::from(days) * 86_400)
}

pub(crate) async fn delete_ended_calls(store: Store, log_writer: LogWriter, days: u32) {
    loop {
        match delete_once(&store, &log_writer, days).await {
            Ok(0) => {}
            Ok(deleted) => info!(deleted, days, "deleted calls past their retention"),
            Err(error) => warn!(%error, "cannot delete calls past their retention"),
        }
        sleep(INTERVAL).await;
    }
}

async fn delete_once(store: &Store, log_writer: &LogWriter, days: u32) -> Result<u64, StoreError> {
    let end = days_ago(days);
    let mut deleted = 0;
    loop {
        let calls = store.ended_before(end, PAGE).await?;
        if calls.is_empty() {
            return Ok(deleted);
        }
        let mut done = 0;
        for call_id in calls {
            // The transaction decides again, because the call may have changed, or been merged into a live one, since
            // it was listed.
            let delete = Delete { call_id, ended_before: Some(end) };
            if let Outcome::Done(_) = log_writer.submit(Operation::Delete(delete)).await? {
                done += 1;
            }
        }
        if done == 0 {
            // Every call of the page has changed; the next round lists them again.
            return Ok(deleted);
        }
        deleted += done;
    }
}
