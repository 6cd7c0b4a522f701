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
use super::bus::News;
use crate::live::Hub;
use crate::live::connection::Fate;
use crate::log::Notification;
use crate::store::events::{Page, StoredEvent};
use crate::store::{Store, StoreError};

/// For one round.
const DEADLINE: Duration = Duration::from_secs(10);
/// Between two rounds.
const INTERVAL_MS: u64 = 1_000;
/// And while the other servers' announcements cannot be relied on.
const ALONE_MS: u64 = 200;
/// Before a round that something prompts, so that many prompts make one.
const LEAST: Duration = Duration::from_millis(50);
/// Most calls asked for in one statement.
const PAGE: usize = 1_000;
/// Most missed events announced at once; followers read further ones themselves.
const MISSED: i64 = 256;
/// Most bytes of them, of one call.
const MISSED_BYTES: usize = 256 << 10;

/// Runs until the process ends.
pub async fn run(store: Store, hub: Hub, bus: Option<Bus>) {
    let mut news = bus.map(|bus| bus.news());
    let mut failing = false;
    let mut jitter = 0_u64;
    loop {
        // Any spread will do; the hub's own counters change all the time.
        jitter = jitter.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        pause(news.as_mut(), jitter >> 33).await;
        let swept = timeout(DEADLINE, once(&store, &hub)).await;
        match swept.unwrap_or(Err(StoreError::TimedOut)) {
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
async fn pause(news: Option<&mut watch::Receiver<News>>, jitter: u64) {
    let spread = |ms: u64| Duration::from_millis(ms * 9 / 10 + jitter % (ms / 5));
    let Some(news) = news else { return sleep(spread(INTERVAL_MS)).await };
    // Not marked as seen: what changed during the last round is a reason for another one.
    let is_whole = news.borrow().is_whole;
    select! {
        () = sleep(spread(if is_whole { INTERVAL_MS } else { ALONE_MS })) => {}
        // What was announced meanwhile went past it.
        Ok(()) = news.changed() => sleep(LEAST).await,
    }
}

pub(crate) async fn once(store: &Store, hub: &Hub) -> Result<(), StoreError> {
    for heads in hub.heads().chunks(PAGE) {
        sweep_feeds(store, hub, heads).await?;
    }
    for names in hub.waited_for().chunks(PAGE) {
        for name in store.existing_identifiers(names).await? {
            hub.name(&name);
        }
    }
    Ok(())
}

async fn sweep_feeds(store: &Store, hub: &Hub, heads: &[(CallId, Seq)]) -> Result<(), StoreError> {
    let before: HashMap<CallId, Seq> = heads.iter().copied().collect();
    let ids: Vec<CallId> = before.keys().copied().collect();
    let mut missing = before.clone();
    for head in store.heads(&ids).await? {
        missing.remove(&head.call_id);
        let Some(known) = before.get(&head.call_id) else { continue };
        if let Some(into) = head.merged_into {
            hub.meet(head.call_id, Fate::Merged(into));
            continue;
        }
        if head.head > *known && head.head - known <= MISSED {
            debug!(call_id = %head.call_id, known, head = head.head, "the sweep found events");
            match store.events(head.call_id, *known, Page { rows: MISSED, bytes: MISSED_BYTES }).await {
                Ok(events) => announce(hub, head.call_id, events),
                // One log that cannot be read must not hide the others; its followers try for themselves.
                Err(error) => warn!(call_id = %head.call_id, %error, "cannot read what the sweep found"),
            }
        }
        let ended = matches!(head.status.as_str(), "completed" | "failed");
        hub.announce(vec![Notification::HeadMoved { call_id: head.call_id, head: head.head, ended }]);
    }
    for call_id in missing.into_keys() {
        hub.meet(call_id, Fate::Deleted);
    }
    Ok(())
}

fn announce(hub: &Hub, call_id: CallId, events: Vec<StoredEvent>) {
    if let Some(first) = events.first().map(|event| event.seq) {
        let events = events.into_iter().map(|event| (event.kind, event.frame.into())).collect();
        hub.announce(vec![Notification::EventsAppended { call_id, first, events }]);
    }
}
