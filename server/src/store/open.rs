//! Opening, creating and migrating the database.

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rocket::tokio::sync::Mutex;
use rocket::tokio::time::{sleep, timeout};
use rusqlite::{Connection, OpenFlags};
use sqlx::migrate::{MigrateDatabase, MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection as _, PgPool};

use tracing::warn;

use super::Store;
use super::quick::QuickReaders;

/// Migrations only ever add, so an older server works on a newer database: during a rolling upgrade it must be able to start.
fn older_may_start(mut migrations: Migrator) -> Migrator {
    migrations.set_ignore_missing(true);
    migrations
}

/// For a connection that is given back to say that it is well.
const RELEASE_DEADLINE: Duration = Duration::from_secs(2);
/// For how long a server that starts tries to get a connection through, and how long it waits between two tries.
const START_PATIENCE: Duration = Duration::from_secs(15);
const START_RETRY: Duration = Duration::from_millis(200);
/// How long a connection is waited for before the caller hears that the storage is down.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long SQLite waits for another program's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
const SQLITE_READERS: u32 = 4;
/// Statements the write path keeps prepared; there are fewer.
const SQLITE_STATEMENTS: usize = 64;
/// What each reading connection may keep of the file, in KiB; the system keeps the rest.
const SQLITE_READER_CACHE_KIB: u32 = 256;
/// What the writing connection may keep of the file, in KiB.
const SQLITE_CACHE_KIB: i32 = 8 << 10;
/// Pages of log (4 KiB each) after which it is moved into the file. A page that many commits changed is moved once.
const SQLITE_LOG_PAGES: i32 = 16_000;
const POSTGRES_READERS: u32 = 12;
/// One transaction at a time writes; a second connection stands by for the moment the first one breaks.
const POSTGRES_WRITERS: u32 = 2;

/// Why the database could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Neither `sqlite://…` nor `postgres://…`.
    #[error("the database URL begins neither with sqlite:// nor with postgres://")]
    UnknownScheme,
    /// The URL cannot be read. The parser's words may hold a password, so they are left out.
    #[error("the database URL cannot be read")]
    BadUrl,
    /// SQLite's memory is gone with the process, so nothing in it is durable.
    #[error("the database URL names memory, which keeps nothing; name a file")]
    InMemory,
    /// The server acknowledges commits before they are durable.
    #[error("PostgreSQL runs with synchronous_commit = off, so a commit it acknowledged could be lost; set it to on")]
    NotDurable,
    /// A migration failed.
    #[error("the database could not be migrated: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// Anything the driver says.
    #[error("the database could not be opened: {0}")]
    Sqlx(#[from] sqlx::Error),
    /// Anything the write path's driver says.
    #[error("the database could not be opened: {0}")]
    Sqlite(#[from] rusqlite::Error),
}

impl OpenError {
    /// Whether it broke off rather than being refused: a wrong address or password is told at once.
    fn may_pass(&self) -> bool {
        let (Self::Sqlx(error)
        | Self::Migrate(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _))) = self
        else {
            return false;
        };
        match error {
            sqlx::Error::Io(error) => error.kind() != std::io::ErrorKind::ConnectionRefused,
            // What the driver calls it when the other side hangs up in the middle of a word.
            sqlx::Error::Protocol(_) => true,
            sqlx::Error::Database(error) => error.code().is_some_and(|code| code.starts_with("57P0")),
            _ => false,
        }
    }
}

