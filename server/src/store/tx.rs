//! The statements of the write path, each for both engines side by side.
//!
//! A statement takes a whole batch: SQLite unpacks a JSON array (`json_each`), PostgreSQL arrays (`UNNEST`). Raw bytes never
//! go through JSON: SQLite gets all bodies as one blob and cuts it up.

use std::fmt::Write as _;
use std::sync::Arc;

use callscope_common::{CallId, Identifier, Seq};
use serde_json::json;
use sqlx::{Postgres, Sqlite, Transaction};
use uuid::Uuid;

use super::calls::CallRow;
use super::ledger::{Answer, Call, Delivery, DeliveryRow, Key, NameKind, NewEvent, NewResult};
use super::{Store, StoreError};

/// A write transaction.
pub(super) enum Tx {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
}

type Result<T> = std::result::Result<T, StoreError>;

/// A delivery that took effect: id, key, body hash, call, answer's status and body.
type PriorRow = (Uuid, Vec<u8>, Vec<u8>, Option<Uuid>, i64, String);

/// Runs one statement that fits both engines.
macro_rules! run {
    ($tx:expr, execute, $sql:literal $(, $bind:expr)*) => {
        match $tx {
            Tx::Sqlite(tx) => sqlx::query($sql)$(.bind($bind))*.execute(&mut **tx).await?.rows_affected(),
            Tx::Postgres(tx) => sqlx::query($sql)$(.bind($bind))*.execute(&mut **tx).await?.rows_affected(),
        }
    };
    ($tx:expr, $query:ident.$run:ident, $sql:literal $(, $bind:expr)*) => {
        match $tx {
            Tx::Sqlite(tx) => sqlx::$query($sql)$(.bind($bind))*.$run(&mut **tx).await?,
            Tx::Postgres(tx) => sqlx::$query($sql)$(.bind($bind))*.$run(&mut **tx).await?,
        }
    };
}

impl Tx {
    pub async fn begin(store: &Store) -> Result<Self> {
        Ok(match store {
            // IMMEDIATE takes the write lock at once: a transaction that reads first could not get it later.
            Store::Sqlite { writer, .. } => Self::Sqlite(writer.begin_with("BEGIN IMMEDIATE").await?),
            Store::Postgres { writer, .. } => Self::Postgres(writer.begin().await?),
        })
    }

    pub async fn commit(self) -> Result<()> {
        match self {
            Self::Sqlite(tx) => tx.commit().await?,
            Self::Postgres(tx) => tx.commit().await?,
        }
        Ok(())
    }

    /// Which calls the names mean.
    pub async fn names(&mut self, names: &[&str]) -> Result<Vec<(String, CallId)>> {
        Ok(match self {
            Self::Sqlite(tx) => {
                sqlx::query_as(
                    "SELECT identifier, call_id FROM identifiers WHERE identifier IN (SELECT value FROM json_each($1))",
                )
                .bind(json!(names).to_string())
                .fetch_all(&mut **tx)
                .await?
            }
            Self::Postgres(tx) => {
                sqlx::query_as("SELECT identifier, call_id FROM identifiers WHERE identifier = ANY($1)")
                    .bind(names)
                    .fetch_all(&mut **tx)
                    .await?
            }
        })
    }

    /// The names of a call.
    pub async fn names_of(&mut self, call_id: CallId) -> Result<Vec<String>> {
        Ok(run!(self, query_scalar.fetch_all, "SELECT identifier FROM identifiers WHERE call_id = $1", call_id))
    }

    /// The calls' rows, locked until the transaction ends, in the order of their ids so that no two writers wait for each other.
    pub async fn lock_calls(&mut self, ids: &[CallId]) -> Result<Vec<CallRow>> {
        Ok(match self {
            Self::Sqlite(tx) => {
                sqlx::query_as("SELECT * FROM calls WHERE call_id IN (SELECT unhex(value) FROM json_each($1))")
                    .bind(hex_list(ids))
                    .fetch_all(&mut **tx)
                    .await?
            }
            Self::Postgres(tx) => {
                sqlx::query_as("SELECT * FROM calls WHERE call_id = ANY($1) ORDER BY call_id FOR UPDATE")
                    .bind(ids)
                    .fetch_all(&mut **tx)
                    .await?
            }
        })
    }

