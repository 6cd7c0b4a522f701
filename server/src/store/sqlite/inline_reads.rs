//! Short SQLite reads that run on the calling thread (docs/adr/0007).
//!
//! A subscription needs a few rows. SQLite reads them from cached pages in some ten microseconds, and handing the read
//! to another thread and back would take several times as long. Reads that may take long go through the pool.
//!
//! At most half of the runtime's threads read at a time, so that webhooks still have threads when thousands of clients
//! reconnect at once.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::Semaphore;
use tokio::task::yield_now;

use super::connection::{self, Setup};
use crate::store::StoreError;

/// The most connections that are kept, and the most concurrent reads.
const MAX_CONNECTIONS: usize = 8;

const READER: Setup = Setup {
    is_read_only: true,
    // A reader waits for a lock only during a recovery of the file. It must not wait long, because other tasks of its
    // thread wait too.
    busy_timeout: Duration::from_millis(50),
    cache_kib: 256,
    statements: 8,
};

/// How inline reads share the runtime's threads with other tasks.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct InlineReads {
    /// The most concurrent reads.
    pub concurrency: usize,
    /// Whether a read yields before and after, so that other tasks run meanwhile. For tests.
    pub yields: bool,
}

impl Default for InlineReads {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { concurrency: (threads / 2).clamp(1, MAX_CONNECTIONS), yields: false }
    }
}

/// Read-only connections, opened as they are needed. Each session has a clone, so it is as small as a pointer.
#[derive(Clone, Debug)]
pub(in crate::store) struct InlineReaders(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    file: PathBuf,
    permits: Semaphore,
    yields: bool,
    /// The connections that are not in use; `None` once the store is closed.
    idle: Mutex<Option<Vec<Connection>>>,
}

impl InlineReaders {
    pub fn new(file: PathBuf, InlineReads { concurrency, yields }: InlineReads) -> Self {
        let (permits, idle) = (Semaphore::new(concurrency), Mutex::new(Some(Vec::new())));
        Self(Arc::new(Shared { file, permits, yields, idle }))
    }

    /// Reads on the calling thread, as soon as there is a permit. A connection on which a read failed is not reused.
    pub async fn read<T>(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        if self.0.yields {
            yield_now().await;
        }
        let found = {
            let _permit = self.0.permits.acquire().await.map_err(|_| StoreError::Closing)?;
            self.read_now(read)
        };
        if self.0.yields {
            yield_now().await;
        }
        found
    }

    fn read_now<T>(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let idle = self.0.idle.lock().as_mut().ok_or(StoreError::Closing)?.pop();
        let connection = match idle {
            Some(connection) => connection,
            None => connection::open(&self.0.file, &READER)?,
        };
        let found = read(&connection)?;
        if let Some(idle) = self.0.idle.lock().as_mut().filter(|idle| idle.len() < MAX_CONNECTIONS) {
            idle.push(connection);
        }
        Ok(found)
    }

    /// Closes the idle connections now, and each other one when its read ends.
    pub fn close(&self) {
        drop(self.0.idle.lock().take());
    }
}
