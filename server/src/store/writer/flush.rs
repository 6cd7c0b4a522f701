//! Writes the changes of a ledger, in the transaction that loaded it.

use callscope_common::Timestamp;
use uuid::Uuid;

use super::Maintenance;
use crate::log::{Change, Ledger, NewAudio, NewName, Operation, RowChange};
use crate::store::transaction::Tx;
use crate::store::{StoreError, tables};

pub(super) async fn write(tx: &mut Tx, ledger: &Ledger, operations: &[&Operation]) -> Result<(), StoreError> {
    let writes = &ledger.writes;
    for merge in &writes.merges {
        tx.merge(merge.from, merge.into, merge.moves_audio).await?;
    }
    let changed = ledger.calls.values().filter(|call| call.row_change != RowChange::None);
    let (new, existing): (Vec<_>, Vec<_>) = changed.partition(|call| call.is_new);
    let (heads, whole): (Vec<_>, Vec<_>) = existing.into_iter().partition(|call| call.row_change == RowChange::Head);
    tx.write_calls(&tables::INSERT_CALLS, &new).await?;
    // All servers insert names in one order, so that two of them never wait for each other.
    let mut names: Vec<&NewName> = writes.names.iter().collect();
    names.sort_by(|(one, ..), (other, ..)| one.cmp(other));
    if tx.write_names(&tables::INSERT_NAMES, &names).await? < names.len() as u64 {
        return Err(StoreError::Conflict);
    }
    tx.write_heads(&tables::UPDATE_HEADS, &heads).await?;
    tx.write_calls(&tables::UPDATE_CALLS, &whole).await?;
    tx.write_events(&tables::INSERT_EVENTS, &writes.events, ledger.now.as_micros()).await?;
    for result in &writes.results {
        tx.put_result(result).await?;
    }
    let deliveries = || operations.iter().filter_map(|operation| operation.delivery());
    let delivery = |id: Uuid| deliveries().find(move |delivery| delivery.delivery_id == id);
    for NewAudio { call_id, content_type, delivery_id } in &writes.audio {
        if let Some(Change::Audio { bytes, .. }) = delivery(*delivery_id).map(|delivery| &delivery.change) {
            tx.put_recording(*call_id, content_type, bytes, ledger.now.as_micros()).await?;
        }
    }
    // The rows are in the order of the operations, so one walk finds each row's delivery.
    let mut deliveries = deliveries();
    let rows: Vec<_> = writes
        .deliveries
        .iter()
        .filter_map(|row| deliveries.find(|delivery| delivery.delivery_id == row.delivery_id).map(|found| (row, found)))
        .collect();
    if tx.write_deliveries(&tables::INSERT_DELIVERIES, &rows).await? < rows.len() as u64 {
        return Err(StoreError::Conflict);
    }
    for call_id in &writes.deleted {
        tx.delete(*call_id, ledger.now.as_micros()).await?;
    }
    Ok(())
}

pub(super) async fn maintain(tx: &mut Tx, maintenance: &Maintenance, now: Timestamp) -> Result<(), StoreError> {
    match maintenance {
        Maintenance::Heartbeat(heartbeat) => tx.put_heartbeat(heartbeat).await,
        Maintenance::Deregister(node) => tx.remove_node(node).await,
        Maintenance::StripDeliveries(range) => tx.strip_deliveries(*range, now.as_micros()).await,
    }
}