    /// A call's result and the provider's transcript.
    pub async fn result(&mut self, call_id: CallId) -> Result<Option<(String, Option<String>)>> {
        Ok(run!(self, query_as.fetch_optional, "SELECT call_data, transcript FROM results WHERE call_id = $1", call_id))
    }

    /// A call's whole log.
    pub async fn log(&mut self, call_id: CallId) -> Result<Vec<(Seq, String)>> {
        Ok(run!(self, query_as.fetch_all, "SELECT seq, frame FROM events WHERE call_id = $1 ORDER BY seq", call_id))
    }

    /// The identifiers that begin with `prefix` itself or `prefix_`.
    pub async fn taken_sids(&mut self, prefix: &str) -> Result<Vec<String>> {
        // In byte order '`' follows '_' at once.
        let (first, last) = (format!("{prefix}_"), format!("{prefix}`"));
        Ok(run!(
            self,
            query_scalar.fetch_all,
            "SELECT identifier FROM identifiers WHERE identifier = $1 OR (identifier >= $2 AND identifier < $3)",
            prefix,
            &first,
            &last
        ))
    }

    /// The deliveries that took effect under one of the keys.
    pub async fn prior(&mut self, keys: &[Key]) -> Result<Vec<PriorRow>> {
        Ok(match self {
            Self::Sqlite(tx) => {
                sqlx::query_as(
                    "SELECT delivery_id, dedup_key, body_hash, call_id, response_status, response FROM deliveries \
                 WHERE dedup_key IN (SELECT unhex(value) FROM json_each($1))",
                )
                .bind(hex_list(keys))
                .fetch_all(&mut **tx)
                .await?
            }
            Self::Postgres(tx) => {
                sqlx::query_as(
                    "SELECT delivery_id, dedup_key, body_hash, call_id, response_status, response FROM deliveries \
                 WHERE dedup_key = ANY($1)",
                )
                .bind(keys.iter().map(<[u8; 32]>::as_slice).collect::<Vec<_>>())
                .fetch_all(&mut **tx)
                .await?
            }
        })
    }

    /// What those of these deliveries were answered that are stored.
    pub async fn answers(&mut self, ids: &[Uuid]) -> Result<Vec<(Uuid, Answer)>> {
        let rows: Vec<(Uuid, i64, String)> = match self {
            Self::Sqlite(tx) => {
                sqlx::query_as(
                    "SELECT delivery_id, response_status, response FROM deliveries \
                 WHERE delivery_id IN (SELECT unhex(value) FROM json_each($1))",
                )
                .bind(hex_list(ids))
                .fetch_all(&mut **tx)
                .await?
            }
            Self::Postgres(tx) => {
                sqlx::query_as(
                    "SELECT delivery_id, response_status, response FROM deliveries WHERE delivery_id = ANY($1)",
                )
                .bind(ids)
                .fetch_all(&mut **tx)
                .await?
            }
        };
        rows.into_iter()
            .map(|(id, status, body)| {
                let status = u16::try_from(status).map_err(|_| StoreError::Damaged("delivery"))?;
                Ok((id, Answer { status, body: body.into() }))
            })
            .collect()
    }

    /// `count` ids for turns, unique among all calls.
    pub async fn transcription_ids(&mut self, count: i64) -> Result<Vec<i64>> {
        Ok(match self {
            _ if count == 0 => Vec::new(),
            Self::Sqlite(tx) => {
                let last: i64 = sqlx::query_scalar(
                    "UPDATE counters SET value = value + $1 WHERE name = 'transcription_id' RETURNING value",
                )
                .bind(count)
                .fetch_one(&mut **tx)
                .await?;
                (last - count + 1..=last).collect()
            }
            Self::Postgres(tx) => {
                sqlx::query_scalar("SELECT nextval('transcription_id') FROM generate_series(1, $1)")
                    .bind(count)
                    .fetch_all(&mut **tx)
                    .await?
            }
        })
    }

