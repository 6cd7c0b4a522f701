//! Reads the list of calls, page by page.

use std::collections::HashMap;

use callscope_common::api::CallView;
use callscope_common::{CallId, CallStatus, Timestamp};

use crate::store::call_table::CallRow;
use crate::store::{Store, StoreError};

/// Which calls to list.
#[derive(Debug, Clone, Default)]
pub struct CallFilter {
    /// Only calls with this status.
    pub status: Option<CallStatus>,
    /// Only calls of this agent.
    pub agent_id: Option<String>,
    /// Only calls with this text in an identifier, the subject or the agent.
    pub q: Option<String>,
    /// Only calls that were first named at or after this time.
    pub since: Option<Timestamp>,
    /// Only calls that were first named before this one.
    pub before: Option<CallId>,
    /// Only these calls.
    pub among: Option<Vec<CallId>>,
    /// The most calls to return.
    pub limit: i64,
}

/// A page of calls.
#[derive(Debug)]
pub struct CallPage {
    /// The calls of this page, newest first.
    pub calls: Vec<CallView>,
    /// Whether there are more calls.
    pub has_more: bool,
}

/// The size of results and metadata after which a page takes no further call.
const MAX_PAGE_BYTES: i64 = 4 << 20;

fn size(text: &str) -> i64 {
    i64::try_from(text.len()).unwrap_or(i64::MAX)
}

/// The condition of a filter.
macro_rules! asked {
    () => {
        "merged_into IS NULL AND ($1 IS NULL OR status = $1) AND ($2 IS NULL OR agent_id = $2) \
         AND ($3 IS NULL OR lower(COALESCE(subject, '')) LIKE $3 ESCAPE '\\' OR lower(COALESCE(agent_id, '')) LIKE $3 ESCAPE '\\' \
              OR EXISTS (SELECT 1 FROM identifiers i WHERE i.call_id = calls.call_id AND lower(i.identifier) LIKE $3 ESCAPE '\\')) \
         AND ($4 IS NULL OR created_at >= $4) AND ($5 IS NULL OR call_id < $5) ORDER BY call_id DESC LIMIT $6"
    };
}

impl Store {
    /// Lists calls, newest first. A page may contain fewer than the limit although there are more; it then says so.
    ///
    /// # Errors
    /// Returns an error if the database does not answer or a stored row is damaged.
    pub async fn calls(&self, filter: &CallFilter) -> Result<CallPage, StoreError> {
        let pattern = filter.q.as_ref().map(|q| {
            let escaped = q.to_lowercase().replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
            format!("%{escaped}%")
        });
        let mut binds = vec![
            filter.status.map(CallStatus::as_str).into(),
            filter.agent_id.as_deref().into(),
            pattern.as_deref().into(),
            filter.since.map(Timestamp::as_micros).into(),
            filter.before.into(),
            (filter.limit + 1).into(),
        ];
        let sql = match &filter.among {
            None => concat!("SELECT * FROM calls WHERE ", asked!()),
            Some(among) => {
                binds.push(among.as_slice().into());
                concat!("SELECT * FROM calls WHERE call_id = ANY($7) AND ", asked!())
            }
        };
        let mut rows: Vec<CallRow> = self.rows(sql, &binds).await?;
        let limit = usize::try_from(filter.limit).unwrap_or(0);
        let fits = self.count_that_fit(&rows).await?.min(limit);
        let has_more = rows.len() > fits;
        rows.truncate(fits);
        Ok(CallPage { calls: self.views(rows).await?, has_more })
    }

    /// The number of calls that fit into one page, by the size of their results.
    async fn count_that_fit(&self, rows: &[CallRow]) -> Result<usize, StoreError> {
        let ids: Vec<CallId> = rows.iter().map(|row| row.call_id).collect();
        const SQL: &str =
            "SELECT call_id, CAST(octet_length(call_data) AS BIGINT) FROM results WHERE call_id = ANY($1)";
        let sizes: HashMap<CallId, i64> = self.rows(SQL, &[ids.as_slice().into()]).await?.into_iter().collect();
        let mut left = MAX_PAGE_BYTES;
        let fits = rows.iter().take_while(|row| {
            let had_room = left > 0;
            left -= sizes.get(&row.call_id).copied().unwrap_or(0) + row.metadata.as_ref().map_or(0, |json| size(json));
            had_room
        });
        Ok(fits.count())
    }

    /// Calls that ended, and last changed, before `end`, oldest first.
    ///
    /// # Errors
    /// Returns an error if the database does not answer.
    pub async fn ended_before(&self, end: Timestamp, limit: i64) -> Result<Vec<CallId>, StoreError> {
        const SQL: &str = "SELECT call_id FROM calls WHERE end_time IS NOT NULL AND updated_at < $1 AND end_time < $1 \
             AND merged_into IS NULL AND status IN ('completed', 'failed') ORDER BY end_time LIMIT $2";
        self.values(SQL, &[end.as_micros().into(), limit.into()]).await
    }
}
