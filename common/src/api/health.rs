//! The bodies of the health checks.

use serde::{Deserialize, Serialize};

/// `GET /healthz`: the process is alive.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Health {
    /// Always `ok`.
    pub status: String,
    /// The server's version.
    pub version: String,
}

/// `GET /readyz`: 200 if the process can do its work, else 503.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReadinessView {
    /// The outcome of each check.
    pub checks: ReadinessChecks,
    /// The name of the process.
    pub node: String,
    /// `ready` or `not ready`.
    pub status: String,
}

/// The checks of [`ReadinessView`]: each is `ok`, or says what is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadinessChecks {
    /// A write through the log writer is committed.
    pub append: String,
    /// The database answers a query.
    pub database: String,
    /// A committed event arrives at a follower.
    pub deliver: String,
    /// The server is not shutting down.
    pub draining: String,
    /// The link to the other servers works; absent without Redis. It does not affect readiness.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis: Option<String>,
    /// The log writer's queue is not nearly full.
    pub write_queue: String,
}
