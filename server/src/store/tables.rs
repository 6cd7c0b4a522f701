//! The tables that a batch writes: the columns of each, listed once, and the statements that are made of the lists.

use std::sync::LazyLock;

use callscope_common::Timestamp;
use rusqlite::params;

use super::sqlite::write::SqliteTx;
use super::statement::Result;
use super::transaction::Tx;
use crate::log::{Call, Delivery, NewDelivery, NewEvent, NewName};

/// The names of columns, each with its type in PostgreSQL.
type Columns = [(&'static str, &'static str)];

/// A statement that writes rows: for one row on SQLite, for an array of each column's values on PostgreSQL. Its
/// parameters are in the order of the columns.
pub(super) struct BatchSql {
    sqlite: String,
    postgres: String,
}

/// Joins what `part` makes of each column's number, name and type.
fn list(columns: &Columns, part: impl Fn(usize, &str, &str) -> String) -> String {
    let parts = (1..).zip(columns).map(|(at, (name, of_type))| part(at, name, of_type));
    parts.collect::<Vec<_>>().join(", ")
}

/// The rows that PostgreSQL's arrays hold, as the table `n`.
fn unnest(columns: &Columns) -> String {
    let arrays = list(columns, |at, _, of_type| format!("${at}::{of_type}[]"));
    format!("UNNEST({arrays}) AS n ({})", names(columns))
}

fn names(columns: &Columns) -> String {
    list(columns, |_, name, _| name.to_owned())
}

impl BatchSql {
    /// Inserts the rows. `only_sqlite` are further columns, which PostgreSQL fills in itself.
    fn insert(table: &str, columns: &Columns, only_sqlite: &Columns, order: &str, on_conflict: &str) -> Self {
        let (all, names) = ([columns, only_sqlite].concat(), names(columns));
        let marks = list(&all, |at, _, _| format!("?{at}"));
        let all = self::names(&all);
        Self {
            sqlite: format!("INSERT INTO {table} ({all}) VALUES ({marks}) {on_conflict}"),
            postgres: format!("INSERT INTO {table} ({names}) SELECT * FROM {} {order} {on_conflict}", unnest(columns)),
        }
    }

    /// Updates all columns but the first, which is the key.
    fn update(table: &str, columns: &Columns) -> Self {
        let ((key, _), others) = (columns[0], &columns[1..]);
        let own = list(others, |at, name, _| format!("{name} = ?{}", at + 1));
        let new = list(others, |_, name, _| format!("{name} = n.{name}"));
        Self {
            sqlite: format!("UPDATE {table} SET {own} WHERE {key} = ?1"),
            postgres: format!("UPDATE {table} SET {new} FROM {} WHERE {table}.{key} = n.{key}", unnest(columns)),
        }
    }
}

/// Lists the columns of a table with their values, and makes the method that writes rows. It returns how many rows
/// were written.
macro_rules! table {
    (
        $columns:ident, $write:ident($row:pat_param in $rows:ty $(, $argument:ident: $type:ty)?) {
            $($column:ident: $of_type:literal = $value:expr,)+
        }
        $(only_sqlite { $extra:ident = $draw:path })?
    ) => {
        const $columns: &Columns = &[$((stringify!($column), $of_type)),+];

        impl Tx {
            #[allow(unused_variables, reason = "not every column needs the whole row")]
            pub async fn $write(&mut self, sql: &'static BatchSql, rows: $rows $(, $argument: $type)?) -> Result<u64> {
                match self {
                    _ if rows.is_empty() => Ok(0),
                    Self::Sqlite(tx) => {
                        $(let $extra = $draw(tx)?;)?
                        let mut statement = tx.prepare(&sql.sqlite)?;
                        let mut written = 0;
                        for $row in rows {
                            written += statement.execute(params![$($value,)+ $($extra)?])? as u64;
                        }
                        Ok(written)
                    }
                    Self::Postgres(tx) => {
                        let query = sqlx::query(sql.postgres.as_str());
                        let query = query$(.bind(rows.iter().map(|$row| $value).collect::<Vec<_>>()))+;
                        Ok(query.execute(&mut **tx).await?.rows_affected())
                    }
                }
            }
        }
    };
}

