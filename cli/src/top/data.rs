//! What the server says of itself, as `top` asks it.

use std::collections::BTreeMap;

use callscope_common::Timestamp;
use callscope_common::api::{CallView, ConnectionView, DeliveryView, NodeView, SubscriptionView};
use serde::Deserialize;
use uuid::Uuid;

use crate::command::top::Tab;

/// `GET /api/v1/admin/stats`, as far as it is shown.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Stats {
    /// The server's version.
    pub version: String,
    /// The server processes of the cluster.
    pub cluster: Vec<NodeView>,
    /// Those that did not answer.
    pub silent_nodes: Vec<String>,
    /// Seconds since the process that answered started.
    pub uptime_seconds: u64,
    /// Calls by status.
    pub calls: BTreeMap<String, u64>,
    /// Deliveries by verdict.
    pub deliveries: BTreeMap<String, u64>,
    /// Webhooks that did not verify.
    pub unverified_deliveries: u64,
    /// Connections now.
    pub connections: u64,
    /// Connections ever.
    pub connections_total: u64,
    /// Calls followed now.
    pub followed_calls: u64,
    /// Events broadcast.
    pub events_broadcast: u64,
    /// Writes that wait.
    pub writes_waiting: u64,
}

impl Stats {
    /// Calls that are not over.
    pub fn live_calls(&self) -> u64 {
        ["initiated", "in_progress"].iter().filter_map(|status| self.calls.get(*status)).sum()
    }

    /// All calls.
    pub fn all_calls(&self) -> u64 {
        self.calls.values().sum()
    }

    /// All deliveries that verified.
    pub fn all_deliveries(&self) -> u64 {
        self.deliveries.values().sum()
    }

    /// Webhooks that were refused, for whatever reason.
    pub fn refused(&self) -> u64 {
        self.unverified_deliveries + self.deliveries.get("rejected").copied().unwrap_or(0)
    }
}

/// What a tab shows.
#[derive(Debug, Clone)]
pub enum List {
    /// The newest calls.
    Calls(Vec<CallView>),
    /// All connections.
    Connections(Vec<ConnectionView>),
    /// All followed calls.
    Subscriptions(Vec<SubscriptionView>),
    /// The newest deliveries.
    Deliveries(Vec<DeliveryView>),
    /// What is wrong.
    Errors(Errors),
}

impl List {
    /// The tab it is for.
    pub fn tab(&self) -> Tab {
        match self {
            Self::Calls(_) => Tab::Calls,
            Self::Connections(_) => Tab::Connections,
            Self::Subscriptions(_) => Tab::Subscriptions,
            Self::Deliveries(_) => Tab::Deliveries,
            Self::Errors(_) => Tab::Errors,
        }
    }
}

/// What is wrong.
#[derive(Debug, Clone, Default)]
pub struct Errors {
    /// The newest webhooks that verified and made no sense.
    pub rejected: Vec<DeliveryView>,
    /// The newest that did not verify.
    pub unverified: Vec<Unverified>,
}

/// A webhook that did not verify.
#[derive(Debug, Clone, Deserialize)]
pub struct Unverified {
    /// When it came.
    pub at: Timestamp,
    /// Which webhook.
    #[serde(default)]
    pub route: String,
    /// Where from.
    #[serde(default)]
    pub remote_addr: Option<String>,
    /// What was wrong.
    #[serde(default)]
    pub reason: String,
}

/// Something that changes the server, and is asked about first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminAction {
    /// Close a connection.
    Kick {
        /// Which.
        connection: Uuid,
        /// Whose, in words.
        who: String,
    },
    /// Take a delivery in once more.
    Replay {
        /// Which.
        delivery: Uuid,
        /// What it is, in words.
        what: String,
    },
}

/// What the server said.
#[derive(Debug)]
pub enum Message {
    /// What it counts, and the list of a tab.
    Polled(Box<Stats>, List),
    /// It did not answer, or said no; in words.
    Unreachable(String),
    /// All there is of a row, as lines of a name and a text.
    Detail(Tab, String, Vec<(String, String)>),
    /// How an action went, in words.
    Executed(std::result::Result<String, String>),
}

/// What is wanted of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Look at this tab from now on, and at once.
    Poll(Tab),
    /// All there is of the row with this key.
    Detail(Tab, String),
    /// This was confirmed.
    Execute(AdminAction),
}
