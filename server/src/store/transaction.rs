//! The statements of the write path.
//!
//! The engines need opposite things for a batch. A statement on PostgreSQL is a round trip, so
//! [`postgres`](super::postgres) writes a whole batch with one statement (`UNNEST`). A statement on SQLite is a
//! function call, so [`sqlite`](super::sqlite) runs a prepared statement for each row, on the writer's own thread.
//! Statements that are rare and the same for both are here, once.

use callscope_common::{CallId, Timestamp};
use uuid::Uuid;

use super::call_table::CallRow;
use super::deliveries::DeliveryRange;
use super::nodes::Heartbeat;
use super::postgres::write::PostgresTx;
use super::sqlite::write::SqliteTx;
use super::statement::{Bind, NewName, PriorRow, Result};
use super::{Engine, Store, StoreError};
use crate::log::{Answer, Call, DedupHash, DedupKey, Delivery, NewDelivery, NewEvent, NewResult, Transcript};

/// A write transaction; it is rolled back when it is dropped.
pub(super) enum Tx {
    Sqlite(SqliteTx),
    Postgres(PostgresTx),
}

/// Calls the method of the same name on the engine's transaction.
macro_rules! engine {
    ($self:ident.$method:ident($($argument:expr),*)) => {
        match $self {
            Self::Sqlite(tx) => tx.$method($($argument),*),
            Self::Postgres(tx) => tx.$method($($argument),*).await,
        }
    };
}

/// The deliveries that are accepted turns of the call `$1`, found through its events.
macro_rules! turns_of {
    () => {
        "delivery_id IN (SELECT delivery_id FROM events WHERE call_id = $1)"
    };
}

/// The other deliveries of the call `$1`, in the words of their partial index.
macro_rules! beside_turns {
    () => {
        "call_id = $1 AND (verdict <> 'accepted' OR COALESCE(kind, '') <> 'turn')"
    };
}

/// Keeps the positions of deliveries that are about to be deleted, at the time `$3`: a cursor may be behind one of
/// them.
macro_rules! tombstones {
    () => {
        "INSERT INTO delivery_tombstones (delivery_id, tx, deleted_at) SELECT delivery_id, tx, $3 FROM deliveries WHERE "
    };
}

/// The deliveries from `$1` to `$2` that hold no hash and changed nothing.
macro_rules! without_effect {
    () => {
        "delivery_id >= $1 AND delivery_id <= $2 AND dedup_key IS NULL AND verdict IN ('duplicate', 'rejected')"
    };
}

/// How long the positions of deleted deliveries are kept, in microseconds: a month.
const TOMBSTONES_KEPT: i64 = 30 * 86_400 * 1_000_000;

/// Bytes of a recording in one row.
const CHUNK: usize = 64 << 10;
/// Chunks of a recording in one statement: 4 MiB.
const CHUNKS: usize = 64;

impl Tx {
    pub async fn begin(store: &Store) -> Result<Self> {
        Ok(match &store.0 {
            Engine::Sqlite(sqlite) => Self::Sqlite(SqliteTx::begin(&sqlite.writer, &sqlite.guard).await?),
            Engine::Postgres(postgres) => Self::Postgres(PostgresTx::begin(&postgres.writer).await?),
        })
    }

    pub async fn commit(self) -> Result<()> {
        engine!(self.commit())
    }

    pub async fn rollback(self) -> Result<()> {
        match self {
            // Rolled back where it is dropped.
            Self::Sqlite(_) => Ok(()),
            Self::Postgres(tx) => tx.rollback().await,
        }
    }

    /// The calls that the names lead to.
    pub async fn names(&mut self, names: &[&str]) -> Result<Vec<(String, CallId)>> {
        engine!(self.names(names))
    }

    /// The names of a call.
    pub async fn names_of(&mut self, call_id: CallId) -> Result<Vec<String>> {
        engine!(self.names_of(call_id))
    }

