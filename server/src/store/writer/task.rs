//! The task of the log writer: takes batches out of the queue and commits each, if possible in one transaction.

mod commit;

use std::collections::VecDeque;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use callscope_common::Timestamp;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tracing::warn;

use self::commit::{COMMIT_DEADLINE, CommitError};
use super::OnCommit;
use super::parked::{self, Parked, TouchedNames};
use super::pending::{self, Pending};
use crate::log::{Operation, RenderReceipt, UnknownCalls};
use crate::store::{Store, StoreError};

/// The most operations in one transaction.
const MAX_BATCH: usize = 512;
/// The most bytes of bodies in one transaction. A single longer body is written alone.
const MAX_BATCH_BYTES: usize = 8 << 20;

/// How long a transaction waits for more operations if the last batch had at least [`COMMIT_SIBLINGS`] of them.
/// PostgreSQL has the settings `commit_delay` and `commit_siblings` for the same purpose.
const COMMIT_DELAY: Duration = Duration::from_millis(1);
const COMMIT_SIBLINGS: usize = 4;

pub(super) struct WriterTask {
    pub store: Store,
    pub unknown_calls: UnknownCalls,
    pub render: RenderReceipt,
    pub on_commit: OnCommit,
    /// See [`Ledger::turn_ids_without_speaker_before`](crate::log::Ledger); read from the database by the first
    /// transaction.
    pub turn_ids_without_speaker_before: OnceLock<Timestamp>,
}

impl WriterTask {
    pub fn new(store: Store, unknown_calls: UnknownCalls, render: RenderReceipt, on_commit: OnCommit) -> Self {
        Self { store, unknown_calls, render, on_commit, turn_ids_without_speaker_before: OnceLock::new() }
    }

    /// Writes until every handle is dropped and the queue is empty.
    pub async fn run(self, mut queue: mpsc::Receiver<Pending>) {
        let mut carried_over = None;
        let mut last_batch_len = 0;
        let mut parked = Parked::default();
        loop {
            if parked.is_due() {
                self.commit_all(Vec::new(), &mut parked).await;
            }
            let first = match carried_over.take() {
                Some(pending) => pending,
                None if parked.is_empty() => match queue.recv().await {
                    Some(pending) => pending,
                    None => return,
                },
                // Parked operations are tried again even if no others arrive, or the queue is closed.
                None => match timeout(parked::RETRY_INTERVAL, queue.recv()).await {
                    Ok(Some(pending)) => pending,
                    Ok(None) => {
                        sleep(parked::RETRY_INTERVAL).await;
                        continue;
                    }
                    Err(_) => continue,
                },
            };
            self.wait_for_siblings(last_batch_len, &queue).await;
            let mut bytes = first.body_bytes();
            let mut batch = vec![first];
            while batch.len() < MAX_BATCH {
                let Ok(next) = queue.try_recv() else { break };
                bytes += next.body_bytes();
                if bytes > MAX_BATCH_BYTES {
                    carried_over = Some(next);
                    break;
                }
                batch.push(next);
            }
            last_batch_len = batch.len();
            let now = Instant::now();
            batch.iter_mut().for_each(|pending| pending.dequeued_at = now);
            self.commit_all(batch, &mut parked).await;
        }
    }

    /// Waits up to [`COMMIT_DELAY`] for the callers of the last batch, which are about to submit again. Without the
    /// wait, every other transaction would contain only the fastest of them.
    async fn wait_for_siblings(&self, last_batch_len: usize, queue: &mpsc::Receiver<Pending>) {
        if last_batch_len < COMMIT_SIBLINGS {
            return;
        }
        let began = Instant::now();
        while queue.len() + 1 < last_batch_len && !queue.is_closed() && began.elapsed() < COMMIT_DELAY {
            if self.store.blocks_on_write() {
                // The task has its own thread, which can sleep for less than a tick of the runtime's timer.
                std::thread::sleep(COMMIT_DELAY / 8);
            } else {
                sleep(COMMIT_DELAY).await;
            }
        }
    }

