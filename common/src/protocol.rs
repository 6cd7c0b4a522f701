//! The WebSocket's messages: text frames of JSON, in both directions.
//!
//! [`ClientMessage::parse`] and [`ServerMessage::parse`] read them; [`ServerMessage`] serialises to what is sent.
//! Unknown fields are ignored on both sides, so that either can grow.

mod deliveries;

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::id::IdentifierError;
use crate::{CallData, CallId, CallStatus, Identifier, Seq, Speaker, Timestamp};
pub use deliveries::{DeliveriesConfirmed, DeliveriesEnded, DeliveryMessage, FollowDeliveries};

/// The subprotocol that a client offers beside `bearer.<jwt>`, and that the server answers.
pub const SUBPROTOCOL: &str = "callscope.v1";
/// The prefix of the token in `Sec-WebSocket-Protocol`.
pub const BEARER_PROTOCOL_PREFIX: &str = "bearer.";
/// The path of the WebSocket.
pub const PATH: &str = "/ws/calls/transcriptions";
/// Longest frame and message a client may send, in bytes.
pub const MAX_CLIENT_MESSAGE: usize = 64 * 1024;
/// Most subscriptions of one connection, pending ones included.
pub const MAX_SUBSCRIPTIONS: usize = 256;

/// A request of a client.
#[derive(Debug, Clone)]
pub enum ClientMessage {
    /// Follows a call.
    Subscribe(Subscribe),
    /// Stops following a call.
    Unsubscribe(Identifier),
    /// Asks for a pong with the same value.
    Ping(Box<RawValue>),
    /// Follows deliveries as they come in.
    FollowDeliveries(FollowDeliveries),
    /// Stops following deliveries.
    UnfollowDeliveries,
}

/// A `subscribe` message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribe {
    /// Any identifier of the call.
    pub identifier: Identifier,
    /// Where the subscription begins.
    pub from: SubscribeFrom,
    /// The record that `after` belongs to, if it is a seq.
    pub call_id: Option<CallId>,
    /// Whether to wait for a call that is not known yet, instead of an error.
    pub wait: bool,
}

/// Where a subscription begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubscribeFrom {
    /// With the first event of the log.
    Start,
    /// With the event after this one.
    After(Seq),
    /// With the event behind this cursor, which a message carried.
    Behind(String),
    /// With the first event to come.
    Live,
}

/// Why a message of a client is refused. The text says what is wrong and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientMessageError {
    /// `INVALID_MESSAGE_FORMAT` or `INVALID_IDENTIFIER`.
    pub code: ErrorCode,
    /// The text for people.
    pub message: String,
    /// The identifier that the message named, if it could be read.
    pub identifier: Option<String>,
}

impl ClientMessage {
    /// Reads a text frame.
    ///
    /// # Errors
    /// Returns [`ClientMessageError`] for anything but one well-formed request.
    pub fn parse(text: &str) -> Result<Self, ClientMessageError> {
        let fields: RequestFields = serde_json::from_str(text)
            .map_err(|error| ClientMessageError::format(format!("not a JSON object of the expected shape: {error}")))?;
        let of_calls = fields.subscribe.is_some() || fields.unsubscribe.is_some() || fields.ping.is_some();
        match (fields.subscribe_deliveries, fields.unsubscribe_deliveries) {
            (None, None) => {}
            (Some(follow), None) if !of_calls => return Ok(Self::FollowDeliveries(follow)),
            (None, Some(_)) if !of_calls => return Ok(Self::UnfollowDeliveries),
            _ => return Err(ClientMessageError::format("more than one request is there")),
        }
        match (fields.subscribe, fields.unsubscribe, fields.ping) {
            (Some(id), None, None) => {
                let from = match (fields.after, fields.history) {
                    (Some(_), Some(false)) => {
                        return Err(ClientMessageError::format("`after` and `history: false` exclude each other"));
                    }
                    (Some(After::Seq(..0)), _) => {
                        return Err(ClientMessageError::format(
                            "`after` is negative; it takes the last cursor received, or a seq",
                        ));
                    }
                    (Some(After::Seq(after)), _) => SubscribeFrom::After(after),
                    (Some(After::Cursor(cursor)), _) => SubscribeFrom::Behind(cursor),
                    (None, Some(false)) => SubscribeFrom::Live,
                    (None, _) => SubscribeFrom::Start,
                };
                let identifier = identifier(id)?;
                Ok(Self::Subscribe(Subscribe {
                    identifier,
                    from,
                    call_id: fields.call_id,
                    wait: fields.wait.unwrap_or(false),
                }))
            }
            (None, Some(id), None) => Ok(Self::Unsubscribe(identifier(id)?)),
            (None, None, Some(value)) => Ok(Self::Ping(value.to_owned())),
            (None, None, None) => {
                Err(ClientMessageError::format("none of `subscribe`, `unsubscribe`, `ping` is there"))
            }
            _ => Err(ClientMessageError::format("more than one of `subscribe`, `unsubscribe`, `ping` is there")),
        }
    }
}

