//! Reading calls.

use std::fmt::Write as _;

use callscope_common::api::CallView;
use callscope_common::{CallId, CallStatus, Identifier, Seq, Timestamp};
use rusqlite::{OptionalExtension, Row};
use serde_json::json;

use super::ledger::{Call, Touched};
use super::{Store, StoreError, on_pool};

/// A row of `calls`.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(super) struct CallRow {
    pub call_id: CallId,
    pub call_sid: String,
    pub sid_made_up: bool,
    pub conversation_id: Option<String>,
    pub status: String,
    pub subject: Option<String>,
    pub agent_id: Option<String>,
    pub metadata: Option<String>,
    pub head: i64,
    pub turns: i64,
    pub live: bool,
    pub has_audio: bool,
    pub created_at: i64,
    pub updated_at: i64,
    pub end_time: Option<i64>,
    pub merged_into: Option<CallId>,
}

/// Selects the row of the call whose id is told, with its columns in the order of [`CallRow`].
macro_rules! call_row {
    ($id:literal) => {
        concat!(
            "SELECT call_id, call_sid, sid_made_up, conversation_id, status, subject, agent_id, metadata, head, turns, \
             live, has_audio, created_at, updated_at, end_time, merged_into FROM calls WHERE call_id = ",
            $id
        )
    };
}
pub(super) use call_row;

impl TryFrom<&Row<'_>> for CallRow {
    type Error = rusqlite::Error;

    fn try_from(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            call_id: row.get(0)?,
            call_sid: row.get(1)?,
            sid_made_up: row.get(2)?,
            conversation_id: row.get(3)?,
            status: row.get(4)?,
            subject: row.get(5)?,
            agent_id: row.get(6)?,
            metadata: row.get(7)?,
            head: row.get(8)?,
            turns: row.get(9)?,
            live: row.get(10)?,
            has_audio: row.get(11)?,
            created_at: row.get(12)?,
            updated_at: row.get(13)?,
            end_time: row.get(14)?,
            merged_into: row.get(15)?,
        })
    }
}

fn at(micros: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_micros(micros).ok_or(StoreError::Damaged("time"))
}

impl TryFrom<CallRow> for Call {
    type Error = StoreError;

    fn try_from(row: CallRow) -> Result<Self, StoreError> {
        Ok(Self {
            call_id: row.call_id,
            call_sid: row.call_sid,
            sid_made_up: row.sid_made_up,
            conversation_id: row.conversation_id,
            status: row.status.parse().map_err(|_| StoreError::Damaged("status"))?,
            subject: row.subject,
            agent_id: row.agent_id,
            metadata: row.metadata,
            head: row.head,
            turns: row.turns,
            live: row.live,
            has_audio: row.has_audio,
            created_at: at(row.created_at)?,
            updated_at: at(row.updated_at)?,
            end_time: row.end_time.map(at).transpose()?,
            result: None,
            is_new: false,
            touched: Touched::Nothing,
        })
    }
}

impl TryFrom<CallRow> for CallInfo {
    type Error = StoreError;

    fn try_from(row: CallRow) -> Result<Self, StoreError> {
        Ok(Self {
            call_id: row.call_id,
            status: row.status.parse().map_err(|_| StoreError::Damaged("status"))?,
            call_sid: row.call_sid,
            conversation_id: row.conversation_id,
            head: row.head,
        })
    }
}

/// What a subscription needs to know of a call.
#[derive(Debug, Clone)]
pub struct CallInfo {
    /// The call's own id.
    pub call_id: CallId,
    /// Its sid.
    pub call_sid: String,
    /// The provider's conversation id, once known.
    pub conversation_id: Option<String>,
    /// Where it stands.
    pub status: CallStatus,
    /// Seq of its newest event.
    pub head: Seq,
}