    /// Commits the parked operations, if they are due, and then a batch. Parks the operations that are blocked.
    pub async fn commit_all(&self, batch: Vec<Pending>, parked: &mut Parked) {
        let mut all = if parked.is_due() { parked.take_all() } else { Vec::new() };
        all.extend(batch);
        let mut batches = VecDeque::from([all]);
        while let Some(mut batch) = batches.pop_front() {
            if parked.needs_lock_check() {
                batch = self.park_blocked(batch, parked).await;
            }
            if batch.is_empty() {
                continue;
            }
            match self.commit_with_retries(&mut batch).await {
                Ok(outcomes) => pending::succeed(batch, outcomes),
                Err(CommitError::Split { operation_index }) => {
                    let parts = split_around(batch, operation_index).into_iter().rev();
                    parts.filter(|part| !part.is_empty()).for_each(|part| batches.push_front(part));
                }
                Err(CommitError::Store(error)) => self.recover(batch, error, parked, &mut batches).await,
            }
        }
    }

    /// Handles a failed batch: puts it back into `batches` without its blocked operations, or operation by operation,
    /// or sends the error to its callers.
    async fn recover(
        &self,
        batch: Vec<Pending>,
        error: StoreError,
        parked: &mut Parked,
        batches: &mut VecDeque<Vec<Pending>>,
    ) {
        if error.is_lock_timeout() {
            parked.note_locked_row();
            let batch_len = batch.len();
            let unblocked = self.park_blocked(batch, parked).await;
            if unblocked.len() < batch_len {
                batches.push_front(unblocked);
            } else if batch_len > 1 {
                // The lock is not that of a call's row. Trying the operations one by one finds the one that needs it.
                unblocked.into_iter().rev().for_each(|pending| batches.push_front(vec![pending]));
            } else {
                for pending in unblocked {
                    let touched = pending.operation().map_or_else(TouchedNames::default, |operation| {
                        parked::touched_names(operation, &operation.call_ids())
                    });
                    parked.park(pending, touched);
                }
            }
        } else if batch.len() > 1 && may_be_caused_by_one_operation(&error) {
            warn!(%error, operations = batch.len(), "a batch failed; its operations are tried one by one");
            batch.into_iter().rev().for_each(|pending| batches.push_front(vec![pending]));
        } else {
            warn!(%error, operations = batch.len(), "a write failed");
            pending::fail(batch, error);
        }
    }

    /// Parks the operations that are blocked by a locked row or by a parked operation, and returns the others.
    async fn park_blocked(&self, batch: Vec<Pending>, parked: &mut Parked) -> Vec<Pending> {
        let operations: Vec<&Operation> = batch.iter().filter_map(Pending::operation).collect();
        let found = timeout(COMMIT_DEADLINE, parked.find_blocked(&self.store, &operations)).await;
        // If the check fails, nothing is parked, and the transaction itself will report the error.
        let Ok(Ok(found)) = found else { return batch };
        let mut found = found.into_iter();
        let mut unblocked = Vec::with_capacity(batch.len());
        for pending in batch {
            // `found` has one item for each operation, in order, and none for maintenance.
            match pending.operation().and_then(|_| found.next()) {
                Some((touched, true)) => parked.park(pending, touched),
                _ => unblocked.push(pending),
            }
        }
        unblocked
    }
}

/// Splits a batch into the work before an operation, the operation alone, and the work after it. Maintenance does not
/// count in `operation_index`.
fn split_around(mut batch: Vec<Pending>, operation_index: usize) -> [Vec<Pending>; 3] {
    let mut operations = batch.iter().enumerate().filter(|(_, pending)| pending.operation().is_some());
    let at = operations.nth(operation_index).map_or(batch.len(), |(at, _)| at);
    let mut own = batch.split_off(at);
    let after = own.split_off(own.len().min(1));
    [batch, own, after]
}

/// Whether a single operation may have made a batch fail, so that the others may succeed without it.
fn may_be_caused_by_one_operation(error: &StoreError) -> bool {
    !error.is_outage() && (!error.is_transient() || error.is_row_local() || matches!(error, StoreError::Conflict))
}
