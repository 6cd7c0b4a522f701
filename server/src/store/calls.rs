//! Reading calls.

use std::collections::HashMap;
use std::fmt::Write as _;

use callscope_common::api::CallView;
use callscope_common::{CallId, CallStatus, Identifier, Seq, Timestamp};
use rusqlite::{OptionalExtension, Row};
use serde_json::json;

use super::{Store, StoreError, on_pool};
use crate::log::{Call, RowChange};

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

/// The columns of the call `c`, in the order of [`CallRow`].
macro_rules! columns {
    () => {
        "c.call_id, c.call_sid, c.sid_made_up, c.conversation_id, c.status, c.subject, c.agent_id, c.metadata, c.head, c.turns, \
         c.live, c.has_audio, c.created_at, c.updated_at, c.end_time, c.merged_into"
    };
}

/// Selects the row of the call whose id is told.
macro_rules! call_row {
    ($id:literal) => {
        concat!("SELECT ", $crate::store::calls::columns!(), " FROM calls c WHERE c.call_id = ", $id)
    };
}
pub(super) use call_row;
pub(super) use columns;

/// A call, and how a name led to it.
#[derive(sqlx::FromRow)]
struct Resolved {
    #[sqlx(flatten)]
    row: CallRow,
    #[sqlx(rename = "moved")]
    is_moved: bool,
}

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
            row_change: RowChange::None,
        })
    }
}

impl TryFrom<Resolved> for CallInfo {
    type Error = StoreError;

