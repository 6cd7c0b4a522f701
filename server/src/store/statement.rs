//! Statements that are written once for both engines.
//!
//! Their text is PostgreSQL's, and SQLite reads it too, but for lists: SQLite has no arrays, so a list is bound as JSON
//! there, and `= ANY($1)` becomes a search in it.

use std::borrow::Cow;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ToSql};
use serde_json::json;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, FromRow};
use uuid::Uuid;

use super::{Engine, Store, StoreError};

pub(super) type Result<T> = std::result::Result<T, StoreError>;

/// A parameter of a statement, which is written as `$1`, `$2`…
#[derive(Debug, Clone, Copy)]
pub(super) enum Bind<'b> {
    Id(Option<Uuid>),
    Int(Option<i64>),
    Text(Option<&'b str>),
    Bytes(&'b [u8]),
    Ids(&'b [Uuid]),
    Texts(&'b [&'b str]),
}

macro_rules! bind_from {
    ($($variant:ident: $($type:ty),+;)+) => {
        $($(impl<'b> From<$type> for Bind<'b> {
            fn from(value: $type) -> Self {
                Self::$variant(value.into())
            }
        })+)+
    };
}

bind_from! {
    Id: Uuid, Option<Uuid>;
    Int: i64, Option<i64>;
    Text: &'b str, Option<&'b str>;
    Bytes: &'b [u8];
    Ids: &'b [Uuid];
    Texts: &'b [&'b str];
}

/// A row that the pools of both engines read.
pub(super) trait PoolRow: Send + Unpin + for<'r> FromRow<'r, PgRow> + for<'r> FromRow<'r, SqliteRow> {}
impl<T> PoolRow for T where T: Send + Unpin + for<'r> FromRow<'r, PgRow> + for<'r> FromRow<'r, SqliteRow> {}

/// A row that the write path of both engines reads, and the inline reads of SQLite.
pub(super) trait Row:
    Send + Unpin + for<'r> FromRow<'r, PgRow> + for<'r> TryFrom<&'r rusqlite::Row<'r>, Error = rusqlite::Error>
{
}
impl<T> Row for T where
    T: Send + Unpin + for<'r> FromRow<'r, PgRow> + for<'r> TryFrom<&'r rusqlite::Row<'r>, Error = rusqlite::Error>
{
}

/// Binds parameters to a query of sqlx; the functions turn a list into what the engine takes.
macro_rules! bind_all {
    ($query:expr, $binds:expr, $ids:path, $texts:path) => {
        $binds.iter().fold($query, |query, bind| match *bind {
            Bind::Id(id) => query.bind(id),
            Bind::Int(number) => query.bind(number),
            Bind::Text(text) => query.bind(text),
            Bind::Bytes(bytes) => query.bind(bytes),
            Bind::Ids(ids) => query.bind($ids(ids)),
            Bind::Texts(texts) => query.bind($texts(texts)),
        })
    };
}

/// A query of sqlx for PostgreSQL with its parameters.
macro_rules! postgres_query {
    ($query:expr, $binds:expr) => {
        $crate::store::statement::bind_all!($query, $binds, std::convert::identity, std::convert::identity)
    };
}
pub(super) use {bind_all, postgres_query};

impl Store {
    /// Picks what differs between the engines.
    pub(super) fn by_engine<T>(&self, sqlite: T, postgres: T) -> T {
        match self.0 {
            Engine::Sqlite(_) => sqlite,
            Engine::Postgres(_) => postgres,
        }
    }