impl ClientMessageError {
    fn format(message: impl Into<String>) -> Self {
        Self { code: ErrorCode::InvalidMessageFormat, message: message.into(), identifier: None }
    }
}

fn identifier(text: Cow<'_, str>) -> Result<Identifier, ClientMessageError> {
    Identifier::parse(&text).map_err(|error: IdentifierError| ClientMessageError {
        code: ErrorCode::InvalidIdentifier,
        message: error.to_string(),
        identifier: Some(text.chars().take(Identifier::MAX_LEN).collect()),
    })
}

#[derive(Deserialize)]
struct RequestFields<'a> {
    #[serde(borrow, default)]
    subscribe: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    unsubscribe: Option<Cow<'a, str>>,
    // A null ping is a ping too, so a field that is present is told from one that is absent.
    #[serde(borrow, default, deserialize_with = "required")]
    ping: Option<&'a RawValue>,
    #[serde(default)]
    after: Option<After>,
    #[serde(default)]
    call_id: Option<Uuid>,
    #[serde(default)]
    history: Option<bool>,
    #[serde(default)]
    wait: Option<bool>,
    #[serde(default)]
    subscribe_deliveries: Option<FollowDeliveries>,
    #[serde(default)]
    unsubscribe_deliveries: Option<bool>,
}

/// The field `after`: a cursor or a seq.
enum After {
    Seq(Seq),
    Cursor(String),
}

impl<'de> Deserialize<'de> for After {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl serde::de::Visitor<'_> for Visitor {
            type Value = After;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a cursor or a whole number as `after`")
            }

            fn visit_i64<E: serde::de::Error>(self, seq: i64) -> Result<After, E> {
                Ok(After::Seq(seq))
            }

            fn visit_u64<E: serde::de::Error>(self, seq: u64) -> Result<After, E> {
                // No log is that long, so this seq lies beyond every head.
                Ok(After::Seq(Seq::try_from(seq).unwrap_or(Seq::MAX)))
            }

            fn visit_str<E: serde::de::Error>(self, cursor: &str) -> Result<After, E> {
                // A longer text is no cursor; it is cut before it is kept, because one character too many shows that.
                Ok(After::Cursor(cursor.chars().take(crate::Cursor::MAX_LEN + 1).collect()))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

fn required<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

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
    /// The text of a turn so far. It is not kept, and the latest one counts.
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
    /// The server is about to close the connection; the client connects again after the given time.
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

/// See [`ServerMessage::Transcription`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Transcription {
    /// The provider's conversation id, if it was known when the turn came in.
    pub conversation_id: Option<String>,
    /// The call's sid.
    pub call_sid: String,
    /// The id of the turn, which is unique among all calls.
    pub transcription_id: i64,
    /// The number of the turn in its call: 1, 2, 3…
    pub sequence_number: i64,
    /// The speaker of the turn.
    pub speaker_type: Speaker,
    /// What was said.
    pub message_text: String,
    /// When it was said.
    pub timestamp: Timestamp,
    /// The place of the event in the log of its call.
    pub seq: Seq,
    /// The call. Earlier versions stored messages without it; the server adds it when it sends them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_id: Option<CallId>,
    /// The place behind the event; see [`Cursor`](crate::Cursor). It is the last field, so it is found without parsing
    /// the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// See [`ServerMessage::TranscriptionPartial`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TranscriptionPartial {
    /// The provider's conversation id, once known.
    pub conversation_id: Option<String>,
    /// The call's sid.
    pub call_sid: String,
    /// Who is speaking.
    pub speaker_type: Speaker,
    /// What was said so far.
    pub message_text: String,
    /// When it was said.
    pub timestamp: Timestamp,
    /// The turn that this text is a part of.
    pub turn_id: Option<String>,
    /// The call that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_id: Option<CallId>,
}

