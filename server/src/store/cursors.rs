//! Finds where a reader starts in a log, and checks that its cursor belongs to that log.

use callscope_common::protocol::SubscribeFrom;
use callscope_common::{CallId, Cursor, Seq};
use rusqlite::OptionalExtension;

use super::calls::CallInfo;
use super::postgres::Postgres;
use super::sqlite::Sqlite;
use super::{Engine, Store, StoreError};

/// Why a cursor does not belong to a log, in words for the client that sent it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}; begin from the start")]
pub struct InvalidCursor(pub String);

impl InvalidCursor {
    fn new<T>(problem: impl Into<String>) -> Result<T, Self> {
        Err(Self(problem.into()))
    }
}

impl Store {
    /// The cursor after an event, as its message states it; `None` if the log has no such event.
    ///
    /// # Errors
    /// Returns an error if the database does not answer or a stored row is damaged.
    pub async fn cursor_at(&self, call_id: CallId, seq: Seq) -> Result<Option<Cursor>, StoreError> {
        if seq == 0 {
            return Ok(Some(Cursor::start(call_id)));
        }
        // The cursor is at the end of the message, and a message may be long.
        const TAIL: &str = "SELECT right(frame, 64) FROM events WHERE call_id = $1 AND seq = $2";
        const FRAME: &str = "SELECT frame FROM events WHERE call_id = $1 AND seq = $2";
        let stated = |frame: &str| Cursor::of_message(frame).map(ToOwned::to_owned);
        let found: Option<Option<String>> = match &self.0 {
            Engine::Sqlite(Sqlite { inline, .. }) => {
                inline
                    .read(|connection| {
                        let mut statement = connection.prepare_cached(FRAME)?;
                        // The frame is searched in SQLite's memory, without a copy.
                        let cursor = statement.query_row((call_id, seq), |row| Ok(stated(row.get_ref(0)?.as_str()?)));
                        cursor.optional()
                    })
                    .await?
            }
            Engine::Postgres(Postgres { readers, .. }) => {
                let tail: Option<String> =
                    sqlx::query_scalar(TAIL).bind(call_id).bind(seq).fetch_optional(readers).await?;
                tail.map(|tail| stated(&tail))
            }
        };
        Ok(match found {
            None => None,
            // Versions before the tags stored events without a cursor.
            Some(None) => Some(Cursor::behind(call_id, seq, None)),
            Some(Some(cursor)) => Some(cursor.parse().map_err(|_| StoreError::Damaged("event"))?),
        })
    }

    /// The seq after which a reader starts. `call_id` is the record that a seq belongs to, if the reader states it. The
    /// inner error says that the cursor belongs to another record, or to an event that is not in the log.
    ///
    /// # Errors
    /// Returns an error if the database does not answer or a stored row is damaged.
    pub async fn start_seq(
        &self,
        info: &CallInfo,
        from: &SubscribeFrom,
        call_id: Option<CallId>,
    ) -> Result<Result<Seq, InvalidCursor>, StoreError> {
        if call_id.is_some_and(|call_id| call_id != info.call_id) {
            return Ok(InvalidCursor::new("the cursor belongs to another record of the call"));
        }
        Ok(match from {
            SubscribeFrom::Start => Ok(0),
            SubscribeFrom::Live => Ok(info.head),
            SubscribeFrom::After(after) => check_seq(*after, info, call_id.is_some()),
            SubscribeFrom::Behind(cursor) => match check_text(cursor, info) {
                Ok(cursor) if self.cursor_at(info.call_id, cursor.seq()).await? == Some(cursor) => Ok(cursor.seq()),
                Ok(_) => InvalidCursor::new("the event of the cursor is not in the log"),
                Err(invalid) => Err(invalid),
            },
        })
    }
}

fn check_seq(after: Seq, info: &CallInfo, has_call_id: bool) -> Result<Seq, InvalidCursor> {
    if after > info.head {
        return InvalidCursor::new(format!("the cursor {after} is beyond the head {}", info.head));
    }
    if after > 0 && info.is_moved && !has_call_id {
        return InvalidCursor::new(
            "a merge moved this name from another record, and a number without `call_id` may belong to either of them",
        );
    }
    Ok(after)
}

fn check_text(text: &str, info: &CallInfo) -> Result<Cursor, InvalidCursor> {
    let Ok(cursor) = text.parse::<Cursor>() else { return InvalidCursor::new("this is not a cursor") };
    if !cursor.is_of(info.call_id) {
        return InvalidCursor::new("the cursor belongs to another record of the call");
    }
    if cursor.seq() > info.head {
        return InvalidCursor::new(format!("the cursor is beyond the head {}", info.head));
    }
    Ok(cursor)
}
