//! The messages of the server.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    CallCompleted, CallStatusChanged, DeliveriesConfirmed, DeliveriesEnded, DeliveryMessage, Transcription,
    TranscriptionPartial,
};
use crate::{CallId, CallStatus, ErrorCode, OrUnknown, Seq};

/// A message of the server. It serialises with its `type`.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerMessage {
    /// A subscription is established.
    SubscriptionConfirmed(SubscriptionConfirmed),
    /// A subscription waits for its call to appear.
    SubscriptionPending(IdentifierMessage),
    /// A subscription was ended at the client's request.
    UnsubscribeConfirmed(IdentifierMessage),
    /// A turn that is complete.
    Transcription(Transcription),
    /// The text of a turn so far. It is not stored, and a later one replaces it.
    TranscriptionPartial(TranscriptionPartial),
    /// The call's status changed.
    CallStatus(CallStatusChanged),
    /// The result of the call, which ends the subscription.
    CallCompleted(CallCompleted),
    /// The followed record was merged into another one, whose log follows from its start.
    CallMerged(CallMerged),
    /// A request was refused, or a subscription was ended by the server.
    Error(ErrorMessage),
    /// The answer to a ping.
    Pong(Pong),
    /// The server is about to close the connection. The client reconnects after the given time.
    Reconnect(Reconnect),
    /// Following deliveries has begun.
    DeliveriesConfirmed(DeliveriesConfirmed),
    /// A delivery was committed.
    Delivery(Box<DeliveryMessage>),
    /// Following deliveries has ended.
    #[serde(rename = "deliveries_unsubscribed")]
    DeliveriesEnded(DeliveriesEnded),
    /// A type that this version does not know.
    #[serde(skip)]
    Unknown(String),
}

/// See [`ServerMessage::SubscriptionConfirmed`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SubscriptionConfirmed {
    /// The identifier that the client used.
    pub identifier: String,
    /// The call's sid.
    pub call_sid: String,
    /// The provider's conversation id, once known.
    pub conversation_id: Option<String>,
    /// The status of the call.
    pub status: CallStatus,
    /// The text for people.
    pub message: String,
    /// The record that cursors of this subscription belong to.
    pub call_id: CallId,
    /// The head of the log: the seq of its newest event, or 0 if the log is empty.
    pub seq: Seq,
    /// Where this subscription starts. Absent from servers of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// A message about one identifier.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct IdentifierMessage {
    /// The identifier that the client used.
    pub identifier: String,
    /// The call, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_id: Option<CallId>,
    /// The text for people.
    pub message: String,
}

/// See [`ServerMessage::CallMerged`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CallMerged {
    /// The identifier that the client used.
    pub identifier: String,
    /// The record that was absorbed. Its cursors are invalid from now on.
    pub from_call_id: CallId,
    /// The surviving record.
    pub call_id: CallId,
    /// The text for people.
    pub message: String,
}

/// See [`ServerMessage::Error`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ErrorMessage {
    /// The text for people.
    pub message: String,
    /// The code for programs.
    pub code: OrUnknown<ErrorCode>,
    /// The identifier that the error is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identifier: Option<String>,
    /// The call that the error is about, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_id: Option<CallId>,
}

/// See [`ServerMessage::Pong`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Pong {
    /// The value of the ping.
    pub ping: Box<RawValue>,
}

/// See [`ServerMessage::Reconnect`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Reconnect {
    /// The time to wait before connecting again, in milliseconds.
    pub after_ms: u64,
    /// The text for people.
    pub reason: String,
}

impl ServerMessage {
    /// Parses a text frame. An unknown type is not an error: it becomes [`ServerMessage::Unknown`].
    ///
    /// # Errors
    /// Returns an error if the text is not JSON, has no `type`, or has a known type without its fields.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Head<'a> {
            #[serde(borrow, rename = "type")]
            kind: Cow<'a, str>,
        }
        let head: Head<'_> = serde_json::from_str(text)?;
        // The text is parsed twice, because serde's internally tagged enums cannot contain raw values.
        Ok(match head.kind.as_ref() {
            "subscription_confirmed" => Self::SubscriptionConfirmed(serde_json::from_str(text)?),
            "subscription_pending" => Self::SubscriptionPending(serde_json::from_str(text)?),
            "unsubscribe_confirmed" => Self::UnsubscribeConfirmed(serde_json::from_str(text)?),
            "transcription" => Self::Transcription(serde_json::from_str(text)?),
            "transcription_partial" => Self::TranscriptionPartial(serde_json::from_str(text)?),
            "call_status" => Self::CallStatus(serde_json::from_str(text)?),
            "call_completed" => Self::CallCompleted(serde_json::from_str(text)?),
            "call_merged" => Self::CallMerged(serde_json::from_str(text)?),
            "error" => Self::Error(serde_json::from_str(text)?),
            "pong" => Self::Pong(serde_json::from_str(text)?),
            "reconnect" => Self::Reconnect(serde_json::from_str(text)?),
            "deliveries_confirmed" => Self::DeliveriesConfirmed(serde_json::from_str(text)?),
            "delivery" => Self::Delivery(serde_json::from_str(text)?),
            "deliveries_unsubscribed" => Self::DeliveriesEnded(serde_json::from_str(text)?),
            _ => Self::Unknown(head.kind.into_owned()),
        })
    }

    /// Returns the cursor from which a client resumes: behind an event, or where a subscription starts.
    #[must_use]
    pub fn cursor(&self) -> Option<&str> {
        match self {
            Self::SubscriptionConfirmed(confirmed) => confirmed.cursor.as_deref(),
            Self::Transcription(event) => event.cursor.as_deref(),
            Self::CallStatus(event) => event.cursor.as_deref(),
            Self::CallCompleted(event) => event.cursor.as_deref(),
            _ => None,
        }
    }

    /// Returns the call that the message is about, if the message names it.
    #[must_use]
    pub fn call_id(&self) -> Option<CallId> {
        match self {
            Self::SubscriptionConfirmed(confirmed) => Some(confirmed.call_id),
            Self::SubscriptionPending(message) | Self::UnsubscribeConfirmed(message) => message.call_id,
            Self::Transcription(event) => event.call_id,
            Self::TranscriptionPartial(event) => event.call_id,
            Self::CallStatus(event) => event.call_id,
            Self::CallCompleted(event) => event.call_id,
            Self::CallMerged(merged) => Some(merged.call_id),
            Self::Error(error) => error.call_id,
            _ => None,
        }
    }

    /// Returns the place in the log, for messages that are events.
    #[must_use]
    pub fn seq(&self) -> Option<Seq> {
        match self {
            Self::Transcription(event) => Some(event.seq),
            Self::CallStatus(event) => Some(event.seq),
            Self::CallCompleted(event) => Some(event.seq),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_messages_are_parsed_back() {
        let text = r#"{"type":"call_completed","conversation_id":null,"call_sid":"EL_x_1","call_data":{"status":"completed","cost":74,"metadata":{"b":1,"a":1e400}},"seq":3}"#;
        let message = ServerMessage::parse(text).unwrap();
        assert_eq!(message.seq(), Some(3));
        let ServerMessage::CallCompleted(event) = &message else { panic!("{message:?}") };
        assert_eq!(event.call_data.metadata.as_ref().unwrap().get(), r#"{"b":1,"a":1e400}"#);
        assert!(serde_json::to_string(&message).unwrap().starts_with(r#"{"type":"call_completed","#));
        assert!(matches!(ServerMessage::parse(r#"{"type":"new"}"#), Ok(ServerMessage::Unknown(_))));
    }
}