table! {
    CALLS, write_calls(call in &[&Call]) {
        call_id: "uuid" = call.call_id,
        call_sid: "text" = call.call_sid.as_str(),
        sid_made_up: "bool" = call.sid_made_up,
        conversation_id: "text" = call.conversation_id.as_deref(),
        status: "text" = call.status.as_str(),
        subject: "text" = call.subject.as_deref(),
        agent_id: "text" = call.agent_id.as_deref(),
        metadata: "text" = call.metadata.as_deref(),
        head: "bigint" = call.head,
        turns: "bigint" = call.turns,
        live: "bool" = call.live,
        has_audio: "bool" = call.has_audio,
        created_at: "bigint" = call.created_at.as_micros(),
        updated_at: "bigint" = call.updated_at.as_micros(),
        end_time: "bigint" = call.end_time.map(Timestamp::as_micros),
    }
}

table! {
    HEADS, write_heads(call in &[&Call]) {
        call_id: "uuid" = call.call_id,
        head: "bigint" = call.head,
        turns: "bigint" = call.turns,
        live: "bool" = call.live,
        updated_at: "bigint" = call.updated_at.as_micros(),
    }
}

table! {
    NAMES, write_names((name, call_id, kind) in &[&NewName]) {
        identifier: "text" = name.as_str(),
        call_id: "uuid" = *call_id,
        kind: "text" = kind.as_str(),
    }
}

table! {
    EVENTS, write_events(event in &[NewEvent], now: i64) {
        call_id: "uuid" = event.call_id,
        seq: "bigint" = event.seq,
        kind: "text" = event.kind.as_str(),
        frame: "text" = &*event.frame,
        created_at: "bigint" = now,
        delivery_id: "uuid" = event.delivery_id,
    }
}

table! {
    DELIVERIES, write_deliveries((row, delivery) in &[(&NewDelivery, &Delivery)]) {
        delivery_id: "uuid" = row.delivery_id,
        route: "text" = delivery.route.as_str(),
        kind: "text" = delivery.kind.as_deref(),
        verdict: "text" = row.verdict.as_str(),
        reason: "text" = row.reason.as_deref(),
        dedup_key: "bytea" = row.dedup_hash.as_ref().map(<[u8; 32]>::as_slice),
        body_hash: "bytea" = delivery.body_hash.as_slice(),
        turn_hash: "bytea" = delivery.turn_hash().map(<[u8; 32]>::as_slice),
        call_id: "uuid" = row.call_id,
        duplicate_of: "uuid" = row.duplicate_of,
        received_at: "bigint" = delivery.received_at.as_micros(),
        remote_addr: "text" = delivery.remote_addr.as_deref(),
        headers: "text" = delivery.headers.as_str(),
        body: "bytea" = row.keep_body.then_some(delivery.body.as_slice()),
        body_bytes: "bigint" = i64::try_from(delivery.body.len()).unwrap_or(i64::MAX),
        response_status: "bigint" = i64::from(row.answer.status),
        response: "text" = &*row.answer.body,
        idempotency_key: "bytea" = row.idempotency_key.as_ref().map(<[u8; 32]>::as_slice),
    }
    only_sqlite { tx_number = SqliteTx::draw_tx }
}

type Statement = LazyLock<BatchSql>;

pub(super) static INSERT_CALLS: Statement = LazyLock::new(|| BatchSql::insert("calls", CALLS, &[], "", ""));
/// Updates all columns that may change.
pub(super) static UPDATE_CALLS: Statement = LazyLock::new(|| BatchSql::update("calls", CALLS));
/// Updates the columns that a turn changes; see [`RowChange::Head`](crate::log::RowChange::Head).
pub(super) static UPDATE_HEADS: Statement = LazyLock::new(|| BatchSql::update("calls", HEADS));
pub(super) static INSERT_EVENTS: Statement = LazyLock::new(|| BatchSql::insert("events", EVENTS, &[], "", ""));
/// Leaves out the names that are taken.
pub(super) static INSERT_NAMES: Statement =
    LazyLock::new(|| BatchSql::insert("identifiers", NAMES, &[], "", "ON CONFLICT DO NOTHING"));
/// Leaves out the deliveries one of whose hashes another process took. PostgreSQL inserts them in the order of their
/// hashes, so that two servers with the same deliveries never wait for each other.
pub(super) static INSERT_DELIVERIES: Statement = LazyLock::new(|| {
    let order = "ORDER BY dedup_key, idempotency_key";
    BatchSql::insert("deliveries", DELIVERIES, &[("tx", "bigint")], order, "ON CONFLICT DO NOTHING")
});
