//! Compares what is followed in this process with the database, and publishes what a lost notification has hidden.

use std::collections::HashMap;

use callscope_common::{CallId, Seq};
use tracing::{debug, warn};

use super::Hub;
use super::connection::EndReason;
use crate::log::Notification;
use crate::store::events::{Page, StoredEvent};
use crate::store::{Store, StoreError};

/// Most calls or identifiers in one statement.
const MAX_IN_STATEMENT: usize = 1_000;
/// Most missed events of a call that are published at once; sessions read further ones themselves.
const MAX_MISSED: i64 = 256;
/// Most bytes of missed events of a call.
const MAX_MISSED_BYTES: usize = 256 << 10;

/// Compares the heads of followed calls, and the identifiers that connections wait for, with the database once.
///
/// # Errors
/// Returns an error if the database does not answer. A single log that cannot be read is logged and does not stop the
/// others.
pub async fn reconcile(store: &Store, hub: &Hub) -> Result<(), StoreError> {
    for heads in hub.heads().chunks(MAX_IN_STATEMENT) {
        reconcile_heads(store, hub, heads).await?;
    }
    for identifiers in hub.awaited_identifiers().chunks(MAX_IN_STATEMENT) {
        for identifier in store.existing_identifiers(identifiers).await? {
            hub.call_appeared(&identifier);
        }
    }
    Ok(())
}

async fn reconcile_heads(store: &Store, hub: &Hub, heads: &[(CallId, Seq)]) -> Result<(), StoreError> {
    let known_heads: HashMap<CallId, Seq> = heads.iter().copied().collect();
    let ids: Vec<CallId> = known_heads.keys().copied().collect();
    let mut missing = known_heads.clone();
    for head in store.heads(&ids).await? {
        missing.remove(&head.call_id);
        let Some(known) = known_heads.get(&head.call_id) else { continue };
        if let Some(into) = head.merged_into {
            hub.end(head.call_id, EndReason::Merged(into));
            continue;
        }
        if head.head > *known && head.head - known <= MAX_MISSED {
            debug!(call_id = %head.call_id, known, head = head.head, "reconciliation found events");
            match store.events(head.call_id, *known, Page { rows: MAX_MISSED, bytes: MAX_MISSED_BYTES }).await {
                Ok(events) => publish(hub, head.call_id, events),
                // One log that cannot be read must not hide the others; its followers read it in their sessions.
                Err(error) => {
                    warn!(call_id = %head.call_id, %error, "cannot read the events that reconciliation found")
                }
            }
        }
        hub.publish(vec![Notification::HeadMoved { call_id: head.call_id, head: head.head, ended: head.has_ended }]);
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
