//! What the write path reads before it applies a batch.

use callscope_common::{CallId, Timestamp};
use uuid::Uuid;

use super::Tx;
use crate::log::{Answer, DedupHash, EarlierDelivery};
use crate::store::StoreError;
use crate::store::call_table::{CallRow, columns};
use crate::store::statement::{self, Bind, Result};

/// The statement that looks up one key on SQLite, and the one that looks up a list of them on PostgreSQL.
macro_rules! look_up {
    ($sql:expr) => {
        (concat!($sql, " = $1"), concat!($sql, " = ANY($1)"))
    };
}

/// Selects deliveries by a column with a hash.
macro_rules! by_hash {
    ($key:literal) => {
        concat!(
            "SELECT delivery_id, ",
            $key,
            ", body_hash, call_id, response_status, response FROM deliveries WHERE ",
            $key
        )
    };
}

impl Tx {
    /// The calls that the names lead to.
    pub async fn names(&mut self, names: &[&str]) -> Result<Vec<(String, CallId)>> {
        self.rows_of(look_up!("SELECT identifier, call_id FROM identifiers WHERE identifier"), names).await
    }

    /// The names of a call.
    pub async fn names_of(&mut self, call_id: CallId) -> Result<Vec<(String,)>> {
        self.rows("SELECT identifier FROM identifiers WHERE call_id = $1", &[call_id.into()]).await
    }

    /// The rows of the calls, locked until the transaction ends. They are locked in the order of their ids, so that two
    /// writers never wait for each other.
    pub async fn lock_calls(&mut self, ids: &[CallId]) -> Result<Vec<CallRow>> {
        const BY_ID: &str = concat!("SELECT ", columns!(), " FROM calls c WHERE c.call_id = $1");
        const LOCKED: &str =
            concat!("SELECT ", columns!(), " FROM calls c WHERE c.call_id = ANY($1) ORDER BY c.call_id FOR UPDATE");
        // The one writer of SQLite has locked the whole database.
        self.rows_of((BY_ID, LOCKED), ids).await
    }

    /// Those of the calls whose rows are locked elsewhere. The check waits for none of them.
    pub async fn locked_elsewhere(&mut self, ids: &[CallId]) -> Result<Vec<CallId>> {
        let Self::Postgres(tx) = self else { return Ok(Vec::new()) };
        let free = sqlx::query_scalar(
            "SELECT call_id FROM calls WHERE call_id = ANY($1) ORDER BY call_id FOR UPDATE SKIP LOCKED",
        );
        let free: Vec<CallId> = free.bind(ids).fetch_all(&mut **tx).await?;
        if free.len() == ids.len() {
            return Ok(Vec::new());
        }
        let query = sqlx::query_scalar("SELECT call_id FROM calls WHERE call_id = ANY($1) AND NOT call_id = ANY($2)");
        Ok(query.bind(ids).bind(&free).fetch_all(&mut **tx).await?)
    }

    /// A call's result and the provider's transcript.
    pub async fn result(&mut self, call_id: CallId) -> Result<Option<(String, Option<String>)>> {
        Ok(self.rows("SELECT call_data, transcript FROM results WHERE call_id = $1", &[call_id.into()]).await?.pop())
    }

    /// The whole log of a call: the message of each event, and the delivery that caused it.
    pub async fn log(&mut self, call_id: CallId) -> Result<Vec<(String, Option<Uuid>)>> {
        self.rows("SELECT frame, delivery_id FROM events WHERE call_id = $1 ORDER BY seq", &[call_id.into()]).await
    }

    /// The identifiers that begin with `prefix` itself or `prefix_`.
    pub async fn taken_sids(&mut self, prefix: &str) -> Result<Vec<(String,)>> {
        // In byte order, '`' is the character after '_'.
        let (first, last) = (format!("{prefix}_"), format!("{prefix}`"));
        self.rows(
            "SELECT identifier FROM identifiers WHERE identifier = $1 OR (identifier >= $2 AND identifier < $3)",
            &[prefix.into(), first.as_str().into(), last.as_str().into()],
        )
        .await
    }