/// See [`ServerMessage::CallStatus`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CallStatusChanged {
    /// The provider's conversation id, if it was known.
    pub conversation_id: Option<String>,
    /// The call's sid.
    pub call_sid: String,
    /// The new status.
    pub status: CallStatus,
    /// When the call ended.
    pub call_end_time: Option<Timestamp>,
    /// The place of the event in the log of its call.
    pub seq: Seq,
    /// The call. Earlier versions stored messages without it; the server adds it when it sends them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_id: Option<CallId>,
    /// The place behind the event; see [`Cursor`](crate::Cursor). It is the last field, so it is found without parsing
    /// the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// See [`ServerMessage::CallCompleted`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CallCompleted {
    /// The provider's conversation id, if it was known.
    pub conversation_id: Option<String>,
    /// The call's sid.
    pub call_sid: String,
    /// The call's result.
    pub call_data: CallData,
    /// The place of the event in the log of its call.
    pub seq: Seq,
    /// The call. Earlier versions stored messages without it; the server adds it when it sends them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_id: Option<CallId>,
    /// The place behind the event; see [`Cursor`](crate::Cursor). It is the last field, so it is found without parsing
    /// the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
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
    pub code: ErrorCode,
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
    /// Reads a text frame. An unknown type is not an error: it becomes [`ServerMessage::Unknown`].
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
        // The text is parsed twice, because raw values do not pass through serde's internally tagged enums.
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
            Self::SubscriptionPending(named) | Self::UnsubscribeConfirmed(named) => named.call_id,
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

/// The `code` of an error message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ErrorCode {
    /// No call has that identifier.
    CallNotFound,
    /// The text is not an identifier.
    InvalidIdentifier,
    /// The text is not a message of this protocol.
    InvalidMessageFormat,
    /// The token is missing or not valid.
    AuthenticationFailed,
    /// The server could not subscribe at present.
    SubscriptionFailed,
    /// The token does not allow the request.
    Forbidden,
    /// The cursor belongs to another record, or lies beyond the head.
    CursorInvalid,
    /// The connection has the maximum number of subscriptions.
    SubscriptionLimit,
    /// The client sent too many messages in a second.
    RateLimited,
    /// A code that this version does not know.
    #[serde(other)]
    Unknown,
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// Why a connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// 1000: either side is done.
    Normal,
    /// 1001: the server goes away.
    GoingAway,
    /// 1002: the peer broke the WebSocket protocol.
    ProtocolError,
    /// 1007: a text frame was not UTF-8.
    NotUtf8,
    /// 1009: a frame was longer than [`MAX_CLIENT_MESSAGE`].
    TooBig,
    /// 4001: the token's time ran out.
    TokenExpired,
    /// 4003: rights were withdrawn.
    Forbidden,
    /// 4011: the token was revoked.
    TokenRevoked,
    /// 4012: an admin ended the connection.
    Kicked,
    /// 4101: the client reads too slowly.
    TooSlow,
    /// 4102: the client sends too much.
    RateExceeded,
    /// 4104: the storage is down.
    StorageDown,
    /// 4201: no pong came in time.
    PongTimeout,
}

impl CloseReason {
    const ALL: [Self; 13] = [
        Self::Normal,
        Self::GoingAway,
        Self::ProtocolError,
        Self::NotUtf8,
        Self::TooBig,
        Self::TokenExpired,
        Self::Forbidden,
        Self::TokenRevoked,
        Self::Kicked,
        Self::TooSlow,
        Self::RateExceeded,
        Self::StorageDown,
        Self::PongTimeout,
    ];

