//! The one write path.
//!
//! Operations queue up in a bounded channel; one task takes what has gathered, applies it to a [`Ledger`] and writes it in
//! one transaction (group commit). Only after the commit does each caller hear its outcome, and do the followers hear of
//! the new events, in the order of the log. A repeat is stopped by the unique key of its delivery in the database: another
//! process that took the key meanwhile makes the whole transaction start over and see it.

mod flush;
mod load;
mod merge;
mod parked;

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use callscope_common::Timestamp;
use futures_util::FutureExt;
use tokio::runtime::Handle;
use tokio::spawn;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};
use uuid::Uuid;

use super::error::{ATTEMPTS, backoff};
use super::transaction::Tx;
use super::{Store, StoreError};
use crate::clock;
use crate::log::{ApplyError, Ledger, Notification, Operation, Outcome, Pending, UnknownCalls};
use parked::Parked;

/// Operations that may wait. When that many do, further ones are refused as [`StoreError::Overloaded`].
const QUEUE: usize = 4096;
/// Most operations in one transaction.
const MAX_BATCH: usize = 512;
/// Most bytes of bodies in one transaction, after the first operation.
const MAX_BATCH_BYTES: usize = 8 << 20;

/// How long a transaction waits for more operations, where the one before it had this many or more.
const COMMIT_DELAY: Duration = Duration::from_millis(1);
const COMMIT_SIBLINGS: usize = 4;

/// No transaction is tried again after this time: its callers hear that the storage is down.
const RETRY_FOR: Duration = Duration::from_secs(4);

/// For one transaction of small operations,
const COMMIT_DEADLINE: Duration = Duration::from_secs(10);
/// and a second more for so many bytes of bodies: recordings are large.
const BYTES_A_SECOND: usize = 4 << 20;

/// For an operation from end to end. Nothing can interrupt a call into SQLite whose disk does not answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(20);

/// The version of the database since when turns are kept by `turn_id` and speaker.
const SPEAKER_HASH_VERSION: i64 = 5;
/// Servers of the version before may go on writing for so long beside newer ones.
const ROLLING_UPGRADE_SECS: i64 = 86_400;

/// Called after each commit, in the order of the log; must not block.
pub type OnCommit = Box<dyn Fn(Vec<Notification>) + Send + Sync>;

/// The door to the write path; cheap to clone.
#[derive(Clone, Debug)]
pub struct LogWriter {
    queue: mpsc::Sender<Pending>,
}

/// What an operation came to, or why it did not.
pub type SubmitResult = Result<Outcome, StoreError>;

impl LogWriter {
    /// Starts what writes: a task, for SQLite on a thread of its own. It ends when the last handle is gone and the queue is empty.
    #[must_use]
    pub fn start(store: Store, unknown_calls: UnknownCalls, on_commit: OnCommit) -> (Self, JoinHandle<()>) {
        let (queue, operations) = mpsc::channel(QUEUE);
        let is_sqlite = matches!(store, Store::Sqlite { .. });
        let writer = Writer { store, unknown_calls, on_commit, turn_ids_without_speaker_before: OnceLock::new() };
        let task = if is_sqlite { on_own_thread(writer.run(operations)) } else { spawn(writer.run(operations)) };
        (Self { queue }, task)
    }

    /// Has `op` done; returns once it is durable.
    ///
    /// # Errors
    /// [`StoreError::Overloaded`] where the queue is full, [`StoreError::Closing`] where the task is gone,
    /// [`StoreError::TimedOut`] where the database hangs, else what it said after several tries.
    pub async fn submit(&self, op: Operation) -> SubmitResult {
        self.submit_in(op, None).await
    }

