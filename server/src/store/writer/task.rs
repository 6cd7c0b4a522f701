//! The task of the log writer: takes batches out of the queue and commits each in as few transactions as it takes.

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
use super::parked::{self, Concerns, Parked};
use super::pending::{self, Pending};
use crate::log::{Operation, RenderReceipt, UnknownCalls};
use crate::store::{Store, StoreError};

/// The most operations in one transaction.
const MAX_BATCH: usize = 512;
/// The most bytes of bodies in one transaction, after the first operation.
const MAX_BATCH_BYTES: usize = 8 << 20;

/// How long a transaction waits for more operations if the one before had at least [`COMMIT_SIBLINGS`] of them.
/// PostgreSQL has the same as `commit_delay` and `commit_siblings`.
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
        let mut last = 0;
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
                // Parked operations are tried again although no others arrive.
                None => match timeout(parked::RETRY_INTERVAL, queue.recv()).await {
                    Ok(Some(pending)) => pending,
                    Ok(None) if queue.is_closed() => {
                        sleep(parked::RETRY_INTERVAL).await;
                        continue;
                    }
                    Ok(None) | Err(_) => continue,
                },
            };
            self.wait_for_siblings(last, &queue).await;
            let mut bytes = first.size();
            let mut batch = vec![first];
            while batch.len() < MAX_BATCH {
                let Ok(next) = queue.try_recv() else { break };
                bytes += next.size();
                if bytes > MAX_BATCH_BYTES {
                    carried_over = Some(next);
                    break;
                }
                batch.push(next);
            }
            last = batch.len();
            let now = Instant::now();
            batch.iter_mut().for_each(|pending| pending.since = now);
            self.commit_all(batch, &mut parked).await;
        }
    }

    /// Waits a moment for the callers that the last transaction answered, which are about to submit again. Without this
    /// wait, every other transaction would contain only the fastest of them.
    async fn wait_for_siblings(&self, last: usize, queue: &mpsc::Receiver<Pending>) {
        if last < COMMIT_SIBLINGS {
            return;
        }
        let began = Instant::now();
        while queue.len() + 1 < last && !queue.is_closed() && began.elapsed() < COMMIT_DELAY {
            if self.store.blocks_on_write() {
                // The task has a thread of its own, where a sleep may be shorter than a tick of the runtime's clock.
                std::thread::sleep(COMMIT_DELAY / 8);
            } else {
                sleep(COMMIT_DELAY).await;
            }
        }
    }

    /// Commits a batch, but for what waits for a row that is locked elsewhere. What waited before comes first.
    pub async fn commit_all(&self, batch: Vec<Pending>, parked: &mut Parked) {
        let mut whole = if parked.is_due() { parked.take() } else { Vec::new() };
        whole.extend(batch);
        let mut rest = VecDeque::from([whole]);
        while let Some(mut batch) = rest.pop_front() {
            if parked.needs_lock_check() {
                batch = self.without_locked(batch, parked).await;
            }
            if batch.is_empty() {
                continue;
            }
            match self.commit_with_retries(&mut batch).await {
                Ok(outcomes) => pending::succeed(batch, outcomes),
                Err(CommitError::Split(operation)) => {
                    for part in around(batch, operation).into_iter().rev().filter(|part| !part.is_empty()) {
                        rest.push_front(part);
                    }
                }
                Err(CommitError::Store(error)) => self.recover(batch, error, parked, &mut rest).await,
            }
        }
    }

    /// Tries the parts of a failed batch in another way, or fails it.
    async fn recover(
        &self,
        batch: Vec<Pending>,
        error: StoreError,
        parked: &mut Parked,
        rest: &mut VecDeque<Vec<Pending>>,
    ) {
        if error.is_lock_timeout() {
            parked.note_locked_row();
            let before = batch.len();
            let free = self.without_locked(batch, parked).await;
            if free.len() < before {
                rest.push_front(free);
            } else if before > 1 {
                // The lock is another one than that of a call's row. Trying the operations one by one finds it.
                free.into_iter().rev().for_each(|pending| rest.push_front(vec![pending]));
            } else {
                for pending in free {
                    let concerns = pending
                        .operation()
                        .map_or_else(Concerns::default, |operation| parked::concerns(operation, &operation.call_ids()));
                    parked.park(pending, concerns);
                }
            }
        } else if batch.len() > 1 && may_be_of_one_operation(&error) {
            warn!(%error, operations = batch.len(), "a batch failed; its operations are tried one by one");
            batch.into_iter().rev().for_each(|pending| rest.push_front(vec![pending]));
        } else {
            warn!(%error, operations = batch.len(), "a write failed");
            pending::fail(batch, error);
        }
    }

    /// Parks what has to wait for a row that is locked elsewhere, or behind what is parked, and returns the rest.
    async fn without_locked(&self, batch: Vec<Pending>, parked: &mut Parked) -> Vec<Pending> {
        let operations: Vec<&Operation> = batch.iter().filter_map(Pending::operation).collect();
        let found = timeout(COMMIT_DEADLINE, parked.find_blocked(&self.store, &operations)).await;
        // If that cannot be found out, the transaction itself shows what is wrong.
        let Ok(Ok(found)) = found else { return batch };
        let mut found = found.into_iter();
        let mut free = Vec::with_capacity(batch.len());
        for pending in batch {
            match pending.operation().and_then(|_| found.next()) {
                Some((concerns, true)) => parked.park(pending, concerns),
                _ => free.push(pending),
            }
        }
        free
    }
}

/// Takes a batch apart around the operation with that number, which needs a transaction of its own.
fn around(mut batch: Vec<Pending>, operation: usize) -> [Vec<Pending>; 3] {
    let mut operations = batch.iter().enumerate().filter(|(_, pending)| pending.operation().is_some());
    let at = operations.nth(operation).map_or(batch.len(), |(at, _)| at);
    let mut own = batch.split_off(at);
    let after = own.split_off(own.len().min(1));
    [batch, own, after]
}

/// Whether one operation may be why a batch failed, so that the others are to be committed without it.
fn may_be_of_one_operation(error: &StoreError) -> bool {
    !error.is_outage() && (!error.is_transient() || error.is_row_local() || matches!(error, StoreError::Conflict))
}