/// Which calls to list.
#[derive(Debug, Clone, Default)]
pub struct CallFilter {
    /// Only of this status.
    pub status: Option<CallStatus>,
    /// Only of this agent.
    pub agent_id: Option<String>,
    /// Only where an identifier, the subject or the agent holds this text.
    pub q: Option<String>,
    /// Only first heard of at or after this.
    pub since: Option<Timestamp>,
    /// Only those the server heard of before this one.
    pub before: Option<CallId>,
    /// Most calls to return.
    pub limit: i64,
}

/// Where a followed call stands.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Head {
    /// Which call.
    pub call_id: CallId,
    /// Seq of its newest event.
    pub head: Seq,
    /// Where it stands, as stored.
    pub status: String,
    /// The surviving call, where this record was absorbed.
    pub merged_into: Option<CallId>,
}

impl Store {
    /// The call that `id` names, absorbed records included: their id leads to the surviving call.
    ///
    /// # Errors
    /// The database's.
    pub async fn resolve(&self, id: &Identifier) -> Result<Option<CallInfo>, StoreError> {
        self.resolve_row(id).await?.map(CallInfo::try_from).transpose()
    }

    /// The call of that id; of an absorbed record, the surviving call.
    ///
    /// # Errors
    /// The database's.
    pub async fn call_info(&self, call_id: CallId) -> Result<Option<CallInfo>, StoreError> {
        self.row_by_id(call_id).await?.map(CallInfo::try_from).transpose()
    }

    async fn resolve_row(&self, id: &Identifier) -> Result<Option<CallRow>, StoreError> {
        const ROW: &str = call_row!("(SELECT call_id FROM identifiers WHERE identifier = $1)");
        let row: Option<CallRow> = match self {
            Self::Sqlite { quick, .. } => {
                quick
                    .read(|connection| {
                        connection.prepare_cached(ROW)?.query_row([id.as_str()], |row| row.try_into()).optional()
                    })
                    .await?
            }
            Self::Postgres { readers, .. } => sqlx::query_as(ROW).bind(id.as_str()).fetch_optional(readers).await?,
        };
        match (row, id.as_call_id()) {
            (None, Some(call_id)) => self.row_by_id(call_id).await,
            (row, _) => Ok(row),
        }
    }

    async fn row_by_id(&self, call_id: CallId) -> Result<Option<CallRow>, StoreError> {
        const ROW: &str = call_row!("(SELECT COALESCE(merged_into, call_id) FROM calls WHERE call_id = $1)");
        Ok(match self {
            Self::Sqlite { quick, .. } => {
                quick
                    .read(|connection| {
                        connection.prepare_cached(ROW)?.query_row([call_id], |row| row.try_into()).optional()
                    })
                    .await?
            }
            Self::Postgres { readers, .. } => sqlx::query_as(ROW).bind(call_id).fetch_optional(readers).await?,
        })
    }

    /// The call that `id` names, whole.
    ///
    /// # Errors
    /// The database's.
    pub async fn call(&self, id: &Identifier) -> Result<Option<CallView>, StoreError> {
        let Some(row) = self.resolve_row(id).await? else { return Ok(None) };
        Ok(self.views(vec![row]).await?.pop())
    }

    /// Calls, newest first.
    ///
    /// # Errors
    /// The database's.
    pub async fn calls(&self, filter: &CallFilter) -> Result<Vec<CallView>, StoreError> {
        let pattern = filter.q.as_ref().map(|q| {
            let escaped = q.to_lowercase().replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
            format!("%{escaped}%")
        });
        let rows: Vec<CallRow> = on_pool!(self, pool => {
            sqlx::query_as(
                "SELECT * FROM calls WHERE merged_into IS NULL \
                 AND ($1 IS NULL OR status = $1) AND ($2 IS NULL OR agent_id = $2) \
                 AND ($3 IS NULL OR lower(COALESCE(subject, '')) LIKE $3 ESCAPE '\\' OR lower(COALESCE(agent_id, '')) LIKE $3 ESCAPE '\\' \
                      OR EXISTS (SELECT 1 FROM identifiers i WHERE i.call_id = calls.call_id AND lower(i.identifier) LIKE $3 ESCAPE '\\')) \
                 AND ($4 IS NULL OR created_at >= $4) AND ($5 IS NULL OR call_id < $5) \
                 ORDER BY call_id DESC LIMIT $6",
            )
            .bind(filter.status.map(CallStatus::as_str))
            .bind(filter.agent_id.as_deref())
            .bind(pattern)
            .bind(filter.since.map(Timestamp::as_micros))
            .bind(filter.before)
            .bind(filter.limit)
            .fetch_all(pool).await?
        });
        self.views(rows).await
    }

