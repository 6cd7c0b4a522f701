//! The durable log: the only module that knows the databases' rows.
//!
//! SQLite and PostgreSQL are two arms of one enum. Where one statement fits both, it is written once (`on_pool!`); the
//! statements of the write path stand in `transaction`. All writes go through [`LogWriter`], one transaction a batch; everything else
//! here reads.

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
#[cfg(test)]
pub(crate) mod testing;
mod transaction;
mod writer;

pub use error::StoreError;
pub use open::{OpenError, transport_warning};
pub use sqlite::path::PathError;
pub use writer::{LogWriter, Maintenance};

use sqlx::{PgPool, SqlitePool};

/// Handle to the database; cheap to clone.
///
/// The write path has connections of its own, so that no crowd of readers can keep a webhook waiting.
#[derive(Clone, Debug)]
pub enum Store {
    /// One file.
    Sqlite {
        /// The only connection that writes.
        writer: sqlite::write::Writer,
        /// Read-only connections.
        readers: SqlitePool,
        /// Read-only connections for what is looked up at once.
        inline: sqlite::inline_reads::InlineReaders,
        /// Makes this process the only one that uses the file, and notices that it was deleted or replaced.
        guard: sqlite::file::FileGuard,
    },
    /// A PostgreSQL database, which several server processes may share.
    Postgres {
        /// For the write path.
        writer: PgPool,
        /// For everything else.
        readers: PgPool,
    },
}

/// Runs the same body for either reading pool.
macro_rules! on_pool {
    ($store:expr, $pool:ident => $body:expr) => {
        match $store {
            $crate::store::Store::Sqlite { readers: $pool, .. } => $body,
            $crate::store::Store::Postgres { readers: $pool, .. } => $body,
        }
    };
}
pub(crate) use on_pool;

impl Store {
    /// The engine's name.
    #[must_use]
    pub fn engine(&self) -> &'static str {
        match self {
            Self::Sqlite { .. } => "sqlite",
            Self::Postgres { .. } => "postgres",
        }
    }

    /// Whether several server processes may share the database.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::Postgres { .. })
    }

    /// Whether a write blocks the thread that it runs on.
    fn blocks_on_write(&self) -> bool {
        matches!(self, Self::Sqlite { .. })
    }

    /// Asks the database for an answer, on a reading connection.
    ///
    /// # Errors
    /// It gave none.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let one: i64 = on_pool!(self, pool => {
            sqlx::query_scalar("SELECT CAST(1 AS BIGINT)").fetch_one(pool).await?
        });
        debug_assert_eq!(one, 1);
        Ok(())
    }

    /// Closes every connection.
    pub async fn close(&self) {
        match self {
            Self::Sqlite { writer, readers, inline, guard } => {
                inline.close();
                readers.close().await;
                // The last one to close a SQLite database moves its log into the file.
                let last = writer.lock().await.take();
                if guard.check().is_err() {
                    // It would delete the log by its name, which may be another database's by now.
                    std::mem::forget(last);
                }
                guard.release();
            }
            Self::Postgres { writer, readers } => {
                readers.close().await;
                writer.close().await;
            }
        }
    }
}
