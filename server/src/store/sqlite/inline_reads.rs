//! Short SQLite reads that run on the calling thread (docs/adr/0007).
//!
//! A subscription needs a few rows, which SQLite reads in some ten microseconds from pages that the operating system
//! keeps. Handing such a read to another thread and back costs several times that. Reads that may take long go through
//! the pool.
//!
//! At most half of the threads read at a time, so that a webhook waits for none of them when thousands of clients
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

/// The most connections, and the most reads at a time.
const MAX_CONNECTIONS: usize = 8;

const READER: Setup = Setup {
    is_read_only: true,
    // A reader waits only while the file is being recovered, and the thread has other tasks to serve.
    busy_timeout: Duration::from_millis(50),
    cache_kib: 256,
    statements: 8,
};

/// How inline reads share the threads with other tasks.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct InlineReads {
    /// The most reads at a time.
    pub concurrency: usize,
    /// Whether a read lets all other tasks of its thread run before and after it, as if it had taken long.
    pub yields: bool,
}

impl Default for InlineReads {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { concurrency: (threads / 2).clamp(1, MAX_CONNECTIONS), yields: false }
    }
}

/// Read-only connections, opened as they are needed. It is one pointer, since each session has it.
#[derive(Clone, Debug)]
pub(in crate::store) struct InlineReaders(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    file: PathBuf,
    permits: Semaphore,
    yields: bool,
    /// None once the store is closed.
    idle: Mutex<Option<Vec<Connection>>>,
}

impl InlineReaders {
    pub fn new(file: PathBuf, InlineReads { concurrency, yields }: InlineReads) -> Self {
        let (permits, idle) = (Semaphore::new(concurrency), Mutex::new(Some(Vec::new())));
        Self(Arc::new(Shared { file, permits, yields, idle }))
    }

    /// Reads on this thread, as soon as there is a permit. A connection on which a read failed is not used again.
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
        let kept = self.0.idle.lock().as_mut().ok_or(StoreError::Closing)?.pop();
        let connection = match kept {
            Some(connection) => connection,
            None => connection::open(&self.0.file, &READER)?,
        };
        let found = read(&connection)?;
        if let Some(idle) = self.0.idle.lock().as_mut().filter(|idle| idle.len() < MAX_CONNECTIONS) {
            idle.push(connection);
        }
        Ok(found)
    }

    /// Closes the connections that are idle, and the others when their reads end.
    pub fn close(&self) {
        drop(self.0.idle.lock().take());
    }
}
