//! The table `nodes`: the server processes that share the database.

use std::sync::Arc;
use std::time::Duration;

use callscope_common::{CallId, Timestamp};
use uuid::Uuid;

use super::{Engine, Store, StoreError, on_pool};

/// A server process's heartbeat.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    /// The name of the process.
    pub node: String,
    /// The version of the process.
    pub version: &'static str,
    /// The address that the process listens on.
    pub address: String,
    /// When the process started.
    pub started_at: Timestamp,
    /// A message for the followers of this call, sent once the heartbeat is committed. A readiness probe follows a
    /// write through so.
    pub probe: Option<(CallId, Arc<str>)>,
}

/// A server process whose heartbeat is recent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The name of the process.
    pub name: String,
    /// The version of the process.
    pub version: String,
    /// The address that the process listens on.
    pub address: String,
    /// When the process started; none if the stored time is damaged.
    pub started_at: Option<Timestamp>,
    /// The time since the last heartbeat in microseconds, by the database's clock.
    pub seen_micros_ago: i64,
}

impl Store {
    /// The id by which the processes that share this database know each other.
    ///
    /// # Errors
    /// Returns an error if the database does not answer.
    pub async fn cluster_id(&self) -> Result<Uuid, StoreError> {
        Ok(on_pool!(self, pool => sqlx::query_scalar("SELECT cluster_id FROM cluster").fetch_one(pool).await?))
    }

    /// The processes whose last heartbeat is at most `age` old, oldest process first.
    ///
    /// # Errors
    /// Returns an error if the database does not answer.
    pub async fn nodes(&self, age: Duration) -> Result<Vec<Node>, StoreError> {
        let age = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
        let rows: Vec<(String, String, String, i64, i64)> = match &self.0 {
            Engine::Sqlite(sqlite) => {
                sqlx::query_as(
                    "SELECT node, version, address, started_at, \
                     CAST(unixepoch('subsec') * 1000000 AS INTEGER) - seen_at AS age FROM nodes \
                     WHERE seen_at > CAST(unixepoch('subsec') * 1000000 AS INTEGER) - $1 ORDER BY started_at, node",
                )
                .bind(age)
                .fetch_all(&sqlite.readers)
                .await?
            }
            Engine::Postgres(postgres) => {
                sqlx::query_as(
                    "SELECT node, version, address, started_at, now - seen_at AS age FROM nodes, \
                     (SELECT (EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::bigint AS now) AS clock \
                     WHERE seen_at > now - $1 ORDER BY started_at, node",
                )
                .bind(age)
                .fetch_all(&postgres.readers)
                .await?
            }
        };
        let node = |(name, version, address, started_at, seen_micros_ago)| {
            let started_at = Timestamp::from_micros(started_at);
            Node { name, version, address, started_at, seen_micros_ago }
        };
        Ok(rows.into_iter().map(node).collect())
    }
}
