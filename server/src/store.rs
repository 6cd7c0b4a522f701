//! The durable log: the only module that knows the rows of the databases.
//!
//! A [`Store`] is an SQLite file or a PostgreSQL database. All writes go through [`LogWriter`], one transaction for
//! each batch; everything else here reads. What is particular to an engine is in `sqlite` and `postgres`. A statement
//! is written once for both where one text fits them (`statement`), and so are the columns that a batch writes
//! (`tables`).
//!
//! Two drivers are in use (docs/adr/0007):
//! - **sqlx**, asynchronous, with a pool of connections: everything on PostgreSQL, and on SQLite the migrations, the
//!   lists and whatever else may take long.
//! - **rusqlite**, a plain function call: the write path on SQLite, which has a thread of its own, and the short reads
//!   of a subscription (`sqlite::inline_reads`). Handing such a statement to another thread and back costs more than
//!   the statement itself.

mod call_table;
pub mod calls;
pub mod cursors;
pub mod deliveries;
mod error;
pub mod events;
pub mod nodes;
mod open;
mod postgres;
pub mod recordings;
#[cfg(test)]
mod reference_model;
pub mod sqlite;
pub mod sqlite_path;
mod statement;
mod tables;
#[cfg(test)]
pub(crate) mod testing;
mod transaction;
mod writer;

pub use error::StoreError;
pub use open::OpenError;
pub use postgres::open::transport_warning;
pub use sqlite_path::PathError;
pub use writer::{LogWriter, Maintenance, OnCommit};

use postgres::Postgres;
use sqlite::Sqlite;
use sqlite::inline_reads::InlineReads;

/// The handle to the database; cheap to clone.
///
/// The write path has connections of its own, so that readers never delay a webhook.
#[derive(Clone, Debug)]
pub struct Store(Engine);

#[derive(Clone, Debug)]
enum Engine {
    Sqlite(Sqlite),
    Postgres(Postgres),
}

impl Store {
    /// The name of the database engine.
    #[must_use]
    pub fn engine(&self) -> &'static str {
        self.by_engine("sqlite", "postgres")
    }

    /// Whether several server processes may share the database.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        matches!(self.0, Engine::Postgres(_))
    }

    /// Whether a write blocks the thread that it runs on.
    fn blocks_on_write(&self) -> bool {
        matches!(self.0, Engine::Sqlite(_))
    }

    /// Asks the database for an answer, on a reading connection.
    ///
    /// # Errors
    /// Returns an error if the database does not answer.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.values::<i64>("SELECT CAST(1 AS BIGINT)", &[]).await.map(drop)
    }

    /// Closes every connection.
    pub async fn close(&self) {
        match &self.0 {
            Engine::Sqlite(sqlite) => sqlite.close().await,
            Engine::Postgres(postgres) => postgres.close().await,
        }
    }
}

impl Store {
    /// Opens the database at `url`, creates it if it is missing, and brings it to the newest migration.
    ///
    /// # Errors
    /// Returns an [`OpenError`]; none of its texts contains the URL.
    pub async fn open(url: &str) -> Result<Self, OpenError> {
        Self::open_with(url, InlineReads::default()).await
    }

    async fn open_with(url: &str, inline_reads: InlineReads) -> Result<Self, OpenError> {
        let engine = if url.starts_with("sqlite:") {
            Engine::Sqlite(Sqlite::open(url, inline_reads).await?)
        } else if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            Engine::Postgres(Postgres::open(url).await?)
        } else {
            return Err(OpenError::UnknownScheme);
        };
        Ok(Self(engine))
    }
}
