//! Reading logs.

use callscope_common::event::EventKind;
use callscope_common::{CallId, Seq};

use super::{Store, StoreError};

/// An event as stored.
#[derive(Debug, Clone)]
pub struct StoredEvent {
    /// Its place in the log.
    pub seq: Seq,
    /// What it is.
    pub kind: EventKind,
    /// The WebSocket message.
    pub frame: String,
}

impl Store {
    /// The events after `after`, at most `limit`, in order.
    ///
    /// # Errors
    /// The database's.
    pub async fn events(&self, call_id: CallId, after: Seq, limit: i64) -> Result<Vec<StoredEvent>, StoreError> {
        const ROWS: &str = "SELECT seq, kind, frame FROM events WHERE call_id = $1 AND seq > $2 ORDER BY seq LIMIT $3";
        let rows: Vec<(Seq, String, String)> = match self {
            Self::Sqlite { quick, .. } => {
                quick
                    .read(|connection| {
                        let mut statement = connection.prepare_cached(ROWS)?;
                        let rows = statement.query_map((call_id, after, limit), |row| row.try_into())?;
                        rows.collect()
                    })
                    .await?
            }
            Self::Postgres { readers, .. } => {
                sqlx::query_as(ROWS).bind(call_id).bind(after).bind(limit).fetch_all(readers).await?
            }
        };
        rows.into_iter()
            .map(|(seq, kind, frame)| {
                Ok(StoredEvent { seq, kind: kind.parse().map_err(|_| StoreError::Damaged("event"))?, frame })
            })
            .collect()
    }
}