    fn try_from(Resolved { row, is_moved }: Resolved) -> Result<Self, StoreError> {
        Ok(Self {
            is_moved,
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
    /// Whether the name that led here named another record before, which this call absorbed: then a seq alone may be of that record.
    pub is_moved: bool,
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
    /// Only these.
    pub among: Option<Vec<CallId>>,
    /// Most calls to return.
    pub limit: i64,
}

/// A page of calls.
#[derive(Debug)]
pub struct CallPage {
    /// Newest first.
    pub calls: Vec<CallView>,
    /// Whether there are more behind them.
    pub has_more: bool,
}

/// No further call is put into a page whose results and metadata have so many bytes.
const MAX_PAGE_BYTES: i64 = 4 << 20;

fn size(text: &str) -> i64 {
    i64::try_from(text.len()).unwrap_or(i64::MAX)
}

/// What a filter asks of a call.
macro_rules! asked {
    () => {
        "merged_into IS NULL AND ($1 IS NULL OR status = $1) AND ($2 IS NULL OR agent_id = $2) \
         AND ($3 IS NULL OR lower(COALESCE(subject, '')) LIKE $3 ESCAPE '\\' OR lower(COALESCE(agent_id, '')) LIKE $3 ESCAPE '\\' \
              OR EXISTS (SELECT 1 FROM identifiers i WHERE i.call_id = calls.call_id AND lower(i.identifier) LIKE $3 ESCAPE '\\')) \
         AND ($4 IS NULL OR created_at >= $4) AND ($5 IS NULL OR call_id < $5) ORDER BY call_id DESC LIMIT $6"
    };
}

/// Where a followed call stands.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct CallHead {
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
        self.resolved(id).await?.map(CallInfo::try_from).transpose()
    }

    /// The call of that id; of an absorbed record, the surviving call.
    ///
    /// # Errors
    /// The database's.
    pub async fn call_info(&self, call_id: CallId) -> Result<Option<CallInfo>, StoreError> {
        let row = self.row_by_id(call_id).await?;
        row.map(|row| Resolved { is_moved: row.call_id != call_id, row }).map(CallInfo::try_from).transpose()
    }

    /// A `call_id` wins over identifiers, in this order everywhere.
    async fn resolved(&self, id: &Identifier) -> Result<Option<Resolved>, StoreError> {
        if let Some(call_id) = id.as_call_id()
            && let Some(row) = self.row_by_id(call_id).await?
        {
            return Ok(Some(Resolved { is_moved: row.call_id != call_id, row }));
        }
        const ROW: &str = concat!(
            "SELECT ",
            columns!(),
            ", i.moved FROM identifiers i JOIN calls c ON c.call_id = i.call_id WHERE i.identifier = $1"
        );
        Ok(match self {
            Self::Sqlite { inline, .. } => {
                inline
                    .read(|connection| {
                        let mut statement = connection.prepare_cached(ROW)?;
                        let resolved = |row: &Row<'_>| Ok(Resolved { row: row.try_into()?, is_moved: row.get(16)? });
                        statement.query_row([id.as_str()], resolved).optional()
                    })
                    .await?
            }
            Self::Postgres { readers, .. } => sqlx::query_as(ROW).bind(id.as_str()).fetch_optional(readers).await?,
        })
    }

    async fn row_by_id(&self, call_id: CallId) -> Result<Option<CallRow>, StoreError> {
        const ROW: &str = call_row!("(SELECT COALESCE(merged_into, call_id) FROM calls WHERE call_id = $1)");
        Ok(match self {
            Self::Sqlite { inline, .. } => {
                inline
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
        let Some(resolved) = self.resolved(id).await? else { return Ok(None) };
        Ok(self.views(vec![resolved.row]).await?.pop())
    }

    /// Those of the calls in `among` that `id` names. What it costs does not tell whether another call has that name.
    ///
    /// # Errors
    /// The database's.
    pub async fn call_among(&self, id: &Identifier, among: &[CallId]) -> Result<Option<CallView>, StoreError> {
        let named: Option<CallId> = match self {
            Self::Sqlite { readers, .. } => {
                sqlx::query_scalar(
                    "SELECT call_id FROM identifiers WHERE identifier = $1 \
                     AND call_id IN (SELECT unhex(value) FROM json_each($2))",
                )
                .bind(id.as_str())
                .bind(hex_list(among))
                .fetch_optional(readers)
                .await?
            }
            Self::Postgres { readers, .. } => {
                sqlx::query_scalar("SELECT call_id FROM identifiers WHERE identifier = $1 AND call_id = ANY($2)")
                    .bind(id.as_str())
                    .bind(among)
                    .fetch_optional(readers)
                    .await?
            }
        };
        let by_id = match id.as_call_id() {
            // Of a record that was absorbed, the call that absorbed it.
            Some(call_id) => self.row_by_id(call_id).await?.map(|row| row.call_id).filter(|id| among.contains(id)),
            None => None,
        };
        let Some(call_id) = by_id.or(named) else { return Ok(None) };
        let Some(row) = self.row_by_id(call_id).await? else { return Ok(None) };
        Ok(self.views(vec![row]).await?.pop())
    }

    /// The calls that one of these identifiers names.
    ///
    /// # Errors
    /// The database's.
    pub async fn calls_named(&self, identifiers: &[Identifier]) -> Result<Vec<CallId>, StoreError> {
        let names: Vec<&str> = identifiers.iter().map(Identifier::as_str).collect();
        let ids: Vec<CallId> = identifiers.iter().filter_map(Identifier::as_call_id).collect();
        Ok(match self {
            Self::Sqlite { readers, .. } => {
                sqlx::query_scalar(
                    "SELECT call_id FROM identifiers WHERE identifier IN (SELECT value FROM json_each($1)) UNION \
                     SELECT COALESCE(merged_into, call_id) FROM calls WHERE call_id IN (SELECT unhex(value) FROM json_each($2))",
                )
                .bind(json!(names).to_string())
                .bind(hex_list(&ids))
                .fetch_all(readers)
                .await?
            }
            Self::Postgres { readers, .. } => {
                sqlx::query_scalar(
                    "SELECT call_id FROM identifiers WHERE identifier = ANY($1) UNION \
                     SELECT COALESCE(merged_into, call_id) FROM calls WHERE call_id = ANY($2)",
                )
                .bind(&names)
                .bind(&ids)
                .fetch_all(readers)
                .await?
            }
        })
    }

    /// Calls, newest first. A page may hold fewer than asked for while there are more: then it says so.
    ///
    /// # Errors
    /// The database's.
    pub async fn calls(&self, filter: &CallFilter) -> Result<CallPage, StoreError> {
        let pattern = filter.q.as_ref().map(|q| {
            let escaped = q.to_lowercase().replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
            format!("%{escaped}%")
        });
        macro_rules! ask {
            ($sql:expr) => {
                sqlx::query_as($sql)
                    .bind(filter.status.map(CallStatus::as_str))
                    .bind(filter.agent_id.as_deref())
                    .bind(&pattern)
                    .bind(filter.since.map(Timestamp::as_micros))
                    .bind(filter.before)
                    .bind(filter.limit + 1)
            };
        }
        let mut rows: Vec<CallRow> = match (&filter.among, self) {
            (None, _) => on_pool!(self, pool => {
                ask!(concat!("SELECT * FROM calls WHERE ", asked!())).fetch_all(pool).await?
            }),
            (Some(among), Self::Sqlite { readers, .. }) => {
                let sql = concat!(
                    "SELECT * FROM calls WHERE call_id IN (SELECT unhex(value) FROM json_each($7)) AND ",
                    asked!()
                );
                ask!(sql).bind(hex_list(among)).fetch_all(readers).await?
            }
            (Some(among), Self::Postgres { readers, .. }) => {
                let sql = concat!("SELECT * FROM calls WHERE call_id = ANY($7) AND ", asked!());
                ask!(sql).bind(among).fetch_all(readers).await?
            }
        };
        let limit = usize::try_from(filter.limit).unwrap_or(0);
        let fits = self.count_that_fit(&rows).await?.min(limit);
        let has_more = rows.len() > fits;
        rows.truncate(fits);
        Ok(CallPage { calls: self.views(rows).await?, has_more })
    }

    /// How many of these calls fit into one answer: results may be large.
    async fn count_that_fit(&self, rows: &[CallRow]) -> Result<usize, StoreError> {
        let ids: Vec<CallId> = rows.iter().map(|row| row.call_id).collect();
        let sizes: Vec<(CallId, i64)> = match self {
            Self::Sqlite { readers, .. } => {
                sqlx::query_as(
                    "SELECT call_id, CAST(octet_length(call_data) AS BIGINT) FROM results \
                     WHERE call_id IN (SELECT unhex(value) FROM json_each($1))",
                )
                .bind(hex_list(&ids))
                .fetch_all(readers)
                .await?
            }
            Self::Postgres { readers, .. } => {
                sqlx::query_as(
                    "SELECT call_id, CAST(octet_length(call_data) AS BIGINT) FROM results WHERE call_id = ANY($1)",
                )
                .bind(&ids)
                .fetch_all(readers)
                .await?
            }
        };
        let sizes: HashMap<CallId, i64> = sizes.into_iter().collect();
        let mut left = MAX_PAGE_BYTES;
        let fits = rows.iter().take_while(|row| {
            let had_room = left > 0;
            left -= sizes.get(&row.call_id).copied().unwrap_or(0) + row.metadata.as_ref().map_or(0, |json| size(json));
            had_room
        });
        Ok(fits.count())
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
        let newest: HashMap<CallId, i64> = self.newest_events(&ids).await?.into_iter().collect();
        let views = rows.into_iter().map(|row| {
            let last = newest.get(&row.call_id).copied().map(at).transpose()?;
            Ok(CallView { last_event_at: last, ..view(row, &names, &results)? })
        });
        views.collect()
    }

    /// When the newest event of each of these calls was appended, in microseconds.
    async fn newest_events(&self, ids: &[CallId]) -> Result<Vec<(CallId, i64)>, StoreError> {
        Ok(match self {
            Self::Sqlite { readers, .. } => sqlx::query_as(
                "SELECT c.call_id, e.created_at FROM calls c JOIN events e ON e.call_id = c.call_id AND e.seq = c.head \
                     WHERE c.call_id IN (SELECT unhex(value) FROM json_each($1))",
            )
            .bind(hex_list(ids))
            .fetch_all(readers)
            .await?,
            Self::Postgres { readers, .. } => sqlx::query_as(
                "SELECT c.call_id, e.created_at FROM calls c JOIN events e ON e.call_id = c.call_id AND e.seq = c.head \
                     WHERE c.call_id = ANY($1)",
            )
            .bind(ids)
            .fetch_all(readers)
            .await?,
        })
    }

    /// Where these calls stand. A deleted call is missing.
    ///
    /// # Errors
    /// The database's.
    pub async fn heads(&self, ids: &[CallId]) -> Result<Vec<CallHead>, StoreError> {
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
    pub async fn existing_identifiers(&self, ids: &[Identifier]) -> Result<Vec<Identifier>, StoreError> {
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
        Ok(self.calls_named(names).await?.contains(&call_id))
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
