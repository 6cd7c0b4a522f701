//! Reads calls: by a name, whole, and the heads of those that are followed.

mod list;
mod names;

pub use list::{CallFilter, CallPage};

use std::collections::HashMap;

use callscope_common::api::CallView;
use callscope_common::{CallData, CallId, CallStatus, Identifier, Seq};
use serde_json::value::RawValue;

use super::call_table::{CallRow, at, columns};
use super::{Store, StoreError};

/// A call, and whether the name that led to it named another record before.
#[derive(sqlx::FromRow)]
struct Resolved {
    moved: bool,
    #[sqlx(flatten)]
    row: CallRow,
}

impl TryFrom<&rusqlite::Row<'_>> for Resolved {
    type Error = rusqlite::Error;

    fn try_from(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { row: row.try_into()?, moved: row.get("moved")? })
    }
}

/// What a subscription needs to know of a call.
#[derive(Debug, Clone)]
pub struct CallInfo {
    /// Whether the name named another record before, which this call absorbed. A seq alone may then be of that record.
    pub is_moved: bool,
    /// The id of the call.
    pub call_id: CallId,
    /// The sid of the call.
    pub call_sid: String,
    /// The provider's conversation id, once it is known.
    pub conversation_id: Option<String>,
    /// The status of the call.
    pub status: CallStatus,
    /// The seq of the newest event.
    pub head: Seq,
}

impl TryFrom<Resolved> for CallInfo {
    type Error = StoreError;

    fn try_from(Resolved { row, moved }: Resolved) -> Result<Self, StoreError> {
        Ok(Self {
            is_moved: moved,
            call_id: row.call_id,
            status: row.status.parse().map_err(|_| StoreError::Damaged("status"))?,
            call_sid: row.call_sid,
            conversation_id: row.conversation_id,
            head: row.head,
        })
    }
}

/// The head of a call's log.
#[derive(Debug, Clone)]
pub struct CallHead {
    /// The id of the record.
    pub call_id: CallId,
    /// The seq of the newest event.
    pub head: Seq,
    /// Whether the call is over.
    pub has_ended: bool,
    /// The call that absorbed this record.
    pub merged_into: Option<CallId>,
}

impl Store {
    /// The call that `id` names. The id of an absorbed record leads to the call that absorbed it.
    ///
    /// # Errors
    /// Returns an error if the database does not answer or a stored row is damaged.
    pub async fn resolve(&self, id: &Identifier) -> Result<Option<CallInfo>, StoreError> {
        self.resolved(id).await?.map(CallInfo::try_from).transpose()
    }

    /// The call with this id, or the call that absorbed it.
    ///
    /// # Errors
    /// Returns an error if the database does not answer or a stored row is damaged.
    pub async fn call_info(&self, call_id: CallId) -> Result<Option<CallInfo>, StoreError> {
        self.resolved_id(call_id).await?.map(CallInfo::try_from).transpose()
    }

    /// A `call_id` wins over identifiers, as it does in the rules of the log.
    async fn resolved(&self, id: &Identifier) -> Result<Option<Resolved>, StoreError> {
        if let Some(call_id) = id.as_call_id()
            && let Some(resolved) = self.resolved_id(call_id).await?
        {
            return Ok(Some(resolved));
        }
        const ROW: &str = concat!(
            "SELECT ",
            columns!(),
            ", i.moved FROM identifiers i JOIN calls c ON c.call_id = i.call_id WHERE i.identifier = $1"
        );
        self.row_inline(ROW, &[id.as_str().into()]).await
    }

    async fn resolved_id(&self, call_id: CallId) -> Result<Option<Resolved>, StoreError> {
        const ROW: &str = concat!(
            "SELECT ",
            columns!(),
            ", c.call_id <> $1 AS moved FROM calls c \
             WHERE c.call_id = (SELECT COALESCE(merged_into, call_id) FROM calls WHERE call_id = $1)"
        );
        self.row_inline(ROW, &[call_id.into()]).await
    }

