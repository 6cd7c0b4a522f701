//! The server processes that share the database.

use std::sync::Arc;
use std::time::Duration;

use callscope_common::{CallId, Timestamp};
use uuid::Uuid;

use super::{Store, StoreError, on_pool};

/// A process's sign of life, as it is written.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    /// The process's name.
    pub node: String,
    /// Its version.
    pub version: &'static str,
    /// Where it listens.
    pub address: String,
    /// When it started.
    pub started_at: Timestamp,
    /// Announced to this feed's followers once it is committed: how a probe follows it through.
    pub probe: Option<(CallId, Arc<str>)>,
}

/// A process that was seen lately.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct NodeRow {
    /// Its name.
    pub node: String,
    /// Its version.
    pub version: String,
    /// Where it listens.
    pub address: String,
    /// When it started, in microseconds.
    pub started_at: i64,
    /// How long ago it was seen, in microseconds, by the database's clock.
    pub age: i64,
}

impl Store {
    /// What the processes that share this database call it among themselves.
    ///
    /// # Errors
    /// The database's.
    pub async fn cluster_id(&self) -> Result<Uuid, StoreError> {
        Ok(on_pool!(self, pool => sqlx::query_scalar("SELECT cluster_id FROM cluster").fetch_one(pool).await?))
    }

    /// The processes seen within `age`, oldest first.
    ///
    /// # Errors
    /// The database's.
    pub async fn nodes(&self, age: Duration) -> Result<Vec<NodeRow>, StoreError> {
        let age = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
        Ok(match self {
            Self::Sqlite { readers, .. } => {
                sqlx::query_as(
                    "SELECT node, version, address, started_at, \
                     CAST(unixepoch('subsec') * 1000000 AS INTEGER) - seen_at AS age FROM nodes \
                     WHERE seen_at > CAST(unixepoch('subsec') * 1000000 AS INTEGER) - $1 ORDER BY started_at, node",
                )
                .bind(age)
                .fetch_all(readers)
                .await?
            }
            Self::Postgres { readers, .. } => {
                sqlx::query_as(
                    "SELECT node, version, address, started_at, now - seen_at AS age FROM nodes, \
                     (SELECT (EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::bigint AS now) AS clock \
                     WHERE seen_at > now - $1 ORDER BY started_at, node",
                )
                .bind(age)
                .fetch_all(readers)
                .await?
            }
        })
    }
}