    pub async fn insert_calls(&mut self, calls: &[&Call]) -> Result<()> {
        match self {
            Self::Sqlite(tx) => {
                sqlx::query(
                    "INSERT INTO calls (call_id, call_sid, sid_made_up, conversation_id, status, subject, agent_id, metadata, \
                     head, turns, live, has_audio, updated_at, end_time, created_at) \
                     SELECT unhex(value->>0), value->>1, value->>2, value->>3, value->>4, value->>5, value->>6, value->>7, \
                     value->>8, value->>9, value->>10, value->>11, value->>12, value->>13, value->>14 FROM json_each($1)",
                )
                .bind(call_rows(calls))
                .execute(&mut **tx)
                .await?;
            }
            Self::Postgres(tx) => {
                let columns = CallColumns::of(calls);
                let query = sqlx::query(
                    "INSERT INTO calls (call_id, call_sid, sid_made_up, conversation_id, status, subject, agent_id, metadata, \
                     head, turns, live, has_audio, updated_at, end_time, created_at) \
                     SELECT * FROM UNNEST($1::uuid[], $2::text[], $3::bool[], $4::text[], $5::text[], $6::text[], $7::text[], \
                     $8::text[], $9::bigint[], $10::bigint[], $11::bool[], $12::bool[], $13::bigint[], $14::bigint[], $15::bigint[])",
                );
                columns.bind(query).execute(&mut **tx).await?;
            }
        }
        Ok(())
    }

    pub async fn update_calls(&mut self, calls: &[&Call]) -> Result<()> {
        match self {
            Self::Sqlite(tx) => {
                sqlx::query(
                    "UPDATE calls SET call_sid = value->>1, sid_made_up = value->>2, conversation_id = value->>3, \
                     status = value->>4, subject = value->>5, agent_id = value->>6, metadata = value->>7, head = value->>8, \
                     turns = value->>9, live = value->>10, has_audio = value->>11, updated_at = value->>12, \
                     end_time = value->>13 FROM json_each($1) WHERE calls.call_id = unhex(value->>0)",
                )
                .bind(call_rows(calls))
                .execute(&mut **tx)
                .await?;
            }
            Self::Postgres(tx) => {
                let columns = CallColumns::of(calls);
                let query = sqlx::query(
                    "UPDATE calls SET call_sid = n.call_sid, sid_made_up = n.sid_made_up, conversation_id = n.conversation_id, \
                     status = n.status, subject = n.subject, agent_id = n.agent_id, metadata = n.metadata, head = n.head, \
                     turns = n.turns, live = n.live, has_audio = n.has_audio, updated_at = n.updated_at, end_time = n.end_time \
                     FROM UNNEST($1::uuid[], $2::text[], $3::bool[], $4::text[], $5::text[], $6::text[], $7::text[], \
                     $8::text[], $9::bigint[], $10::bigint[], $11::bool[], $12::bool[], $13::bigint[], $14::bigint[], $15::bigint[]) \
                     AS n (call_id, call_sid, sid_made_up, conversation_id, status, subject, agent_id, metadata, head, turns, \
                     live, has_audio, updated_at, end_time, created_at) WHERE calls.call_id = n.call_id",
                );
                columns.bind(query).execute(&mut **tx).await?;
            }
        }
        Ok(())
    }

    /// Says how many of the names were free.
    pub async fn insert_names(&mut self, names: &[(Identifier, CallId, NameKind)]) -> Result<u64> {
        Ok(match self {
            Self::Sqlite(tx) => {
                let rows: Vec<_> = names.iter().map(|(name, id, kind)| json!([name, hex(id), kind.as_str()])).collect();
                sqlx::query(
                    "INSERT INTO identifiers (identifier, call_id, kind) \
                     SELECT value->>0, unhex(value->>1), value->>2 FROM json_each($1) WHERE true ON CONFLICT DO NOTHING",
                )
                .bind(json!(rows).to_string())
                .execute(&mut **tx)
                .await?
                .rows_affected()
            }
            Self::Postgres(tx) => sqlx::query(
                "INSERT INTO identifiers (identifier, call_id, kind) \
                 SELECT * FROM UNNEST($1::text[], $2::uuid[], $3::text[]) ON CONFLICT DO NOTHING",
            )
            .bind(names.iter().map(|(name, ..)| name.as_str()).collect::<Vec<_>>())
            .bind(names.iter().map(|(_, id, _)| *id).collect::<Vec<_>>())
            .bind(names.iter().map(|(.., kind)| kind.as_str()).collect::<Vec<_>>())
            .execute(&mut **tx)
            .await?
            .rows_affected(),
        })
    }