    /// The deliveries that took effect under one of the hashes, or under the hash of a sender's `Idempotency-Key`.
    /// Versions before migration 5 stored the latter among the former.
    pub async fn earlier(
        &mut self,
        keys: &[DedupHash],
        senders: &[DedupHash],
    ) -> Result<Vec<(DedupHash, EarlierDelivery)>> {
        const BY_KEY: (&str, &str) = look_up!(by_hash!("dedup_key"));
        const BY_SENDER: &str = concat!(by_hash!("idempotency_key"), " = $1");
        const BY_BOTH: &str = concat!(
            by_hash!("dedup_key"),
            " = ANY($1) OR dedup_key = ANY($2) UNION ALL ",
            by_hash!("idempotency_key"),
            " = ANY($2)"
        );
        type Stored = (Uuid, DedupHash, DedupHash, Option<Uuid>, i64, String);
        let rows: Vec<Stored> = match self {
            Self::Sqlite(tx) => {
                let mut rows = Vec::new();
                for (sql, keys) in [(BY_KEY.0, keys), (BY_KEY.0, senders), (BY_SENDER, senders)] {
                    let keys = keys.iter().map(|key| Bind::Bytes(key));
                    rows.append(&mut statement::select_each(tx.connection(), sql, keys)?);
                }
                rows
            }
            Self::Postgres(tx) if senders.is_empty() => {
                sqlx::query_as(BY_KEY.1).bind(keys).fetch_all(&mut **tx).await?
            }
            Self::Postgres(tx) => sqlx::query_as(BY_BOTH).bind(keys).bind(senders).fetch_all(&mut **tx).await?,
        };
        rows.into_iter()
            .map(|(delivery_id, key, body_hash, call_id, status, body)| {
                Ok((key, EarlierDelivery { delivery_id, body_hash, call_id, answer: answer(status, body)? }))
            })
            .collect()
    }

    /// When the database was migrated to that version; the epoch if that is not known.
    pub async fn upgraded_at(&mut self, version: i64) -> Result<Timestamp> {
        let found: Vec<(i64,)> = self.rows("SELECT at FROM upgrades WHERE version = $1", &[version.into()]).await?;
        Ok(found.first().and_then(|(at,)| Timestamp::from_micros(*at)).unwrap_or(Timestamp::EPOCH))
    }

    /// The answers of those of the deliveries that are stored.
    pub async fn answers(&mut self, ids: &[Uuid]) -> Result<Vec<(Uuid, Answer)>> {
        const SQL: &str = "SELECT delivery_id, response_status, response FROM deliveries WHERE delivery_id = ANY($1)";
        let rows: Vec<(Uuid, i64, String)> = self.rows(SQL, &[ids.into()]).await?;
        rows.into_iter().map(|(id, status, body)| Ok((id, answer(status, body)?))).collect()
    }

    /// Draws ids for turns, unique among all calls.
    pub async fn transcription_ids(&mut self, count: i64) -> Result<Vec<i64>> {
        match self {
            _ if count == 0 => Ok(Vec::new()),
            Self::Sqlite(tx) => {
                let first = tx.draw_turn_ids(count)?;
                Ok((first..first + count).collect())
            }
            Self::Postgres(tx) => {
                let query = sqlx::query_scalar("SELECT nextval('transcription_id') FROM generate_series(1, $1)");
                Ok(query.bind(count).fetch_all(&mut **tx).await?)
            }
        }
    }
}

/// Reads a stored answer.
fn answer(status: i64, body: String) -> Result<Answer> {
    let status = u16::try_from(status).map_err(|_| StoreError::Damaged("delivery"))?;
    Ok(Answer { status, body: body.into() })
}
