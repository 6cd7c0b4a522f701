//! Opening, creating and migrating the database.

use std::net::IpAddr;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};
use sqlx::migrate::{MigrateDatabase, MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection as _, PgPool, SqlitePool};
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

use tracing::warn;

use super::Store;
use super::sqlite::file::{FileGuard, FileLock};
use super::sqlite::inline_reads::InlineReaders;
use super::sqlite::path::{self, PathError};
use super::sqlite::write::WriteConnection;

/// Migrations only ever add, so an older server works on a newer database: during a rolling upgrade it must be able to start.
fn allow_newer_schema(mut migrations: Migrator) -> Migrator {
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
/// What the writing connection may keep of the file, in KiB. With less it reads pages again and again; with more, commits that split
/// a page take longer: SQLite then walks over all pages that it keeps (`pcache1TruncateUnsafe`).
const SQLITE_CACHE_KIB: i32 = 16 << 10;
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
    /// The path of the SQLite file is wrong, or another process uses the file.
    #[error("{0}")]
    Path(#[from] PathError),
    /// A pooler that gives each transaction another connection.
    #[error(
        "a connection pooler such as PgBouncer in transaction mode stands before the database ({0}); name PostgreSQL itself, \
         or a pool in session mode with `ignore_startup_parameters = extra_float_digits,options`"
    )]
    Pooler(String),
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
    /// Whether the setting is wrong, rather than the database not well.
    #[must_use]
    pub fn is_setting(&self) -> bool {
        matches!(self, Self::UnknownScheme | Self::BadUrl | Self::Path(_) | Self::Pooler(_))
    }

    /// Recognises what a pooler makes of a connection.
    fn or_pooler(self) -> Self {
        let text = self.to_string();
        let signs = ["unsupported startup parameter", "prepared statement \"sqlx_s_"];
        match signs.iter().any(|sign| text.contains(sign)) {
            true => Self::Pooler(callscope_common::text::one_line(&text).chars().take(200).collect()),
            false => self,
        }
    }

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
        let path = path::resolve(&path::path(url)?)?;
        let lock = FileLock::take(&path)?;
        let options = SqliteConnectOptions::from_str(url)
            .map_err(|_| OpenError::BadUrl)?
            .filename(&path)
            .journal_mode(SqliteJournalMode::Wal)
            // FULL syncs the log at every commit: what was acknowledged survives a power failure.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT);
        let one = SqlitePoolOptions::new().max_connections(1).acquire_timeout(ACQUIRE_TIMEOUT);
        let one = one.connect_with(options.clone()).await.map_err(|error| of_file(&path, error))?;
        refuse_foreign(&one, &path).await?;
        allow_newer_schema(sqlx::migrate!("../migrations/sqlite")).run(&one).await?;
        one.close().await;
        let writer = sqlite_writer(&path)?;
        // From here on nothing opens these files but SQLite, and they stay the same ones.
        let guard = FileGuard::of(&path, lock)?;
        let inline = InlineReaders::new(path);
        let readers = SqlitePoolOptions::new()
            .max_connections(SQLITE_READERS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_with(options.pragma("query_only", "1").pragma("cache_size", format!("-{SQLITE_READER_CACHE_KIB}")))
            .await?;
        Ok(Self::Sqlite { writer: Arc::new(Mutex::new(Some(WriteConnection::new(writer)))), readers, inline, guard })
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
                opened => return opened.map_err(OpenError::or_pooler),
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
        allow_newer_schema(sqlx::migrate!("../migrations/postgres")).run(&one).await?;
        reset_tx_order_after_restore(&one).await?;
        one.close().await;
        Ok(())
    }
}

/// A dump that was restored into another PostgreSQL brings numbers of transactions along that are still to come there. Then the
/// order of deliveries begins anew, and the database gets a name of its own: cursors of the old order are known to be of another.
async fn reset_tx_order_after_restore(pool: &PgPool) -> Result<(), sqlx::Error> {
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

/// What the driver says of a file: it knows no path, so that is added.
fn of_file(path: &Path, error: sqlx::Error) -> OpenError {
    // Not a database, or a directory that takes no log.
    match error.as_database_error().and_then(|error| error.code()).as_deref() {
        Some("26") => PathError::new(format!("{} is a file, but no SQLite database", path.display())).into(),
        Some("14" | "8" | "1032" | "1544") => PathError::new(format!("{} cannot be written", path.display())).into(),
        _ => error.into(),
    }
}

/// Refuses a database that belongs to another program, before anything is added to it.
async fn refuse_foreign(pool: &SqlitePool, path: &Path) -> Result<(), OpenError> {
    let tables: Vec<String> =
        sqlx::query_scalar("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
            .fetch_all(pool)
            .await
            .map_err(|error| of_file(path, error))?;
    match tables.is_empty() || tables.iter().any(|name| name == "_sqlx_migrations") {
        true => Ok(()),
        false => Err(PathError::new(format!("{} holds the tables of another program", path.display())).into()),
    }
}

/// What is wrong with the way to a PostgreSQL across a network, for a warning; `None` where nothing is.
#[must_use]
pub fn transport_warning(url: &str) -> Option<String> {
    if url.starts_with("sqlite:") {
        return None;
    }
    let options = PgConnectOptions::from_str(url).ok()?;
    let host = options.get_host().trim_matches(['[', ']']);
    let is_here = options.get_socket().is_some()
        || host.starts_with('/')
        || host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback());
    (!is_here && !matches!(options.get_ssl_mode(), PgSslMode::VerifyFull)).then(|| {
        "the way to PostgreSQL is not verified: whoever stands between may read the password and every call; \
         add sslmode=verify-full to the URL, and sslrootcert=FILE where its certificate is not of a public authority"
            .into()
    })
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
    // The first transaction makes the log and its index.
    writer.execute_batch("BEGIN IMMEDIATE; COMMIT")?;
    Ok(writer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unverified_way_across_a_network_is_warned_of() {
        for url in [
            "postgres://u:p@db.internal/x",
            "postgres://u:p@db.internal/x?sslmode=require",
            "postgres://u:p@10.0.0.7/x?sslmode=verify-ca",
            "postgres://u:p@[2001:db8::1]/x?sslmode=disable",
        ] {
            let warning = transport_warning(url).expect(url);
            assert!(warning.contains("sslmode=verify-full") && warning.contains("sslrootcert"), "{warning}");
            assert!(!warning.contains("u:p"), "{warning}");
        }
        for url in [
            "postgres://u:p@db.internal/x?sslmode=verify-full",
            "postgres://u:p@127.0.0.1/x",
            "postgres://u:p@[::1]/x",
            "postgres://u:p@localhost/x",
            "postgres://u:p@%2Fvar%2Frun%2Fpostgresql/x",
            "sqlite://x.db",
        ] {
            assert_eq!(transport_warning(url), None, "{url}");
        }
    }

    #[test]
    fn a_pooler_in_transaction_mode_is_recognised() {
        for text in ["unsupported startup parameter: options", "prepared statement \"sqlx_s_1\" already exists"] {
            let error = OpenError::Sqlx(sqlx::Error::Protocol(text.into())).or_pooler();
            assert!(error.is_setting() && error.to_string().contains("PgBouncer"), "{error}");
        }
    }
}