    pub async fn insert_events(&mut self, events: &[NewEvent], now: i64) -> Result<()> {
        match self {
            Self::Sqlite(tx) => {
                let rows: Vec<_> = events
                    .iter()
                    .map(|e| json!([hex(e.call_id), e.seq, e.kind.as_str(), &*e.frame, e.delivery_id.map(hex)]))
                    .collect();
                sqlx::query(
                    "INSERT INTO events (call_id, seq, kind, frame, created_at, delivery_id) \
                     SELECT unhex(value->>0), value->>1, value->>2, value->>3, $2, unhex(value->>4) FROM json_each($1)",
                )
                .bind(json!(rows).to_string())
                .bind(now)
                .execute(&mut **tx)
                .await?;
            }
            Self::Postgres(tx) => {
                sqlx::query(
                    "INSERT INTO events (call_id, seq, kind, frame, created_at, delivery_id) \
                     SELECT e.call_id, e.seq, e.kind, e.frame, $5, e.delivery_id FROM \
                     UNNEST($1::uuid[], $2::bigint[], $3::text[], $4::text[], $6::uuid[]) AS e (call_id, seq, kind, frame, delivery_id)",
                )
                .bind(events.iter().map(|e| e.call_id).collect::<Vec<_>>())
                .bind(events.iter().map(|e| e.seq).collect::<Vec<_>>())
                .bind(events.iter().map(|e| e.kind.as_str()).collect::<Vec<_>>())
                .bind(events.iter().map(|e| &*e.frame).collect::<Vec<_>>())
                .bind(now)
                .bind(events.iter().map(|e| e.delivery_id).collect::<Vec<_>>())
                .execute(&mut **tx)
                .await?;
            }
        }
        Ok(())
    }

    /// Stores a call's result; a transcript that is already there stays where the new result brings none.
    pub async fn put_result(&mut self, result: &NewResult) -> Result<()> {
        run!(
            self,
            execute,
            "INSERT INTO results (call_id, call_data, transcript) VALUES ($1, $2, $3) ON CONFLICT (call_id) DO UPDATE \
             SET call_data = excluded.call_data, transcript = COALESCE(excluded.transcript, results.transcript)",
            result.call_id,
            &*result.call_data,
            result.transcript.as_deref()
        );
        Ok(())
    }

    pub async fn put_audio(&mut self, call_id: CallId, bytes: &[u8], now: i64) -> Result<()> {
        run!(
            self,
            execute,
            "INSERT INTO audio (call_id, content_type, created_at, bytes) VALUES ($1, 'audio/mpeg', $2, $3) \
             ON CONFLICT (call_id) DO UPDATE SET created_at = excluded.created_at, bytes = excluded.bytes",
            call_id,
            now,
            bytes
        );
        Ok(())
    }