    async fn views(&self, rows: Vec<CallRow>) -> Result<Vec<CallView>, StoreError> {
        let ids: Vec<CallId> = rows.iter().map(|row| row.call_id).collect();
        let names: Vec<(CallId, String)> = match self {
            Self::Sqlite { readers, .. } => sqlx::query_as(
                "SELECT call_id, identifier FROM identifiers WHERE call_id IN (SELECT unhex(value) FROM json_each($1)) \
                 ORDER BY identifier",
            )
            .bind(hex_list(&ids))
            .fetch_all(readers)
            .await?,
            Self::Postgres { readers: pool, .. } => {
                sqlx::query_as(
                    "SELECT call_id, identifier FROM identifiers WHERE call_id = ANY($1) ORDER BY identifier",
                )
                .bind(&ids)
                .fetch_all(pool)
                .await?
            }
        };
        let results: Vec<(CallId, String)> =
            match self {
                Self::Sqlite { readers, .. } => sqlx::query_as(
                    "SELECT call_id, call_data FROM results WHERE call_id IN (SELECT unhex(value) FROM json_each($1))",
                )
                .bind(hex_list(&ids))
                .fetch_all(readers)
                .await?,
                Self::Postgres { readers: pool, .. } => {
                    sqlx::query_as("SELECT call_id, call_data FROM results WHERE call_id = ANY($1)")
                        .bind(&ids)
                        .fetch_all(pool)
                        .await?
                }
            };
        rows.into_iter().map(|row| view(row, &names, &results)).collect()
    }

    /// Where these calls stand. A deleted call is missing.
    ///
    /// # Errors
    /// The database's.
    pub async fn heads(&self, ids: &[CallId]) -> Result<Vec<Head>, StoreError> {
        Ok(match self {
            Self::Sqlite { readers, .. } => sqlx::query_as(
                "SELECT call_id, head, status, merged_into FROM calls WHERE call_id IN (SELECT unhex(value) FROM json_each($1))",
            )
            .bind(hex_list(ids))
            .fetch_all(readers)
            .await?,
            Self::Postgres { readers: pool, .. } => {
                sqlx::query_as("SELECT call_id, head, status, merged_into FROM calls WHERE call_id = ANY($1)")
                    .bind(ids)
                    .fetch_all(pool)
                    .await?
            }
        })
    }

    /// Which of these identifiers name a call.
    ///
    /// # Errors
    /// The database's.
    pub async fn known(&self, ids: &[Identifier]) -> Result<Vec<Identifier>, StoreError> {
        let names: Vec<&str> = ids.iter().map(Identifier::as_str).collect();
        let known: Vec<String> = match self {
            Self::Sqlite { readers, .. } => {
                sqlx::query_scalar(
                    "SELECT identifier FROM identifiers WHERE identifier IN (SELECT value FROM json_each($1))",
                )
                .bind(json!(names).to_string())
                .fetch_all(readers)
                .await?
            }
            Self::Postgres { readers: pool, .. } => {
                sqlx::query_scalar("SELECT identifier FROM identifiers WHERE identifier = ANY($1)")
                    .bind(&names)
                    .fetch_all(pool)
                    .await?
            }
        };
        Ok(known.iter().filter_map(|name| Identifier::parse(name).ok()).collect())
    }

    /// Whether one of `names` names the call.
    ///
    /// # Errors
    /// The database's.
    pub async fn is_named(&self, call_id: CallId, names: &[Identifier]) -> Result<bool, StoreError> {
        if names.iter().any(|name| name.as_call_id() == Some(call_id)) {
            return Ok(true);
        }
        let all: Vec<String> = on_pool!(self, pool => {
            sqlx::query_scalar("SELECT identifier FROM identifiers WHERE call_id = $1").bind(call_id).fetch_all(pool).await?
        });
        Ok(all.iter().any(|known| names.iter().any(|name| name.as_str() == known)))
    }

