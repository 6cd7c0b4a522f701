//! Loads the rows that a batch of operations names into a ledger.

use std::collections::HashSet;

use callscope_common::{CallId, Identifier};

use crate::log::{Change, DedupHash, DedupKey, Ledger, Operation, Turn, turn_hash, turn_hash_without_speaker};
use crate::store::StoreError;
use crate::store::transaction::Tx;

/// Loads and locks the calls that the operations name, and loads earlier deliveries, taken sids, and ids for turns.
pub(super) async fn load(tx: &mut Tx, ledger: &mut Ledger, operations: &[&Operation]) -> Result<(), StoreError> {
    let names: HashSet<&Identifier> = operations.iter().flat_map(|operation| operation.names()).collect();
    let names: Vec<&str> = names.into_iter().map(Identifier::as_str).collect();
    let mut ids: HashSet<CallId> = operations.iter().flat_map(|operation| operation.call_ids()).collect();
    for (name, call_id) in tx.names(&names).await? {
        ids.insert(call_id);
        ledger.names.insert(Identifier::parse(&name).map_err(|_| StoreError::Damaged("identifier"))?, call_id);
    }
    load_calls(tx, ledger, ids).await?;
    for operation in operations {
        if let Operation::Patch(patch) = operation
            && let Some(call_id) = ledger.call_named(&patch.id)
            && let Some((result, _)) = tx.result(call_id).await?
        {
            ledger.call(call_id).result = Some(result.into());
        }
    }
    load_earlier(tx, ledger, operations).await?;
    // Only an operation with a name that leads to no call, or without names, can create a call and generate its sid.
    let may_create =
        |op: &&&Operation| op.names().iter().any(|name| ledger.call_named(name).is_none()) || op.names().is_empty();
    let prefixes: HashSet<String> =
        operations.iter().filter(may_create).filter_map(|operation| operation.sid_prefix()).collect();
    for prefix in prefixes {
        ledger.taken_sids.extend(tx.taken_sids(&prefix).await?.into_iter().map(|(sid,)| sid));
    }
    let turns: usize = operations.iter().map(|operation| operation.max_turns()).sum();
    ledger.transcription_ids = tx.transcription_ids(i64::try_from(turns).unwrap_or(i64::MAX)).await?.into_iter();
    Ok(())
}

async fn load_calls(tx: &mut Tx, ledger: &mut Ledger, ids: HashSet<CallId>) -> Result<(), StoreError> {
    let mut ids: Vec<CallId> = ids.into_iter().collect();
    // Absorbed records are signposts to other records. Each round loads the records that the last round led to.
    while !ids.is_empty() {
        let mut next = Vec::new();
        for row in tx.lock_calls(&ids).await? {
            match row.merged_into {
                Some(into) => {
                    let signpost =
                        Identifier::parse(&row.call_id.to_string()).map_err(|_| StoreError::Damaged("call"))?;
                    ledger.names.insert(signpost, into);
                    if !ledger.calls.contains_key(&into) {
                        next.push(into);
                    }
                }
                None => {
                    ledger.calls.insert(row.call_id, row.try_into()?);
                }
            }
        }
        ids = next;
    }
    // If a name's call is missing, another process has moved the name since it was read.
    if ledger.names.values().any(|call_id| !ledger.calls.contains_key(call_id)) {
        return Err(StoreError::Conflict);
    }
    Ok(())
}

async fn load_earlier(tx: &mut Tx, ledger: &mut Ledger, operations: &[&Operation]) -> Result<(), StoreError> {
    let mut keys: Vec<DedupHash> = Vec::new();
    let mut senders: Vec<DedupHash> = Vec::new();
    for delivery in operations.iter().filter_map(|operation| operation.delivery()) {
        senders.extend(delivery.idempotency_key);
        keys.extend(delivery.dedup_key.hashes());
        // Interim turns are looked up too, because one that arrives after the final turn is not shown.
        if let Change::Turn(Turn { names, speaker, turn_id: Some(turn_id), .. }) = &delivery.change {
            let hash = turn_hash(*speaker, turn_id);
            for call_id in names.iter().filter_map(|name| ledger.call_named(name)) {
                keys.push(DedupKey::turn_hash_in_call(call_id, &hash));
                if ledger
                    .calls
                    .get(&call_id)
                    .is_some_and(|call| call.created_at < ledger.turn_ids_without_speaker_before)
                {
                    keys.push(DedupKey::turn_hash_in_call(call_id, &turn_hash_without_speaker(turn_id)));
                }
            }
        }
    }
    if keys.is_empty() && senders.is_empty() {
        return Ok(());
    }
    ledger.earlier_deliveries.extend(tx.earlier(&keys, &senders).await?);
    Ok(())
}