    /// The same for an operation that takes up room in memory: it is given back when the operation is done with, however
    /// early the caller goes.
    ///
    /// # Errors
    /// As [`LogWriter::submit`].
    pub async fn submit_in(&self, op: Operation, room: Option<OwnedSemaphorePermit>) -> SubmitResult {
        let (answer, outcome) = oneshot::channel();
        self.queue.try_send(Pending { op, answer, _room: room, may_be_committed: false }).map_err(
            |error| match error {
                mpsc::error::TrySendError::Full(_) => StoreError::Overloaded,
                mpsc::error::TrySendError::Closed(_) => StoreError::Closing,
            },
        )?;
        match timeout(ANSWER_DEADLINE, outcome).await {
            Ok(outcome) => outcome.unwrap_or(Err(StoreError::Closing)),
            Err(_) => Err(StoreError::TimedOut),
        }
    }

    /// How many operations wait, and how many may.
    #[must_use]
    pub fn load(&self) -> (usize, usize) {
        (QUEUE - self.queue.capacity(), QUEUE)
    }
}

/// Runs a task that waits for disks, where it keeps nobody else from running.
fn on_own_thread(task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    let (done, ended) = oneshot::channel();
    let runtime = Handle::current();
    std::thread::Builder::new()
        .name("callscope-log".into())
        .spawn(move || {
            runtime.block_on(task);
            let _ = done.send(());
        })
        .expect("a thread");
    spawn(async { ended.await.unwrap_or_default() })
}

struct Writer {
    store: Store,
    unknown_calls: UnknownCalls,
    on_commit: OnCommit,
    /// See [`Ledger::turn_ids_without_speaker_before`]; read from the database by the first transaction.
    turn_ids_without_speaker_before: OnceLock<Timestamp>,
}

/// Why a transaction did not come about.
enum Failure {
    /// The operation at this place must begin a transaction of its own.
    Split(usize),
    Store(StoreError),
}

impl<E: Into<StoreError>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Store(error.into())
    }
}

impl Writer {
    async fn run(self, mut operations: mpsc::Receiver<Pending>) {
        let mut carried_over = None;
        let mut last = 0;
        let mut parked = Parked::default();
        loop {
            if !parked.is_empty() {
                self.retry(&mut parked).await;
            }
            let first = match carried_over.take() {
                Some(pending) => pending,
                None if parked.is_empty() => match operations.recv().await {
                    Some(pending) => pending,
                    None => return,
                },
                // Parked operations are tried again although nothing new comes.
                None => match timeout(parked::RETRY_INTERVAL, operations.recv()).await {
                    Ok(Some(pending)) => pending,
                    Ok(None) if operations.is_closed() => {
                        sleep(parked::RETRY_INTERVAL).await;
                        continue;
                    }
                    Ok(None) | Err(_) => continue,
                },
            };
            self.gather(last, &operations).await;
            let mut bytes = size(&first.op);
            let mut batch = vec![first];
            while batch.len() < MAX_BATCH {
                let Ok(next) = operations.try_recv() else { break };
                bytes += size(&next.op);
                if bytes > MAX_BATCH_BYTES {
                    carried_over = Some(next);
                    break;
                }
                batch.push(next);
            }
            last = batch.len();
            let began = Instant::now();
            self.commit_all(batch.into_iter().map(|pending| (began, pending)).collect(), &mut parked).await;
        }
    }

    /// Tries what is parked again, if the last try is a while ago.
    async fn retry(&self, parked: &mut Parked) {
        if parked.is_due() {
            self.commit_all(Vec::new(), parked).await;
        }
    }

    /// Waits a moment for those whom the last transaction answered, who are about to ask again: else every other transaction
    /// would hold but the quickest of them. (PostgreSQL has the same as `commit_delay`.)
    async fn gather(&self, last: usize, operations: &mpsc::Receiver<Pending>) {
        if last < COMMIT_SIBLINGS {
            return;
        }
        let began = Instant::now();
        while operations.len() + 1 < last && !operations.is_closed() && began.elapsed() < COMMIT_DELAY {
            match self.store {
                // On a thread of its own, where a sleep may be shorter than the runtime's clock can tell.
                Store::Sqlite { .. } => std::thread::sleep(COMMIT_DELAY / 8),
                Store::Postgres { .. } => sleep(COMMIT_DELAY).await,
            }
        }
    }

