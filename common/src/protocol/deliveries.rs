//! Messages for admins who follow deliveries as they are committed.

use serde::{Deserialize, Serialize};

use crate::api::DeliveryView;

/// A `subscribe_deliveries` message.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FollowDeliveries {
    /// The cursor of the last delivery received; the next one follows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Without a cursor: whether to begin with the oldest kept delivery instead of the next one to arrive.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub history: bool,
}

/// See [`ServerMessage::DeliveriesConfirmed`](super::ServerMessage::DeliveriesConfirmed).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeliveriesConfirmed {
    /// Where following begins. A client whose connection breaks before the first delivery sends it as `after`.
    pub cursor: String,
    /// The text for people.
    pub message: String,
}

/// See [`ServerMessage::DeliveriesEnded`](super::ServerMessage::DeliveriesEnded).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeliveriesEnded {
    /// The text for people.
    pub message: String,
}

/// See [`ServerMessage::Delivery`](super::ServerMessage::Delivery).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeliveryMessage {
    /// The place behind this delivery, in commit order.
    pub cursor: String,
    /// The facts that lists show.
    #[serde(flatten)]
    pub delivery: DeliveryView,
}
