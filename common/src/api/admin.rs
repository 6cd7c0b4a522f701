//! What admins see of the whole cluster: connections and subscriptions.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::claims::Role;
use crate::{CallId, CallStatus, OrUnknown, Timestamp};

/// A live connection, as `/api/v1/admin/connections` shows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ConnectionView {
    /// Made at the upgrade.
    pub connection_id: Uuid,
    /// The token's `uid`, else its `sub`.
    pub user_id: String,
    /// The token's `sub`.
    pub username: String,
    /// What the token allows.
    pub role: OrUnknown<Role>,
    /// When it was upgraded.
    pub connected_at: Timestamp,
    /// The peer's address and port.
    pub remote_addr: String,
    /// The sids of the calls it follows.
    pub subscribed_calls: Vec<String>,
    /// Number of events sent to it.
    pub sent: u64,
    /// Events it is behind, over all its subscriptions.
    pub lag: u64,
    /// The server process that holds it.
    pub node: String,
}

/// `GET /api/v1/admin/connections`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ConnectionList {
    /// Every live connection, oldest first.
    pub connections: Vec<ConnectionView>,
    /// The server processes that were seen lately.
    pub nodes: Vec<String>,
    /// Those of them that did not answer in time: their connections are missing here.
    #[serde(default)]
    pub silent_nodes: Vec<String>,
}

/// A followed call, as `/api/v1/admin/subscriptions` shows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SubscriptionView {
    /// The call's own id.
    pub call_id: CallId,
    /// The `call_sid` of the call.
    pub call_sid: String,
    /// The provider's conversation id, once known.
    pub conversation_id: Option<String>,
    /// Where it stands.
    pub status: CallStatus,
    /// Who follows it.
    pub connection_ids: Vec<Uuid>,
}

/// `GET /api/v1/admin/subscriptions`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SubscriptionList {
    /// By call sid.
    pub subscriptions: Vec<SubscriptionView>,
    /// The server processes that were seen lately.
    #[serde(default)]
    pub nodes: Vec<String>,
    /// Those of them that did not answer in time: their subscriptions are missing here.
    #[serde(default)]
    pub silent_nodes: Vec<String>,
}
