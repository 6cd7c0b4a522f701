//! The write path on SQLite: a prepared statement for each row, run on the thread that polls the transaction.
//!
//! A driver with a thread of its own wakes two threads for each statement, which costs a webhook more than the database
//! does (docs/adr/0007). The log writer has a thread of its own already.

use std::sync::Arc;

use callscope_common::CallId;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, OptionalExtension, ToSql, params};
use tokio::sync::{Mutex, OwnedMappedMutexGuard, OwnedMutexGuard};
use uuid::Uuid;

use super::sequence::Sequence;
use crate::log::{Answer, Call, DedupHash, Delivery, NewDelivery, NewEvent};
use crate::store::StoreError;
use crate::store::call_table::{self, CallRow, call_row};
use crate::store::sqlite::file::FileGuard;
use crate::store::statement::{Bind, NewName, PriorRow, Result, answer};

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

    fn prepare(&self, sql: &str) -> rusqlite::Result<CachedStatement<'_>> {
        self.connection.prepare_cached(sql)
    }

    pub(in crate::store) fn execute(&mut self, sql: &'static str, binds: &[Bind<'_>]) -> Result<()> {
        let mut statement = self.prepare(sql)?;
        for (at, bind) in (1..).zip(binds) {
            // To SQLite `$2` is a name, whose index tells where it first appears.
            if let Some(index) = statement.parameter_index(&format!("${at}"))? {
                statement.raw_bind_parameter(index, bind)?;
            }
        }
        statement.raw_execute()?;
        Ok(())
    }

    pub fn names(&mut self, names: &[&str]) -> Result<Vec<(String, CallId)>> {
        let mut statement = self.prepare("SELECT call_id FROM identifiers WHERE identifier = ?1")?;
        let mut found = Vec::with_capacity(names.len());
        for name in names {
            if let Some(call_id) = statement.query_row([name], |row| row.get(0)).optional()? {
                found.push(((*name).to_owned(), call_id));
            }
        }
        Ok(found)
    }

    pub fn names_of(&mut self, call_id: CallId) -> Result<Vec<String>> {
        let mut statement = self.prepare("SELECT identifier FROM identifiers WHERE call_id = ?1")?;
        let names = statement.query_map([call_id], |row| row.get(0))?;
        Ok(names.collect::<rusqlite::Result<_>>()?)
    }

    pub fn lock_calls(&mut self, ids: &[CallId]) -> Result<Vec<CallRow>> {
        let mut statement = self.prepare(call_row!("?1"))?;
        let mut rows = Vec::with_capacity(ids.len());
        for id in ids {
            rows.extend(statement.query_row([id], |row| row.try_into()).optional()?);
        }
        Ok(rows)
    }

    pub fn result(&mut self, call_id: CallId) -> Result<Option<(String, Option<String>)>> {
        let mut statement = self.prepare("SELECT call_data, transcript FROM results WHERE call_id = ?1")?;
        Ok(statement.query_row([call_id], |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
    }

    pub fn log(&mut self, call_id: CallId) -> Result<Vec<(String, Option<Uuid>)>> {
        let mut statement = self.prepare("SELECT frame, delivery_id FROM events WHERE call_id = ?1 ORDER BY seq")?;
        let events = statement.query_map([call_id], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(events.collect::<rusqlite::Result<_>>()?)
    }

    pub fn taken_sids(&mut self, prefix: &str, first: &str, last: &str) -> Result<Vec<String>> {
        let mut statement = self.prepare(
            "SELECT identifier FROM identifiers WHERE identifier = ?1 OR (identifier >= ?2 AND identifier < ?3)",
        )?;
        let sids = statement.query_map([prefix, first, last], |row| row.get(0))?;
        Ok(sids.collect::<rusqlite::Result<_>>()?)
    }

    pub fn earlier(&mut self, keys: &[DedupHash], senders: &[DedupHash]) -> Result<Vec<PriorRow>> {
        const BY_KEY: &str =
            "SELECT delivery_id, body_hash, call_id, response_status, response FROM deliveries WHERE dedup_key = ?1";
        const BY_SENDER: &str = "SELECT delivery_id, body_hash, call_id, response_status, response FROM deliveries \
             WHERE idempotency_key = ?1";
        let mut found = Vec::new();
        let lookups = [(BY_KEY, keys), (BY_KEY, senders), (BY_SENDER, senders)];
        for (sql, keys) in lookups.into_iter().filter(|(_, keys)| !keys.is_empty()) {
            let mut statement = self.prepare(sql)?;
            for key in keys {
                let mut rows = statement.query([key.as_slice()])?;
                if let Some(row) = rows.next()? {
                    found.push(PriorRow {
                        delivery_id: row.get(0)?,
                        key: *key,
                        body_hash: row.get(1)?,
                        call_id: row.get(2)?,
                        answer: answer(row.get(3)?, row.get(4)?)?,
                    });
                }
            }
        }
        Ok(found)
    }

    pub fn upgraded_at(&mut self, version: i64) -> Result<Option<i64>> {
        let mut statement = self.prepare("SELECT at FROM upgrades WHERE version = ?1")?;
        Ok(statement.query_row([version], |row| row.get(0)).optional()?)
    }

    pub fn answers(&mut self, ids: &[Uuid]) -> Result<Vec<(Uuid, Answer)>> {
        let mut statement = self.prepare("SELECT response_status, response FROM deliveries WHERE delivery_id = ?1")?;
        let mut found = Vec::new();
        for id in ids {
            let row = statement.query_row([id], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
            if let Some((status, body)) = row {
                found.push((*id, answer(status, body)?));
            }
        }
        Ok(found)
    }

    pub fn transcription_ids(&mut self, count: i64) -> Result<Vec<i64>> {
        let WriteConnection { connection, turns, .. } = &mut *self.connection;
        let first = turns.take(connection, count)?;
        Ok((first..first + count).collect())
    }

    pub fn insert_calls(&mut self, calls: &[&Call]) -> Result<()> {
        let mut statement = self.prepare(call_table::SQLITE_INSERT)?;
        for call in calls {
            call_table::sqlite_insert(&mut statement, call)?;
        }
        Ok(())
    }

    pub fn update_heads(&mut self, calls: &[&Call]) -> Result<()> {
        let mut statement =
            self.prepare("UPDATE calls SET head = ?2, turns = ?3, live = ?4, updated_at = ?5 WHERE call_id = ?1")?;
        for call in calls {
            statement.execute(params![call.call_id, call.head, call.turns, call.live, call.updated_at.as_micros()])?;
        }
        Ok(())
    }

    pub fn update_calls(&mut self, calls: &[&Call]) -> Result<()> {
        let mut statement = self.prepare(call_table::SQLITE_UPDATE)?;
        for call in calls {
            call_table::sqlite_update(&mut statement, call)?;
        }
        Ok(())
    }

    pub fn insert_names(&mut self, names: &[NewName]) -> Result<u64> {
        let mut statement = self.prepare(
            "INSERT INTO identifiers (identifier, call_id, kind) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
        )?;
        let mut free = 0;
        for (name, call_id, kind) in names {
            free += statement.execute(params![name.as_str(), call_id, kind.as_str()])? as u64;
        }
        Ok(free)
    }

    pub fn insert_events(&mut self, events: &[NewEvent], now: i64) -> Result<()> {
        let mut statement = self.prepare(
            "INSERT INTO events (call_id, seq, kind, frame, created_at, delivery_id) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?;
        for event in events {
            let kind = event.kind.as_str();
            statement.execute(params![event.call_id, event.seq, kind, &*event.frame, now, event.delivery_id])?;
        }
        Ok(())
    }

    pub fn insert_deliveries(&mut self, rows: &[(&NewDelivery, &Delivery)]) -> Result<u64> {
        // PostgreSQL numbers its transactions itself.
        let WriteConnection { connection, transactions, .. } = &mut *self.connection;
        let number = transactions.take(connection, 1)?;
        let mut statement = self.prepare(
            "INSERT INTO deliveries (delivery_id, route, kind, verdict, reason, dedup_key, body_hash, turn_hash, call_id, \
             duplicate_of, received_at, remote_addr, headers, body, body_bytes, response_status, response, tx, idempotency_key) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19) \
             ON CONFLICT DO NOTHING",
        )?;
        let mut new = 0;
        for (row, delivery) in rows {
            new += statement.execute(params![
                row.delivery_id,
                delivery.route.as_str(),
                delivery.kind,
                row.verdict.as_str(),
                row.reason,
                row.dedup_hash.as_ref().map(DedupHash::as_slice),
                delivery.body_hash.as_slice(),
                delivery.turn_hash().map(DedupHash::as_slice),
                row.call_id,
                row.duplicate_of,
                delivery.received_at.as_micros(),
                delivery.remote_addr,
                delivery.headers,
                row.keep_body.then_some(delivery.body.as_slice()),
                i64::try_from(delivery.body.len()).unwrap_or(i64::MAX),
                row.answer.status,
                &*row.answer.body,
                number,
                row.idempotency_key.as_ref().map(DedupHash::as_slice),
            ])? as u64;
        }
        Ok(new)
    }

    /// The hashes of the `turn_id`s of a call's turns.
    pub fn turn_hashes(&mut self, call_id: CallId) -> Result<Vec<(Uuid, Vec<u8>)>> {
        let mut statement = self.prepare(
            "SELECT d.delivery_id, d.turn_hash FROM events e JOIN deliveries d ON d.delivery_id = e.delivery_id \
             WHERE e.call_id = ?1 AND d.turn_hash IS NOT NULL AND d.dedup_key IS NOT NULL",
        )?;
        let rows = statement.query_map([call_id], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// The database's clock, in microseconds.
    pub fn now(&mut self) -> Result<i64> {
        let mut statement = self.prepare("SELECT CAST(unixepoch('subsec') * 1000000 AS INTEGER)")?;
        Ok(statement.query_row([], |row| row.get(0))?)
    }
}

impl Drop for SqliteTx {
    fn drop(&mut self) {
        // If this fails too, the next transaction tries again.
        let _ = self.roll_back();
    }
}

impl ToSql for Bind<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Id(id) => ValueRef::Blob(id.as_bytes()),
            Self::Int(number) => ValueRef::Integer(*number),
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
            Self::Text(text) | Self::MaybeText(Some(text)) => ValueRef::Text(text.as_bytes()),
            Self::MaybeText(None) => ValueRef::Null,
        }))
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
