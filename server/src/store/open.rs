//! [`OpenError`], and the settings that both engines share when they open a database.

use std::time::Duration;

use sqlx::migrate::Migrator;

use super::sqlite_path::PathError;

/// Timeout of waiting for a connection of a pool.
pub(super) const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// Lets an older server start on a newer database, which a rolling upgrade needs. Migrations only add to the schema.
pub(super) fn allow_newer_schema(mut migrations: Migrator) -> Migrator {
    migrations.set_ignore_missing(true);
    migrations
}

/// Why the database could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Neither `sqlite://…` nor `postgres://…`.
    #[error("the database URL begins neither with sqlite:// nor with postgres://")]
    UnknownScheme,
    /// The URL is invalid. The parser's message is left out, because it may contain a password.
    #[error("the database URL cannot be read")]
    BadUrl,
    /// The path of the SQLite file is wrong, or another process uses the file.
    #[error("{0}")]
    Path(#[from] PathError),
    /// A pooler stands between, which gives each transaction another connection.
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
    /// Another error of sqlx.
    #[error("the database could not be opened: {0}")]
    Sqlx(#[from] sqlx::Error),
    /// Another error of rusqlite, the driver of the write path.
    #[error("the database could not be opened: {0}")]
    Sqlite(#[from] rusqlite::Error),
}

impl OpenError {
    /// Whether the setting is wrong, so that trying again does not help.
    #[must_use]
    pub fn is_setting(&self) -> bool {
        matches!(self, Self::UnknownScheme | Self::BadUrl | Self::Path(_) | Self::Pooler(_))
    }
}