    /// The rows of the calls, locked until the transaction ends. They are locked in the order of their ids, so that two
    /// writers never wait for each other.
    pub async fn lock_calls(&mut self, ids: &[CallId]) -> Result<Vec<CallRow>> {
        engine!(self.lock_calls(ids))
    }

    /// Those of the calls whose rows are locked elsewhere. The check waits for none of them.
    pub async fn locked_elsewhere(&mut self, ids: &[CallId]) -> Result<Vec<CallId>> {
        match self {
            // The one writer locks the whole database.
            Self::Sqlite(_) => Ok(Vec::new()),
            Self::Postgres(tx) => tx.locked_elsewhere(ids).await,
        }
    }

    /// A call's result and the provider's transcript.
    pub async fn result(&mut self, call_id: CallId) -> Result<Option<(String, Option<String>)>> {
        engine!(self.result(call_id))
    }

    /// The whole log of a call: the message of each event, and the delivery that caused it.
    pub async fn log(&mut self, call_id: CallId) -> Result<Vec<(String, Option<Uuid>)>> {
        engine!(self.log(call_id))
    }

    /// The identifiers that begin with `prefix` itself or `prefix_`.
    pub async fn taken_sids(&mut self, prefix: &str) -> Result<Vec<String>> {
        // In byte order, '`' is the character after '_'.
        let (first, last) = (format!("{prefix}_"), format!("{prefix}`"));
        engine!(self.taken_sids(prefix, &first, &last))
    }

    /// The deliveries that took effect under one of the hashes, or under the hash of a sender's `Idempotency-Key`.
    /// Versions before migration 5 stored the latter among the former.
    pub async fn earlier(&mut self, keys: &[DedupHash], senders: &[DedupHash]) -> Result<Vec<PriorRow>> {
        engine!(self.earlier(keys, senders))
    }

    /// When the database was migrated to that version; the epoch if that is not known.
    pub async fn upgraded_at(&mut self, version: i64) -> Result<Timestamp> {
        let at: Option<i64> = engine!(self.upgraded_at(version))?;
        Ok(at.and_then(Timestamp::from_micros).unwrap_or(Timestamp::EPOCH))
    }

    /// The answers of those of the deliveries that are stored.
    pub async fn answers(&mut self, ids: &[Uuid]) -> Result<Vec<(Uuid, Answer)>> {
        engine!(self.answers(ids))
    }

    /// Draws ids for turns, unique among all calls.
    pub async fn transcription_ids(&mut self, count: i64) -> Result<Vec<i64>> {
        if count == 0 {
            return Ok(Vec::new());
        }
        engine!(self.transcription_ids(count))
    }

    pub async fn insert_calls(&mut self, calls: &[&Call]) -> Result<()> {
        engine!(self.insert_calls(calls))
    }

    /// Writes the columns that a turn changes; see [`RowChange::Head`](crate::log::RowChange::Head).
    pub async fn update_heads(&mut self, calls: &[&Call]) -> Result<()> {
        engine!(self.update_heads(calls))
    }

    /// Writes all columns that may change.
    pub async fn update_calls(&mut self, calls: &[&Call]) -> Result<()> {
        engine!(self.update_calls(calls))
    }

    /// Inserts the names and returns how many of them were free.
    pub async fn insert_names(&mut self, names: &[NewName]) -> Result<u64> {
        engine!(self.insert_names(names))
    }

    pub async fn insert_events(&mut self, events: &[NewEvent], now: i64) -> Result<()> {
        engine!(self.insert_events(events, now))
    }

    /// Inserts the deliveries and returns how many were new. Fewer than given means that another process took one of
    /// the hashes.
    pub async fn insert_deliveries(&mut self, rows: &[(&NewDelivery, &Delivery)]) -> Result<u64> {
        engine!(self.insert_deliveries(rows))
    }