    /// The provider's transcript of a call, JSON as it came.
    ///
    /// # Errors
    /// The database's.
    pub async fn provider_transcript(&self, call_id: CallId) -> Result<Option<String>, StoreError> {
        let found: Option<Option<String>> = on_pool!(self, pool => {
            sqlx::query_scalar("SELECT transcript FROM results WHERE call_id = $1").bind(call_id).fetch_optional(pool).await?
        });
        Ok(found.flatten())
    }

    /// A call's recording: its type and its bytes.
    ///
    /// # Errors
    /// The database's.
    pub async fn audio(&self, call_id: CallId) -> Result<Option<(String, Vec<u8>)>, StoreError> {
        Ok(on_pool!(self, pool => {
            sqlx::query_as("SELECT content_type, bytes FROM audio WHERE call_id = $1").bind(call_id).fetch_optional(pool).await?
        }))
    }

    /// How many calls there are of each status.
    ///
    /// # Errors
    /// The database's.
    pub async fn count_by_status(&self) -> Result<Vec<(String, i64)>, StoreError> {
        Ok(on_pool!(self, pool => {
            sqlx::query_as("SELECT status, COUNT(*) FROM calls WHERE merged_into IS NULL GROUP BY status ORDER BY status")
                .fetch_all(pool).await?
        }))
    }

    /// Calls that ended before `end`, oldest first.
    ///
    /// # Errors
    /// The database's.
    pub async fn ended_before(&self, end: Timestamp, limit: i64) -> Result<Vec<CallId>, StoreError> {
        Ok(on_pool!(self, pool => {
            sqlx::query_scalar(
                "SELECT call_id FROM calls WHERE end_time IS NOT NULL AND updated_at < $1 AND end_time < $1 \
                 AND merged_into IS NULL AND status IN ('completed', 'failed') ORDER BY end_time LIMIT $2",
            )
            .bind(end.as_micros()).bind(limit).fetch_all(pool).await?
        }))
    }
}

fn view(row: CallRow, names: &[(CallId, String)], results: &[(CallId, String)]) -> Result<CallView, StoreError> {
    let own = |(call_id, _): &&(CallId, String)| *call_id == row.call_id;
    let call_data = results.iter().find(own).map(|(_, json)| serde_json::from_str(json)).transpose();
    let result: Option<callscope_common::CallData> = call_data.map_err(|_| StoreError::Damaged("result"))?;
    Ok(CallView {
        identifiers: names.iter().filter(own).map(|(_, name)| name.clone()).collect(),
        call_start_time: result.as_ref().and_then(|result| result.call_start_time),
        duration_seconds: result.as_ref().and_then(|result| result.duration_seconds),
        call_data: result,
        metadata: row
            .metadata
            .map(serde_json::value::RawValue::from_string)
            .transpose()
            .map_err(|_| StoreError::Damaged("metadata"))?,
        call_id: row.call_id,
        call_sid: row.call_sid,
        conversation_id: row.conversation_id,
        status: row.status.parse().map_err(|_| StoreError::Damaged("status"))?,
        subject: row.subject,
        agent_id: row.agent_id,
        created_at: at(row.created_at)?,
        updated_at: at(row.updated_at)?,
        call_end_time: row.end_time.map(at).transpose()?,
        seq: row.head,
        turns: row.turns,
        has_audio: row.has_audio,
        head: row.head,
        last_event_at: None,
        link: None,
    })
}

/// Ids for `json_each`, which SQLite turns into bytes with `unhex`.
fn hex_list(ids: &[CallId]) -> String {
    let hex = |id: &CallId| {
        id.as_bytes().iter().fold(String::with_capacity(32), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    };
    json!(ids.iter().map(hex).collect::<Vec<_>>()).to_string()
}
