//! Following deliveries: what comes in, as it is committed. For admins.

use serde::{Deserialize, Serialize};

use crate::api::DeliveryView;

/// A `subscribe_deliveries` message.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct FollowDeliveries {
    /// The cursor of the last delivery received: goes on behind it.
    #[serde(default)]
    pub after: Option<String>,
    /// Without a cursor: whether to begin with the oldest delivery that is kept, not with the next one to come.
    #[serde(default)]
    pub history: bool,
}

/// See [`ServerMessage::DeliveriesConfirmed`](super::ServerMessage::DeliveriesConfirmed).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeliveriesConfirmed {
    /// Where it begins: good as `after`, should the connection break before the first delivery comes.
    pub cursor: String,
    /// For people.
    pub message: String,
}

/// See [`ServerMessage::DeliveriesEnded`](super::ServerMessage::DeliveriesEnded).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeliveriesEnded {
    /// For people.
    pub message: String,
}

/// See [`ServerMessage::Delivery`](super::ServerMessage::Delivery).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeliveryMessage {
    /// The place behind this delivery, in the order of commits.
    pub cursor: String,
    /// The facts, as the list shows them.
    #[serde(flatten)]
    pub delivery: DeliveryView,
}
