//! How every rusqlite connection is set up.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

/// What differs between the connection that writes and those that read.
pub(super) struct Setup {
    pub is_read_only: bool,
    /// How long SQLite waits for a lock of another connection.
    pub busy_timeout: Duration,
    /// The most that the connection keeps of the file in memory, in KiB; the operating system keeps the rest.
    pub cache_kib: i32,
    /// The most statements that stay prepared.
    pub statements: usize,
}

/// Opens a connection to a database that exists.
pub(super) fn open(file: &Path, setup: &Setup) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(file, flags)?;
    connection.busy_timeout(setup.busy_timeout)?;
    connection.pragma_update(None, "cache_size", -setup.cache_kib)?;
    if setup.is_read_only {
        connection.pragma_update(None, "query_only", true)?;
    } else {
        // FULL syncs the write-ahead log at every commit: what was acknowledged survives a power failure.
        connection.pragma_update(None, "synchronous", "FULL")?;
    }
    connection.set_prepared_statement_cache_capacity(setup.statements);
    Ok(connection)
}
