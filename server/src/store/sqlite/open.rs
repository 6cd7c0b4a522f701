//! Opens the SQLite file and migrates it.

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use rusqlite::Connection;
use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use super::Sqlite;
use super::connection::{self, Setup};
use super::file::{FileGuard, FileLock};
use super::inline_reads::{InlineReaders, InlineReads};
use super::write::WriteConnection;
use crate::store::open::{ACQUIRE_TIMEOUT, OpenError, allow_newer_schema};
use crate::store::sqlite_path::{self, PathError};

/// How long SQLite waits for the lock of another program.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
const READER_CONNECTIONS: u32 = 4;
/// The size of the page cache of each reading connection of the pool.
const READER_CACHE_KIB: u32 = 256;
/// Pages of 4 KiB in the write-ahead log after which a checkpoint moves them into the file. A page that many commits
/// changed is moved once, so a large number saves writes.
const CHECKPOINT_PAGES: i32 = 16_000;

const WRITER: Setup = Setup {
    is_read_only: false,
    busy_timeout: BUSY_TIMEOUT,
    // With less, SQLite reads the same pages again and again. With more, commits that split a page take longer, because
    // SQLite then walks over all cached pages (`pcache1TruncateUnsafe`).
    cache_kib: 16 << 10,
    // More than the write path has.
    statements: 64,
};

impl Sqlite {
    pub async fn open(url: &str, inline_reads: InlineReads) -> Result<Self, OpenError> {
        let path = sqlite_path::resolve(&sqlite_path::path(url)?)?;
        let lock = FileLock::take(&path)?;
        let options = SqliteConnectOptions::from_str(url)
            .map_err(|_| OpenError::BadUrl)?
            .filename(&path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT);
        migrate(&options, &path).await?;
        let writer = open_writer(&path)?;
        // From here on, only SQLite opens the files, and `guard` checks that they are not replaced.
        let guard = FileGuard::of(&path, lock)?;
        let read_only = options.pragma("query_only", "1").pragma("cache_size", format!("-{READER_CACHE_KIB}"));
        let readers = pool_options(READER_CONNECTIONS).connect_with(read_only).await?;
        let inline = InlineReaders::new(path, inline_reads);
        Ok(Self { writer: WriteConnection::new(writer).shared(), readers, inline, guard })
    }
}

fn pool_options(max_connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new().max_connections(max_connections).acquire_timeout(ACQUIRE_TIMEOUT)
}

async fn migrate(options: &SqliteConnectOptions, path: &Path) -> Result<(), OpenError> {
    let pool = pool_options(1).connect_with(options.clone()).await.map_err(|error| with_path(path, error))?;
    refuse_foreign(&pool, path).await?;
    allow_newer_schema(sqlx::migrate!("../migrations/sqlite")).run(&pool).await?;
    pool.close().await;
    Ok(())
}

/// Opens the connection that writes, after the migrations.
fn open_writer(file: &Path) -> rusqlite::Result<Connection> {
    let writer = connection::open(file, &WRITER)?;
    writer.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    // The first transaction creates the write-ahead log and its index, whose identities `FileGuard` records.
    writer.execute_batch("BEGIN IMMEDIATE; COMMIT")?;
    Ok(writer)
}

/// Adds the path to errors of the file.
fn with_path(path: &Path, error: sqlx::Error) -> OpenError {
    // SQLITE_NOTADB; SQLITE_CANTOPEN and the read-only codes.
    match error.as_database_error().and_then(|error| error.code()).as_deref() {
        Some("26") => PathError::new(format!("{} is a file, but not an SQLite database", path.display())).into(),
        Some("14" | "8" | "1032" | "1544") => PathError::new(format!("{} cannot be written", path.display())).into(),
        _ => error.into(),
    }
}

/// Returns an error if the database belongs to another program, before a migration changes it.
async fn refuse_foreign(pool: &SqlitePool, path: &Path) -> Result<(), OpenError> {
    let tables: Vec<String> =
        sqlx::query_scalar("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
            .fetch_all(pool)
            .await
            .map_err(|error| with_path(path, error))?;
    match tables.is_empty() || tables.iter().any(|name| name == "_sqlx_migrations") {
        true => Ok(()),
        false => Err(PathError::new(format!("{} contains the tables of another program", path.display())).into()),
    }
}
