//! Opens and sets up connections of rusqlite.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

/// The settings that differ between the writing connection and the reading ones.
pub(super) struct Setup {
    pub is_read_only: bool,
    /// How long SQLite waits for a lock of another connection.
    pub busy_timeout: Duration,
    /// The size of the connection's page cache. The operating system caches the file too.
    pub cache_kib: i32,
    /// The most statements that stay prepared.
    pub statements: usize,
}

/// Opens a connection to an existing database.
pub(super) fn open(file: &Path, setup: &Setup) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(file, flags)?;
    connection.busy_timeout(setup.busy_timeout)?;
    connection.pragma_update(None, "cache_size", -setup.cache_kib)?;
    if setup.is_read_only {
        connection.pragma_update(None, "query_only", true)?;
    } else {
        // FULL syncs the write-ahead log at every commit, so that acknowledged writes survive a power failure.
        connection.pragma_update(None, "synchronous", "FULL")?;
    }
    connection.set_prepared_statement_cache_capacity(setup.statements);
    Ok(connection)
}
