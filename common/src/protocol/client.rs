//! The requests of a client.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{ErrorCode, FollowDeliveries};
use crate::id::IdentifierError;
use crate::{CallId, Identifier, Seq};

/// A request of a client.
#[derive(Debug, Clone)]
pub enum ClientMessage {
    /// Follows a call.
    Subscribe(Subscribe),
    /// Stops following a call.
    Unsubscribe(Identifier),
    /// Requests a pong with the same value.
    Ping(Box<RawValue>),
    /// Follows all deliveries.
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
    /// The record that `after` belongs to, if `after` is a seq.
    pub call_id: Option<CallId>,
    /// Whether to wait for a call that does not exist yet. Otherwise such a call is an error.
    pub wait: bool,
}

/// Where a subscription begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubscribeFrom {
    /// With the first event of the log.
    Start,
    /// With the event after this one.
    After(Seq),
    /// With the event behind the cursor of a message.
    Behind(String),
    /// With the next event that is appended.
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
    /// Parses a text frame.
    ///
    /// # Errors
    /// Returns an error for anything but one well-formed request.
    pub fn parse(text: &str) -> Result<Self, ClientMessageError> {
        let fields: RequestFields = serde_json::from_str(text)
            .map_err(|error| ClientMessageError::format(format!("not a JSON object of the expected shape: {error}")))?;
        let is_about_calls = fields.subscribe.is_some() || fields.unsubscribe.is_some() || fields.ping.is_some();
        match (fields.subscribe_deliveries, fields.unsubscribe_deliveries) {
            (None, None) => {}
            (Some(follow), None) if !is_about_calls => return Ok(Self::FollowDeliveries(follow)),
            (None, Some(_)) if !is_about_calls => return Ok(Self::UnfollowDeliveries),
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

impl ClientMessage {
    /// Returns the text frame.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
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

/// The fields of a request, in the order in which a client writes them.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct RequestFields<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<After>,
    #[serde(skip_serializing_if = "Option::is_none")]
    call_id: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    history: Option<bool>,
    // `null` is a valid value of a ping, so it differs from an absent field.
    #[serde(borrow, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    ping: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    subscribe: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subscribe_deliveries: Option<FollowDeliveries>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    unsubscribe: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unsubscribe_deliveries: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wait: Option<bool>,
}

impl Serialize for ClientMessage {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = RequestFields::default();
        match self {
            Self::Subscribe(subscribe) => {
                fields.subscribe = Some(subscribe.identifier.as_str().into());
                fields.call_id = subscribe.call_id;
                fields.wait = subscribe.wait.then_some(true);
                match &subscribe.from {
                    SubscribeFrom::Start => {}
                    SubscribeFrom::After(seq) => fields.after = Some(After::Seq(*seq)),
                    SubscribeFrom::Behind(cursor) => fields.after = Some(After::Cursor(cursor.clone())),
                    SubscribeFrom::Live => fields.history = Some(false),
                }
            }
            Self::Unsubscribe(identifier) => fields.unsubscribe = Some(identifier.as_str().into()),
            Self::Ping(value) => fields.ping = Some(value),
            Self::FollowDeliveries(follow) => fields.subscribe_deliveries = Some(follow.clone()),
            Self::UnfollowDeliveries => fields.unsubscribe_deliveries = Some(true),
        }
        fields.serialize(serializer)
    }
}

/// The field `after`: a cursor or a seq.
#[derive(Serialize)]
#[serde(untagged)]
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
                // No log is that long, so this seq is refused like any other beyond the head.
                Ok(After::Seq(Seq::try_from(seq).unwrap_or(Seq::MAX)))
            }

            fn visit_str<E: serde::de::Error>(self, cursor: &str) -> Result<After, E> {
                // A longer text is not a cursor. One character too many is kept, so that it is refused later.
                Ok(After::Cursor(cursor.chars().take(crate::Cursor::MAX_LEN + 1).collect()))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::super::{Pong, ServerMessage};
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
        // A text that is too long for a cursor is cut.
        let long = subscribe(&format!(r#"{{"subscribe":"a","after":"{}"}}"#, "7".repeat(60_000)));
        assert_eq!(long.from, SubscribeFrom::Behind("7".repeat(crate::Cursor::MAX_LEN + 1)));
    }

    #[test]
    fn requests_read_back_as_they_are_written() {
        for text in [
            r#"{"subscribe":"a"}"#,
            r#"{"after":7,"call_id":"018f3a52-0000-7000-8000-000000000001","subscribe":"a","wait":true}"#,
            r#"{"after":"7.x","subscribe":"a"}"#,
            r#"{"history":false,"subscribe":"a"}"#,
            r#"{"unsubscribe":"a"}"#,
            r#"{"ping":null}"#,
            r#"{"subscribe_deliveries":{}}"#,
            r#"{"subscribe_deliveries":{"after":"c"}}"#,
            r#"{"subscribe_deliveries":{"history":true}}"#,
            r#"{"unsubscribe_deliveries":true}"#,
        ] {
            assert_eq!(serde_json::to_string(&ClientMessage::parse(text).unwrap()).unwrap(), text);
        }
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
                panic!("{value} is not read as a ping");
            };
            let pong = serde_json::to_string(&ServerMessage::Pong(Pong { ping: raw })).unwrap();
            assert_eq!(pong, format!(r#"{{"type":"pong","ping":{value}}}"#));
        }
    }
}
