//! A row of the table `calls`, as it is read.

use callscope_common::{CallId, Timestamp};

use crate::log::{Call, RowChange};
use crate::store::StoreError;

/// Makes [`CallRow`], and what reads it, of the list of its columns.
macro_rules! call_row {
    ($first:ident: $first_type:ty, $($column:ident: $type:ty,)+) => {
        /// A row of `calls`.
        #[derive(Debug, Clone, sqlx::FromRow)]
        pub(super) struct CallRow {
            pub $first: $first_type,
            $(pub $column: $type,)+
        }

        /// The columns of the call `c`, in the order in which [`CallRow`] reads them.
        macro_rules! columns {
            () => {
                concat!("c.", stringify!($first) $(, ", c.", stringify!($column))+)
            };
        }

        impl TryFrom<&rusqlite::Row<'_>> for CallRow {
            type Error = rusqlite::Error;

            fn try_from(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
                let mut columns = 1..;
                Ok(Self {
                    $first: row.get(0)?,
                    $($column: row.get(columns.next().unwrap_or_default())?,)+
                })
            }
        }
    };
}

call_row! {
    call_id: CallId,
    call_sid: String,
    sid_made_up: bool,
    conversation_id: Option<String>,
    status: String,
    subject: Option<String>,
    agent_id: Option<String>,
    metadata: Option<String>,
    head: i64,
    turns: i64,
    live: bool,
    has_audio: bool,
    updated_at: i64,
    end_time: Option<i64>,
    created_at: i64,
    // The record that absorbed this one.
    merged_into: Option<CallId>,
}
pub(super) use columns;

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

/// A time of the database, in microseconds.
pub(super) fn at(micros: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_micros(micros).ok_or(StoreError::Damaged("time"))
}