    /// All rows of a statement, read through the pool.
    pub(super) async fn rows<T: PoolRow>(&self, sql: &'static str, binds: &[Bind<'_>]) -> Result<Vec<T>> {
        Ok(match &self.0 {
            Engine::Sqlite(sqlite) => {
                let query = sqlx::query_as(AssertSqlSafe(for_sqlite(sql, binds)));
                bind_all!(query, binds, hex_list, text_list).fetch_all(&sqlite.readers).await?
            }
            Engine::Postgres(postgres) => {
                postgres_query!(sqlx::query_as(sql), binds).fetch_all(&postgres.readers).await?
            }
        })
    }

    /// The values of a statement with one column.
    pub(super) async fn values<T>(&self, sql: &'static str, binds: &[Bind<'_>]) -> Result<Vec<T>>
    where
        (T,): PoolRow,
    {
        Ok(self.rows::<(T,)>(sql, binds).await?.into_iter().map(|(value,)| value).collect())
    }

    /// The row that a statement finds through an index. SQLite reads it on the calling thread.
    pub(super) async fn row_inline<T: Row>(&self, sql: &'static str, binds: &[Bind<'_>]) -> Result<Option<T>> {
        match &self.0 {
            Engine::Sqlite(sqlite) => Ok(sqlite.inline.read(|connection| select(connection, sql, binds)).await?.pop()),
            Engine::Postgres(postgres) => {
                Ok(postgres_query!(sqlx::query_as(sql), binds).fetch_optional(&postgres.readers).await?)
            }
        }
    }
}

/// The rows of a statement on a connection of rusqlite.
pub(super) fn select<T: Row>(
    connection: &Connection,
    sql: &'static str,
    binds: &[Bind<'_>],
) -> rusqlite::Result<Vec<T>> {
    let mut statement = connection.prepare_cached(&for_sqlite(sql, binds))?;
    bind_by_name(&mut statement, binds)?;
    statement.raw_query().mapped(|row| T::try_from(row)).collect()
}

/// The rows of a statement on a connection of rusqlite, which runs for each key.
pub(super) fn select_each<'b, T: Row>(
    connection: &Connection,
    sql: &str,
    keys: impl IntoIterator<Item = Bind<'b>>,
) -> rusqlite::Result<Vec<T>> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut found = Vec::new();
    for key in keys {
        statement.raw_bind_parameter(1, key)?;
        let mut rows = statement.raw_query();
        while let Some(row) = rows.next()? {
            found.push(T::try_from(row)?);
        }
    }
    Ok(found)
}

/// Runs a statement on a connection of rusqlite.
pub(super) fn execute(connection: &Connection, sql: &str, binds: &[Bind<'_>]) -> rusqlite::Result<usize> {
    let mut statement = connection.prepare_cached(sql)?;
    bind_by_name(&mut statement, binds)?;
    statement.raw_execute()
}

/// To SQLite `$2` is a name, whose index tells where it first appears.
fn bind_by_name(statement: &mut rusqlite::Statement<'_>, binds: &[Bind<'_>]) -> rusqlite::Result<()> {
    for (name, bind) in ["$1", "$2", "$3", "$4", "$5"].into_iter().zip(binds) {
        if let Some(index) = statement.parameter_index(name)? {
            statement.raw_bind_parameter(index, bind)?;
        }
    }
    Ok(())
}

/// The text as SQLite reads it.
fn for_sqlite(sql: &'static str, binds: &[Bind<'_>]) -> Cow<'static, str> {
    let mut text = Cow::Borrowed(sql);
    for (at, bind) in (1..).zip(binds) {
        let item = match bind {
            Bind::Ids(_) => "unhex(value)",
            Bind::Texts(_) => "value",
            Bind::Id(_) | Bind::Int(_) | Bind::Text(_) | Bind::Bytes(_) => continue,
        };
        let list = format!("IN (SELECT {item} FROM json_each(${at}))");
        text = text.replace(&format!("= ANY(${at})"), &list).into();
    }
    text
}

/// Ids for `json_each`, which `unhex` turns into bytes.
fn hex_list(ids: &[Uuid]) -> String {
    json!(ids.iter().map(|id| id.simple().to_string()).collect::<Vec<_>>()).to_string()
}

fn text_list(texts: &[&str]) -> String {
    json!(texts).to_string()
}

impl ToSql for Bind<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Id(Some(id)) => ValueRef::Blob(id.as_bytes()),
            Self::Int(Some(number)) => ValueRef::Integer(*number),
            Self::Text(Some(text)) => ValueRef::Text(text.as_bytes()),
            Self::Id(None) | Self::Int(None) | Self::Text(None) => ValueRef::Null,
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
            Self::Ids(ids) => return Ok(hex_list(ids).into()),
            Self::Texts(texts) => return Ok(text_list(texts).into()),
        }))
    }
}