    /// Commits a batch, in as few transactions as it takes, but for what waits for a row that is locked elsewhere. Each operation comes
    /// with the time since when it waits.
    async fn commit_all(&self, batch: Vec<(Instant, Pending)>, parked: &mut Parked) {
        // What waits already comes first.
        let mut whole = if parked.is_due() { parked.take() } else { Vec::new() };
        whole.extend(batch);
        let mut rest = std::collections::VecDeque::from([whole]);
        while let Some(mut batch) = rest.pop_front() {
            if parked.needs_lock_check() {
                batch = self.without_locked(batch, parked).await;
            }
            if batch.is_empty() {
                continue;
            }
            let ops: Vec<&Operation> = batch.iter().map(|(_, pending)| &pending.op).collect();
            let again = batch.iter().any(|(_, pending)| pending.may_be_committed);
            let reached = AtomicBool::new(false);
            let committed = self.commit_with_retries(&ops, again, &reached).await;
            // Kept with each operation, however its batch is taken apart or parked.
            let reached = reached.into_inner();
            batch.iter_mut().for_each(|(_, pending)| pending.may_be_committed |= reached);
            match committed {
                Ok(outcomes) => {
                    for ((_, pending), outcome) in batch.into_iter().zip(outcomes) {
                        // A caller that gave up waiting needs no answer.
                        let _ = pending.answer.send(Ok(outcome));
                    }
                }
                Err(Failure::Split(at)) => {
                    let mut own = batch.split_off(at);
                    let after = own.split_off(1);
                    for part in [after, own, batch] {
                        if !part.is_empty() {
                            rest.push_front(part);
                        }
                    }
                }
                Err(Failure::Store(error)) if error.is_lock_timeout() => {
                    parked.note_locked_row();
                    let before = batch.len();
                    let free = self.without_locked(batch, parked).await;
                    match (before, free.len() < before) {
                        // Some other lock than a call's row: found by trying one by one.
                        (2.., false) => free.into_iter().rev().for_each(|one| rest.push_front(vec![one])),
                        (_, false) => {
                            for (since, pending) in free {
                                let concerns = parked::concerns(&pending.op, &pending.op.call_ids());
                                parked.park(since, pending, concerns);
                            }
                        }
                        (_, true) => rest.push_front(free),
                    }
                }
                // One operation that the database will not take must not take the others with it.
                Err(Failure::Store(error))
                    if batch.len() > 1
                        && !error.is_outage()
                        && (!error.is_transient() || error.is_row_local() || matches!(error, StoreError::Conflict)) =>
                {
                    warn!(%error, operations = batch.len(), "a batch failed, trying its operations one by one");
                    for pending in batch.into_iter().rev() {
                        rest.push_front(vec![pending]);
                    }
                }
                Err(Failure::Store(error)) => fail(batch, error),
            }
        }
    }

    /// Parks what has to wait for a row that is locked elsewhere, or behind what is parked, and returns the rest.
    async fn without_locked(&self, batch: Vec<(Instant, Pending)>, parked: &mut Parked) -> Vec<(Instant, Pending)> {
        let ops: Vec<&Operation> = batch.iter().map(|(_, pending)| &pending.op).collect();
        let looked = timeout(COMMIT_DEADLINE, parked.find_blocked(&self.store, &ops)).await;
        // Where that cannot be found out, the batch finds out what is wrong itself.
        let Ok(Ok(looked)) = looked else { return batch };
        let mut free = Vec::with_capacity(batch.len());
        for ((since, pending), (concerns, waits)) in batch.into_iter().zip(looked) {
            if waits {
                parked.park(since, pending, concerns);
            } else {
                free.push((since, pending));
            }
        }
        free
    }

