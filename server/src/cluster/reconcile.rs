//! Finds what an announcement that never came hid.
//!
//! Every second, with jitter, the heads of the followed calls and the identifiers waited for are compared with the database;
//! five times a second while the other servers' announcements cannot be relied on, and at once when that changes.

use std::collections::HashMap;
use std::time::Duration;

use callscope_common::{CallId, Seq};
use tokio::select;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::Bus;
use super::bus::LinkHealth;
use crate::live::Hub;
use crate::live::connection::EndReason;
use crate::log::Notification;
use crate::store::events::{Page, StoredEvent};
use crate::store::{Store, StoreError};

/// For one round.
const DEADLINE: Duration = Duration::from_secs(10);
/// Between two rounds.
const INTERVAL_MS: u64 = 1_000;
/// And while the other servers' announcements cannot be relied on.
const UNRELIABLE_INTERVAL_MS: u64 = 200;
/// Before a round that something prompts, so that many prompts make one.
const DEBOUNCE: Duration = Duration::from_millis(50);
/// Most calls asked for in one statement.
const PAGE: usize = 1_000;
/// Most missed events announced at once; followers read further ones themselves.
const MAX_MISSED: i64 = 256;
/// Most bytes of them, of one call.
const MAX_MISSED_BYTES: usize = 256 << 10;

/// Runs until the process ends.
pub async fn run(store: Store, hub: Hub, bus: Option<Bus>) {
    let mut health = bus.map(|bus| bus.health());
    let mut failing = false;
    let mut jitter = 0_u64;
    loop {
        // Any spread will do; the hub's own counters change all the time.
        jitter = jitter.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        pause(health.as_mut(), jitter >> 33).await;
        let outcome = timeout(DEADLINE, reconcile(&store, &hub)).await;
        match outcome.unwrap_or(Err(StoreError::TimedOut)) {
            Ok(()) if failing => {
                failing = false;
                warn!("sweeping again");
            }
            Ok(()) => {}
            Err(error) if !failing => {
                failing = true;
                warn!(%error, "cannot sweep");
            }
            Err(_) => {}
        }
    }
}

/// Waits for the next round.
async fn pause(health: Option<&mut watch::Receiver<LinkHealth>>, jitter: u64) {
    let spread = |ms: u64| Duration::from_millis(ms * 9 / 10 + jitter % (ms / 5));
    let Some(health) = health else { return sleep(spread(INTERVAL_MS)).await };
    // Not marked as seen: what changed during the last round is a reason for another one.
    let is_complete = health.borrow().is_complete;
    select! {
        () = sleep(spread(if is_complete { INTERVAL_MS } else { UNRELIABLE_INTERVAL_MS })) => {}
        // What was announced meanwhile went past it.
        Ok(()) = health.changed() => sleep(DEBOUNCE).await,
    }
}

pub(crate) async fn reconcile(store: &Store, hub: &Hub) -> Result<(), StoreError> {
    for heads in hub.heads().chunks(PAGE) {
        reconcile_heads(store, hub, heads).await?;
    }
    for names in hub.awaited_identifiers().chunks(PAGE) {
        for name in store.existing_identifiers(names).await? {
            hub.call_appeared(&name);
        }
    }
    Ok(())
}

async fn reconcile_heads(store: &Store, hub: &Hub, heads: &[(CallId, Seq)]) -> Result<(), StoreError> {
    let before: HashMap<CallId, Seq> = heads.iter().copied().collect();
    let ids: Vec<CallId> = before.keys().copied().collect();
    let mut missing = before.clone();
    for head in store.heads(&ids).await? {
        missing.remove(&head.call_id);
        let Some(known) = before.get(&head.call_id) else { continue };
        if let Some(into) = head.merged_into {
            hub.end(head.call_id, EndReason::Merged(into));
            continue;
        }
        if head.head > *known && head.head - known <= MAX_MISSED {
            debug!(call_id = %head.call_id, known, head = head.head, "the sweep found events");
            match store.events(head.call_id, *known, Page { rows: MAX_MISSED, bytes: MAX_MISSED_BYTES }).await {
                Ok(events) => publish(hub, head.call_id, events),
                // One log that cannot be read must not hide the others; its followers try for themselves.
                Err(error) => warn!(call_id = %head.call_id, %error, "cannot read what the sweep found"),
            }
        }
        let ended = matches!(head.status.as_str(), "completed" | "failed");
        hub.publish(vec![Notification::HeadMoved { call_id: head.call_id, head: head.head, ended }]);
    }
    for call_id in missing.into_keys() {
        hub.end(call_id, EndReason::Deleted);
    }
    Ok(())
}

fn publish(hub: &Hub, call_id: CallId, events: Vec<StoredEvent>) {
    if let Some(first) = events.first().map(|event| event.seq) {
        let events = events.into_iter().map(|event| (event.kind, event.frame.into())).collect();
        hub.publish(vec![Notification::EventsAppended { call_id, first, events }]);
    }
}
