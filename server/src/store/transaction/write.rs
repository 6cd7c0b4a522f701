//! What a transaction writes beside the rows of [`tables`](crate::store::tables): the statements that are rare and the
//! same for both engines.

use callscope_common::CallId;
use uuid::Uuid;

use super::Tx;
use crate::log::{DedupHash, DedupKey, NewResult, Transcript};
use crate::store::deliveries::DeliveryRange;
use crate::store::nodes::{Heartbeat, clock};
use crate::store::statement::{Bind, Result};

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
    /// Stores the result of a call. A stored transcript stays if the new result has none.
    pub async fn put_result(&mut self, result: &NewResult) -> Result<()> {
        let (id, data) = (result.call_id.into(), Bind::from(&*result.call_data));
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
                    &[id, data, transcript.as_deref().into()],
                )
                .await
            }
        }
    }

    /// Stores the recording of a call in chunks, and deletes the one before it.
    pub async fn put_recording(&mut self, call_id: CallId, kind: &str, bytes: &[u8], now: i64) -> Result<()> {
        let id = Bind::from(call_id);
        self.delete_recording(call_id).await?;
        self.execute(
            "INSERT INTO recordings (call_id, content_type, created_at, length, chunk_length) VALUES ($1, $2, $3, $4, $5)",
            &[id, kind.into(), now.into(), int(bytes.len()).into(), int(CHUNK).into()],
        )
        .await?;
        for (at, part) in (0..).zip(bytes.chunks(CHUNKS * CHUNK)) {
            let first = at * int(CHUNKS);
            match self {
                Self::Sqlite(_) => {
                    for (number, chunk) in (first..).zip(part.chunks(CHUNK)) {
                        let insert = "INSERT INTO recording_chunks (call_id, number, bytes) VALUES ($1, $2, $3)";
                        self.execute(insert, &[id, number.into(), chunk.into()]).await?;
                    }
                }
                // Each statement is a round trip, so one statement takes many chunks.
                Self::Postgres(tx) => {
                    let chunks: Vec<&[u8]> = part.chunks(CHUNK).collect();
                    let numbers: Vec<i64> = (first..).take(chunks.len()).collect();
                    let query = sqlx::query(
                        "INSERT INTO recording_chunks (call_id, number, bytes) \
                         SELECT $1, * FROM UNNEST($2::bigint[], $3::bytea[])",
                    );
                    query.bind(call_id).bind(numbers).bind(chunks).execute(&mut **tx).await?;
                }
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
            self.execute(sql, &[call_id.into()]).await?;
        }
        Ok(())
    }

    /// Writes a merge: everything of `from` becomes part of `into`, and the record stays without a log as a signpost to
    /// it.
    pub async fn merge(&mut self, from: CallId, into: CallId, moves_audio: bool) -> Result<()> {
        let (one, both) = ([from.into()], [from.into(), into.into()]);
        let turns: Vec<(Uuid, DedupHash)> = self
            .rows(
                "SELECT d.delivery_id, d.turn_hash FROM events e JOIN deliveries d ON d.delivery_id = e.delivery_id \
                 WHERE e.call_id = $1 AND d.turn_hash IS NOT NULL AND d.dedup_key IS NOT NULL",
                &one,
            )
            .await?;
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
            let key = DedupKey::turn_hash_in_call(into, &turn_hash);
            // If both records have a turn with that id, repeats get the answer of the survivor's turn.
            self.execute(
                "UPDATE deliveries SET dedup_key = $2 WHERE delivery_id = $1 \
                 AND NOT EXISTS (SELECT 1 FROM deliveries WHERE dedup_key = $2)",
                &[delivery_id.into(), key.as_slice().into()],
            )
            .await?;
        }
        Ok(())
    }

    /// Writes a heartbeat, and removes the processes that had none for an hour.
    pub async fn put_heartbeat(&mut self, heartbeat: &Heartbeat) -> Result<()> {
        let Heartbeat { node, version, address, started_at, .. } = heartbeat;
        let clock = match self {
            Self::Sqlite(_) => concat!("SELECT ", clock!(sqlite)),
            Self::Postgres(_) => concat!("SELECT ", clock!(postgres)),
        };
        let now = self.rows(clock, &[]).await?.first().map_or(0, |(now,): &(i64,)| *now);
        self.execute(
            "INSERT INTO nodes (node, version, address, started_at, seen_at) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (node) DO UPDATE SET address = excluded.address, seen_at = excluded.seen_at",
            &[
                node.as_str().into(),
                (*version).into(),
                address.as_str().into(),
                started_at.as_micros().into(),
                now.into(),
            ],
        )
        .await?;
        self.execute("DELETE FROM nodes WHERE seen_at < $1", &[(now - 3_600_000_000).into()]).await
    }

    pub async fn remove_node(&mut self, node: &str) -> Result<()> {
        self.execute("DELETE FROM nodes WHERE node = $1", &[node.into()]).await
    }

    /// Drops what need not be kept of deliveries: whole rows that hold no hash, and the headers and bodies of the
    /// others. What identifies a repeat, and its answer, stays (docs/adr/0008).
    pub async fn strip_deliveries(&mut self, DeliveryRange { first, last }: DeliveryRange, now: i64) -> Result<()> {
        let range = [first.into(), last.into(), now.into()];
        self.execute(concat!(tombstones!(), without_effect!()), &range).await?;
        for sql in [
            concat!("DELETE FROM deliveries WHERE ", without_effect!()),
            "UPDATE deliveries SET headers = '[]', body = NULL WHERE delivery_id >= $1 AND delivery_id <= $2 \
             AND (headers <> '[]' OR body IS NOT NULL)",
        ] {
            self.execute(sql, &range[..2]).await?;
        }
        Ok(())
    }

    /// Deletes a call and everything that is stored of it.
    pub async fn delete(&mut self, call_id: CallId, now: i64) -> Result<()> {
        self.execute("DELETE FROM delivery_tombstones WHERE deleted_at < $1", &[(now - TOMBSTONES_KEPT).into()])
            .await?;
        for (remember, delete) in [
            (concat!(tombstones!(), turns_of!()), concat!("DELETE FROM deliveries WHERE ", turns_of!())),
            (concat!(tombstones!(), beside_turns!()), concat!("DELETE FROM deliveries WHERE ", beside_turns!())),
        ] {
            self.execute(remember, &[call_id.into(), call_id.into(), now.into()]).await?;
            self.execute(delete, &[call_id.into()]).await?;
        }
        for sql in [
            "DELETE FROM events WHERE call_id = $1",
            "DELETE FROM identifiers WHERE call_id = $1",
            "DELETE FROM results WHERE call_id = $1",
            "DELETE FROM calls WHERE call_id = $1 OR merged_into = $1",
        ] {
            self.execute(sql, &[call_id.into()]).await?;
        }
        self.delete_recording(call_id).await
    }
}

fn int(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}
