//! Statistics of the cluster, and of each server process.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Verdict;
use crate::{CallStatus, OrUnknown, Timestamp};

/// `GET /api/v1/admin/stats`: counts over all server processes, and under `cluster` those of each.
///
/// Keys are sorted, here and in the types below, as every version has sent them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Stats {
    /// Calls by status.
    pub calls: BTreeMap<OrUnknown<CallStatus>, u64>,
    /// The server processes that were seen lately.
    pub cluster: Vec<NodeView>,
    /// Connections that are open now.
    pub connections: u64,
    /// Connections upgraded since the processes started.
    pub connections_total: u64,
    /// `sqlite` or `postgres`.
    pub database: String,
    /// Deliveries by verdict.
    pub deliveries: BTreeMap<OrUnknown<Verdict>, u64>,
    /// Events broadcast, each counted once in each process.
    pub events_broadcast: u64,
    /// The rates of all processes since each started, added up.
    pub events_per_second: f64,
    /// Calls followed now.
    pub followed_calls: u64,
    /// Identifiers waited for now.
    pub identifiers_waited_for: u64,
    /// The process that answered.
    pub node: String,
    /// The names of the server processes that were seen lately.
    pub nodes: Vec<String>,
    /// Broadcasts written straight into a socket.
    pub passes_direct: u64,
    /// Broadcasts left to a connection's own task.
    pub passes_left_to_sessions: u64,
    /// Those of `nodes` that did not answer in time.
    pub silent_nodes: Vec<String>,
    /// Webhooks that did not verify.
    pub unverified_deliveries: u64,
    /// Seconds since the process that answered started.
    pub uptime_seconds: u64,
    /// The server's version.
    pub version: String,
    /// How many writes may wait in the process that answered.
    pub write_queue: usize,
    /// Writes that wait.
    pub writes_waiting: u64,
}

impl Stats {
    /// Calls that have not ended.
    pub fn live_calls(&self) -> u64 {
        [CallStatus::Initiated, CallStatus::InProgress]
            .iter()
            .filter_map(|status| self.calls.get(&(*status).into()))
            .sum()
    }

    /// Returns the number of all calls.
    pub fn all_calls(&self) -> u64 {
        self.calls.values().sum()
    }

    /// All deliveries that verified.
    pub fn all_deliveries(&self) -> u64 {
        self.deliveries.values().sum()
    }

    /// Webhooks that were refused, for whichever reason.
    pub fn refused(&self) -> u64 {
        self.unverified_deliveries + self.deliveries.get(&Verdict::Rejected.into()).copied().unwrap_or(0)
    }
}

/// A server process, as `/api/v1/admin/stats` shows it under `cluster`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NodeView {
    /// Where it listens.
    pub address: String,
    /// The name of the process.
    pub node: String,
    /// Milliseconds since its last sign of life.
    pub seen_ms_ago: i64,
    /// When it started.
    pub started_at: Option<Timestamp>,
    /// What it counts; `None` where it did not answer in time.
    pub stats: Option<NodeStats>,
    /// The version of its program.
    pub version: String,
}

/// What one server process counts.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeStats {
    /// Connections that are open now.
    pub connections: u64,
    /// Connections upgraded since it started.
    pub connections_total: u64,
    /// Announcements it could not send; the sweep of the others finds what they said.
    pub dropped: u64,
    /// Events broadcast, each counted once however many follow.
    pub events_broadcast: u64,
    /// Calls followed now.
    pub followed_calls: u64,
    /// Identifiers waited for now.
    pub identifiers_waited_for: u64,
    /// Whether its link to the other processes works; `None` where there is none.
    pub linked: Option<bool>,
    /// Broadcasts written straight into a socket.
    pub passes_direct: u64,
    /// Broadcasts left to a connection's own task.
    pub passes_left_to_sessions: u64,
    /// Messages it sent to the other processes.
    pub published: u64,
    /// Messages of theirs it took in.
    pub received: u64,
    /// Messages over the link that it did not believe: forged, altered, late or repeated.
    #[serde(default)]
    pub refused: u64,
    /// Webhooks that did not verify.
    pub unverified_deliveries: u64,
    /// Seconds since it started.
    pub uptime_seconds: u64,
    /// Writes that wait.
    pub writes_waiting: u64,
}
