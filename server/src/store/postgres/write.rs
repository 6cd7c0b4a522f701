//! The write path on PostgreSQL: one statement a batch.

use callscope_common::CallId;
use sqlx::{PgPool, Postgres, Transaction};
use uuid::Uuid;

use crate::log::{Answer, Call, DedupHash, Delivery, NewDelivery, NewEvent};
use crate::store::StoreError;
use crate::store::call_table::{self, CallRow};
use crate::store::statement::{Bind, NewName, PriorRow, Result, answer};

pub(in crate::store) struct PostgresTx {
    tx: Transaction<'static, Postgres>,
}

impl PostgresTx {
    pub async fn begin(writer: &PgPool) -> Result<Self> {
        Ok(Self { tx: writer.begin().await? })
    }

    pub async fn commit(self) -> Result<()> {
        Ok(self.tx.commit().await?)
    }

    pub async fn rollback(self) -> Result<()> {
        Ok(self.tx.rollback().await?)
    }

    pub(in crate::store) async fn execute(&mut self, sql: &'static str, binds: &[Bind<'_>]) -> Result<()> {
        let query = binds.iter().fold(sqlx::query(sql), |query, bind| match *bind {
            Bind::Id(id) => query.bind(id),
            Bind::Int(number) => query.bind(number),
            Bind::Bytes(bytes) => query.bind(bytes),
            Bind::Text(text) => query.bind(text),
            Bind::MaybeText(text) => query.bind(text),
        });
        query.execute(&mut *self.tx).await?;
        Ok(())
    }

    /// Stores chunks of a recording; the first one has the number `first`.
    pub async fn put_chunks(&mut self, call_id: CallId, first: i64, chunks: Vec<&[u8]>) -> Result<()> {
        let numbers: Vec<i64> = (first..).take(chunks.len()).collect();
        let query = sqlx::query(
            "INSERT INTO recording_chunks (call_id, number, bytes) SELECT $1, * FROM UNNEST($2::bigint[], $3::bytea[])",
        );
        query.bind(call_id).bind(numbers).bind(chunks).execute(&mut *self.tx).await?;
        Ok(())
    }

    pub async fn names(&mut self, names: &[&str]) -> Result<Vec<(String, CallId)>> {
        let query = sqlx::query_as("SELECT identifier, call_id FROM identifiers WHERE identifier = ANY($1)");
        Ok(query.bind(names).fetch_all(&mut *self.tx).await?)
    }

    pub async fn names_of(&mut self, call_id: CallId) -> Result<Vec<String>> {
        let query = sqlx::query_scalar("SELECT identifier FROM identifiers WHERE call_id = $1");
        Ok(query.bind(call_id).fetch_all(&mut *self.tx).await?)
    }

    pub async fn lock_calls(&mut self, ids: &[CallId]) -> Result<Vec<CallRow>> {
        let query = sqlx::query_as("SELECT * FROM calls WHERE call_id = ANY($1) ORDER BY call_id FOR UPDATE");
        Ok(query.bind(ids).fetch_all(&mut *self.tx).await?)
    }

    pub async fn locked_elsewhere(&mut self, ids: &[CallId]) -> Result<Vec<CallId>> {
        let free = sqlx::query_scalar(
            "SELECT call_id FROM calls WHERE call_id = ANY($1) ORDER BY call_id FOR UPDATE SKIP LOCKED",
        );
        let free: Vec<CallId> = free.bind(ids).fetch_all(&mut *self.tx).await?;
        if free.len() == ids.len() {
            return Ok(Vec::new());
        }
        let query = sqlx::query_scalar("SELECT call_id FROM calls WHERE call_id = ANY($1) AND NOT call_id = ANY($2)");
        Ok(query.bind(ids).bind(&free).fetch_all(&mut *self.tx).await?)
    }

    pub async fn result(&mut self, call_id: CallId) -> Result<Option<(String, Option<String>)>> {
        let query = sqlx::query_as("SELECT call_data, transcript FROM results WHERE call_id = $1");
        Ok(query.bind(call_id).fetch_optional(&mut *self.tx).await?)
    }

    pub async fn log(&mut self, call_id: CallId) -> Result<Vec<(String, Option<Uuid>)>> {
        let query = sqlx::query_as("SELECT frame, delivery_id FROM events WHERE call_id = $1 ORDER BY seq");
        Ok(query.bind(call_id).fetch_all(&mut *self.tx).await?)
    }

    pub async fn taken_sids(&mut self, prefix: &str, first: &str, last: &str) -> Result<Vec<String>> {
        let query = sqlx::query_scalar(
            "SELECT identifier FROM identifiers WHERE identifier = $1 OR (identifier >= $2 AND identifier < $3)",
        );
        Ok(query.bind(prefix).bind(first).bind(last).fetch_all(&mut *self.tx).await?)
    }

    pub async fn earlier(&mut self, keys: &[DedupHash], senders: &[DedupHash]) -> Result<Vec<PriorRow>> {
        type Stored = (Uuid, Vec<u8>, Vec<u8>, Option<Uuid>, i64, String);
        let bytes = |keys: &[DedupHash]| keys.iter().map(|key| key.to_vec()).collect::<Vec<_>>();
        let rows: Vec<Stored> = if senders.is_empty() {
            let query = sqlx::query_as(
                "SELECT delivery_id, dedup_key, body_hash, call_id, response_status, response FROM deliveries \
                 WHERE dedup_key = ANY($1)",
            );
            query.bind(bytes(keys)).fetch_all(&mut *self.tx).await?
        } else {
            let query = sqlx::query_as(
                "SELECT delivery_id, dedup_key, body_hash, call_id, response_status, response FROM deliveries \
                 WHERE dedup_key = ANY($1) OR dedup_key = ANY($2) UNION ALL \
                 SELECT delivery_id, idempotency_key, body_hash, call_id, response_status, response FROM deliveries \
                 WHERE idempotency_key = ANY($2)",
            );
            query.bind(bytes(keys)).bind(bytes(senders)).fetch_all(&mut *self.tx).await?
        };
        let hash = |bytes: Vec<u8>| DedupHash::try_from(bytes).map_err(|_| StoreError::Damaged("delivery"));
        rows.into_iter()
            .map(|(delivery_id, key, body_hash, call_id, status, body)| {
                let (key, body_hash, answer) = (hash(key)?, hash(body_hash)?, answer(status, body)?);
                Ok(PriorRow { delivery_id, key, body_hash, call_id, answer })
            })
            .collect()
    }

    pub async fn upgraded_at(&mut self, version: i64) -> Result<Option<i64>> {
        let query = sqlx::query_scalar("SELECT at FROM upgrades WHERE version = $1");
        Ok(query.bind(version).fetch_optional(&mut *self.tx).await?)
    }

    pub async fn answers(&mut self, ids: &[Uuid]) -> Result<Vec<(Uuid, Answer)>> {
        let rows: Vec<(Uuid, i64, String)> =
            sqlx::query_as("SELECT delivery_id, response_status, response FROM deliveries WHERE delivery_id = ANY($1)")
                .bind(ids)
                .fetch_all(&mut *self.tx)
                .await?;
        rows.into_iter().map(|(id, status, body)| Ok((id, answer(status, body)?))).collect()
    }

    pub async fn transcription_ids(&mut self, count: i64) -> Result<Vec<i64>> {
        let query = sqlx::query_scalar("SELECT nextval('transcription_id') FROM generate_series(1, $1)");
        Ok(query.bind(count).fetch_all(&mut *self.tx).await?)
    }

    pub async fn insert_calls(&mut self, calls: &[&Call]) -> Result<()> {
        call_table::bind_arrays(sqlx::query(call_table::POSTGRES_INSERT), calls).execute(&mut *self.tx).await?;
        Ok(())
    }

    pub async fn update_heads(&mut self, calls: &[&Call]) -> Result<()> {
        sqlx::query(
            "UPDATE calls SET head = n.head, turns = n.turns, live = n.live, updated_at = n.updated_at \
             FROM UNNEST($1::uuid[], $2::bigint[], $3::bigint[], $4::bool[], $5::bigint[]) \
             AS n (call_id, head, turns, live, updated_at) WHERE calls.call_id = n.call_id",
        )
        .bind(calls.iter().map(|call| call.call_id).collect::<Vec<_>>())
        .bind(calls.iter().map(|call| call.head).collect::<Vec<_>>())
        .bind(calls.iter().map(|call| call.turns).collect::<Vec<_>>())
        .bind(calls.iter().map(|call| call.live).collect::<Vec<_>>())
        .bind(calls.iter().map(|call| call.updated_at.as_micros()).collect::<Vec<_>>())
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    pub async fn update_calls(&mut self, calls: &[&Call]) -> Result<()> {
        call_table::bind_arrays(sqlx::query(call_table::POSTGRES_UPDATE), calls).execute(&mut *self.tx).await?;
        Ok(())
    }

    pub async fn insert_names(&mut self, names: &[NewName]) -> Result<u64> {
        let done = sqlx::query(
            "INSERT INTO identifiers (identifier, call_id, kind) \
             SELECT * FROM UNNEST($1::text[], $2::uuid[], $3::text[]) ON CONFLICT DO NOTHING",
        )
        .bind(names.iter().map(|(name, ..)| name.as_str()).collect::<Vec<_>>())
        .bind(names.iter().map(|(_, id, _)| *id).collect::<Vec<_>>())
        .bind(names.iter().map(|(.., kind)| kind.as_str()).collect::<Vec<_>>())
        .execute(&mut *self.tx)
        .await?;
        Ok(done.rows_affected())
    }

    pub async fn insert_events(&mut self, events: &[NewEvent], now: i64) -> Result<()> {
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
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    pub async fn insert_deliveries(&mut self, rows: &[(&NewDelivery, &Delivery)]) -> Result<u64> {
        macro_rules! column {
            ($row:ident, $delivery:ident => $value:expr) => {
                rows.iter().map(|($row, $delivery)| $value).collect::<Vec<_>>()
            };
        }
        let done = sqlx::query(
            // In the order of their hashes, so that two servers with the same deliveries never wait for each other.
            "INSERT INTO deliveries (delivery_id, route, kind, verdict, reason, dedup_key, body_hash, turn_hash, \
             call_id, duplicate_of, received_at, remote_addr, headers, body, body_bytes, response_status, response, idempotency_key) \
             SELECT * FROM UNNEST($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::bytea[], \
             $8::bytea[], $9::uuid[], $10::uuid[], $11::bigint[], $12::text[], $13::text[], $14::bytea[], $15::bigint[], \
             $16::bigint[], $17::text[], $18::bytea[]) AS d (delivery_id, route, kind, verdict, reason, dedup_key, body_hash, \
             turn_hash, call_id, duplicate_of, received_at, remote_addr, headers, body, body_bytes, response_status, response, \
             idempotency_key) ORDER BY dedup_key, idempotency_key ON CONFLICT DO NOTHING",
        )
        .bind(column!(row, _d => row.delivery_id))
        .bind(column!(_row, d => d.route.as_str()))
        .bind(column!(_row, d => d.kind.as_deref()))
        .bind(column!(row, _d => row.verdict.as_str()))
        .bind(column!(row, _d => row.reason.as_deref()))
        .bind(column!(row, _d => row.dedup_hash.as_ref().map(<[u8; 32]>::as_slice)))
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
        .bind(column!(row, _d => row.idempotency_key.as_ref().map(<[u8; 32]>::as_slice)))
        .execute(&mut *self.tx)
        .await?;
        Ok(done.rows_affected())
    }

    /// The hashes of the `turn_id`s of a call's turns.
    pub async fn turn_hashes(&mut self, call_id: CallId) -> Result<Vec<(Uuid, Vec<u8>)>> {
        let query = sqlx::query_as(
            "SELECT d.delivery_id, d.turn_hash FROM events e JOIN deliveries d ON d.delivery_id = e.delivery_id \
             WHERE e.call_id = $1 AND d.turn_hash IS NOT NULL AND d.dedup_key IS NOT NULL",
        );
        Ok(query.bind(call_id).fetch_all(&mut *self.tx).await?)
    }

    /// The database's clock, in microseconds.
    pub async fn now(&mut self) -> Result<i64> {
        let query = sqlx::query_scalar("SELECT (EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::bigint");
        Ok(query.fetch_one(&mut *self.tx).await?)
    }
}