    /// The close code.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::Normal => 1000,
            Self::GoingAway => 1001,
            Self::ProtocolError => 1002,
            Self::NotUtf8 => 1007,
            Self::TooBig => 1009,
            Self::TokenExpired => 4001,
            Self::Forbidden => 4003,
            Self::TokenRevoked => 4011,
            Self::Kicked => 4012,
            Self::TooSlow => 4101,
            Self::RateExceeded => 4102,
            Self::StorageDown => 4104,
            Self::PongTimeout => 4201,
        }
    }

    /// The reason of a close code; `None` for a code that is none of these.
    #[must_use]
    pub fn from_code(code: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.code() == code)
    }

    /// The close frame's text.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Normal => "",
            Self::GoingAway => "server going away",
            Self::ProtocolError => "protocol error",
            Self::NotUtf8 => "text is not UTF-8",
            Self::TooBig => "frame over 64 KiB",
            Self::TokenExpired => "token expired",
            Self::Forbidden => "forbidden",
            Self::TokenRevoked => "token revoked",
            Self::Kicked => "ended by an admin",
            Self::TooSlow => "too slow",
            Self::RateExceeded => "too many messages",
            Self::StorageDown => "storage down",
            Self::PongTimeout => "no pong",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscribe(text: &str) -> Subscribe {
        match ClientMessage::parse(text) {
            Ok(ClientMessage::Subscribe(subscribe)) => subscribe,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn subscriptions_say_where_they_begin() {
        assert_eq!(subscribe(r#"{"subscribe":"a"}"#).from, SubscribeFrom::Start);
        assert_eq!(subscribe(r#"{"subscribe":"a","after":0}"#).from, SubscribeFrom::After(0));
        assert_eq!(subscribe(r#"{"subscribe":"a","history":false}"#).from, SubscribeFrom::Live);
        assert!(subscribe(r#"{"subscribe":"a","wait":true,"new_field":[1]}"#).wait);
        assert_eq!(subscribe(r#"{"subscribe":"a","after":"7.x"}"#).from, SubscribeFrom::Behind("7.x".into()));
        // A text that is too long to be a cursor is not kept whole.
        let long = subscribe(&format!(r#"{{"subscribe":"a","after":"{}"}}"#, "7".repeat(60_000)));
        assert_eq!(long.from, SubscribeFrom::Behind("7".repeat(crate::Cursor::MAX_LEN + 1)));
    }

    #[test]
    fn bad_messages_say_what_is_wrong() {
        for (text, code) in [
            ("", ErrorCode::InvalidMessageFormat),
            ("[]", ErrorCode::InvalidMessageFormat),
            ("{}", ErrorCode::InvalidMessageFormat),
            (r#"{"subscribe":1}"#, ErrorCode::InvalidMessageFormat),
            (r#"{"subscribe":"a","after":-1}"#, ErrorCode::InvalidMessageFormat),
            (r#"{"subscribe":"a","after":1.5}"#, ErrorCode::InvalidMessageFormat),
            (r#"{"subscribe":"a","after":[1]}"#, ErrorCode::InvalidMessageFormat),
            (r#"{"subscribe":"a","after":true}"#, ErrorCode::InvalidMessageFormat),
            (r#"{"subscribe":"a","call_id":"x"}"#, ErrorCode::InvalidMessageFormat),
            (r#"{"subscribe":"a","unsubscribe":"a"}"#, ErrorCode::InvalidMessageFormat),
            (r#"{"subscribe":"a","after":1,"history":false}"#, ErrorCode::InvalidMessageFormat),
            (r#"{"subscribe_deliveries":[1]}"#, ErrorCode::InvalidMessageFormat),
            (r#"{"subscribe_deliveries":{"after":7}}"#, ErrorCode::InvalidMessageFormat),
            (r#"{"subscribe_deliveries":{},"ping":0}"#, ErrorCode::InvalidMessageFormat),
            (r#"{"subscribe":""}"#, ErrorCode::InvalidIdentifier),
            (r#"{"unsubscribe":"a b"}"#, ErrorCode::InvalidIdentifier),
        ] {
            let error = ClientMessage::parse(text).unwrap_err();
            assert_eq!(error.code, code, "{text}: {}", error.message);
        }
    }

    #[test]
    fn a_ping_may_hold_anything() {
        for value in ["null", "0", r#"{"a":[1e400]}"#] {
            let Ok(ClientMessage::Ping(raw)) = ClientMessage::parse(&format!(r#"{{"ping":{value}}}"#)) else {
                panic!("{value} is no ping");
            };
            let pong = serde_json::to_string(&ServerMessage::Pong(Pong { ping: raw })).unwrap();
            assert_eq!(pong, format!(r#"{{"type":"pong","ping":{value}}}"#));
        }
    }

    #[test]
    fn server_messages_read_back() {
        let text = r#"{"type":"call_completed","conversation_id":null,"call_sid":"EL_x_1","call_data":{"status":"completed","cost":74,"metadata":{"b":1,"a":1e400}},"seq":3}"#;
        let message = ServerMessage::parse(text).unwrap();
        assert_eq!(message.seq(), Some(3));
        let ServerMessage::CallCompleted(event) = &message else { panic!("{message:?}") };
        assert_eq!(event.call_data.metadata.as_ref().unwrap().get(), r#"{"b":1,"a":1e400}"#);
        assert!(serde_json::to_string(&message).unwrap().starts_with(r#"{"type":"call_completed","#));
        assert!(matches!(ServerMessage::parse(r#"{"type":"new"}"#), Ok(ServerMessage::Unknown(_))));
    }
}