    /// The whole call that `id` names.
    ///
    /// # Errors
    /// Returns an error if the database does not answer or a stored row is damaged.
    pub async fn call(&self, id: &Identifier) -> Result<Option<CallView>, StoreError> {
        let Some(resolved) = self.resolved(id).await? else { return Ok(None) };
        Ok(self.views(vec![resolved.row]).await?.pop())
    }

    async fn views(&self, rows: Vec<CallRow>) -> Result<Vec<CallView>, StoreError> {
        let ids: Vec<CallId> = rows.iter().map(|row| row.call_id).collect();
        const NAMES: &str = "SELECT call_id, identifier FROM identifiers WHERE call_id = ANY($1) ORDER BY identifier";
        const RESULTS: &str = "SELECT call_id, call_data FROM results WHERE call_id = ANY($1)";
        const NEWEST: &str = "SELECT c.call_id, e.created_at FROM calls c \
             JOIN events e ON e.call_id = c.call_id AND e.seq = c.head WHERE c.call_id = ANY($1)";
        let binds = [ids.as_slice().into()];
        let names: Vec<(CallId, String)> = self.rows(NAMES, &binds).await?;
        let results: Vec<(CallId, String)> = self.rows(RESULTS, &binds).await?;
        let newest: Vec<(CallId, i64)> = self.rows(NEWEST, &binds).await?;
        let newest: HashMap<CallId, i64> = newest.into_iter().collect();
        let views = rows.into_iter().map(|row| {
            let last_event_at = newest.get(&row.call_id).copied().map(at).transpose()?;
            Ok(CallView { last_event_at, ..view(row, &names, &results)? })
        });
        views.collect()
    }

    /// The heads of these calls. A call that was deleted is missing.
    ///
    /// # Errors
    /// Returns an error if the database does not answer.
    pub async fn heads(&self, ids: &[CallId]) -> Result<Vec<CallHead>, StoreError> {
        type Row = (CallId, Seq, String, Option<CallId>);
        const SQL: &str = "SELECT call_id, head, status, merged_into FROM calls WHERE call_id = ANY($1)";
        let rows: Vec<Row> = self.rows(SQL, &[ids.into()]).await?;
        let head = |(call_id, head, status, merged_into): Row| {
            let has_ended = status.parse().is_ok_and(CallStatus::is_ended);
            CallHead { call_id, head, has_ended, merged_into }
        };
        Ok(rows.into_iter().map(head).collect())
    }

    /// The provider's transcript of a call, JSON as received.
    ///
    /// # Errors
    /// Returns an error if the database does not answer.
    pub async fn provider_transcript(&self, call_id: CallId) -> Result<Option<String>, StoreError> {
        const SQL: &str = "SELECT transcript FROM results WHERE call_id = $1";
        Ok(self.values(SQL, &[call_id.into()]).await?.pop().flatten())
    }

    /// The number of calls of each status.
    ///
    /// # Errors
    /// Returns an error if the database does not answer.
    pub async fn count_by_status(&self) -> Result<Vec<(String, i64)>, StoreError> {
        const SQL: &str =
            "SELECT status, COUNT(*) FROM calls WHERE merged_into IS NULL GROUP BY status ORDER BY status";
        self.rows(SQL, &[]).await
    }
}

fn view(row: CallRow, names: &[(CallId, String)], results: &[(CallId, String)]) -> Result<CallView, StoreError> {
    let own = |(call_id, _): &&(CallId, String)| *call_id == row.call_id;
    let call_data = results.iter().find(own).map(|(_, json)| serde_json::from_str(json)).transpose();
    let result: Option<CallData> = call_data.map_err(|_| StoreError::Damaged("result"))?;
    Ok(CallView {
        identifiers: names.iter().filter(own).map(|(_, name)| name.clone()).collect(),
        call_start_time: result.as_ref().and_then(|result| result.call_start_time),
        duration_seconds: result.as_ref().and_then(|result| result.duration_seconds),
        call_data: result,
        metadata: row.metadata.map(RawValue::from_string).transpose().map_err(|_| StoreError::Damaged("metadata"))?,
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
