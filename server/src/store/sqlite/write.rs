//! The write path on SQLite: a prepared statement for each row, run on the thread that polls the transaction.
//!
//! A driver with a thread of its own wakes two threads for each statement, which costs a webhook more than the database
//! does (docs/adr/0007). The log writer has a thread of its own already.

use std::sync::Arc;

use rusqlite::{CachedStatement, Connection};
use tokio::sync::{Mutex, OwnedMappedMutexGuard, OwnedMutexGuard};

use super::file::FileGuard;
use super::sequence::Sequence;
use crate::store::StoreError;
use crate::store::statement::Result;

/// The connection that writes; none after the store is closed.
pub(in crate::store) type SqliteWriter = Arc<Mutex<Option<WriteConnection>>>;

/// A connection, and the numbers that were reserved through it and not given out yet.
#[derive(Debug)]
pub(in crate::store) struct WriteConnection {
    connection: Connection,
    turns: Sequence,
    transactions: Sequence,
}

impl WriteConnection {
    pub fn new(connection: Connection) -> Self {
        Self { connection, turns: Sequence::of_turns(), transactions: Sequence::of_transactions() }
    }

    pub fn shared(self) -> SqliteWriter {
        Arc::new(Mutex::new(Some(self)))
    }
}

impl std::ops::Deref for WriteConnection {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

pub(in crate::store) struct SqliteTx {
    connection: OwnedMappedMutexGuard<Option<WriteConnection>, WriteConnection>,
    guard: FileGuard,
}

impl SqliteTx {
    pub async fn begin(writer: &SqliteWriter, guard: &FileGuard) -> Result<Self> {
        let connection = Arc::clone(writer).lock_owned().await;
        let connection = OwnedMutexGuard::try_map(connection, Option::as_mut).map_err(|_| StoreError::Closing)?;
        guard.check_if_stale()?;
        let mut tx = Self { connection, guard: guard.clone() };
        tx.connection.turns.begin();
        tx.connection.transactions.begin();
        // A transaction may be open still whose rollback failed together with its disk.
        tx.roll_back()?;
        // IMMEDIATE takes the write lock at once. A transaction that reads first may fail to get it later.
        tx.prepare("BEGIN IMMEDIATE")?.execute([])?;
        Ok(tx)
    }

    pub fn commit(mut self) -> Result<()> {
        self.prepare("COMMIT")?.execute([])?;
        self.connection.turns.keep();
        self.connection.transactions.keep();
        // A commit into a file that its path no longer names must not be acknowledged.
        self.guard.check()
    }

    /// Does nothing if SQLite has ended the transaction by itself, because the disk is full or fails.
    fn roll_back(&self) -> rusqlite::Result<()> {
        if !self.connection.is_autocommit() {
            self.prepare("ROLLBACK")?.execute([])?;
        }
        Ok(())
    }

    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    pub fn prepare(&self, sql: &str) -> rusqlite::Result<CachedStatement<'_>> {
        self.connection.prepare_cached(sql)
    }

    /// Draws consecutive ids for turns and returns the first.
    pub fn draw_turn_ids(&mut self, count: i64) -> rusqlite::Result<i64> {
        let WriteConnection { connection, turns, .. } = &mut *self.connection;
        turns.take(connection, count)
    }

    /// Draws the number of this transaction. PostgreSQL numbers its transactions itself.
    pub fn draw_tx(&mut self) -> rusqlite::Result<i64> {
        let WriteConnection { connection, transactions, .. } = &mut *self.connection;
        transactions.take(connection, 1)
    }
}

impl Drop for SqliteTx {
    fn drop(&mut self) {
        // If this fails too, the next transaction tries again.
        let _ = self.roll_back();
    }
}

#[cfg(test)]
mod tests {
    use crate::store::testing::Scratch;
    use crate::store::transaction::Tx;

    #[tokio::test]
    async fn an_open_transaction_does_not_stop_later_writes() {
        let scratch = Scratch::open().await;
        // A transaction is left open if its rollback failed too, on a disk that was gone for a moment.
        scratch
            .store
            .sqlite_writer()
            .await
            .as_ref()
            .expect("a connection")
            .execute_batch("BEGIN IMMEDIATE")
            .expect("SQL");
        let mut tx = Tx::begin(&scratch.store).await.expect("a transaction");
        tx.remove_node("gone").await.expect("a statement");
        tx.commit().await.expect("a commit");
    }
}
