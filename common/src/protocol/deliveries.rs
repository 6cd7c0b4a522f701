//! Messages for admins who follow deliveries as they are committed.

use serde::{Deserialize, Serialize};

use crate::api::DeliveryView;

/// A `subscribe_deliveries` message.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FollowDeliveries {
    /// The cursor of the last delivery that the client received. The stream continues after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Whether to begin with the oldest stored delivery instead of the next one. It has no effect with a cursor.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub history: bool,
}

/// See [`ServerMessage::DeliveriesConfirmed`](super::ServerMessage::DeliveriesConfirmed).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeliveriesConfirmed {
    /// Where the stream begins. A client whose connection breaks before the first delivery sends this as `after`.
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
    /// The place behind this delivery, in the order of commits.
    pub cursor: String,
    /// The delivery as lists show it.
    #[serde(flatten)]
    pub delivery: DeliveryView,
}
