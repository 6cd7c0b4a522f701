//! Opening, creating and migrating the database.

use std::str::FromStr;
use std::time::Duration;

use sqlx::migrate::{MigrateDatabase, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use super::Store;

static SQLITE: Migrator = sqlx::migrate!("../migrations/sqlite");
static POSTGRES: Migrator = sqlx::migrate!("../migrations/postgres");

/// How long a connection is waited for before the caller hears that the storage is down.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
const SQLITE_READERS: u32 = 4;
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
    /// The server acknowledges commits before they are durable.
    #[error("PostgreSQL runs with synchronous_commit = off, so a commit it acknowledged could be lost; set it to on")]
    NotDurable,
    /// A migration failed.
    #[error("the database could not be migrated: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// Anything the driver says.
    #[error("the database could not be opened: {0}")]
    Sqlx(#[from] sqlx::Error),
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
        let options = SqliteConnectOptions::from_str(url)
            .map_err(|_| OpenError::BadUrl)?
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // FULL syncs the log at every commit: what was acknowledged survives a power failure.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(5));
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_with(options.clone())
            .await?;
        SQLITE.run(&writer).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(SQLITE_READERS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_with(options.pragma("query_only", "1"))
            .await?;
        Ok(Self::Sqlite { writer, readers })
    }

    async fn open_postgres(url: &str) -> Result<Self, OpenError> {
        let options = PgConnectOptions::from_str(url)
            .map_err(|_| OpenError::BadUrl)?
            .application_name("callscope-server")
            .options([
                ("synchronous_commit", "on"),
                // Another server that hangs with a call's row locked must not stop this one's writing.
                ("lock_timeout", "3s"),
                ("statement_timeout", "30s"),
                ("idle_in_transaction_session_timeout", "10s"),
            ]);
        if !sqlx::Postgres::database_exists(url).await.unwrap_or(true) {
            sqlx::Postgres::create_database(url).await?;
        }
        let writer = PgPoolOptions::new()
            .max_connections(POSTGRES_WRITERS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_with(options.clone())
            .await?;
        let commit: String = sqlx::query_scalar("SHOW synchronous_commit").fetch_one(&writer).await?;
        if commit == "off" {
            return Err(OpenError::NotDurable);
        }
        let fsync: String = sqlx::query_scalar("SHOW fsync").fetch_one(&writer).await?;
        if fsync == "off" {
            tracing::warn!("PostgreSQL runs with fsync = off: a power failure may lose what was acknowledged");
        }
        POSTGRES.run(&writer).await?;
        let readers = PgPoolOptions::new()
            .max_connections(POSTGRES_READERS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_with(options)
            .await?;
        Ok(Self::Postgres { writer, readers })
    }
}
