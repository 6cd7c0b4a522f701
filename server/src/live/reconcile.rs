//! Compares the followed calls and awaited identifiers of this process with the database, and publishes the events
//! whose notification was lost.

use std::collections::HashMap;

use callscope_common::{CallId, Seq};
use tracing::{debug, warn};

use super::Hub;
use super::connection::EndReason;
use crate::log::Notification;
use crate::store::events::{Page, StoredEvent};
use crate::store::{Store, StoreError};

/// Most calls or identifiers in one statement.
const MAX_PER_STATEMENT: usize = 1_000;
/// Most missed events of a call that are published. If a call missed more, its sessions read them themselves.
const MAX_MISSED_EVENTS: i64 = 256;
/// Most bytes of missed events of a call that are published; the sessions read the others themselves.
const MAX_MISSED_BYTES: usize = 256 << 10;

/// Compares the heads of followed calls, and the identifiers that connections wait for, with the database once.
///
/// # Errors
/// Returns an error if the database does not answer. A single log that cannot be read is logged and does not stop the
/// others.
pub async fn reconcile(store: &Store, hub: &Hub) -> Result<(), StoreError> {
    for heads in hub.heads().chunks(MAX_PER_STATEMENT) {
        reconcile_heads(store, hub, heads).await?;
    }
    for identifiers in hub.awaited_identifiers().chunks(MAX_PER_STATEMENT) {
        for identifier in store.existing_identifiers(identifiers).await? {
            hub.call_appeared(&identifier);
        }
    }
    Ok(())
}

async fn reconcile_heads(store: &Store, hub: &Hub, heads: &[(CallId, Seq)]) -> Result<(), StoreError> {
    let known_heads: HashMap<CallId, Seq> = heads.iter().copied().collect();
    let ids: Vec<CallId> = known_heads.keys().copied().collect();
    let mut deleted_calls = known_heads.clone();
    for head in store.heads(&ids).await? {
        deleted_calls.remove(&head.call_id);
        let Some(known) = known_heads.get(&head.call_id) else { continue };
        if let Some(into) = head.merged_into {
            hub.end_subscriptions(head.call_id, EndReason::Merged(into));
            continue;
        }
        if head.head > *known && head.head - known <= MAX_MISSED_EVENTS {
            debug!(call_id = %head.call_id, known, head = head.head, "reconciliation found events");
            match store.events(head.call_id, *known, Page { rows: MAX_MISSED_EVENTS, bytes: MAX_MISSED_BYTES }).await {
                Ok(events) => publish(hub, head.call_id, events),
                // The other calls are still reconciled. The sessions of this call's followers try to read it again.
                Err(error) => {
                    warn!(call_id = %head.call_id, %error, "cannot read the events that reconciliation found")
                }
            }
        }
        hub.publish(vec![Notification::HeadMoved { call_id: head.call_id, head: head.head, ended: head.has_ended }]);
    }
    for call_id in deleted_calls.into_keys() {
        hub.end_subscriptions(call_id, EndReason::Deleted);
    }
    Ok(())
}

fn publish(hub: &Hub, call_id: CallId, events: Vec<StoredEvent>) {
    if let Some(first) = events.first().map(|event| event.seq) {
        let events = events.into_iter().map(|event| (event.kind, event.frame.into())).collect();
        hub.publish(vec![Notification::EventsAppended { call_id, first, events }]);
    }
}
