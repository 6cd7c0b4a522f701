//! The statements of the write path.
//!
//! The engines need opposite things for a batch. A statement on PostgreSQL is a round trip, so one statement reads or
//! writes all rows. A statement on SQLite is a function call, so a prepared statement runs for each row, on the
//! writer's own thread (docs/adr/0007).

mod read;
mod write;

use sqlx::{Postgres, Transaction};

use super::sqlite::write::SqliteTx;
use super::statement::{self, Bind, Result, Row, postgres_query};
use super::{Engine, Store};

/// A write transaction; it is rolled back when it is dropped.
pub(super) enum Tx {
    Sqlite(SqliteTx),
    Postgres(Transaction<'static, Postgres>),
}

impl Tx {
    pub async fn begin(store: &Store) -> Result<Self> {
        Ok(match &store.0 {
            Engine::Sqlite(sqlite) => Self::Sqlite(SqliteTx::begin(&sqlite.writer, &sqlite.guard).await?),
            Engine::Postgres(postgres) => Self::Postgres(postgres.writer.begin().await?),
        })
    }

    pub async fn commit(self) -> Result<()> {
        match self {
            Self::Sqlite(tx) => tx.commit(),
            Self::Postgres(tx) => Ok(tx.commit().await?),
        }
    }

    pub async fn rollback(self) -> Result<()> {
        match self {
            // Rolled back where it is dropped.
            Self::Sqlite(_) => Ok(()),
            Self::Postgres(tx) => Ok(tx.rollback().await?),
        }
    }

    async fn execute(&mut self, sql: &'static str, binds: &[Bind<'_>]) -> Result<()> {
        match self {
            Self::Sqlite(tx) => {
                statement::execute(tx.connection(), sql, binds)?;
            }
            Self::Postgres(tx) => {
                postgres_query!(sqlx::query(sql), binds).execute(&mut **tx).await?;
            }
        }
        Ok(())
    }

    async fn rows<T: Row>(&mut self, sql: &'static str, binds: &[Bind<'_>]) -> Result<Vec<T>> {
        Ok(match self {
            Self::Sqlite(tx) => statement::select(tx.connection(), sql, binds)?,
            Self::Postgres(tx) => postgres_query!(sqlx::query_as(sql), binds).fetch_all(&mut **tx).await?,
        })
    }

    /// The rows that a statement finds for the keys: `for_one` looks up one of them, `for_all` a list.
    async fn rows_of<'b, T: Row, K: Copy + Into<Bind<'b>>>(
        &mut self,
        (for_one, for_all): (&'static str, &'static str),
        keys: &'b [K],
    ) -> Result<Vec<T>>
    where
        &'b [K]: Into<Bind<'b>>,
    {
        match self {
            Self::Sqlite(tx) => {
                Ok(statement::select_each(tx.connection(), for_one, keys.iter().map(|key| (*key).into()))?)
            }
            Self::Postgres(_) => self.rows(for_all, &[keys.into()]).await,
        }
    }
}
