//! What is particular to PostgreSQL: its connections and the write path.

pub(super) mod open;

use sqlx::PgPool;

/// A PostgreSQL database, which several server processes may share.
#[derive(Clone, Debug)]
pub(super) struct Postgres {
    /// For the write path.
    pub writer: PgPool,
    pub readers: PgPool,
}

impl Postgres {
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}
