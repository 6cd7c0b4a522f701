//! One transaction of the log writer: load, apply, write, commit, notify; and its retries.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::time::{sleep, timeout};
use tracing::debug;
use uuid::Uuid;

use super::WriterTask;
use crate::clock;
use crate::log::{ApplyError, Ledger, Notification, Operation, Outcome};
use crate::store::StoreError;
use crate::store::error::{ATTEMPTS, backoff};
use crate::store::transaction::Tx;
use crate::store::writer::pending::{Batch, Pending};
use crate::store::writer::{Maintenance, flush, load, merge};

/// A transaction is tried again until this time has passed since its first attempt; then its callers get the error.
const RETRY_FOR: Duration = Duration::from_secs(4);

/// Deadline of a transaction. Bodies add a second for each [`BYTES_PER_SECOND`] that they have together.
pub(super) const COMMIT_DEADLINE: Duration = Duration::from_secs(10);
const BYTES_PER_SECOND: usize = 4 << 20;

/// Since this migration, turns are stored under the hash of their `turn_id` and speaker.
const SPEAKER_HASH_VERSION: i64 = 5;
/// How long servers of an older version may go on writing after the migration.
const ROLLING_UPGRADE_SECS: i64 = 86_400;

/// Why a transaction was not committed.
pub(super) enum CommitError {
    /// The operation at this index of the batch's operations needs its own transaction.
    Split {
        operation_index: usize,
    },
    Store(StoreError),
}

impl<E: Into<StoreError>> From<E> for CommitError {
    fn from(error: E) -> Self {
        Self::Store(error.into())
    }
}

impl WriterTask {
    /// Commits a batch in one transaction, which is tried again while the error is transient. Sets
    /// [`Pending::may_be_committed`] if a commit may have succeeded without an acknowledgement.
    pub(super) async fn commit_with_retries(&self, batch: &mut [Pending]) -> Result<Vec<Outcome>, CommitError> {
        let deadline = COMMIT_DEADLINE
            + Duration::from_secs((batch.iter().map(Pending::body_bytes).sum::<usize>() / BYTES_PER_SECOND) as u64);
        let began = Instant::now();
        let mut attempt = 0;
        let may_have_committed = AtomicBool::new(false);
        let mut work = Batch::of(batch);
        let committed = loop {
            // A rule that panics over one operation must not stop the log writer.
            let committed = self.commit(&work, &may_have_committed);
            let committed = AssertUnwindSafe(timeout(deadline, committed)).catch_unwind().await;
            let committed = committed.map(|in_time| in_time.unwrap_or(Err(CommitError::Store(StoreError::TimedOut))));
            let committed =
                committed.unwrap_or(Err(CommitError::Store(StoreError::Internal("a rule of the log panicked"))));
            match committed {
                Err(CommitError::Store(error))
                    if error.is_transient()
                        && !error.is_lock_timeout()
                        && attempt + 1 < ATTEMPTS
                        && began.elapsed() < RETRY_FOR =>
                {
                    attempt += 1;
                    work.may_be_committed |= may_have_committed.load(Ordering::Relaxed);
                    debug!(%error, attempt, "a transaction is tried again");
                    sleep(backoff(attempt)).await;
                }
                other => break other,
            }
        };
        // Kept in each `Pending`, because the batch may be split or parked before the next attempt.
        let may_have_committed = may_have_committed.into_inner();
        batch.iter_mut().for_each(|pending| pending.may_be_committed |= may_have_committed);
        committed
    }

    /// Runs one transaction. Sets `may_have_committed` before the commit, because its acknowledgement may be lost.
    async fn commit(&self, batch: &Batch<'_>, may_have_committed: &AtomicBool) -> Result<Vec<Outcome>, CommitError> {
        let operations = &*batch.operations;
        let mut tx = Tx::begin(&self.store).await?;
        let now = clock::now();
        let mut ledger = Ledger::new(now, self.unknown_calls, self.render);
        ledger.may_be_committed = batch.may_be_committed;
        ledger.turn_ids_without_speaker_before = match self.turn_ids_without_speaker_before.get() {
            Some(at) => *at,
            None => {
                let at = tx.upgraded_at(SPEAKER_HASH_VERSION).await?.plus_secs(ROLLING_UPGRADE_SECS);
                *self.turn_ids_without_speaker_before.get_or_init(|| at)
            }
        };
        load::load(&mut tx, &mut ledger, operations).await?;
        if batch.may_be_committed {
            let deliveries = operations.iter().filter_map(|operation| operation.delivery());
            let ids: Vec<Uuid> = deliveries.map(|delivery| delivery.delivery_id).collect();
            ledger.committed_answers = tx.answers(&ids).await?.into_iter().collect();
        }
        let outcomes = apply(&mut tx, &mut ledger, operations).await?;
        flush::write(&mut tx, &ledger, operations).await?;
        for maintenance in &batch.maintenance {
            flush::maintain(&mut tx, maintenance, now).await?;
        }
        may_have_committed.store(true, Ordering::Relaxed);
        tx.commit().await?;
        let mut notifications = ledger.writes.notifications;
        notifications.extend(batch.maintenance.iter().filter_map(|maintenance| probe(maintenance)));
        (self.on_commit)(notifications);
        Ok(outcomes)
    }
}

async fn apply(tx: &mut Tx, ledger: &mut Ledger, operations: &[&Operation]) -> Result<Vec<Outcome>, CommitError> {
    let mut outcomes = Vec::with_capacity(operations.len());
    for (at, operation) in operations.iter().enumerate() {
        // A deletion frees names that other operations of the batch may assign, so it runs alone.
        if matches!(operation, Operation::Delete(_)) && operations.len() > 1 {
            return Err(CommitError::Split { operation_index: at });
        }
        let outcome = match ledger.apply(operation) {
            Err(ApplyError::NeedsMerge(_)) if operations.len() > 1 => {
                return Err(CommitError::Split { operation_index: at });
            }
            Err(ApplyError::NeedsMerge(records)) => {
                merge::merge(tx, ledger, &records, operation).await?;
                ledger.apply(operation)
            }
            applied => applied,
        };
        outcomes.push(outcome.map_err(|error| {
            StoreError::Internal(match error {
                ApplyError::NeedsMerge(_) => "a merged call has to be merged again",
                ApplyError::OutOfTranscriptionIds => "more turns are appended than ids were loaded for",
            })
        })?);
    }
    Ok(outcomes)
}

/// The notification that carries a heartbeat's probe to its followers.
fn probe(maintenance: &Maintenance) -> Option<Notification> {
    let Maintenance::Heartbeat(heartbeat) = maintenance else { return None };
    let (call_id, frame) = heartbeat.probe.as_ref()?;
    Some(Notification::PartialTurn { call_id: *call_id, frame: Arc::clone(frame) })
}