    async fn execute(&mut self, sql: &'static str, binds: &[Bind<'_>]) -> Result<()> {
        engine!(self.execute(sql, binds))
    }

    /// Stores the result of a call. A stored transcript stays if the new result has none.
    pub async fn put_result(&mut self, result: &NewResult) -> Result<()> {
        let (id, data) = (Bind::Id(result.call_id), Bind::Text(&result.call_data));
        match &result.transcript {
            Transcript::Keep => {
                self.execute(
                    "INSERT INTO results (call_id, call_data) VALUES ($1, $2) \
                     ON CONFLICT (call_id) DO UPDATE SET call_data = excluded.call_data",
                    &[id, data],
                )
                .await
            }
            Transcript::Replace(transcript) => {
                self.execute(
                    "INSERT INTO results (call_id, call_data, transcript) VALUES ($1, $2, $3) ON CONFLICT (call_id) \
                     DO UPDATE SET call_data = excluded.call_data, transcript = excluded.transcript",
                    &[id, data, Bind::MaybeText(transcript.as_deref())],
                )
                .await
            }
        }
    }

    /// Stores the recording of a call in chunks, and deletes the one before it.
    pub async fn put_recording(&mut self, call_id: CallId, kind: &str, bytes: &[u8], now: i64) -> Result<()> {
        let id = Bind::Id(call_id);
        self.delete_recording(call_id).await?;
        let (length, chunk_length) = (int(bytes.len()), int(CHUNK));
        self.execute(
            "INSERT INTO recordings (call_id, content_type, created_at, length, chunk_length) VALUES ($1, $2, $3, $4, $5)",
            &[id, Bind::Text(kind), Bind::Int(now), Bind::Int(length), Bind::Int(chunk_length)],
        )
        .await?;
        for (at, part) in (0..).zip(bytes.chunks(CHUNKS * CHUNK)) {
            let first = at * int(CHUNKS);
            match self {
                Self::Sqlite(_) => {
                    for (number, chunk) in (first..).zip(part.chunks(CHUNK)) {
                        let insert = "INSERT INTO recording_chunks (call_id, number, bytes) VALUES ($1, $2, $3)";
                        self.execute(insert, &[id, Bind::Int(number), Bind::Bytes(chunk)]).await?;
                    }
                }
                // Each statement is a round trip, so one statement takes many chunks.
                Self::Postgres(tx) => tx.put_chunks(call_id, first, part.chunks(CHUNK).collect()).await?,
            }
        }
        Ok(())
    }

    async fn delete_recording(&mut self, call_id: CallId) -> Result<()> {
        for sql in [
            "DELETE FROM recordings WHERE call_id = $1",
            "DELETE FROM recording_chunks WHERE call_id = $1",
            "DELETE FROM audio WHERE call_id = $1",
        ] {
            self.execute(sql, &[Bind::Id(call_id)]).await?;
        }
        Ok(())
    }

    /// Writes a merge: everything of `from` becomes part of `into`, and the record stays without a log as a signpost to
    /// it.
    pub async fn merge(&mut self, from: CallId, into: CallId, moves_audio: bool) -> Result<()> {
        let (one, both) = ([Bind::Id(from)], [Bind::Id(from), Bind::Id(into)]);
        let turns: Vec<(Uuid, Vec<u8>)> = engine!(self.turn_hashes(from))?;
        self.execute(concat!("UPDATE deliveries SET call_id = $2 WHERE ", turns_of!()), &both).await?;
        self.execute(concat!("UPDATE deliveries SET call_id = $2 WHERE ", beside_turns!()), &both).await?;
        self.execute("DELETE FROM events WHERE call_id = $1", &one).await?;
        self.execute("UPDATE identifiers SET call_id = $2, moved = TRUE WHERE call_id = $1", &both).await?;
        self.execute("DELETE FROM results WHERE call_id = $1", &one).await?;
        if moves_audio {
            for sql in [
                "UPDATE audio SET call_id = $2 WHERE call_id = $1",
                "UPDATE recordings SET call_id = $2 WHERE call_id = $1",
                "UPDATE recording_chunks SET call_id = $2 WHERE call_id = $1",
            ] {
                self.execute(sql, &both).await?;
            }
        }
        self.delete_recording(from).await?;
        let signposts = "UPDATE calls SET merged_into = $2, head = 0 WHERE call_id = $1 OR merged_into = $1";
        self.execute(signposts, &both).await?;
        for (delivery_id, turn_hash) in turns {
            let Ok(turn_hash) = DedupHash::try_from(turn_hash) else { return Err(StoreError::Damaged("delivery")) };
            let key = DedupKey::turn_hash_in_call(into, &turn_hash);
            // If both records have a turn with that id, repeats get the answer of the survivor's turn.
            self.execute(
                "UPDATE deliveries SET dedup_key = $2 WHERE delivery_id = $1 \
                 AND NOT EXISTS (SELECT 1 FROM deliveries WHERE dedup_key = $2)",
                &[Bind::Id(delivery_id), Bind::Bytes(&key)],
            )
            .await?;
        }
        Ok(())
    }

    /// Writes a heartbeat, and removes the processes that had none for an hour.
    pub async fn put_heartbeat(&mut self, heartbeat: &Heartbeat) -> Result<()> {
        let now = engine!(self.now())?;
        let (node, version, address) =
            (Bind::Text(&heartbeat.node), Bind::Text(heartbeat.version), Bind::Text(&heartbeat.address));
        self.execute(
            "INSERT INTO nodes (node, version, address, started_at, seen_at) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (node) DO UPDATE SET address = excluded.address, seen_at = excluded.seen_at",
            &[node, version, address, Bind::Int(heartbeat.started_at.as_micros()), Bind::Int(now)],
        )
        .await?;
        self.execute("DELETE FROM nodes WHERE seen_at < $1", &[Bind::Int(now - 3_600_000_000)]).await
    }

    pub async fn remove_node(&mut self, node: &str) -> Result<()> {
        self.execute("DELETE FROM nodes WHERE node = $1", &[Bind::Text(node)]).await
    }

    /// Drops what need not be kept of deliveries: whole rows that hold no hash, and the headers and bodies of the
    /// others. What identifies a repeat, and its answer, stays (docs/adr/0008).
    pub async fn strip_deliveries(&mut self, DeliveryRange { first, last }: DeliveryRange, now: i64) -> Result<()> {
        let range = [Bind::Id(first), Bind::Id(last), Bind::Int(now)];
        self.execute(concat!(tombstones!(), without_effect!()), &range).await?;
        for sql in [
            concat!("DELETE FROM deliveries WHERE ", without_effect!()),
            "UPDATE deliveries SET headers = '[]', body = NULL WHERE delivery_id >= $1 AND delivery_id <= $2 \
             AND (headers <> '[]' OR body IS NOT NULL)",
        ] {
            self.execute(sql, &[Bind::Id(first), Bind::Id(last)]).await?;
        }
        Ok(())
    }

    /// Deletes a call and everything that is stored of it.
    pub async fn delete(&mut self, call_id: CallId, now: i64) -> Result<()> {
        self.execute("DELETE FROM delivery_tombstones WHERE deleted_at < $1", &[Bind::Int(now - TOMBSTONES_KEPT)])
            .await?;
        for (remember, delete) in [
            (concat!(tombstones!(), turns_of!()), concat!("DELETE FROM deliveries WHERE ", turns_of!())),
            (concat!(tombstones!(), beside_turns!()), concat!("DELETE FROM deliveries WHERE ", beside_turns!())),
        ] {
            self.execute(remember, &[Bind::Id(call_id), Bind::Id(call_id), Bind::Int(now)]).await?;
            self.execute(delete, &[Bind::Id(call_id)]).await?;
        }
        for sql in [
            "DELETE FROM events WHERE call_id = $1",
            "DELETE FROM identifiers WHERE call_id = $1",
            "DELETE FROM results WHERE call_id = $1",
            "DELETE FROM calls WHERE call_id = $1 OR merged_into = $1",
        ] {
            self.execute(sql, &[Bind::Id(call_id)]).await?;
        }
        self.delete_recording(call_id).await
    }
}

fn int(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}
