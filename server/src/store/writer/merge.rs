//! Merges two call records inside a `Ledger`.

use callscope_common::protocol::ServerMessage;
use callscope_common::{CallId, Identifier};

use crate::log::{AbsorbedCall, DedupKey, Delivery, Ledger, Operation};
use crate::store::StoreError;
use crate::store::transaction::Tx;

/// Merges the records into the one that survives.
pub(super) async fn merge(
    tx: &mut Tx,
    ledger: &mut Ledger,
    records: &[CallId],
    op: &Operation,
) -> Result<(), StoreError> {
    let Some(survivor) = ledger.survivor(records) else { return Err(StoreError::Internal("a merge has no survivor")) };
    let mut transcript = None;
    for call_id in records {
        if let Some((result, stored)) = tx.result(*call_id).await? {
            ledger.call(*call_id).result = Some(result.into());
            if *call_id == survivor {
                transcript = stored;
            }
        }
    }
    for call_id in records.iter().copied().filter(|call_id| *call_id != survivor) {
        let log = tx.log(call_id).await?;
        let ids = tx.transcription_ids(i64::try_from(log.len()).unwrap_or(i64::MAX)).await?;
        let events = log
            .into_iter()
            .map(|(frame, delivery_id)| {
                let message = ServerMessage::parse(&frame).map_err(|_| StoreError::Damaged("event"))?;
                Ok((message, delivery_id))
            })
            .collect::<Result<_, StoreError>>()?;
        let names = tx.names_of(call_id).await?.iter().filter_map(|(name,)| Identifier::parse(name).ok()).collect();
        let other_transcript = tx.result(call_id).await?.and_then(|(_, transcript)| transcript);
        // The ids that were loaded for the operation itself are put back afterwards.
        let operation_ids = std::mem::replace(&mut ledger.transcription_ids, ids.into_iter());
        let absorbed = AbsorbedCall { call_id, events, names, transcripts: (transcript, other_transcript) };
        transcript = ledger
            .absorb(survivor, absorbed)
            .map_err(|_| StoreError::Internal("more turns are appended than ids were taken for"))?;
        ledger.transcription_ids = operation_ids;
        // The turns of the absorbed record now belong to the survivor, where a repeat of one of them must be found.
        if let Some(hash) = op.delivery().and_then(Delivery::turn_hash)
            && let Some(mut earlier) =
                ledger.earlier_deliveries.get(&DedupKey::turn_hash_in_call(call_id, hash)).cloned()
        {
            earlier.call_id = Some(survivor);
            ledger.earlier_deliveries.entry(DedupKey::turn_hash_in_call(survivor, hash)).or_insert(earlier);
        }
    }
    Ok(())
}
