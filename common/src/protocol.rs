//! The WebSocket's messages: text frames of JSON, in both directions.
//!
//! [`ClientMessage::parse`] and [`ServerMessage::parse`] read them; [`ServerMessage`] serialises to what is sent.
//! Unknown fields are ignored on both sides, so that either can grow.

mod client;
mod close;
mod deliveries;
mod events;
mod server;

pub use crate::ErrorCode;
pub use client::{ClientMessage, ClientMessageError, Subscribe, SubscribeFrom};
pub use close::CloseReason;
pub use deliveries::{DeliveriesConfirmed, DeliveriesEnded, DeliveryMessage, FollowDeliveries};
pub use events::{CallCompleted, CallStatusChanged, Transcription, TranscriptionPartial};
pub use server::{CallMerged, ErrorMessage, IdentifierMessage, Pong, Reconnect, ServerMessage, SubscriptionConfirmed};

/// The subprotocol that a client offers beside `bearer.<jwt>`, and that the server selects.
pub const SUBPROTOCOL: &str = "callscope.v1";
/// The prefix of the token in `Sec-WebSocket-Protocol`.
pub const BEARER_PROTOCOL_PREFIX: &str = "bearer.";
/// The path of the WebSocket.
pub const PATH: &str = "/ws/calls/transcriptions";
/// Maximum length of a frame and of a message of a client, in bytes.
pub const MAX_CLIENT_MESSAGE: usize = 64 * 1024;
/// Maximum number of subscriptions of a connection, with pending ones.
pub const MAX_SUBSCRIPTIONS: usize = 256;