    /// `again`: a try before these may have come through unheard. `reached`: whether one of these may have.
    async fn commit_with_retries(
        &self,
        ops: &[&Operation],
        again: bool,
        reached: &AtomicBool,
    ) -> Result<Vec<Outcome>, Failure> {
        let began = Instant::now();
        let mut attempt = 0;
        loop {
            // A rule that panics over one operation must not end the writing of all others.
            let committed = self.commit(ops, again || reached.load(Ordering::Relaxed), reached);
            let committed = AssertUnwindSafe(timeout(deadline(ops), committed)).catch_unwind().await;
            let committed = committed.map(|in_time| in_time.unwrap_or(Err(Failure::Store(StoreError::TimedOut))));
            let committed =
                committed.unwrap_or(Err(Failure::Store(StoreError::Internal("a rule of the log panicked"))));
            match committed {
                Err(Failure::Store(error))
                    if error.is_transient()
                        && !error.is_lock_timeout()
                        && attempt + 1 < ATTEMPTS
                        && began.elapsed() < RETRY_FOR =>
                {
                    attempt += 1;
                    debug!(%error, attempt, "a transaction is tried again");
                    sleep(backoff(attempt)).await;
                }
                other => return other,
            }
        }
    }

    /// One transaction: load, apply, write, commit, wake. `again`: an earlier try may have come through unheard. `reached` is set
    /// where this one may.
    async fn commit(&self, ops: &[&Operation], again: bool, reached: &AtomicBool) -> Result<Vec<Outcome>, Failure> {
        let mut tx = Tx::begin(&self.store).await?;
        let now = clock::now();
        let mut ledger = Ledger::new(now, self.unknown_calls);
        ledger.may_be_committed = again;
        ledger.turn_ids_without_speaker_before = match self.turn_ids_without_speaker_before.get() {
            Some(at) => *at,
            None => {
                let at = tx.upgraded_at(SPEAKER_HASH_VERSION).await?.plus_secs(ROLLING_UPGRADE_SECS);
                *self.turn_ids_without_speaker_before.get_or_init(|| at)
            }
        };
        load::load(&mut tx, &mut ledger, ops).await?;
        if again {
            let ids: Vec<Uuid> =
                ops.iter().filter_map(|op| op.delivery()).map(|delivery| delivery.delivery_id).collect();
            ledger.committed = tx.answers(&ids).await?.into_iter().collect();
        }
        let outcomes = apply(&mut tx, &mut ledger, ops).await?;
        flush::write(&mut tx, &ledger, ops).await?;
        reached.store(true, Ordering::Relaxed);
        tx.commit().await?;
        (self.on_commit)(ledger.into_notifications());
        Ok(outcomes)
    }
}

async fn apply(tx: &mut Tx, ledger: &mut Ledger, ops: &[&Operation]) -> Result<Vec<Outcome>, Failure> {
    let mut outcomes = Vec::with_capacity(ops.len());
    for (at, op) in ops.iter().enumerate() {
        // A deletion frees names that the rest of a batch may want.
        if matches!(op, Operation::Delete(_)) && ops.len() > 1 {
            return Err(Failure::Split(at));
        }
        match ledger.apply(op) {
            Ok(outcome) => outcomes.push(outcome),
            Err(ApplyError::NeedsMerge(_)) if ops.len() > 1 => return Err(Failure::Split(at)),
            Err(ApplyError::NeedsMerge(records)) => {
                merge::merge(tx, ledger, &records, op).await?;
                outcomes
                    .push(ledger.apply(op).map_err(|_| StoreError::Internal("a merged call has to be merged again"))?);
            }
            Err(ApplyError::OutOfTurnIds) => {
                return Err(StoreError::Internal("more turns are appended than ids were taken for").into());
            }
        }
    }
    Ok(outcomes)
}

fn fail(batch: Vec<(Instant, Pending)>, error: StoreError) {
    warn!(%error, operations = batch.len(), "a write failed");
    let error = Arc::new(error);
    for (_, pending) in batch {
        let _ = pending.answer.send(Err(StoreError::Failed(Arc::clone(&error))));
    }
}

fn size(op: &Operation) -> usize {
    op.delivery().map_or(0, |delivery| delivery.body.len())
}

/// For a transaction of these operations.
fn deadline(ops: &[&Operation]) -> Duration {
    let bytes: usize = ops.iter().map(|op| size(op)).sum();
    COMMIT_DEADLINE + Duration::from_secs((bytes / BYTES_A_SECOND) as u64)
}
