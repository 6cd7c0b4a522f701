//! Statistics of the cluster, and of each server process.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Verdict;
use crate::{CallStatus, OrUnknown, Timestamp};

/// `GET /api/v1/admin/stats`: the sums over all server processes, and under `cluster` the counts of each.
///
/// The fields are declared in alphabetical order, here and in the types below, because every version has sent them so.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Stats {
    /// Calls by status.
    pub calls: BTreeMap<OrUnknown<CallStatus>, u64>,
    /// The server processes with a recent heartbeat.
    pub cluster: Vec<NodeView>,
    /// Connections that are open now.
    pub connections: u64,
    /// Connections upgraded since the processes started.
    pub connections_total: u64,
    /// `sqlite` or `postgres`.
    pub database: String,
    /// Deliveries by verdict.
    pub deliveries: BTreeMap<OrUnknown<Verdict>, u64>,
    /// Events that were broadcast to followers. Each counts once in each process.
    pub events_broadcast: u64,
    /// The sum of all processes' average rates since they started.
    pub events_per_second: f64,
    /// Calls that are followed now.
    pub followed_calls: u64,
    /// Identifiers without a call that connections wait for now.
    pub identifiers_waited_for: u64,
    /// The process that answered.
    pub node: String,
    /// The names of the server processes with a recent heartbeat.
    pub nodes: Vec<String>,
    /// Broadcasts that a feed wrote directly to a socket.
    pub passes_direct: u64,
    /// Broadcasts that a feed left to the session of a connection.
    pub passes_left_to_sessions: u64,
    /// The processes among `nodes` that did not answer in time.
    pub silent_nodes: Vec<String>,
    /// Webhooks that did not verify.
    pub unverified_deliveries: u64,
    /// Seconds since the process that answered started.
    pub uptime_seconds: u64,
    /// The server's version.
    pub version: String,
    /// How many writes may wait in the process that answered.
    pub write_queue: usize,
    /// Writes that wait for the log writer.
    pub writes_waiting: u64,
}

impl Stats {
    /// Returns the number of calls that have not ended.
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

    /// Returns the number of all stored deliveries, which verified.
    pub fn all_deliveries(&self) -> u64 {
        self.deliveries.values().sum()
    }

    /// Returns the number of webhooks that were refused for any reason.
    pub fn refused(&self) -> u64 {
        self.unverified_deliveries + self.deliveries.get(&Verdict::Rejected.into()).copied().unwrap_or(0)
    }
}

/// A server process, as `/api/v1/admin/stats` shows it under `cluster`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NodeView {
    /// The address that the process listens on.
    pub address: String,
    /// The name of the process.
    pub node: String,
    /// Milliseconds since its last heartbeat.
    pub seen_ms_ago: i64,
    /// When the process started.
    pub started_at: Option<Timestamp>,
    /// Its counts; `None` if it did not answer in time.
    pub stats: Option<NodeStats>,
    /// The version of its program.
    pub version: String,
}

/// The counts of one server process.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeStats {
    /// Connections that are open now.
    pub connections: u64,
    /// Connections upgraded since the process started.
    pub connections_total: u64,
    /// Announcements that the process could not send. The other processes find the events by reconciliation.
    pub dropped: u64,
    /// Events that were broadcast. Each counts once, for any number of followers.
    pub events_broadcast: u64,
    /// Calls that are followed now.
    pub followed_calls: u64,
    /// Identifiers without a call that connections wait for now.
    pub identifiers_waited_for: u64,
    /// Whether its link to the other processes works; `None` without Redis.
    pub linked: Option<bool>,
    /// Broadcasts that a feed wrote directly to a socket.
    pub passes_direct: u64,
    /// Broadcasts that a feed left to the session of a connection.
    pub passes_left_to_sessions: u64,
    /// Messages that it sent to the other processes.
    pub published: u64,
    /// Messages that it received from the other processes.
    pub received: u64,
    /// Messages over the link that it refused: forged, altered, late or repeated.
    #[serde(default)]
    pub refused: u64,
    /// Webhooks that did not verify.
    pub unverified_deliveries: u64,
    /// Seconds since the process started.
    pub uptime_seconds: u64,
    /// Writes that wait for the log writer.
    pub writes_waiting: u64,
}
