//! The one write path.
//!
//! Operations wait in a bounded queue. One task takes what has gathered there, applies it to a
//! [`Ledger`](crate::log::Ledger), and writes it in one transaction (group commit). Only after the commit does each
//! caller get its outcome and do the followers get their notifications, in the order of the log. The unique hash of a
//! delivery in the database stops a repeat: if another process took the hash meanwhile, the whole transaction starts
//! again and finds it.

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

/// Operations that may wait. When the queue is full, further ones are refused with [`StoreError::Overloaded`].
const QUEUE: usize = 4096;

/// Deadline of an operation from the submission to its outcome. Nothing can interrupt a call into SQLite while the disk
/// does not answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(20);

/// Called after each commit, in the order of the log; it must not block.
pub type OnCommit = Box<dyn Fn(Vec<Notification>) + Send + Sync>;

/// The handle to the write path; cheap to clone.
#[derive(Clone, Debug)]
pub struct LogWriter {
    queue: mpsc::Sender<Pending>,
}

/// A write that concerns no call.
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
    /// Starts the task that writes; for SQLite it has a thread of its own. The task ends when the last handle is
    /// dropped and the queue is empty. `render` makes the answers to webhooks.
    ///
    /// # Errors
    /// Returns an error if the thread cannot be started.
    pub fn start(
        store: Store,
        unknown_calls: UnknownCalls,
        render: RenderReceipt,
        on_commit: OnCommit,
    ) -> io::Result<(Self, JoinHandle<()>)> {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let has_own_thread = store.blocks_on_write();
        let task = WriterTask::new(store, unknown_calls, render, on_commit);
        let ended = if has_own_thread { spawn_on_thread(task.run(waiting))? } else { spawn(task.run(waiting)) };
        Ok((Self { queue }, ended))
    }

    /// Applies an operation; returns when its outcome is durable.
    ///
    /// # Errors Returns [`StoreError::Overloaded`] if the queue is full, [`StoreError::Closing`] if the task has ended,
    /// [`StoreError::TimedOut`] if the database does not answer, and otherwise the database's error after several
    /// attempts.
    pub async fn submit(&self, operation: Operation) -> Result<Outcome, StoreError> {
        self.submit_with_permit(operation, None).await
    }

    /// As [`submit`](Self::submit), for an operation that takes memory: the permit is released when the operation is
    /// dropped, even if the caller no longer waits.
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

    /// Writes what concerns no call; returns when it is durable.
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
        match timeout(ANSWER_DEADLINE, outcome).await {
            Ok(outcome) => outcome.unwrap_or(Err(StoreError::Closing)),
            Err(_) => Err(StoreError::TimedOut),
        }
    }

    /// The number of operations that wait, and the number that may wait.
    #[must_use]
    pub fn load(&self) -> (usize, usize) {
        (QUEUE - self.queue.capacity(), QUEUE)
    }
}

/// Runs a task that waits for the disk on a thread where it delays no other task.
fn spawn_on_thread(task: impl Future<Output = ()> + Send + 'static) -> io::Result<JoinHandle<()>> {
    let (done, ended) = oneshot::channel();
    let runtime = Handle::current();
    std::thread::Builder::new().name("callscope-log".into()).spawn(move || {
        runtime.block_on(task);
        let _ = done.send(());
    })?;
    Ok(spawn(async { ended.await.unwrap_or_default() }))
}