    /// Says how many were new: fewer than given means that another process took one of the keys meanwhile.
    pub async fn insert_deliveries(&mut self, rows: &[(&DeliveryRow, &Delivery)]) -> Result<u64> {
        Ok(match self {
            Self::Sqlite(tx) => {
                let (json, bodies) = delivery_rows(rows);
                sqlx::query(
                    "INSERT INTO deliveries (delivery_id, route, kind, verdict, reason, dedup_key, body_hash, turn_hash, \
                     call_id, duplicate_of, received_at, remote_addr, headers, body, body_bytes, response_status, response) \
                     SELECT unhex(value->>0), value->>1, value->>2, value->>3, value->>4, unhex(value->>5), unhex(value->>6), \
                     unhex(value->>7), unhex(value->>8), unhex(value->>9), value->>10, value->>11, value->>12, \
                     CASE WHEN value->>13 IS NULL THEN NULL ELSE substr($2, value->>13, value->>14) END, value->>14, \
                     value->>15, value->>16 FROM json_each($1) WHERE true ON CONFLICT DO NOTHING",
                )
                .bind(json)
                .bind(bodies)
                .execute(&mut **tx)
                .await?
                .rows_affected()
            }
            Self::Postgres(tx) => {
                macro_rules! column {
                    ($row:ident, $delivery:ident => $value:expr) => {
                        rows.iter().map(|($row, $delivery)| $value).collect::<Vec<_>>()
                    };
                }
                sqlx::query(
                    "INSERT INTO deliveries (delivery_id, route, kind, verdict, reason, dedup_key, body_hash, turn_hash, \
                     call_id, duplicate_of, received_at, remote_addr, headers, body, body_bytes, response_status, response) \
                     SELECT * FROM UNNEST($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::bytea[], \
                     $8::bytea[], $9::uuid[], $10::uuid[], $11::bigint[], $12::text[], $13::text[], $14::bytea[], $15::bigint[], \
                     $16::bigint[], $17::text[]) ON CONFLICT DO NOTHING",
                )
                .bind(column!(row, _d => row.delivery_id))
                .bind(column!(_row, d => d.route.as_str()))
                .bind(column!(_row, d => d.kind.as_deref()))
                .bind(column!(row, _d => row.verdict.as_str()))
                .bind(column!(row, _d => row.reason.as_deref()))
                .bind(column!(row, _d => row.key.as_ref().map(<[u8; 32]>::as_slice)))
                .bind(column!(_row, d => d.body_hash.as_slice()))
                .bind(column!(_row, d => d.turn_hash().map(<[u8; 32]>::as_slice)))
                .bind(column!(row, _d => row.call_id))
                .bind(column!(row, _d => row.duplicate_of))
                .bind(column!(_row, d => d.received_at.as_micros()))
                .bind(column!(_row, d => d.remote_addr.as_deref()))
                .bind(column!(_row, d => d.headers.as_str()))
                .bind(column!(row, d => row.keep_body.then_some(d.body.as_slice())))
                .bind(column!(_row, d => i64::try_from(d.body.len()).unwrap_or(i64::MAX)))
                .bind(column!(row, _d => i64::from(row.answer.status)))
                .bind(column!(row, _d => &*row.answer.body))
                .execute(&mut **tx)
                .await?
                .rows_affected()
            }
        })
    }

    /// Writes a merge: what belonged to `from` belongs to `into`; the record stays as a signpost without a log.
    pub async fn merge(&mut self, from: CallId, into: CallId, moves_audio: bool) -> Result<()> {
        macro_rules! both {
            ($sql:literal $(, $bind:expr)*) => { run!(self, execute, $sql $(, $bind)*) };
        }
        both!("DELETE FROM events WHERE call_id = $1", from);
        both!("UPDATE identifiers SET call_id = $2 WHERE call_id = $1", from, into);
        both!("DELETE FROM results WHERE call_id = $1", from);
        if moves_audio {
            both!("UPDATE audio SET call_id = $2 WHERE call_id = $1", from, into);
        }
        both!("DELETE FROM audio WHERE call_id = $1", from);
        both!("UPDATE calls SET merged_into = $2, head = 0 WHERE call_id = $1 OR merged_into = $1", from, into);
        let turns: Vec<(Uuid, Vec<u8>)> = run!(
            self,
            query_as.fetch_all,
            "SELECT delivery_id, turn_hash FROM deliveries WHERE call_id = $1 AND turn_hash IS NOT NULL AND dedup_key IS NOT NULL",
            from
        );
        both!("UPDATE deliveries SET call_id = $2 WHERE call_id = $1", from, into);
        for (delivery_id, turn_hash) in turns {
            let Ok(turn_hash) = Key::try_from(turn_hash) else { return Err(StoreError::Damaged("delivery")) };
            let key = super::ledger::Sameness::turn_key(into, &turn_hash);
            // Where both records had a turn of that id, the survivor's stays the one that repeats are answered like.
            both!(
                "UPDATE deliveries SET dedup_key = $2 WHERE delivery_id = $1 \
                 AND NOT EXISTS (SELECT 1 FROM deliveries WHERE dedup_key = $2)",
                delivery_id,
                key.as_slice()
            );
        }
        Ok(())
    }

