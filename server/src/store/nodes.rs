//! The table `nodes`: the server processes that share the database.

use std::sync::Arc;
use std::time::Duration;

use callscope_common::{CallId, Timestamp};
use uuid::Uuid;

use super::{Store, StoreError};

/// The database's clock, in microseconds.
macro_rules! clock {
    (sqlite) => {
        "CAST(unixepoch('subsec') * 1000000 AS INTEGER)"
    };
    (postgres) => {
        "(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::bigint"
    };
}
pub(super) use clock;

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
        let id: Option<Uuid> = self.values("SELECT cluster_id FROM cluster", &[]).await?.pop();
        id.ok_or(StoreError::Damaged("cluster"))
    }

    /// The processes whose last heartbeat is at most `age` old, oldest process first.
    ///
    /// # Errors
    /// Returns an error if the database does not answer.
    pub async fn nodes(&self, age: Duration) -> Result<Vec<Node>, StoreError> {
        let age = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
        macro_rules! nodes {
            ($engine:ident) => {
                concat!(
                    "SELECT node, version, address, started_at, now - seen_at FROM nodes, (SELECT ",
                    clock!($engine),
                    " AS now) AS clock WHERE seen_at > now - $1 ORDER BY started_at, node"
                )
            };
        }
        let rows: Vec<(String, String, String, i64, i64)> =
            self.rows(self.by_engine(nodes!(sqlite), nodes!(postgres)), &[age.into()]).await?;
        let node = |(name, version, address, started_at, seen_micros_ago)| {
            let started_at = Timestamp::from_micros(started_at);
            Node { name, version, address, started_at, seen_micros_ago }
        };
        Ok(rows.into_iter().map(node).collect())
    }
}