impl Store {
    /// Opens the database at `url`, creating it where it is missing, and brings it to the newest migration.
    ///
    /// # Errors
    /// See [`OpenError`]; none of its texts holds the URL.
    pub async fn open(url: &str) -> Result<Self, OpenError> {
        if url.starts_with("sqlite:") {
            Self::open_sqlite(url).await
        } else if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            Self::open_postgres(url).await
        } else {
            Err(OpenError::UnknownScheme)
        }
    }

    async fn open_sqlite(url: &str) -> Result<Self, OpenError> {
        if url.contains(":memory:") || url.contains("mode=memory") {
            return Err(OpenError::InMemory);
        }
        let options = SqliteConnectOptions::from_str(url)
            .map_err(|_| OpenError::BadUrl)?
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // FULL syncs the log at every commit: what was acknowledged survives a power failure.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT);
        let one = SqlitePoolOptions::new().max_connections(1).acquire_timeout(ACQUIRE_TIMEOUT);
        let one = one.connect_with(options.clone()).await?;
        older_may_start(sqlx::migrate!("../migrations/sqlite")).run(&one).await?;
        one.close().await;
        let writer = sqlite_writer(options.get_filename())?;
        let quick = QuickReaders::new(options.get_filename().to_owned());
        let readers = SqlitePoolOptions::new()
            .max_connections(SQLITE_READERS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_with(options.pragma("query_only", "1").pragma("cache_size", format!("-{SQLITE_READER_CACHE_KIB}")))
            .await?;
        Ok(Self::Sqlite { writer: Arc::new(Mutex::new(Some(writer))), readers, quick })
    }

    /// Tries again for a while where the connection breaks off in the middle: a PostgreSQL that is just being restarted is no
    /// reason for a server not to start.
    async fn open_postgres(url: &str) -> Result<Self, OpenError> {
        let began = Instant::now();
        loop {
            match Self::try_postgres(url).await {
                Err(error) if error.may_pass() && began.elapsed() < START_PATIENCE => {
                    warn!(%error, "the database broke off; trying again");
                    sleep(START_RETRY).await;
                }
                opened => return opened,
            }
        }
    }

    async fn try_postgres(url: &str) -> Result<Self, OpenError> {
        let options = PgConnectOptions::from_str(url)
            .map_err(|_| OpenError::BadUrl)?
            .application_name("callscope-server")
            .options([
                ("synchronous_commit", "on"),
                // What waits for a row that somebody else keeps locked is parked (store/append/parked.rs), and everything else goes on.
                ("lock_timeout", "250ms"),
                ("statement_timeout", "30s"),
                ("idle_in_transaction_session_timeout", "10s"),
            ]);
        if !sqlx::Postgres::database_exists(url).await.unwrap_or(true)
            && let Err(error) = sqlx::Postgres::create_database(url).await
            // Another server that starts at the same time may have been quicker.
            && !sqlx::Postgres::database_exists(url).await.unwrap_or(false)
        {
            return Err(error.into());
        }
        Self::migrate_postgres(url).await?;
        let pool = |size| {
            PgPoolOptions::new().max_connections(size).acquire_timeout(ACQUIRE_TIMEOUT).after_release(
                |connection, _| {
                    Box::pin(async {
                        // The driver asks a connection whether it is well before it takes it back, without a deadline: one whose
                        // server is gone for good would keep its place in the pool for ever. An error closes it at once.
                        let asked = timeout(RELEASE_DEADLINE, connection.ping()).await;
                        asked.map_or(Err(sqlx::Error::PoolTimedOut), |answer| answer.map(|()| true))
                    })
                },
            )
        };
        // Whatever it is handed, the write path tries again.
        let writer = pool(POSTGRES_WRITERS).test_before_acquire(false).connect_with(options.clone()).await?;
        let commit: String = sqlx::query_scalar("SHOW synchronous_commit").fetch_one(&writer).await?;
        if commit == "off" {
            return Err(OpenError::NotDurable);
        }
        let fsync: String = sqlx::query_scalar("SHOW fsync").fetch_one(&writer).await?;
        if fsync == "off" {
            tracing::warn!("PostgreSQL runs with fsync = off: a power failure may lose what was acknowledged");
        }
        let readers = pool(POSTGRES_READERS).connect_with(options).await?;
        Ok(Self::Postgres { writer, readers })
    }

    /// On a connection without deadlines: a server may wait for another one's long migration.
    async fn migrate_postgres(url: &str) -> Result<(), OpenError> {
        let options =
            PgConnectOptions::from_str(url).map_err(|_| OpenError::BadUrl)?.application_name("callscope-server");
        let one =
            PgPoolOptions::new().max_connections(1).acquire_timeout(ACQUIRE_TIMEOUT).connect_with(options).await?;
        older_may_start(sqlx::migrate!("../migrations/postgres")).run(&one).await?;
        begin_anew_elsewhere(&one).await?;
        one.close().await;
        Ok(())
    }
}

/// A dump that was restored into another PostgreSQL brings numbers of transactions along that are still to come there. Then the
/// order of deliveries begins anew, and the database gets a name of its own: cursors of the old order are known to be of another.
async fn begin_anew_elsewhere(pool: &PgPool) -> Result<(), sqlx::Error> {
    let mut tx = pool.begin().await?;
    // One server at a time.
    sqlx::query("SELECT 1 FROM cluster FOR UPDATE").execute(&mut *tx).await?;
    let is_ahead = "SELECT EXISTS (SELECT 1 FROM deliveries WHERE tx >= txid_snapshot_xmax(txid_current_snapshot()))";
    if sqlx::query_scalar(is_ahead).fetch_one(&mut *tx).await? {
        warn!("the database was restored from another PostgreSQL: the order of its deliveries begins anew");
        sqlx::query("UPDATE deliveries SET tx = 0 WHERE tx > 0").execute(&mut *tx).await?;
        sqlx::query("UPDATE cluster SET cluster_id = gen_random_uuid()").execute(&mut *tx).await?;
    }
    tx.commit().await
}

/// Opens the connection that writes, on a database that stands already.
fn sqlite_writer(file: &Path) -> rusqlite::Result<Connection> {
    let writer =
        Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    writer.busy_timeout(BUSY_TIMEOUT)?;
    // FULL syncs the log at every commit: what was acknowledged survives a power failure.
    writer.pragma_update(None, "synchronous", "FULL")?;
    writer.pragma_update(None, "cache_size", -SQLITE_CACHE_KIB)?;
    writer.pragma_update(None, "wal_autocheckpoint", SQLITE_LOG_PAGES)?;
    writer.set_prepared_statement_cache_capacity(SQLITE_STATEMENTS);
    Ok(writer)
}