    /// Deletes a call and all that was kept of it.
    pub async fn delete(&mut self, call_id: CallId) -> Result<()> {
        macro_rules! both {
            ($sql:literal) => {
                run!(self, execute, $sql, call_id)
            };
        }
        both!("DELETE FROM events WHERE call_id = $1");
        both!("DELETE FROM identifiers WHERE call_id = $1");
        both!("DELETE FROM results WHERE call_id = $1");
        both!("DELETE FROM audio WHERE call_id = $1");
        both!("DELETE FROM deliveries WHERE call_id = $1");
        both!("DELETE FROM calls WHERE call_id = $1 OR merged_into = $1");
        Ok(())
    }
}

/// The columns of calls for `UNNEST`, in the order of the statements above.
struct CallColumns<'c> {
    calls: &'c [&'c Call],
}

type PgQuery<'q> = sqlx::query::Query<'q, Postgres, sqlx::postgres::PgArguments>;

impl<'c> CallColumns<'c> {
    fn of(calls: &'c [&'c Call]) -> Self {
        Self { calls }
    }

    fn bind(&self, query: PgQuery<'c>) -> PgQuery<'c> {
        macro_rules! column {
            ($call:ident => $value:expr) => {
                self.calls.iter().map(|$call| $value).collect::<Vec<_>>()
            };
        }
        query
            .bind(column!(call => call.call_id))
            .bind(column!(call => call.call_sid.as_str()))
            .bind(column!(call => call.sid_made_up))
            .bind(column!(call => call.conversation_id.as_deref()))
            .bind(column!(call => call.status.as_str()))
            .bind(column!(call => call.subject.as_deref()))
            .bind(column!(call => call.agent_id.as_deref()))
            .bind(column!(call => call.metadata.as_deref()))
            .bind(column!(call => call.head))
            .bind(column!(call => call.turns))
            .bind(column!(call => call.live))
            .bind(column!(call => call.has_audio))
            .bind(column!(call => call.updated_at.as_micros()))
            .bind(column!(call => call.end_time.map(callscope_common::Timestamp::as_micros)))
            .bind(column!(call => call.created_at.as_micros()))
    }
}

/// The same columns as JSON arrays.
fn call_rows(calls: &[&Call]) -> String {
    let rows: Vec<_> = calls
        .iter()
        .map(|call| {
            json!([
                hex(call.call_id),
                call.call_sid,
                call.sid_made_up,
                call.conversation_id,
                call.status,
                call.subject,
                call.agent_id,
                call.metadata,
                call.head,
                call.turns,
                call.live,
                call.has_audio,
                call.updated_at.as_micros(),
                call.end_time.map(callscope_common::Timestamp::as_micros),
                call.created_at.as_micros(),
            ])
        })
        .collect();
    json!(rows).to_string()
}

/// Deliveries as JSON arrays, and their bodies end to end; a row says where its body begins, counted from 1.
fn delivery_rows(rows: &[(&DeliveryRow, &Delivery)]) -> (String, Arc<Vec<u8>>) {
    let mut bodies = Vec::with_capacity(rows.iter().map(|(_, delivery)| delivery.body.len()).sum());
    let rows: Vec<_> = rows
        .iter()
        .map(|(row, delivery)| {
            let start = row.keep_body.then(|| bodies.len() + 1);
            if row.keep_body {
                bodies.extend_from_slice(&delivery.body);
            }
            json!([
                hex(row.delivery_id),
                delivery.route.as_str(),
                delivery.kind,
                row.verdict.as_str(),
                row.reason,
                row.key.map(hex),
                hex(delivery.body_hash),
                delivery.turn_hash().map(hex),
                row.call_id.map(hex),
                row.duplicate_of.map(hex),
                delivery.received_at.as_micros(),
                delivery.remote_addr,
                delivery.headers,
                start,
                delivery.body.len(),
                row.answer.status,
                &*row.answer.body,
            ])
        })
        .collect();
    (json!(rows).to_string(), Arc::new(bodies))
}

pub(super) fn hex(bytes: impl AsRef<[u8]>) -> String {
    let bytes = bytes.as_ref();
    let mut hex = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

pub(super) fn hex_list<T: AsRef<[u8]>>(list: &[T]) -> String {
    json!(list.iter().map(hex).collect::<Vec<_>>()).to_string()
}
