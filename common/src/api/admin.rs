//! The connections and subscriptions of the whole cluster, for admins.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::claims::Role;
use crate::{CallId, CallStatus, OrUnknown, Timestamp};

/// A live connection, as `/api/v1/admin/connections` shows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ConnectionView {
    /// The id of the connection, which the server generated at the upgrade.
    pub connection_id: Uuid,
    /// The token's `uid`, or its `sub` if it has none.
    pub user_id: String,
    /// The token's `sub`.
    pub username: String,
    /// What the token allows.
    pub role: OrUnknown<Role>,
    /// When the connection was upgraded to a WebSocket.
    pub connected_at: Timestamp,
    /// The peer's address and port.
    pub remote_addr: String,
    /// The sids of the calls that the connection follows.
    pub subscribed_calls: Vec<String>,
    /// How many events were sent over the connection.
    pub sent: u64,
    /// How many events the connection is behind, over all its subscriptions.
    pub lag: u64,
    /// The server process that the connection ends at.
    pub node: String,
}

/// `GET /api/v1/admin/connections`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ConnectionList {
    /// Every live connection, oldest first.
    pub connections: Vec<ConnectionView>,
    /// The server processes with a recent heartbeat.
    pub nodes: Vec<String>,
    /// The processes among `nodes` that did not answer in time. Their connections are missing in the list.
    #[serde(default)]
    pub silent_nodes: Vec<String>,
}

/// A followed call, as `/api/v1/admin/subscriptions` shows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SubscriptionView {
    /// The id of the call.
    pub call_id: CallId,
    /// The `call_sid` of the call.
    pub call_sid: String,
    /// The provider's conversation id, once known.
    pub conversation_id: Option<String>,
    /// The status of the call.
    pub status: CallStatus,
    /// The connections that follow the call.
    pub connection_ids: Vec<Uuid>,
}

/// `GET /api/v1/admin/subscriptions`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SubscriptionList {
    /// The followed calls, sorted by `call_sid`.
    pub subscriptions: Vec<SubscriptionView>,
    /// The server processes with a recent heartbeat.
    #[serde(default)]
    pub nodes: Vec<String>,
    /// The processes among `nodes` that did not answer in time. Their subscriptions are missing in the list.
    #[serde(default)]
    pub silent_nodes: Vec<String>,
}
