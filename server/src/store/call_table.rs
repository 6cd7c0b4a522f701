//! The table `calls`: its columns, listed once, and the statements that are made of the list.

use callscope_common::{CallId, Timestamp};
use rusqlite::{CachedStatement, Row, params};
use sqlx::Postgres;
use sqlx::postgres::PgArguments;

use crate::log::{Call, RowChange};
use crate::store::StoreError;

/// A row of `calls`.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(in crate::store) struct CallRow {
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
    pub updated_at: i64,
    pub end_time: Option<i64>,
    pub created_at: i64,
    /// The record that absorbed this one.
    pub merged_into: Option<CallId>,
}

/// The values of a call's row as they are bound to a statement.
struct CallValues<'c> {
    call_id: CallId,
    call_sid: &'c str,
    sid_made_up: bool,
    conversation_id: Option<&'c str>,
    status: &'static str,
    subject: Option<&'c str>,
    agent_id: Option<&'c str>,
    metadata: Option<&'c str>,
    head: i64,
    turns: i64,
    live: bool,
    has_audio: bool,
    updated_at: i64,
    end_time: Option<i64>,
    created_at: i64,
}

impl<'c> From<&'c Call> for CallValues<'c> {
    fn from(call: &'c Call) -> Self {
        Self {
            call_id: call.call_id,
            call_sid: &call.call_sid,
            sid_made_up: call.sid_made_up,
            conversation_id: call.conversation_id.as_deref(),
            status: call.status.as_str(),
            subject: call.subject.as_deref(),
            agent_id: call.agent_id.as_deref(),
            metadata: call.metadata.as_deref(),
            head: call.head,
            turns: call.turns,
            live: call.live,
            has_audio: call.has_audio,
            updated_at: call.updated_at.as_micros(),
            end_time: call.end_time.map(Timestamp::as_micros),
            created_at: call.created_at.as_micros(),
        }
    }
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

macro_rules! placeholder {
    ($column:ident) => {
        ", ?"
    };
}

/// Makes the statements and the bindings of the one list of columns below.
///
/// Each written column comes with its placeholder in PostgreSQL's statements, which take one array for each column.
macro_rules! calls_table {
    (
        key: $key:ident $key_array:literal,
        updated: { $first:ident $first_array:literal, $($column:ident $array:literal),+ },
        only_inserted: $created:ident $created_array:literal,
        only_read: $merged:ident
    ) => {
        /// The columns of the call `c`, in the order in which [`CallRow`] reads them.
        macro_rules! columns {
            () => {
                concat!(
                    "c.", stringify!($key), ", c.", stringify!($first), $(", c.", stringify!($column),)+
                    ", c.", stringify!($created), ", c.", stringify!($merged)
                )
            };
        }

        macro_rules! written_columns {
            () => {
                concat!(
                    stringify!($key), ", ", stringify!($first), $(", ", stringify!($column),)+ ", ", stringify!($created)
                )
            };
        }

        macro_rules! arrays {
            () => {
                concat!("UNNEST(", $key_array, ", ", $first_array, $(", ", $array,)+ ", ", $created_array, ")")
            };
        }

        pub(in crate::store) const SQLITE_INSERT: &str = concat!(
            "INSERT INTO calls (", written_columns!(), ") VALUES (?, ?", $(placeholder!($column),)+ ", ?)"
        );
        pub(in crate::store) const SQLITE_UPDATE: &str = concat!(
            "UPDATE calls SET ", stringify!($first), " = ?", $(", ", stringify!($column), " = ?",)+
            " WHERE ", stringify!($key), " = ?"
        );
        pub(in crate::store) const POSTGRES_INSERT: &str =
            concat!("INSERT INTO calls (", written_columns!(), ") SELECT * FROM ", arrays!());
        pub(in crate::store) const POSTGRES_UPDATE: &str = concat!(
            "UPDATE calls SET ", stringify!($first), " = n.", stringify!($first),
            $(", ", stringify!($column), " = n.", stringify!($column),)+ " FROM ", arrays!(), " AS n (", written_columns!(),
            ") WHERE calls.", stringify!($key), " = n.", stringify!($key)
        );

        impl TryFrom<&Row<'_>> for CallRow {
            type Error = rusqlite::Error;

            fn try_from(row: &Row<'_>) -> rusqlite::Result<Self> {
                let mut columns = 0..;
                let mut next = || columns.next().unwrap_or_default();
                Ok(Self {
                    $key: row.get(next())?,
                    $first: row.get(next())?,
                    $($column: row.get(next())?,)+
                    $created: row.get(next())?,
                    $merged: row.get(next())?,
                })
            }
        }

        pub(in crate::store) fn sqlite_insert(
            statement: &mut CachedStatement<'_>,
            call: &Call,
        ) -> rusqlite::Result<usize> {
            let values = CallValues::from(call);
            statement.execute(params![values.$key, values.$first, $(values.$column,)+ values.$created])
        }

        pub(in crate::store) fn sqlite_update(
            statement: &mut CachedStatement<'_>,
            call: &Call,
        ) -> rusqlite::Result<usize> {
            let values = CallValues::from(call);
            statement.execute(params![values.$first, $(values.$column,)+ values.$key])
        }

        /// Binds the calls to [`POSTGRES_INSERT`] or [`POSTGRES_UPDATE`], one array for each column.
        pub(in crate::store) fn bind_arrays<'q>(query: PgQuery<'q>, calls: &'q [&Call]) -> PgQuery<'q> {
            macro_rules! array {
                ($name:ident) => {
                    calls.iter().map(|call| CallValues::from(*call).$name).collect::<Vec<_>>()
                };
            }
            query.bind(array!($key)).bind(array!($first))$(.bind(array!($column)))+.bind(array!($created))
        }
    };
}

type PgQuery<'q> = sqlx::query::Query<'q, Postgres, PgArguments>;

calls_table! {
    key: call_id "$1::uuid[]",
    updated: {
        call_sid "$2::text[]",
        sid_made_up "$3::bool[]",
        conversation_id "$4::text[]",
        status "$5::text[]",
        subject "$6::text[]",
        agent_id "$7::text[]",
        metadata "$8::text[]",
        head "$9::bigint[]",
        turns "$10::bigint[]",
        live "$11::bool[]",
        has_audio "$12::bool[]",
        updated_at "$13::bigint[]",
        end_time "$14::bigint[]"
    },
    only_inserted: created_at "$15::bigint[]",
    only_read: merged_into
}

/// Selects the row of one call by its id.
macro_rules! call_row {
    ($id:literal) => {
        concat!("SELECT ", $crate::store::call_table::columns!(), " FROM calls c WHERE c.call_id = ", $id)
    };
}
pub(in crate::store) use {call_row, columns};

/// A time of the database, in microseconds.
pub(super) fn at(micros: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_micros(micros).ok_or(StoreError::Damaged("time"))
}
