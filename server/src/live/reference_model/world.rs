//! What all cases share: a database, a log writer on its own thread, and a runtime with one thread for all else.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};

use callscope_common::Timestamp;
use parking_lot::Mutex;
use tokio::runtime::{Builder, Runtime};
use tokio::task::yield_now;

use crate::log::{Notification, Operation, Outcome, UnknownCalls};
use crate::store::testing::{Scratch, render};
use crate::store::{LogWriter, Store, StoreError};

/// Yields to the executor after which every task that could run has run.
const IDLE_YIELDS: usize = 16;

/// Sessions, feeds and clients run on one thread, so that a case runs the same way each time, except for how long the
/// database takes. Commits run on another thread. While the first thread waits for a commit, everything else stands
/// still.
pub(super) struct World {
    pub runtime: Runtime,
    writer: Runtime,
    scratch: Scratch,
    log_writer: LogWriter,
    committed: Arc<Mutex<Vec<Notification>>>,
    clock: AtomicI64,
}

/// A commit under way.
pub(super) struct Commit(Receiver<Result<Outcome, StoreError>>);

impl World {
    pub fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let writer = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let scratch = writer.block_on(Scratch::open());
        let committed = Arc::<Mutex<Vec<Notification>>>::default();
        let on_commit = {
            let committed = Arc::clone(&committed);
            Box::new(move |notifications| committed.lock().extend(notifications))
        };
        let (log_writer, _) = {
            let _inside = writer.enter();
            LogWriter::start(scratch.store.clone(), UnknownCalls::Create, render, on_commit).expect("a thread")
        };
        Self { runtime, writer, scratch, log_writer, committed, clock: AtomicI64::new(1_790_000_000) }
    }

    pub fn store(&self) -> &Store {
        &self.scratch.store
    }

    /// A time that is one second later at each call.
    pub fn now(&self) -> Timestamp {
        Timestamp::from_unix_secs(self.clock.fetch_add(1, Ordering::Relaxed)).expect("a time")
    }

    /// Submits an operation. Operations are committed in the order in which they were submitted.
    pub fn begin(&self, op: Operation) -> Commit {
        let (done, outcome) = sync_channel(1);
        let log_writer = self.log_writer.clone();
        self.writer.spawn(async move {
            let _ = done.send(log_writer.submit(op).await);
        });
        Commit(outcome)
    }

    /// Commits an operation while everything else stands still.
    pub fn commit(&self, op: Operation) -> Outcome {
        self.begin(op).wait()
    }

    /// Returns the notifications of the commits since the last call, in the order of the commits.
    pub fn committed(&self) -> Vec<Notification> {
        std::mem::take(&mut self.committed.lock())
    }

    /// Lets everything else run until it is idle, or gives up after many yields.
    pub async fn run_until_idle(&self) {
        let mut quiet = 0;
        for _ in 0..100_000 {
            yield_now().await;
            quiet = if self.store().is_pool_reading() { 0 } else { quiet + 1 };
            if quiet > IDLE_YIELDS {
                return;
            }
            if quiet == 0 {
                std::thread::yield_now();
            }
        }
    }
}

impl Commit {
    pub fn wait(self) -> Outcome {
        self.0.recv().expect("an answer").expect("a commit")
    }
}
