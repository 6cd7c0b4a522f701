//! The log writer: the only code that writes to the database.
//!
//! Operations wait in a bounded queue. One task takes all that wait there, applies them to a
//! [`Ledger`](crate::log::Ledger), and writes the changes in one transaction (group commit). After the commit, each
//! caller gets its outcome, and the followers get their notifications, in the order of the log. The hash of a delivery
//! is unique in the database, which stops repeats: if another process stored the same hash meanwhile, the whole
//! transaction starts again and finds the delivery.

mod flush;
mod load;
mod merge;
mod parked;
mod pending;
mod task;

use std::io;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::spawn;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::deliveries::DeliveryRange;
use super::nodes::Heartbeat;
use super::{Store, StoreError};
use crate::log::{Notification, Operation, Outcome, RenderReceipt, UnknownCalls};
use pending::{Pending, Reply, Work};
use task::WriterTask;

/// Capacity of the queue. When it is full, further operations are refused with [`StoreError::Overloaded`].
const QUEUE_CAPACITY: usize = 4096;

/// Timeout of an operation, from its submission to its outcome. It frees callers even if a call into SQLite hangs,
/// which nothing can interrupt while the disk does not answer.
const OUTCOME_TIMEOUT: Duration = Duration::from_secs(20);

/// Called after each commit, in the order of the log; it must not block.
pub type OnCommit = Box<dyn Fn(Vec<Notification>) + Send + Sync>;

/// The handle to the write path; cheap to clone.
#[derive(Clone, Debug)]
pub struct LogWriter {
    queue: mpsc::Sender<Pending>,
}

/// A write that belongs to no call.
#[derive(Debug)]
pub enum Maintenance {
    /// Refreshes a server process's row in `nodes`.
    Heartbeat(Box<Heartbeat>),
    /// Removes a server process from `nodes`.
    Deregister(String),
    /// Drops the headers and bodies of these deliveries.
    StripDeliveries(DeliveryRange),
}

impl LogWriter {
    /// Starts the writing task; for SQLite, on its own thread. The task ends when the last handle is dropped and the
    /// queue is empty. `render` makes the answers to webhooks.
    ///
    /// # Errors
    /// Returns an error if the thread cannot be started.
    pub fn start(
        store: Store,
        unknown_calls: UnknownCalls,
        render: RenderReceipt,
        on_commit: OnCommit,
    ) -> io::Result<(Self, JoinHandle<()>)> {
        let (queue, receiver) = mpsc::channel(QUEUE_CAPACITY);
        let has_own_thread = store.blocks_on_write();
        let task = WriterTask::new(store, unknown_calls, render, on_commit);
        let task = if has_own_thread { spawn_on_thread(task.run(receiver))? } else { spawn(task.run(receiver)) };
        Ok((Self { queue }, task))
    }

    /// Applies an operation; returns when its outcome is durable.
    ///
    /// # Errors
    /// Returns [`StoreError::Overloaded`] if the queue is full, [`StoreError::Closing`] if the task has ended,
    /// [`StoreError::TimedOut`] if the database does not answer, and otherwise the database's error after several
    /// attempts.
    pub async fn submit(&self, operation: Operation) -> Result<Outcome, StoreError> {
        self.submit_with_permit(operation, None).await
    }

    /// Like [`submit`](Self::submit), with a permit for the memory of the operation. The permit is released when the
    /// operation is dropped, even if the caller no longer waits.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub async fn submit_with_permit(
        &self,
        operation: Operation,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Result<Outcome, StoreError> {
        self.enqueue(|reply| Work::Log(operation, reply), permit).await
    }

    /// Does a write that belongs to no call; returns when it is durable.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub async fn maintain(&self, maintenance: Maintenance) -> Result<(), StoreError> {
        self.enqueue(|reply| Work::Maintenance(maintenance, reply), None).await
    }

    async fn enqueue<T>(
        &self,
        work: impl FnOnce(Reply<T>) -> Work,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Result<T, StoreError> {
        let (reply, outcome) = oneshot::channel();
        self.queue.try_send(Pending::new(work(reply), permit)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => StoreError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => StoreError::Closing,
        })?;
        match timeout(OUTCOME_TIMEOUT, outcome).await {
            Ok(outcome) => outcome.unwrap_or(Err(StoreError::Closing)),
            Err(_) => Err(StoreError::TimedOut),
        }
    }

    /// The number of operations in the queue, and its capacity.
    #[must_use]
    pub fn load(&self) -> (usize, usize) {
        (QUEUE_CAPACITY - self.queue.capacity(), QUEUE_CAPACITY)
    }
}

/// Runs a task that waits for the disk on its own thread, where it delays no other task.
fn spawn_on_thread(task: impl Future<Output = ()> + Send + 'static) -> io::Result<JoinHandle<()>> {
    let (done, ended) = oneshot::channel();
    let runtime = Handle::current();
    std::thread::Builder::new().name("callscope-log".into()).spawn(move || {
        runtime.block_on(task);
        let _ = done.send(());
    })?;
    Ok(spawn(async { ended.await.unwrap_or_default() }))
}
