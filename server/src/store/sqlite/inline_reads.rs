//! SQLite read by the thread that asks, for the few rows that a subscription needs (docs/adr/0007).
//!
//! Such a read is some ten microseconds in pages that the system holds; handing it to a thread of its own and back costs several
//! times that. Reads that may take long go through the pool.
//!
//! Half of the threads at most read at a time, the others serve: when thousands of clients come back at once, a webhook waits
//! for none of them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags};
use tokio::sync::Semaphore;

use crate::store::StoreError;

/// Most connections, and reads at a time.
const IDLE: usize = 8;
/// What each may keep of the file, in KiB; the system keeps the rest.
const CACHE_KIB: i32 = 256;
const STATEMENTS: usize = 8;
/// Readers wait for nobody but a file that is just being recovered; whoever asks has others to serve.
const BUSY_TIMEOUT: Duration = Duration::from_millis(50);

/// Read-only connections, made as they are needed. One pointer: each session has it.
#[derive(Clone, Debug)]
pub struct InlineReaders(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    file: PathBuf,
    turns: Semaphore,
    /// None once the store is closed.
    idle: Mutex<Option<Vec<Connection>>>,
}

impl InlineReaders {
    pub(in crate::store) fn new(file: PathBuf) -> Self {
        let turns = std::thread::available_parallelism().map_or(1, |threads| (threads.get() / 2).clamp(1, IDLE));
        Self(Arc::new(Shared { file, turns: Semaphore::new(turns), idle: Mutex::new(Some(Vec::new())) }))
    }

    /// Reads, on this thread, when it is its turn. A connection on which that failed is not used again.
    pub(in crate::store) async fn read<T>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        // In tests, a moment in which everything else may happen, as while another thread or machine reads.
        #[cfg(test)]
        tokio::task::yield_now().await;
        let found = {
            let _turn = self.0.turns.acquire().await.map_err(|_| StoreError::Closing)?;
            self.read_now(read)
        };
        #[cfg(test)]
        tokio::task::yield_now().await;
        found
    }

    fn read_now<T>(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let kept = self.0.idle.lock().as_mut().ok_or(StoreError::Closing)?.pop();
        let connection = match kept {
            Some(connection) => connection,
            None => self.connect()?,
        };
        let found = read(&connection)?;
        if let Some(idle) = self.0.idle.lock().as_mut().filter(|idle| idle.len() < IDLE) {
            idle.push(connection);
        }
        Ok(found)
    }

    fn connect(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.0.file, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "query_only", true)?;
        connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        Ok(connection)
    }

    /// Closes what is idle, and what is not as soon as it is.
    pub(in crate::store) fn close(&self) {
        drop(self.0.idle.lock().take());
    }
}
